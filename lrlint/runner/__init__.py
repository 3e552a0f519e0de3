"""From arguments to a Run: targets, each in a process of its own."""
