/* The load client: sessions side by side, each sending messages one command at a time.
 *
 *   load port=N [sessions=20] [messages=1000] [per=1] [size=4096] [rate=0] [prefix=m] [domain=live.test] [domains=0]
 *        [log=FILE] [tls=1 [cert=FILE key=FILE] [pin=HEX]]  [hold=1]
 *
 * With domains=N the recipients are in turn in d0 to d(N-1) below the domain.
 *
 * Each message has a number, and an id (X-Load-Id) by which the sink knows it again. A message that was surely not
 * taken is tried again; one whose fate is unknown (the connection went after its last octet) is not. The log has one
 * line for each: id, begin and end in ns of the monotonic clock, reply code (0: fate unknown). The
 * end of a session is QUIT and a close, without waiting for the 221.
 *
 * hold=1 opens all sessions up to EHLO, says how many are open, and keeps them until standard input ends.
 *
 * Ends with 0 if each message has a fate, 1 if nothing moved for a minute, 2 if the server refuses for good.
 */
#include "link.h"

enum step { CLOSED, GREETING, HELLO, UPGRADE, SECURED, MAIL, RCPT, DATA, CONTENT, HELD };

static const struct {
    const char *what;
    int wanted;
} steps[] = {
    [GREETING] = {"greeting", 220}, [HELLO] = {"EHLO", 250}, [UPGRADE] = {"STARTTLS", 220}, [SECURED] = {"EHLO", 250},
    [MAIL] = {"MAIL", 250},         [RCPT] = {"RCPT", 250},  [DATA] = {"DATA", 354},        [CONTENT] = {"content", 250},
    [HELD] = {"nothing", 0},
};

struct session {
    enum step step;
    long number; /* of the message in hand; -1: none */
    long sent;   /* messages since the greeting */
    uint64_t opened, began, not_before;
    struct link link;
};

enum { RETRY_MS = 50, PATIENCE_S = 2, HELD_PATIENCE_S = 30, STUCK_S = 60, RAMP = 50, HEADER_ROOM = 512, ADDRESS_ROOM = 160 };
static const uint64_t MS = 1000000, S = 1000000000;

static long port, sessions = 20, messages = 1000, per = 1, size = 4096, rate, domains, tls, hold;
static const char *prefix = "m", *domain = "live.test", *log_path, *cert, *key, *pin;
static struct session *all;
static SSL_CTX *context;
static FILE *log_file;
static int poll_fd;
static char *body;
static size_t body_len;
static long next_number, *again, again_count, finished, held, opening;
static long accepted, refused, unknown, retries, stalled;
static uint64_t start, first, last, moved;

static const char *recipient(char to[ADDRESS_ROOM], long number) {
    if (domains) snprintf(to, ADDRESS_ROOM, "r%ld@d%ld.%s", number, number % domains, domain);
    else snprintf(to, ADDRESS_ROOM, "r%ld@%s", number, domain);
    return to;
}

static size_t header(char *to, size_t room, long number) {
    char address[ADDRESS_ROOM];
    return (size_t)snprintf(to, room,
                            "Date: Fri, 02 Jan 2026 12:00:00 +0000\r\nFrom: Load <load@client.test>\r\nTo: <%s>\r\n"
                            "Subject: benchmark\r\nMessage-ID: <%s-%08ld@client.test>\r\nX-Load-Id: %s-%08ld\r\n\r\n",
                            recipient(address, number), prefix, number, prefix, number);
}

/* Lines of 76 characters, as many as a message of `size` octets has room for, and the end of the data. */
static void make_body(void) {
    char text[HEADER_ROOM];
    size_t used = header(text, sizeof text, messages);
    body_len = (size_t)size > used + 80 ? (size_t)size - used : 80;
    body = malloc(body_len + 3);
    if (!body) fatal("no memory for a message of %ld octets", size);
    for (size_t i = 0; i < body_len; i++) {
        size_t column = i % 78;
        body[i] = column == 76 ? '\r' : column == 77 ? '\n' : (char)('a' + (i / 78 + column) % 26);
    }
    if (body[body_len - 3] == '\r') body[body_len - 3] = 'x';
    memcpy(body + body_len - 2, "\r\n.\r\n", 5);
    body_len += 3;
}

