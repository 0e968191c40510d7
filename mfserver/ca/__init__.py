"""The built-in certificate authority: what a server makes for itself on its first start."""
