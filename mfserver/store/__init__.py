"""What must survive: users, things, channels and their connections, in one SQL database.

The way in is :class:`mfserver.store.store.Store`.
"""
