"""The cache role: spec, service, client."""
