"""What takes and measures the steps of a probe."""
