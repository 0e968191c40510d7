"""The way of a message from its publisher to everybody who listens."""
