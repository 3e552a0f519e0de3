"""Width scaling: one setup built at several widths, and which layer keeps its rates from carrying over."""
