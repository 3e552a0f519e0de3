"""Everything that running the user's code changes is remembered before and put back after: `snapshot` is the door."""
