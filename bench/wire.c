/* The packets of MQTT 3.1.1, and just enough of WebSocket and HTTP/1.1 to publish over them. */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILTERS_IN_A_PACKET = 100, OTHERS_OF_A_HOLDER = 1000 };

void append(struct bytes *to, const void *from, size_t length)
{
    if (to->length + length > to->room) {
        to->room = (to->length + length) * 2;
        to->at = realloc(to->at, to->room);
        if (!to->at)
            abort();
    }
    if (length)
        memcpy(to->at + to->length, from, length);
    to->length += length;
}

static void append_byte(struct bytes *to, unsigned byte) { append(to, &(uint8_t){byte}, 1); }

static void append_short(struct bytes *to, unsigned number)
{
    append(to, (uint8_t[]){number >> 8, number}, 2);
}

static void append_string(struct bytes *to, const char *text)
{
    append_short(to, strlen(text));
    append(to, text, strlen(text));
}

/* A fixed header before what is in the body; the body is freed. */
static void append_packet(struct bytes *to, unsigned first, struct bytes *body)
{
    append_byte(to, first);
    size_t left = body->length;
    do {
        append_byte(to, (left & 127) | (left > 127 ? 128 : 0));
        left >>= 7;
    } while (left);
    append(to, body->at, body->length);
    free(body->at);
}

static void topic_of(char *into, size_t room, const char *kind, uint32_t number)
{
    snprintf(into, room, "%s/%s%u", options.topic, kind, number);
}

static void append_text(struct bytes *to, const char *text) { append(to, text, strlen(text)); }

/* The message that this publisher sends again and again: only time, publisher and identifier change in it. */
void make_frame(struct client *client)
{
    struct frame *frame = &client->frame;
    struct bytes body = {0};
    char topic[512];
    topic_of(topic, sizeof topic, "t", client->place % options.topics);
    uint8_t *payload = calloc(1, options.payload);
    if (options.protocol == MQTT) {
        append_string(&body, topic);
        size_t before = body.length;
        if (options.qos)
            append_short(&body, 0);
        append(&body, payload, options.payload);
        size_t whole = body.length;
        append_packet(&frame->bytes, 0x30 | options.qos << 1, &body);
        frame->identifier = frame->bytes.length - whole + before;
    } else if (options.protocol == WEBSOCKET) {
        /* A mask of zeros is a mask: what is sent is the payload as it is. */
        append(&frame->bytes, (uint8_t[]){0x82, 0x80 | options.payload, 0, 0, 0, 0}, 6);
        append(&frame->bytes, payload, options.payload);
    } else {
        char head[1024];
        snprintf(head, sizeof head,
                 "POST /http/%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\n"
                 "Content-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n",
                 topic, options.password, options.payload);
        append_text(&frame->bytes, head);
        append(&frame->bytes, payload, options.payload);
    }
    frame->payload = frame->bytes.length - options.payload;
    free(payload);
}

