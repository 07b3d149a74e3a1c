/* The sink: takes all mail, keeps none, and notes when each message was there whole.
 *
 *   sink port=N log=FILE [host=127.0.0.1] [cert=FILE key=FILE] [recipients=FILE]
 *
 * With a certificate it offers STARTTLS. The log has one line for each message: its X-Load-Id ("-" if it has none), when
 * its connection came, and when it was there whole, before the 250: ns of the monotonic clock. `recipients` gets
 * each forward-path of each message that was taken. Any line on standard input is answered by one line of
 * counters; when standard input ends the logs are complete, and so is the program.
 */
#include "link.h"

enum { HEAD = 8192, PATHS = 32768, BACKLOG = 1024 };

struct visitor {
    int in_content;
    int is_secure;
    uint64_t connected;
    size_t head_len, paths_len;
    char head[HEAD]; /* the first octets of the message: where its id is */
    char paths[PATHS]; /* its RCPT commands so far, a line each */
    struct link link;
};

static long port;
static const char *host = "127.0.0.1", *log_path, *paths_path, *cert, *key;
static SSL_CTX *context;
static FILE *log_file, *paths_file;
static int poll_fd, listen_fd;
static long arrived, octets, connections, handshakes, resumed, open_now, open_most;
static uint64_t last;

static void arrive(struct visitor *v) {
    static const char name[] = "X-Load-Id: ";
    const size_t length = sizeof name - 1;
    char *id = memmem(v->head, v->head_len, name, length), *end = NULL;
    if (id) end = memchr(id, '\r', v->head_len - (size_t)(id - v->head));
    last = now_ns();
    if (end) fprintf(log_file, "%.*s", (int)(end - id - (long)length), id + length);
    fprintf(log_file, "%s %llu %llu\n", end ? "" : "-", (unsigned long long)v->connected, (unsigned long long)last);
    if (paths_file) fwrite(v->paths, 1, v->paths_len, paths_file);
    arrived++;
    v->in_content = 0;
    v->head_len = v->paths_len = 0;
    link_say(&v->link, "250 2.0.0 taken\r\n");
}

/* Takes what is surely content; the last four octets may be the begin of its end. */
static void take_content(struct visitor *v) {
    struct link *l = &v->link;
    char *end = memmem(l->in, l->in_len, "\r\n.\r\n", 5);
    size_t used = end ? (size_t)(end - l->in) + 5 : l->in_len > 4 ? l->in_len - 4 : 0;
    size_t room = HEAD - v->head_len, kept = used < room ? used : room;
    memcpy(v->head + v->head_len, l->in, kept);
    v->head_len += kept;
    octets += (long)used;
    link_drop(l, used);
    if (end) arrive(v);
}

static void note_recipient(struct visitor *v, const char *path) {
    size_t length = strlen(path);
    if (v->paths_len + length >= PATHS) fatal("more recipients in one transaction than there is room for");
    memcpy(v->paths + v->paths_len, path, length);
    v->paths[v->paths_len + length] = '\n';
    v->paths_len += length + 1;
}

/* Answers one command; 0 if nothing may follow it in this buffer. */
static int obey(struct visitor *v, const char *line) {
    struct link *l = &v->link;
    if (!strncasecmp(line, "EHLO", 4)) {
        link_say(l, "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n%s250 SIZE 1000000000\r\n",
                 context && !l->ssl ? "250-STARTTLS\r\n" : "");
    } else if (!strncasecmp(line, "MAIL", 4)) {
        v->paths_len = 0;
        link_say(l, "250 2.1.0 fine\r\n");
    } else if (!strncasecmp(line, "RCPT TO:", 8)) {
        if (paths_file) note_recipient(v, line + 8);
        link_say(l, "250 2.1.5 fine\r\n");
    } else if (!strcasecmp(line, "DATA")) {
        link_say(l, "354 go on\r\n");
        v->in_content = 1;
        return 0;
    } else if (!strcasecmp(line, "STARTTLS") && context && !l->ssl) {
        link_say(l, "220 2.0.0 now\r\n");
        link_flush(l);
        link_secure(l, context, 1);
        return 0;
    } else if (!strcasecmp(line, "QUIT")) {
        link_say(l, "221 2.0.0 bye\r\n");
        link_flush(l);
        shutdown(l->fd, SHUT_WR);
    } else if (!strncasecmp(line, "HELO", 4) || !strcasecmp(line, "RSET") || !strcasecmp(line, "NOOP")) {
        link_say(l, "250 2.0.0 sink.test\r\n");
    } else {
        link_say(l, "500 5.5.1 not here\r\n");
    }
    return 1;
}

