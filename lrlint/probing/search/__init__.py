"""The search for rates that hold, and for the group that is to blame; torch-free."""
