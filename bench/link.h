/* One non-blocking connection, plain or under TLS, with the bytes that still have to leave it. Shared by load.c and
 * sink.c.
 *
 * No call blocks: what the socket does not take stays here until the next link_flush. A connection that broke or
 * ended is told by LINK_OVER, and the caller closes it. fatal() ends the program with one line.
 */
#ifndef BENCH_LINK_H
#define BENCH_LINK_H

#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LINK_IN = 32768, LINK_OUT = 8192, EVENTS = 256 };
enum { LINK_OVER = -1, LINK_WAIT = 0, LINK_DONE = 1 };

struct link {
    int fd; /* -1: there is none */
    SSL *ssl;
    int put_wants_write, fill_wants_write; /* what the last TLS call of each kind waits for */
    uint32_t watched;
    size_t in_len, out_len, out_sent, bulk_len, bulk_sent;
    const char *bulk; /* goes after `out`; belongs to the caller */
    char in[LINK_IN], out[LINK_OUT];
};

static inline void __attribute__((noreturn, format(printf, 1, 2))) fatal(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    vfprintf(stderr, format, rest);
    va_end(rest);
    fputc('\n', stderr);
    exit(2);
}

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Arguments are NAME=VALUE; each option is either a text or a number. */
struct option {
    const char *name, **text;
    long *number;
};

static inline void read_options(int argc, char **argv, const struct option *options) {
    for (int i = 1; i < argc; i++) {
        const char *equals = strchr(argv[i], '=');
        const struct option *o = options;
        while (equals && o->name && (strlen(o->name) != (size_t)(equals - argv[i]) || strncmp(o->name, argv[i], strlen(o->name)))) o++;
        if (!equals || !o->name) fatal("unknown argument: %s", argv[i]);
        if (o->text) *o->text = equals + 1;
        else *o->number = atol(equals + 1);
    }
}

