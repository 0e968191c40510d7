"""The provisioning API over HTTP, and the one resource that every HTTP route of the house is served from."""
