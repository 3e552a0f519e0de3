"""A rehearsed script may do what it does; nothing of it stays."""

from lrlint.rehearsal.sandbox.holding import Hold, Mode, hold
from lrlint.rehearsal.sandbox.written import HeldFile

__all__ = ["HeldFile", "Hold", "Mode", "hold"]
