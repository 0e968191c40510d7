/* The least that a server over mutual TLS can do: one loop of epoll and OpenSSL that acknowledges every PUBLISH and
 * hands it to every subscriber, whatever the topic. No sessions, no rights, no bounds, no deadlines: a figure to
 * compare with, and never a server. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECORD = 1 << 14, EVENTS = 1024, HELD = 1 << 22 };

struct peer {
    SSL *tls;
    int fd, is_subscriber, qos;
    uint16_t next_id;
    uint8_t *in, *out;
    size_t in_length, out_length, out_room;
    struct peer *next_written, *next_subscriber, *previous_subscriber;
    int is_written;
};

static struct peer *subscribers, *written;

static void say(struct peer *peer, const void *data, size_t length)
{
    if (peer->out_length + length > HELD)
        return; /* it does not read */
    if (peer->out_length + length > peer->out_room) {
        peer->out_room = (peer->out_length + length) * 2;
        peer->out = realloc(peer->out, peer->out_room);
        if (!peer->out)
            abort();
    }
    memcpy(peer->out + peer->out_length, data, length);
    peer->out_length += length;
    if (!peer->is_written) {
        peer->is_written = 1;
        peer->next_written = written;
        written = peer;
    }
}

static void drop(int epoll, struct peer *peer)
{
    epoll_ctl(epoll, EPOLL_CTL_DEL, peer->fd, NULL);
    for (struct peer **each = &written; *each; each = &(*each)->next_written)
        if (*each == peer) {
            *each = peer->next_written;
            break;
        }
    for (struct peer **each = &subscribers; *each; each = &(*each)->next_subscriber)
        if (*each == peer) {
            *each = peer->next_subscriber;
            break;
        }
    SSL_free(peer->tls);
    close(peer->fd);
    free(peer->in);
    free(peer->out);
    free(peer);
}

/* Hand a PUBLISH to every subscriber, at the lower of both qualities of service. */
static void forward(const uint8_t *body, size_t length, int qos, size_t topic)
{
    for (struct peer *to = subscribers; to; to = to->next_subscriber) {
        int lower = qos < to->qos ? qos : to->qos;
        size_t rest = length - (2 + topic) - (qos ? 2 : 0);
        size_t left = 2 + topic + (lower ? 2 : 0) + rest;
        uint8_t head[8] = {0x30 | lower << 1};
        int at = 1;
        for (size_t more = left;; more >>= 7) {
            head[at++] = (more & 127) | (more > 127 ? 128 : 0);
            if (more <= 127)
                break;
        }
        say(to, head, at);
        say(to, body, 2 + topic);
        if (lower) {
            to->next_id = to->next_id == 65535 ? 1 : to->next_id + 1;
            say(to, (uint8_t[]){to->next_id >> 8, to->next_id & 255}, 2);
        }
        say(to, body + length - rest, rest);
    }
}

/* Answer one whole packet. Returns 0 for one that ends the connection. */
static int take(struct peer *peer, int first, const uint8_t *body, size_t length)
{
    size_t topic = length >= 2 ? body[0] << 8 | body[1] : 0;
    int qos = first >> 1 & 3;
    switch (first >> 4) {
    case 1:
        say(peer, "\x20\x02\0\0", 4);
        return 1;
    case 3:
        if (length < 2 + topic + (qos ? 2 : 0))
            return 0;
        if (qos)
            say(peer, (uint8_t[]){0x40, 2, body[2 + topic], body[3 + topic]}, 4);
        forward(body, length, qos, topic);
        return 1;
    case 8:
        if (length < 3)
            return 0;
        if (!peer->is_subscriber) {
            peer->is_subscriber = 1;
            peer->next_subscriber = subscribers;
            subscribers = peer;
        }
        peer->qos = body[length - 1] & 1;
        say(peer, (uint8_t[]){0x90, 3, body[0], body[1], peer->qos}, 5);
        return 1;
    case 12:
        say(peer, "\xd0\0", 2);
        return 1;
    case 14:
        return 0;
    default:
        return 1;
    }
}

static int read_from(struct peer *peer)
{
    static uint8_t record[2 * RECORD];
    memcpy(record, peer->in, peer->in_length);
    int got = SSL_read(peer->tls, record + peer->in_length, RECORD);
    if (got <= 0)
        return SSL_get_error(peer->tls, got) == SSL_ERROR_WANT_READ;
    size_t end = peer->in_length + got, at = 0;
    while (end - at >= 2) {
        size_t length = 0, head = 1;
        int shift = 0, is_whole = 0;
        while (head < 5 && at + head < end && !is_whole) {
            length |= (size_t)(record[at + head] & 127) << shift;
            shift += 7;
            is_whole = !(record[at + head++] & 128);
        }
        if (!is_whole || at + head + length > end)
            break;
        if (!take(peer, record[at], record + at + head, length))
            return 0;
        at += head + length;
    }
    peer->in_length = end - at;
    if (peer->in_length > RECORD)
        return 0;
    if (peer->in_length) {
        peer->in = peer->in ? peer->in : malloc(RECORD);
        memcpy(peer->in, record + at, peer->in_length);
    } else {
        free(peer->in);
        peer->in = NULL;
    }
    return 1;
}

/* Send what there is, in one record where it fits. Returns 0 where the connection is broken. */
static int write_to(int epoll, struct peer *peer)
{
    size_t sent = 0;
    while (sent < peer->out_length) {
        int wrote = SSL_write(peer->tls, peer->out + sent, peer->out_length - sent);
        if (wrote <= 0) {
            if (SSL_get_error(peer->tls, wrote) != SSL_ERROR_WANT_WRITE)
                return 0;
            break;
        }
        sent += wrote;
    }
    memmove(peer->out, peer->out + sent, peer->out_length - sent);
    peer->out_length -= sent;
    struct epoll_event event = {EPOLLIN | (peer->out_length ? EPOLLOUT : 0), {.ptr = peer}};
    if (peer->out_length || sent == 0)
        epoll_ctl(epoll, EPOLL_CTL_MOD, peer->fd, &event);
    return 1;
}

static void accept_one(int epoll, int listener, SSL_CTX *context)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    struct peer *peer = calloc(1, sizeof *peer);
    peer->fd = fd;
    peer->tls = SSL_new(context);
    SSL_set_fd(peer->tls, fd);
    SSL_set_accept_state(peer->tls);
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){EPOLLIN, {.ptr = peer}});
}

int main(int count, char **given)
{
    if (count != 5) {
        fprintf(stderr, "usage: floor PORT CERTIFICATE KEY CA\n");
        return 2;
    }
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(context, given[2]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, given[3], SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_locations(context, given[4], NULL) != 1) {
        fprintf(stderr, "floor: the certificate, its key or the authority cannot be read\n");
        return 1;
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_id_context(context, (const unsigned char *)"floor", 5);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    struct sockaddr_in address = {AF_INET, htons(atoi(given[1])), {htonl(INADDR_LOOPBACK)}, {0}};
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) {
        perror("floor");
        return 1;
    }
    int epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &(struct epoll_event){EPOLLIN, {.ptr = NULL}});
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct peer *peer = events[i].data.ptr;
            if (!peer)
                accept_one(epoll, listener, context);
            else if ((events[i].events & EPOLLOUT && !write_to(epoll, peer)) || !read_from(peer))
                drop(epoll, peer);
        }
        while (written) {
            struct peer *peer = written;
            written = peer->next_written;
            peer->is_written = 0;
            if (!write_to(epoll, peer))
                drop(epoll, peer);
        }
    }
}
