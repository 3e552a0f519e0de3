"""Training steps that are measured: batches, loss, precision, traces."""
