"""Who should run what: pure."""
