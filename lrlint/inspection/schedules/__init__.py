"""What schedulers will do to each group, found by stepping them on stand-ins."""
