"""What must survive, in one SQL database: users, things, channels and their connections,
certificates of things, and what MQTT keeps.

The way in is :class:`mfserver.store.store.Store`.
"""
