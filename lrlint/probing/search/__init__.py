"""Which runs are made, and what they say together; nothing here imports torch."""
