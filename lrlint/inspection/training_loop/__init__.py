"""The training loop as its source has it."""
