"""This host's own part: what it says of itself, and how it performs what it is assigned."""
