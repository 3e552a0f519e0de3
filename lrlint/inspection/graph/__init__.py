"""The forward pass, observed on meta tensors, and what it says of each parameter."""
