"""Configuration: files, layers, options, and the schemas that ship."""
