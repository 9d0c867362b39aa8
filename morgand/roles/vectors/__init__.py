"""The vectors role: spec, service, client."""
