"""The embedder role: spec, service, client."""
