"""What must survive: users, things, channels and their connections, in one SQL database."""
