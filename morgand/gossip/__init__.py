"""Who is here: a hint."""
