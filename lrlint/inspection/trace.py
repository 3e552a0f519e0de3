"""A traceback as the user needs it: the user's own frames, and the error."""

from __future__ import annotations

import traceback
from types import TracebackType

from lrlint.inspection.source import Project


def trim(error: BaseException, project: Project) -> str:
    """The traceback without frames of libraries, Python or lrlint; paths are relative to the project.

    The last frame of a library is kept as its name and line, because it says what was asked of it.
    """
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


def _one(error: BaseException, project: Project) -> str:
    frames = _user_frames(error.__traceback__, project)
    lines = ["Traceback (your code only):\n", *traceback.StackSummary.from_list(frames).format()] if frames else []
    return "".join([*lines, *traceback.format_exception_only(type(error), error)])


def _user_frames(trace: TracebackType | None, project: Project) -> list[traceback.FrameSummary]:
    kept = []
    for frame in traceback.extract_tb(trace):
        if not project.is_library(frame.filename):
            line = frame.line
            frame.filename = project.relative(frame.filename)
            frame._line = line  # type: ignore[attr-defined]  # already read: the relative path may not lead to it
            kept.append(frame)
    return kept
