"""A traceback as the user needs it: the user's own frames, and the error."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from types import TracebackType

from lrlint.targets.provenance.project import Project

#: Where lrlint's own files are.
_OWN = os.path.join(str(Path(__file__).resolve().parent.parent), "")
#: Characters of an error's text beside its traceback.
_SHORT = 200


def advise(error: BaseException, hint: str) -> None:
    """Leave word with an error of the user's code what to do about it."""
    error.lrlint_hint = hint  # type: ignore[attr-defined]


def advice(error: BaseException) -> str:
    """What was left with `advise`, or ""."""
    return str(getattr(error, "lrlint_hint", ""))


def trim(error: BaseException, project: Project) -> str:
    """The traceback without frames of libraries, Python or lrlint; paths are relative to the project."""
    parts = []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and cause is not error:
        parts.append(_one(cause, project))
        parts.append("\nThe above led to this error:\n\n")
    parts.append(_one(error, project))
    return "".join(parts)


def last_user_frame(error: BaseException, project: Project) -> traceback.FrameSummary | None:
    """The innermost frame of the user's code, with its path relative to the project."""
    frames = _user_frames(error.__traceback__, project)
    return frames[-1] if frames else None


def is_users(error: BaseException, project: Project) -> bool:
    """Whether it was raised in the user's code, or in a library that it called: no frame of lrlint's comes after it."""
    last = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if not project.is_library(file) or file.startswith(_OWN):
            last = file
    return bool(last) and not last.startswith(_OWN)


def first_line(error: BaseException) -> str:
    """What the error says in short: the traceback has it in full."""
    try:
        text = str(error).strip().partition("\n")[0]
    except Exception:  # an exception of the user's that cannot be printed
        return ""
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"


def _one(error: BaseException, project: Project) -> str:
    frames = _user_frames(error.__traceback__, project)
    lines = ["Traceback (your code only):\n", *traceback.StackSummary.from_list(frames).format()] if frames else []
    if type(error).__module__.partition(".")[0] == "lrlint":  # ours, to stop the user's code: the message says why
        return "".join(lines)
    last_line = "".join(traceback.format_exception_only(type(error), error))  # of a SyntaxError with its file
    return "".join(lines) + last_line.replace(os.path.join(project.root, ""), "")


def _user_frames(trace: TracebackType | None, project: Project) -> list[traceback.FrameSummary]:
    kept = []
    for frame in traceback.extract_tb(trace):  # it has read the lines, so that the path may be changed
        if not project.is_library(frame.filename):
            frame.filename = project.relative(frame.filename)
            kept.append(frame)
    return kept
