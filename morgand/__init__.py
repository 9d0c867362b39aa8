"""morgand: the daemon of Morgan, a self-hosted assistant that lives on several ordinary machines."""

__version__ = "0.1.0"