/* As many files as allowed, and no death by writing to a connection that is gone. */
static inline void prepare_process(void) {
    struct rlimit limit;
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static inline SSL_CTX *tls_context(const SSL_METHOD *method, const char *cert, const char *key) {
    SSL_CTX *context = SSL_CTX_new(method);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (cert && SSL_CTX_use_certificate_chain_file(context, cert) != 1) fatal("cannot use the certificate %s", cert);
    if (key && SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1) fatal("cannot use the key %s", key);
    return context;
}

/* From here on the link speaks TLS; the handshake happens inside the first reads and writes. */
static inline void link_secure(struct link *l, SSL_CTX *context, int as_server) {
    l->in_len = 0; /* what came in plaintext behind STARTTLS is not for us */
    l->ssl = SSL_new(context);
    SSL_set_fd(l->ssl, l->fd);
    if (as_server) SSL_set_accept_state(l->ssl);
    else SSL_set_connect_state(l->ssl);
}

static inline void link_open(struct link *l, int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    l->fd = fd;
    l->ssl = NULL;
    l->bulk = NULL;
    l->put_wants_write = l->fill_wants_write = 0;
    l->watched = 0;
    l->in_len = l->out_len = l->out_sent = l->bulk_len = l->bulk_sent = 0;
}

static inline void link_close(struct link *l) {
    if (l->ssl) SSL_free(l->ssl);
    if (l->fd >= 0) close(l->fd);
    l->ssl = NULL;
    l->fd = -1;
}

/* Octets moved, LINK_WAIT or LINK_OVER: what a TLS call's result means. */
static inline ssize_t tls_result(struct link *l, int moved, int *wants_write) {
    int why = moved > 0 ? SSL_ERROR_NONE : SSL_get_error(l->ssl, moved);
    *wants_write = why == SSL_ERROR_WANT_WRITE;
    if (moved > 0) return moved;
    return why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ ? LINK_WAIT : LINK_OVER;
}

static inline ssize_t link_put(struct link *l, const char *data, size_t length) {
    if (l->ssl) {
        ERR_clear_error();
        return tls_result(l, SSL_write(l->ssl, data, length > INT_MAX ? INT_MAX : (int)length), &l->put_wants_write);
    }
    ssize_t moved = send(l->fd, data, length, MSG_NOSIGNAL);
    if (moved >= 0) return moved;
    return errno == EAGAIN ? LINK_WAIT : LINK_OVER;
}

static inline int link_flush(struct link *l) {
    while (l->out_sent < l->out_len || l->bulk_sent < l->bulk_len) {
        int small = l->out_sent < l->out_len;
        ssize_t moved = small ? link_put(l, l->out + l->out_sent, l->out_len - l->out_sent)
                              : link_put(l, l->bulk + l->bulk_sent, l->bulk_len - l->bulk_sent);
        if (moved <= 0) return (int)moved;
        *(small ? &l->out_sent : &l->bulk_sent) += (size_t)moved;
    }
    l->out_len = l->out_sent = l->bulk_len = l->bulk_sent = 0;
    return LINK_DONE;
}

static inline void __attribute__((format(printf, 2, 3))) link_say(struct link *l, const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    int length = vsnprintf(l->out + l->out_len, LINK_OUT - l->out_len, format, rest);
    va_end(rest);
    if (length < 0 || l->out_len + (size_t)length >= LINK_OUT) fatal("more output at once than expected");
    l->out_len += (size_t)length;
}

/* A small text leaves with what was said before it, in one segment; a big one from where it lies. */
static inline void link_say_bulk(struct link *l, const char *data, size_t length) {
    if (length < LINK_OUT - l->out_len) {
        memcpy(l->out + l->out_len, data, length);
        l->out_len += length;
    } else {
        l->bulk = data;
        l->bulk_len = length;
        l->bulk_sent = 0;
    }
}

/* Reads once: LINK_DONE if `in` has more than before. */
static inline int link_fill(struct link *l) {
    ssize_t moved;
    if (l->in_len == LINK_IN) return LINK_OVER;
    if (l->ssl) {
        ERR_clear_error();
        moved = tls_result(l, SSL_read(l->ssl, l->in + l->in_len, (int)(LINK_IN - l->in_len)), &l->fill_wants_write);
    } else {
        moved = recv(l->fd, l->in + l->in_len, LINK_IN - l->in_len, 0);
        if (moved < 0) moved = errno == EAGAIN ? LINK_WAIT : LINK_OVER;
        else if (moved == 0) moved = LINK_OVER;
    }
    if (moved > 0) l->in_len += (size_t)moved;
    return moved > 0 ? LINK_DONE : (int)moved;
}

/* The next line, ended by NUL in place of its line end, or NULL; *at is how far `in` has been read. */
static inline char *link_line(struct link *l, size_t *at) {
    char *line = l->in + *at, *end = memchr(line, '\n', l->in_len - *at);
    if (!end) return NULL;
    *at = (size_t)(end + 1 - l->in);
    if (end > line && end[-1] == '\r') end--;
    *end = 0;
    return line;
}

static inline void link_drop(struct link *l, size_t used) {
    l->in_len -= used;
    memmove(l->in, l->in + used, l->in_len);
}

static inline void link_watch(struct link *l, int poll, void *owner) {
    int left = l->out_sent < l->out_len || l->bulk_sent < l->bulk_len;
    /* While TLS shakes hands, output waits for input; but a read may have ended the handshake since the write was tried. */
    int blocked = l->ssl ? l->put_wants_write || l->fill_wants_write || (left && SSL_is_init_finished(l->ssl)) : left;
    struct epoll_event event = {.events = blocked ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = owner};
    if (event.events == l->watched) return;
    if (epoll_ctl(poll, l->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, l->fd, &event)) fatal("epoll_ctl: %s", strerror(errno));
    l->watched = event.events;
}

/* Wakes the loop with a NULL owner when standard input says something or ends. */
static inline void watch_input(int poll) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    fcntl(0, F_SETFL, O_NONBLOCK);
    if (epoll_ctl(poll, EPOLL_CTL_ADD, 0, &event)) fatal("standard input must be a pipe");
}

#endif
