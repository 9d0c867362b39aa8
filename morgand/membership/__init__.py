"""How a host becomes, stays and ceases to be a member of a cluster."""
