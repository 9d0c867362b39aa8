"""The core role: spec, service, client."""
