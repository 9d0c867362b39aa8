"""The reranker role: spec, service, client."""
