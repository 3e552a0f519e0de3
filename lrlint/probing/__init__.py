"""The probe: a few real steps, undone, and what they say of the rates."""
