"""morganctl: the command line of Morgan, a client of the daemon's HTTP API."""
