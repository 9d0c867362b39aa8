"""What is decided: the store, election, fencing."""
