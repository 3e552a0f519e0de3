"""Save everything that running the user's code may change, and restore it: see `snapshot`."""
