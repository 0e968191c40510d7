"""TLS: one server context for all listeners, how they are opened, and who is at the other end."""
