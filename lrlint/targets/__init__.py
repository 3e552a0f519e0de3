"""From the user's code to live objects: what runs it, and what puts back what it changes."""
