/* Load for servers of MQTT 3.1.1 (and WebSocket, HTTP) over mutual TLS: one thread, epoll, OpenSSL.
 *
 * It connects everything first, prints a line of JSON ("ready"), waits for the line "go", works, prints a line of
 * JSON ("done"), waits for the line "end", and leaves, or for another "go", and works again on the same connections.
 * Whoever runs it reads the server's CPU at go and at done. A line "stop" ends the work early. Options are pairs, --name value: see options.c.
 *
 *   publish    publishers send, as many unacknowledged (or undelivered to all subscribers) as the window allows
 *   handshake  connections are made and ended one after the other, so many at a time
 *   idle       connections are held
 *   reconnect  connections are held, and made again when they break; done when all are back
 */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SECOND = 1000000000, EVENTS = 1024, SUB_BUCKETS = 32, PACED_RING = 4096, MOST_UNSENT = 1 << 18 };
enum { RETRY_NS = 100000000, DRAIN_SECONDS = 10, SETUP_SECONDS = 600 };

static enum { SETUP, RUN, DRAIN, OVER } phase;
static bool cycling, returning; /* the workloads handshake and reconnect */
static struct client *clients, **dirty;
static uint32_t client_count, ready_count, opening, dirty_count;
static uint32_t *waiting, waiting_head, waiting_count; /* a ring of those to connect */
static SSL_CTX *context;
static int epoll;
static uint8_t input[1 << 16];
static uint64_t now, sent, begun, operations, errors, retries, last_operation, deadline;
static uint64_t histogram[64 * SUB_BUCKETS], slowest;
static double cpu_before;
char trouble[256];

static double cpu_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + t.tv_nsec;
}

_Noreturn void die(const char *what)
{
    fprintf(stderr, "load: %s%s%s\n", what, *trouble ? ": " : "", trouble);
    exit(1);
}

/* Whether the next line is this one, and not the other. */
static bool line_is(const char *wanted, const char *other)
{
    char line[64];
    if (!fgets(line, sizeof line, stdin) ||
        (strncmp(line, wanted, strlen(wanted)) && strncmp(line, other, strlen(other))))
        die("whoever runs this went away");
    return !strncmp(line, wanted, strlen(wanted));
}

/* Counts one operation; 32 buckets for each power of two: a quantile is right to 3 %. */
static void count_operation(uint64_t since)
{
    uint64_t took = now > since ? now - since : 0;
    int shift = took < SUB_BUCKETS ? 0 : 63 - __builtin_clzll(took) - 5;
    histogram[shift * SUB_BUCKETS + (took >> shift)]++;
    if (took > slowest)
        slowest = took;
    operations++;
    last_operation = now;
}

static double quantile_us(double share)
{
    uint64_t rank = (uint64_t)(share * (double)operations), seen = 0;
    for (int i = 0; i < 64 * SUB_BUCKETS; i++) {
        seen += histogram[i];
        if (seen > rank) {
            int shift = i < 2 * SUB_BUCKETS ? 0 : i / SUB_BUCKETS - 1;
            return (double)((uint64_t)(i - shift * SUB_BUCKETS) << shift) / 1000;
        }
    }
    return (double)slowest / 1000;
}

/* ---- connections ---- */

static void wait_for(struct client *client, bool writable)
{
    if (client->writable == writable)
        return;
    client->writable = writable;
    struct epoll_event event = {EPOLLIN | (writable ? EPOLLOUT : 0), {.ptr = client}};
    epoll_ctl(epoll, EPOLL_CTL_MOD, client->fd, &event);
}

static void queue(struct client *client, uint64_t retry_at)
{
    client->retry_at = retry_at;
    waiting[(waiting_head + waiting_count++) % client_count] = client->index;
}

static void mark_dirty(struct client *client)
{
    if (!client->dirty) {
        client->dirty = true;
        dirty[dirty_count++] = client;
    }
}

static void hang_up(struct client *client)
{
    if (client->state != CLOSED && client->state != READY)
        opening--;
    if (client->state == READY)
        ready_count--;
    if (client->ssl) {
        if (client->state > HANDSHAKE)
            SSL_shutdown(client->ssl);
        SSL_free(client->ssl);
    }
    ERR_clear_error();
    if (client->fd >= 0)
        close(client->fd);
    client->ssl = NULL;
    client->fd = -1;
    client->state = CLOSED;
    client->in.length = client->out.length = 0;
}

