"""The ``mfserver`` command."""
