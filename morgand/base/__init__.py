"""What all else stands on, and what knows nothing of Morgan: time, errors, files, the data directory, logs."""
