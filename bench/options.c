/* What the load generator is told to do. */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options options = {
    .workload = "publish", .host = "127.0.0.1", .topic = "bench", .prefix = "c", .port = 8883, .qos = 1,
    .payload = 64, .publishers = 1, .topics = 1, .window = 1, .concurrency = 16, .seconds = 4,
};

#define NUMBER(name, field) if (!strcmp(option, name)) { options.field = strtoul(value, NULL, 10); continue; }
#define REAL(name, field) if (!strcmp(option, name)) { options.field = strtod(value, NULL); continue; }
#define TEXT(name, field) if (!strcmp(option, name)) { options.field = value; continue; }

void read_options(int count, char **given)
{
    for (int i = 1; i + 1 < count; i += 2) {
        const char *option = given[i], *value = given[i + 1];
        TEXT("--workload", workload) TEXT("--host", host) TEXT("--ca", ca) TEXT("--certificate", certificate)
        TEXT("--key", key) TEXT("--user", user) TEXT("--password", password) TEXT("--topic", topic)
        TEXT("--prefix", prefix) NUMBER("--port", port) NUMBER("--qos", qos) NUMBER("--payload", payload)
        NUMBER("--publishers", publishers) NUMBER("--subscribers", subscribers) NUMBER("--topics", topics)
        NUMBER("--others", others) NUMBER("--window", window) NUMBER("--concurrency", concurrency)
        NUMBER("--away", away) NUMBER("--hold", hold) NUMBER("--count", count) REAL("--seconds", seconds)
        REAL("--rate", rate)
        if (!strcmp(option, "--protocol")) {
            options.protocol = !strcmp(value, "mqtt") ? MQTT : !strcmp(value, "http") ? HTTP : WEBSOCKET;
            continue;
        }
        snprintf(trouble, sizeof trouble, "%s", option);
        die("there is no such option");
    }
    if (count % 2 == 0 || !options.ca || options.payload < 12 || options.payload > 125 || !options.window ||
        !options.topics || (!options.qos && !options.subscribers && options.protocol == MQTT))
        die("--name value ...: --ca, a payload of 12 to 125 bytes; QoS 0 needs subscribers");
}
