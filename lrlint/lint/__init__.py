"""Rules, findings and the run that joins them: what is selected, suppressed, accepted."""
