"""MQTT 3.1, 3.1.1 and 5.0 without the network: bytes and the time go in, events and bytes come out.

Read :mod:`.packets` for what is said, :mod:`.decode` and :mod:`.encode` for how it looks on the wire,
:mod:`.connection` for who may say it when, and :mod:`.session` for what outlives a connection.

It is a server's end alone, and asks nothing of a client that its specification does not (of 3.1.1
[MQTT-7.0.0-1] [MQTT-7.0.0-2]).
"""
