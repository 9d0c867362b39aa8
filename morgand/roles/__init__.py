"""The jobs a host can hold."""
