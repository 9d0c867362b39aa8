"""The objects role: spec, service, client."""