static int claim(struct session *s) {
    s->number = again_count ? again[--again_count] : next_number < messages ? next_number++ : -1;
    if (s->number < 0) return 0;
    s->not_before = rate ? start + (uint64_t)s->number * S / (uint64_t)rate : 0;
    return 1;
}

static void settle(struct session *s, int code) {
    uint64_t t = now_ns();
    fprintf(log_file, "%s-%08ld %llu %llu %d\n", prefix, s->number, (unsigned long long)s->began, (unsigned long long)t, code);
    if (code == 250) accepted++;
    else if (code) refused++;
    else unknown++;
    last = moved = t;
    finished++;
    s->number = -1;
}

static void close_session(struct session *s, uint64_t pause) {
    if (s->number >= 0 && s->step == CONTENT) settle(s, 0);
    if (s->number >= 0) {
        again[again_count++] = s->number;
        retries++;
        s->number = -1;
    }
    if (s->step == HELD) held--;
    else if (s->step != CLOSED) opening--;
    link_close(&s->link);
    s->step = CLOSED;
    s->not_before = pause ? now_ns() + pause : 0;
}

static void open_session(struct session *s) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) fatal("socket: %s", strerror(errno));
    link_open(&s->link, fd);
    s->step = GREETING;
    s->sent = 0;
    s->opened = s->began = now_ns();
    opening++;
    if (!first) first = s->opened;
    if (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) close_session(s, RETRY_MS * MS);
    else link_watch(&s->link, poll_fd, s);
}

static void next_message(struct session *s) {
    if (hold) {
        s->step = HELD;
        held++;
        opening--;
    } else if (s->number >= 0 || (s->sent < per && claim(s))) {
        if (s->sent) s->began = now_ns();
        link_say(&s->link, "MAIL FROM:<load@client.test>\r\n");
        s->step = MAIL;
    } else {
        link_say(&s->link, "QUIT\r\n");
        link_flush(&s->link);
        close_session(s, 0);
    }
}

static void say_message(struct session *s) {
    char text[HEADER_ROOM];
    header(text, sizeof text, s->number);
    link_say(&s->link, "%s", text);
    link_say_bulk(&s->link, body, body_len);
    s->step = CONTENT;
}

static void check_pin(struct session *s) {
    unsigned char digest[32];
    char hex[65];
    X509 *shown = SSL_get1_peer_certificate(s->link.ssl);
    if (!shown || !X509_digest(shown, EVP_sha256(), digest, NULL)) fatal("the server shows no certificate");
    X509_free(shown);
    for (int i = 0; i < 32; i++) sprintf(hex + 2 * i, "%02x", digest[i]);
    if (strcasecmp(hex, pin)) fatal("the server's certificate is %s, not the pinned one", hex);
}

static void refuse(struct session *s, int code, const char *line) {
    if (s->step == CONTENT) settle(s, code);
    else if (code >= 500) fatal("the server refuses %s: %s", steps[s->step].what, line);
    close_session(s, RETRY_MS * MS);
}

static void answered(struct session *s, int code, const char *line) {
    struct link *l = &s->link;
    char address[ADDRESS_ROOM];
    if (code != steps[s->step].wanted) {
        refuse(s, code, line);
        return;
    }
    switch (s->step) {
    case GREETING:
        link_say(l, "EHLO client.test\r\n");
        s->step = HELLO;
        break;
    case HELLO:
        if (!tls) {
            next_message(s);
            break;
        }
        link_say(l, "STARTTLS\r\n");
        s->step = UPGRADE;
        break;
    case UPGRADE:
        link_secure(l, context, 0);
        link_say(l, "EHLO client.test\r\n");
        s->step = SECURED;
        break;
    case SECURED:
        if (pin) check_pin(s);
        next_message(s);
        break;
    case MAIL:
        link_say(l, "RCPT TO:<%s>\r\n", recipient(address, s->number));
        s->step = RCPT;
        break;
    case RCPT:
        link_say(l, "DATA\r\n");
        s->step = DATA;
        break;
    case DATA: say_message(s); break;
    case CONTENT:
        settle(s, code);
        s->sent++;
        next_message(s);
        break;
    default: break;
    }
}

