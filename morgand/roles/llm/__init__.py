"""The llm role: spec, service, client."""
