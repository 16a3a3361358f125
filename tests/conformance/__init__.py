"""One suite of promises for each kind of store: whatever keeps the coordinator's records keeps them in the same way."""
