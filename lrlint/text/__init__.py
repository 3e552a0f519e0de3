"""Names, numbers and source text as messages give them."""
