"""Adapters that run lrlint inside other tools."""
