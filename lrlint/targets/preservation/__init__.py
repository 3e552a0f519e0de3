"""Take and restore everything that the user's code changes."""
