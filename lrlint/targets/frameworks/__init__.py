"""What frameworks wrap models in."""
