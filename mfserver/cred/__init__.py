"""Who may in: twisted.cred's credentials, checkers, realm and portal for things and for people."""
