"""Torch-free questions that several rules ask of the facts."""
