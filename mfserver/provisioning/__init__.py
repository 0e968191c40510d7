"""What may be done to users, keys, things, channels and connections: the rules, and no HTTP."""