static void take_commands(struct visitor *v) {
    size_t at = 0;
    char *line;
    while (v->link.in_len && (line = link_line(&v->link, &at)))
        if (!obey(v, line)) break;
    if (v->link.in_len) link_drop(&v->link, at);
    if (v->in_content) take_content(v);
}

static void leave(struct visitor *v) {
    link_close(&v->link);
    free(v);
    open_now--;
}

static void work(struct visitor *v) {
    for (;;) {
        if (link_flush(&v->link) == LINK_OVER) break;
        int got = link_fill(&v->link);
        if (got == LINK_OVER) break;
        if (v->link.ssl && !v->is_secure && SSL_is_init_finished(v->link.ssl)) {
            v->is_secure = 1;
            handshakes++;
            resumed += SSL_session_reused(v->link.ssl);
        }
        if (got == LINK_WAIT) {
            link_watch(&v->link, poll_fd, v);
            return;
        }
        size_t before;
        do { /* a whole message and the commands behind it may have come at once */
            before = v->link.in_len;
            if (v->in_content) take_content(v);
            if (!v->in_content) take_commands(v);
        } while (v->link.in_len && v->link.in_len != before);
    }
    leave(v);
}

static void welcome(void) {
    int fd;
    while ((fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct visitor *v = malloc(sizeof *v);
        if (!v) fatal("no memory");
        v->in_content = v->is_secure = 0;
        v->head_len = v->paths_len = 0;
        v->connected = now_ns();
        link_open(&v->link, fd);
        link_say(&v->link, "220 sink.test ESMTP\r\n");
        connections++;
        if (++open_now > open_most) open_most = open_now;
        work(v);
    }
}

static int answer_input(void) {
    char asked[256];
    ssize_t got = read(0, asked, sizeof asked);
    if (got == 0) return 0;
    for (ssize_t i = 0; i < got; i++)
        if (asked[i] == '\n')
            printf("{\"arrived\":%ld,\"octets\":%ld,\"connections\":%ld,\"most\":%ld,\"handshakes\":%ld,\"resumed\":%ld,\"last_ns\":%llu}\n",
                   arrived, octets, connections, open_most, handshakes, resumed, (unsigned long long)last);
    fflush(stdout);
    return 1;
}

static void listen_here(void) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1;
    if (inet_pton(AF_INET, host, &here.sin_addr) != 1) fatal("%s is no IPv4 address", host);
    listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listen_fd, (struct sockaddr *)&here, sizeof here) || listen(listen_fd, BACKLOG)) fatal("%s port %ld: %s", host, port, strerror(errno));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listen_fd};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listen_fd, &event);
}

int main(int argc, char **argv) {
    const struct option options[] = {
        {"port", 0, &port}, {"host", &host, 0}, {"log", &log_path, 0}, {"recipients", &paths_path, 0},
        {"cert", &cert, 0}, {"key", &key, 0},   {0, 0, 0},
    };
    struct epoll_event events[EVENTS];
    read_options(argc, argv, options);
    prepare_process();
    if (cert) context = tls_context(TLS_server_method(), cert, key);
    log_file = fopen(log_path ? log_path : "/dev/null", "w");
    if (!log_file) fatal("%s: %s", log_path, strerror(errno));
    if (paths_path && !(paths_file = fopen(paths_path, "w"))) fatal("%s: %s", paths_path, strerror(errno));
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    watch_input(poll_fd);
    listen_here();
    for (;;) {
        int count = epoll_wait(poll_fd, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            void *owner = events[i].data.ptr;
            if (owner == &listen_fd) welcome();
            else if (owner) work(owner);
            else if (!answer_input()) return (fclose(log_file) | (paths_file ? fclose(paths_file) : 0)) != 0;
        }
    }
}
