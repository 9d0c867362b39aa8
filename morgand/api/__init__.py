"""The HTTP APIs: ours and the OpenAI dialect."""
