"""What this host has, one fact a file."""
