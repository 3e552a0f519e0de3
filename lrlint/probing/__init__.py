"""The stability probe: `probe(model, optimizer, batches=...)` runs real steps and compares runs that differ in rates alone.

It says whether training diverges, stalls or suffers at the peak rates, whether they are too low, which group is at fault,
and what repairs it.
"""
