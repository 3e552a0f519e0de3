"""Live objects in, frozen facts out."""
