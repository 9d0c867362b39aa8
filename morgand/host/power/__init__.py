"""Goodbyes: this machine says that it is about to sleep or to go down, and waits until its roles are handed over."""
