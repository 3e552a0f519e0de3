"""What can go wrong outside a rule, each with the exit code it means (see README, "Exit codes")."""

from __future__ import annotations


class LrlintError(Exception):
    """Base: `exit_code` is what the command line returns, `hint` says what to do about it."""

    exit_code = 70

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(LrlintError):
    """The arguments, the configuration or a file given to lrlint are wrong."""

    exit_code = 2


class TargetError(LrlintError):
    """The target's own code raised, hung, exited or returned something that is no setup.

    `trace` is its traceback trimmed to the user's frames (may be empty).
    """

    exit_code = 3

    def __init__(self, message: str, hint: str = "", trace: str = "") -> None:
        super().__init__(message, hint)
        self.trace = trace


class DeviceError(LrlintError):
    """A required probe or device is missing."""

    exit_code = 4
