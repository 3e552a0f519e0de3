"""Labelled setups: what the probe says after a few steps, against what hundreds of steps did."""
