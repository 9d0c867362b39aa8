"""The one-time move of a lone host's SQLite data into the cluster's PostgreSQL."""
