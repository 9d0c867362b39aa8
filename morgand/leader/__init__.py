"""What the leader of the cluster does: win the election, plan, keep the voters and the database's primary."""
