"""The vocabulary: frozen values and the assistant's ports. No I/O, no clock."""
