"""The db role: spec, service, client."""
