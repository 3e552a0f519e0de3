"""Where in the user's source things were written."""