/* A connection failed or ended: while all are being made, and where that is the workload, it is made again. */
static void lost(struct client *client, const char *why)
{
    unsigned long code = ERR_peek_error();
    bool was_ready = client->state == READY;
    snprintf(trouble, sizeof trouble, "%s%s%s", why, code ? ": " : "", code ? ERR_reason_error_string(code) : "");
    hang_up(client);
    if (phase == RUN && !returning)
        errors++;
    if (phase == SETUP || (phase == RUN && (returning || cycling))) {
        if (!(was_ready && returning))
            retries++;
        if (!returning && retries > 1000 + 3 * (uint64_t)client_count)
            die("connections fail");
        if (returning && was_ready && !begun)
            begun = now;
        queue(client, now + (was_ready ? 0 : RETRY_NS));
    }
}

static void start(struct client *client)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(options.port)};
    inet_pton(AF_INET, options.host, &to.sin_addr);
    client->started = now;
    client->state = CONNECTING;
    opening++;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0)
        die("no more sockets (ulimit -n)");
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (connect(client->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) {
        lost(client, strerror(errno));
        return;
    }
    client->writable = true;
    struct epoll_event event = {EPOLLIN | EPOLLOUT, {.ptr = client}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, client->fd, &event);
}

static void start_some(void)
{
    while (waiting_count && opening < options.concurrency) {
        struct client *client = &clients[waiting[waiting_head]];
        if (client->retry_at > now)
            break;
        waiting_head = (waiting_head + 1) % client_count;
        waiting_count--;
        start(client);
    }
}

static void proceed_with_handshake(struct client *client)
{
    if (client->state == CONNECTING) {
        int error = 0;
        getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof error});
        if (error) {
            lost(client, strerror(error));
            return;
        }
        client->ssl = SSL_new(context);
        SSL_set_fd(client->ssl, client->fd);
        client->state = HANDSHAKE;
    }
    int result = SSL_connect(client->ssl);
    if (result == 1) {
        client->state = OPENING;
        wait_for(client, false);
        say_hello(client);
        mark_dirty(client);
        return;
    }
    int error = SSL_get_error(client->ssl, result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        wait_for(client, error == SSL_ERROR_WANT_WRITE);
    else
        lost(client, "handshake");
}

/* ---- messages ---- */

static uint64_t audience(const struct client *publisher)
{
    uint32_t topic = publisher->place % options.topics;
    return options.subscribers / options.topics + (options.subscribers % options.topics > topic);
}

static void send_one(struct client *client)
{
    unsent_message(client, now);
    client->sent_at[client->sent % (options.rate > 0 ? PACED_RING : options.window)] = now;
    client->sent++;
    sent++;
    mark_dirty(client);
}

/* A publisher appends what its window allows: back-pressure is the same for every server. */
static void fill(struct client *client)
{
    if (phase != RUN || options.rate > 0 || client->role != PUBLISHER || client->state != READY)
        return;
    uint64_t hearers = audience(client);
    bool answered = options.qos > 0 || options.protocol != MQTT;
    while ((!options.count || sent < options.count) && client->out.length < MOST_UNSENT &&
           (!answered || client->sent - client->acknowledged < options.window) &&
           client->sent * hearers <= client->deliveries + (options.window - 1) * hearers)
        send_one(client);
}

void acknowledged(struct client *client)
{
    uint64_t at = client->sent_at[client->acknowledged++ % (options.rate > 0 ? PACED_RING : options.window)];
    if (!options.subscribers)
        count_operation(at);
    fill(client);
}

void delivered(struct client *client, const uint8_t *payload, size_t length)
{
    uint64_t at;
    uint32_t index;
    if (length != (size_t)options.payload)
        die("a payload came back with another length");
    memcpy(&at, payload, 8);
    memcpy(&index, payload + 8, 4);
    if (index >= client_count || client->role != SUBSCRIBER)
        die("a message came that nobody sent");
    count_operation(at);
    clients[index].deliveries++;
    mark_dirty(client); /* the PUBACK goes out before the publisher's next message */
    fill(&clients[index]);
}

void subscribed(struct client *client)
{
    opening--;
    ready_count++;
    client->state = READY;
    if (client->role == HOLDER && options.away) {
        say_goodbye(client);
        mark_dirty(client);
    }
}

void opened(struct client *client)
{
    client->sent = client->acknowledged = client->deliveries = 0;
    if (client->role != PUBLISHER) {
        client->state = SUBSCRIBING;
        subscribe(client);
        mark_dirty(client);
        return;
    }
    subscribed(client);
    if (phase != RUN || !(cycling || returning))
        return;
    count_operation(client->started);
    if (cycling && !options.hold) {
        say_goodbye(client);
        mark_dirty(client);
    }
}

