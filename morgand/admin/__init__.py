"""What an operator sees and changes: status, hosts, settings, keys."""