/* All that can be done without waiting. */
static void work(struct session *s) {
    while (s->step != CLOSED) {
        if (link_flush(&s->link) == LINK_OVER) break;
        int got = link_fill(&s->link);
        if (got == LINK_OVER) break;
        if (got == LINK_WAIT) {
            link_watch(&s->link, poll_fd, s);
            return;
        }
        size_t at = 0;
        char *line;
        while (s->step != CLOSED && s->link.in_len && (line = link_line(&s->link, &at)))
            if (strlen(line) < 4 || line[3] != '-') answered(s, atoi(line), line);
        if (s->step == CLOSED) return;
        if (s->link.in_len) link_drop(&s->link, at);
    }
    if (s->step != CLOSED) close_session(s, RETRY_MS * MS);
}

/* Opens what may be opened and gives up on silent greetings; the time to sleep, in ms. */
static int tend(void) {
    uint64_t t = now_ns(), sleep = 500 * MS, patience = (hold ? HELD_PATIENCE_S : PATIENCE_S) * S;
    for (long i = 0; i < sessions; i++) {
        struct session *s = &all[i];
        if (s->step == GREETING && t - s->opened > patience) {
            stalled++;
            close_session(s, 0);
        }
        if (s->step != CLOSED || (hold && opening >= RAMP)) continue;
        if (!hold && s->number < 0) {
            uint64_t pause = s->not_before;
            if (!claim(s)) continue;
            if (pause > s->not_before) s->not_before = pause;
        }
        if (s->not_before <= t) open_session(s);
        else if (s->not_before - t < sleep) sleep = s->not_before - t;
    }
    return (int)(sleep / MS) + 1;
}

static void report(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("{\"accepted\":%ld,\"refused\":%ld,\"unknown\":%ld,\"retries\":%ld,\"stalled\":%ld,"
           "\"first_ns\":%llu,\"last_ns\":%llu,\"cpu_s\":%.3f}\n",
           accepted, refused, unknown, retries, stalled, (unsigned long long)first, (unsigned long long)last, cpu);
}

static void run(void) {
    struct epoll_event events[EVENTS];
    int told = 0;
    start = moved = now_ns();
    while (hold || finished < messages) {
        int count = epoll_wait(poll_fd, events, EVENTS, tend());
        for (int i = 0; i < count; i++) {
            if (!events[i].data.ptr) return;
            work(events[i].data.ptr);
        }
        int stuck = now_ns() - moved > STUCK_S * S;
        if (hold && !told && (held == sessions || stuck)) {
            told = printf("{\"held\":%ld}\n", held);
            fflush(stdout);
        } else if (!hold && stuck) {
            fprintf(stderr, "nothing moved for %d s; %ld of %ld messages are done\n", STUCK_S, finished, messages);
            return;
        }
    }
}

int main(int argc, char **argv) {
    const struct option options[] = {
        {"port", 0, &port}, {"sessions", 0, &sessions}, {"messages", 0, &messages}, {"per", 0, &per}, {"size", 0, &size},
        {"rate", 0, &rate}, {"domains", 0, &domains}, {"tls", 0, &tls}, {"hold", 0, &hold}, {"prefix", &prefix, 0}, {"domain", &domain, 0},
        {"log", &log_path, 0}, {"cert", &cert, 0}, {"key", &key, 0}, {"pin", &pin, 0}, {0, 0, 0},
    };
    read_options(argc, argv, options);
    prepare_process();
    if (tls) context = tls_context(TLS_client_method(), cert, key);
    log_file = fopen(log_path ? log_path : "/dev/null", "w");
    if (!log_file) fatal("%s: %s", log_path, strerror(errno));
    make_body();
    all = calloc((size_t)sessions, sizeof *all);
    again = calloc((size_t)messages + 1, sizeof *again);
    if (!all || !again) fatal("no memory");
    for (long i = 0; i < sessions; i++) all[i].link.fd = -1, all[i].number = -1;
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (hold) watch_input(poll_fd);
    run();
    fclose(log_file);
    if (!hold) report();
    return hold || finished == messages ? 0 : 1;
}
