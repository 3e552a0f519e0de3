"""Fixes: edits of the user's source that a person would write, offered only where running the edited source proves them."""
