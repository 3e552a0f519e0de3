"""The search over runs: are rates too high or too low, which groups are to blame, what repairs them. Torch-free."""
