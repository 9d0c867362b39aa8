"""Who is alive: heartbeats between hosts, what silence means, and the lease a host holds from the voters."""