/* Everything before the first message: CONNECT, or the upgrade to a WebSocket on a topic of its own. */
void say_hello(struct client *client)
{
    struct bytes body = {0};
    char text[1024];
    if (options.protocol == MQTT) {
        bool kept = options.away && client->role == HOLDER;
        append_string(&body, "MQTT");
        append_byte(&body, 4);
        append_byte(&body, (kept ? 0 : 2) | (options.user ? 0x80 : 0) | (options.password ? 0x40 : 0));
        append_short(&body, 600); /* keep alive, s: longer than any run */
        snprintf(text, sizeof text, "%s%u", options.prefix, client->index);
        append_string(&body, text);
        if (options.user)
            append_string(&body, options.user);
        if (options.password)
            append_string(&body, options.password);
        append_packet(&client->out, 0x10, &body);
    } else if (options.protocol == WEBSOCKET) {
        snprintf(text, sizeof text,
                 "GET /ws/%s/t%u HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\n"
                 "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                 options.topic, client->place % options.topics, options.password);
        append_text(&client->out, text);
    } else {
        opened(client);
    }
}

void say_goodbye(struct client *client)
{
    if (options.protocol == MQTT)
        append(&client->out, (uint8_t[]){0xe0, 0}, 2);
}

/* A subscriber's one filter; a holder's thousand others; every topic for one who then goes away. */
void subscribe(struct client *client)
{
    bool other = client->role == HOLDER && !options.away;
    uint32_t first = other ? client->place * OTHERS_OF_A_HOLDER : client->place % options.topics, end = first + 1;
    if (other) {
        end = first + OTHERS_OF_A_HOLDER;
        if (end > options.others)
            end = options.others;
    } else if (client->role == HOLDER) {
        first = 0;
        end = options.topics;
    }
    client->unacknowledged_filters = end - first;
    for (uint32_t number = first; number < end;) {
        struct bytes body = {0};
        append_short(&body, 1);
        for (int room = FILTERS_IN_A_PACKET; room && number < end; room--, number++) {
            char topic[512];
            topic_of(topic, sizeof topic, other ? "o" : "t", number);
            append_string(&body, topic);
            append_byte(&body, options.qos);
        }
        append_packet(&client->out, 0x82, &body);
    }
}

/* Appends one message to what the client will send. */
void unsent_message(struct client *client, uint64_t now)
{
    struct frame *frame = &client->frame;
    size_t start = client->out.length;
    append(&client->out, frame->bytes.at, frame->bytes.length);
    uint8_t *at = client->out.at + start;
    if (frame->identifier) {
        unsigned identifier = client->sent % 65535 + 1;
        at[frame->identifier] = identifier >> 8;
        at[frame->identifier + 1] = identifier;
    }
    memcpy(at + frame->payload, &now, 8);
    memcpy(at + frame->payload + 8, &client->index, 4);
}

static bool receive_packet(struct client *client, const uint8_t *head, const uint8_t *body, size_t length)
{
    switch (head[0] >> 4) {
    case 2: /* CONNACK */
        if (length != 2 || body[1] || client->state != OPENING)
            return false;
        opened(client);
        return true;
    case 3: { /* PUBLISH */
        size_t payload = 2 + (length < 2 ? 0 : body[0] << 8 | body[1]);
        if (head[0] & 6)
            payload += 2;
        if (payload > length)
            return false;
        if (head[0] & 6)
            append(&client->out, (uint8_t[]){0x40, 2, body[payload - 2], body[payload - 1]}, 4);
        delivered(client, body + payload, length - payload);
        return true;
    }
    case 4: /* PUBACK, in the order of what was sent [MQTT-4.6.0-2] */
        if (length != 2 || client->acknowledged == client->sent ||
            (body[0] << 8 | body[1]) != (int)(client->acknowledged % 65535 + 1))
            return false;
        acknowledged(client);
        return true;
    case 9: /* SUBACK */
        for (size_t at = 2; at < length; at++) {
            if (body[at] & 0x80 || !client->unacknowledged_filters)
                return false;
            if (!--client->unacknowledged_filters)
                subscribed(client);
        }
        return true;
    default:
        return false;
    }
}

static ptrdiff_t receive_mqtt(struct client *client, const uint8_t *start, size_t length)
{
    const uint8_t *at = start, *end = start + length;
    while (end - at >= 2) {
        const uint8_t *body = at + 1;
        size_t remaining = 0;
        int shift = 0;
        for (; body < end; shift += 7) {
            remaining |= (size_t)(*body & 127) << shift;
            if (!(*body++ & 128))
                break;
        }
        if (shift > 21)
            return -1;
        if (body[-1] & 128 || (size_t)(end - body) < remaining)
            break;
        if (!receive_packet(client, at, body, remaining))
            return -1;
        at = body + remaining;
    }
    return at - start;
}

/* One HTTP response, with or without a body; 0 until it is whole. */
static ptrdiff_t receive_response(const uint8_t *at, size_t length, const char *status)
{
    const uint8_t *end = memmem(at, length, "\r\n\r\n", 4);
    if (!end)
        return 0;
    if (length < 12 || memcmp(at + 9, status, 3))
        return -1;
    size_t whole = end + 4 - at;
    const uint8_t *field = memmem(at, whole, "ontent-Length: ", 15);
    if (field)
        whole += strtoul((const char *)field + 15, NULL, 10);
    return whole <= length ? (ptrdiff_t)whole : 0;
}

static ptrdiff_t receive_frames(struct client *client, const uint8_t *start, size_t length)
{
    const uint8_t *at = start, *end = start + length;
    while (end - at >= 2 && end - at >= 2 + (at[1] & 127)) {
        if ((at[1] & 127) > 125)
            return -1;
        if ((at[0] & 15) < 3 && client->acknowledged < client->sent)
            acknowledged(client);
        else if ((at[0] & 15) != 9) /* a ping may stay unanswered for the length of a run */
            return -1;
        at += 2 + (at[1] & 127);
    }
    return at - start;
}

ptrdiff_t receive(struct client *client, uint8_t *at, size_t length)
{
    if (options.protocol == MQTT)
        return receive_mqtt(client, at, length);
    ptrdiff_t whole;
    if (options.protocol == WEBSOCKET) {
        if (client->state == READY)
            return receive_frames(client, at, length);
        whole = receive_response(at, length, "101");
        if (whole > 0)
            opened(client);
        return whole;
    }
    size_t done = 0;
    while ((whole = receive_response(at + done, length - done, "202")) > 0) {
        if (client->acknowledged == client->sent)
            return -1;
        acknowledged(client);
        done += whole;
    }
    return whole < 0 ? -1 : (ptrdiff_t)done;
}
