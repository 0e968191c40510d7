/* What the parts of the load generator share: wire.c knows packets, load.c connections and time. */
#ifndef LOAD_H
#define LOAD_H

#define _GNU_SOURCE

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum protocol { MQTT, WEBSOCKET, HTTP };
enum role { PUBLISHER, SUBSCRIBER, HOLDER };
enum state { CLOSED, CONNECTING, HANDSHAKE, OPENING, SUBSCRIBING, READY };

/* Bytes that grow as they are appended to. */
struct bytes {
    uint8_t *at;
    size_t length, room;
};

/* One message of a publisher, whole, and where in it the packet identifier and the payload stand. */
struct frame {
    struct bytes bytes;
    size_t identifier, payload;
};

struct client {
    int fd;
    SSL *ssl;
    enum role role;
    enum state state;
    bool writable, dirty; /* epoll asks for EPOLLOUT; is on the list of those that have bytes to send */
    uint32_t index;       /* among all clients: its client identifier */
    uint32_t place;       /* among those of its role: its topic */
    uint32_t unacknowledged_filters;
    uint64_t started;             /* ns, when the connection was begun */
    uint64_t retry_at;            /* ns, not before this */
    uint64_t sent, acknowledged;  /* messages of this publisher */
    uint64_t deliveries;          /* of its messages, to all subscribers */
    uint64_t *sent_at;            /* ring of ns by message number */
    struct frame frame;
    struct bytes in, out;
};

struct options {
    const char *workload, *host, *ca, *certificate, *key, *user, *password, *topic, *prefix;
    enum protocol protocol;
    int port, qos, payload;
    uint32_t publishers, subscribers, topics, others, window, concurrency;
    bool away, hold;
    uint64_t count;
    double seconds, rate;
};

extern struct options options;
extern char trouble[256]; /* what went wrong last */

/* options.c */
void read_options(int count, char **given);

/* wire.c */
void append(struct bytes *to, const void *from, size_t length);
void make_frame(struct client *client);
void say_hello(struct client *client);
void say_goodbye(struct client *client);
void subscribe(struct client *client);
void unsent_message(struct client *client, uint64_t now);
/* Handles whole packets; returns how many bytes they were, or -1 for what may not come. */
ptrdiff_t receive(struct client *client, uint8_t *at, size_t length);

/* load.c */
_Noreturn void die(const char *what);

/* What wire.c found in the bytes. */
void opened(struct client *client);
void subscribed(struct client *client);
void acknowledged(struct client *client);
void delivered(struct client *client, const uint8_t *payload, size_t length);

#endif