static void receive_all(struct client *client)
{
    do {
        int got = SSL_read(client->ssl, input, sizeof input);
        if (got <= 0) {
            int error = SSL_get_error(client->ssl, got);
            if (error != SSL_ERROR_WANT_READ)
                lost(client, "the server closed");
            return;
        }
        uint8_t *at = input;
        size_t length = got;
        if (client->in.length) {
            append(&client->in, input, got);
            at = client->in.at;
            length = client->in.length;
        }
        ptrdiff_t done = receive(client, at, length);
        if (done < 0) {
            if (phase == SETUP)
                die("the server refused, or sent what may not come");
            lost(client, "the server sent what may not come");
            return;
        }
        if (at == input) {
            append(&client->in, input + done, length - done);
        } else {
            memmove(client->in.at, client->in.at + done, length - done);
            client->in.length = length - done;
        }
        if (client->out.length)
            mark_dirty(client);
    } while (SSL_has_pending(client->ssl));
}

/* All that the client has in hand goes out at once. */
static void flush(struct client *client)
{
    client->dirty = false;
    if (client->state < OPENING)
        return;
    while (client->out.length) {
        int put = SSL_write(client->ssl, client->out.at, client->out.length);
        if (put <= 0) {
            if (SSL_get_error(client->ssl, put) == SSL_ERROR_WANT_WRITE)
                wait_for(client, true);
            else
                lost(client, "writing");
            return;
        }
        client->out.length -= put;
        memmove(client->out.at, client->out.at + put, client->out.length);
    }
    wait_for(client, false);
    if (client->state != READY)
        return;
    if (cycling && phase == RUN && !options.hold) {
        hang_up(client);
        if (now < deadline && (!options.count || operations + opening + waiting_count < options.count))
            queue(client, 0);
    } else if (client->role == HOLDER && options.away) {
        hang_up(client);
        ready_count++; /* it is where it should be */
    }
}

static void flush_dirty(void)
{
    for (uint32_t i = 0; i < dirty_count; i++)
        flush(dirty[i]);
    dirty_count = 0;
}

/* One turn: new connections, whatever is ready, and then every client's bytes. */
static void turn(uint64_t until)
{
    static struct epoll_event events[EVENTS];
    now = clock_ns();
    start_some();
    uint64_t most = until > now ? until - now : 0;
    if (most > SECOND / 50)
        most = SECOND / 50;
    int count = epoll_pwait2(epoll, events, EVENTS, &(struct timespec){0, most}, NULL);
    now = clock_ns();
    for (int i = 0; i < count; i++) {
        struct client *client = events[i].data.ptr;
        if (!client) {
            line_is("stop", "stop");
            deadline = now;
            continue;
        }
        if (client->state == CLOSED)
            continue;
        if (client->state < OPENING) {
            proceed_with_handshake(client);
            now = clock_ns();
            continue;
        }
        if (events[i].events & EPOLLOUT)
            mark_dirty(client);
        if (events[i].events & ~EPOLLOUT)
            receive_all(client);
    }
    flush_dirty();
}

/* ---- the run ---- */

static void make_clients(void)
{
    uint32_t holders = options.away ? 1 : (options.others + 999) / 1000;
    client_count = holders + options.subscribers + options.publishers;
    clients = calloc(client_count, sizeof *clients);
    waiting = calloc(client_count, sizeof *waiting);
    dirty = calloc(client_count, sizeof *dirty);
    if (!clients || !waiting || !dirty)
        die("no memory");
    for (uint32_t i = 0; i < client_count; i++) {
        struct client *client = &clients[i];
        bool holder = i < holders, subscriber = i < holders + options.subscribers;
        client->fd = -1;
        client->index = i;
        client->role = holder ? HOLDER : subscriber ? SUBSCRIBER : PUBLISHER;
        client->place = i - (holder ? 0 : subscriber ? holders : holders + options.subscribers);
        if (client->role == PUBLISHER) {
            client->sent_at = calloc(options.rate > 0 ? PACED_RING : options.window, sizeof(uint64_t));
            make_frame(client);
        }
    }
}

static void set_up(void)
{
    uint64_t first = now = clock_ns();
    for (uint32_t i = 0; i < client_count && !cycling; i++)
        queue(&clients[i], 0);
    while (!cycling && ready_count < client_count) {
        turn(now + SECOND);
        if (now - first > (uint64_t)SETUP_SECONDS * SECOND)
            die("connecting takes too long");
    }
    printf("{\"event\": \"ready\", \"connections\": %u, \"elapsed\": %.3f, \"retries\": %llu}\n", client_count,
           (double)(now - first) / SECOND, (unsigned long long)retries);
    fflush(stdout);
}

