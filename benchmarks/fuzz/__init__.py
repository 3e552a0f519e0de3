"""Inputs that nobody wrote: targets that do harm, generated setups, and files of any content.

Each is seeded, says what it found, and exits with 1 where a promise of SECURITY.md does not hold.
"""
