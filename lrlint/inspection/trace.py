"""A traceback as the user needs it: the user's own frames, and the error."""

from __future__ import annotations

import os
import traceback
from types import TracebackType

from lrlint.inspection.source import Project


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


def told(error: BaseException) -> str:
    """The first line of what the error says; "" where it cannot be told."""
    try:
        return str(error).partition("\n")[0]
    except Exception:
        return ""


def _one(error: BaseException, project: Project) -> str:
    frames = _user_frames(error.__traceback__, project)
    lines = ["Traceback (your code only):\n", *traceback.StackSummary.from_list(frames).format()] if frames else []
    told = "".join(traceback.format_exception_only(type(error), error))  # of a SyntaxError with its file
    return "".join(lines) + told.replace(os.path.join(project.root, ""), "")


def _user_frames(trace: TracebackType | None, project: Project) -> list[traceback.FrameSummary]:
    kept = []
    for frame in traceback.extract_tb(trace):  # it has read the lines, so that the path may be changed
        if not project.is_library(frame.filename):
            frame.filename = project.relative(frame.filename)
            kept.append(frame)
    return kept