static bool is_over(void)
{
    if (returning)
        return operations && ready_count == client_count;
    if (cycling)
        return !opening && !waiting_count && (options.hold || !ready_count || now >= deadline);
    if (options.count && sent >= options.count)
        return true;
    return now >= deadline;
}

static uint64_t outstanding(void)
{
    uint64_t all = 0;
    for (uint32_t i = 0; i < client_count; i++) {
        struct client *client = &clients[i];
        if (options.subscribers)
            all += client->sent * audience(client) - client->deliveries;
        else if (options.qos || options.protocol != MQTT)
            all += client->sent - client->acknowledged;
    }
    return all;
}

static void pace(uint64_t *due, uint32_t *next)
{
    while (*due <= now && (!options.count || sent < options.count)) {
        struct client *client = &clients[client_count - 1 - (*next)++ % options.publishers];
        if (client->state == READY && client->sent - client->acknowledged < PACED_RING)
            send_one(client);
        else
            errors++;
        *due += (uint64_t)(SECOND / options.rate);
    }
    flush_dirty();
}

static void run(void)
{
    uint64_t first = now = clock_ns(), due = first;
    uint32_t next = 0;
    phase = RUN;
    operations = errors = retries = sent = slowest = begun = last_operation = 0;
    memset(histogram, 0, sizeof histogram);
    cpu_before = cpu_seconds();
    epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &(struct epoll_event){EPOLLIN, {.ptr = NULL}});
    deadline = first + (uint64_t)(options.seconds * SECOND);
    for (uint32_t i = 0; i < client_count; i++) {
        if (cycling && (!options.count || i < options.count))
            queue(&clients[i], 0);
        else if (!cycling && !returning)
            fill(&clients[i]);
    }
    flush_dirty();
    while (strcmp(options.workload, "idle") && !is_over()) {
        if (options.rate > 0)
            pace(&due, &next);
        turn(options.rate > 0 && due < deadline ? due : deadline);
        if (now > deadline + (uint64_t)SETUP_SECONDS * SECOND)
            die("the workload does not end");
    }
    phase = DRAIN;
    epoll_ctl(epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
    while (!cycling && !returning && outstanding() && now < deadline + (uint64_t)DRAIN_SECONDS * SECOND)
        turn(now + SECOND);
    phase = OVER;
    if (!begun)
        begun = first;
}

static void report(void)
{
    printf("{\"event\": \"done\", \"operations\": %llu, \"sent\": %llu, \"elapsed\": %.6f, \"p50_us\": %.1f, "
           "\"p99_us\": %.1f, \"max_us\": %.1f, \"errors\": %llu, \"lost\": %llu, \"retries\": %llu, \"cpu\": %.3f}\n",
           (unsigned long long)operations, (unsigned long long)sent,
           operations ? (double)(last_operation - begun) / SECOND : 0, quantile_us(0.5), quantile_us(0.99),
           (double)slowest / 1000, (unsigned long long)errors,
           (unsigned long long)(cycling || returning ? 0 : outstanding()), (unsigned long long)retries, cpu_seconds() - cpu_before);
    if (errors)
        fprintf(stderr, "load: %llu errors, the last: %s\n", (unsigned long long)errors, trouble);
    fflush(stdout);
}

static void leave(void)
{
    for (uint32_t i = 0; i < client_count; i++) {
        if (clients[i].state == READY && clients[i].fd >= 0) {
            say_goodbye(&clients[i]);
            flush(&clients[i]);
        }
        hang_up(&clients[i]);
    }
}

static void make_context(void)
{
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(context, 1); /* one read() a record, not two */
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (!SSL_CTX_load_verify_locations(context, options.ca, NULL))
        die("--ca cannot be read");
    if (options.certificate && (!SSL_CTX_use_certificate_chain_file(context, options.certificate) ||
                                !SSL_CTX_use_PrivateKey_file(context, options.key, SSL_FILETYPE_PEM)))
        die("--certificate or --key cannot be read");
}

int main(int count, char **given)
{
    signal(SIGPIPE, SIG_IGN);
    read_options(count, given);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    cycling = !strcmp(options.workload, "handshake");
    returning = !strcmp(options.workload, "reconnect");
    epoll = epoll_create1(EPOLL_CLOEXEC);
    make_context();
    make_clients();
    set_up();
    while (line_is("go", "end")) {
        run();
        report();
    }
    leave();
    return 0;
}
