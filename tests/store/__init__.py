"""The store, and a twin of it in memory that passes the same contract."""
