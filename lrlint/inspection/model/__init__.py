"""What a model consists of: its modules, parameters, roles and values."""
