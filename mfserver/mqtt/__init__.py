"""MQTT 3.1, 3.1.1 and 5.0 without the network: bytes and the time go in, events and bytes come out.

Read :mod:`.packets` for what is said, :mod:`.decode` and :mod:`.encode` for how it looks on the wire,
:mod:`.connection` for who may say it when, and :mod:`.session` for what outlives a connection.
"""
