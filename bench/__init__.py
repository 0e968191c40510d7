"""mfserver beside other MQTT servers: the same load and certificates, and the CPU that each of them needs."""
