"""The assistant: turns, prompts, retrieval. Knows nothing of hosts."""
