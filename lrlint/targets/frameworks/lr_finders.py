"""Learning rate range tests: steps, optimizers and schedulers under one are not the training.

Lightning's `lr_find`, fastai's, torch-lr-finder's `range_test`, and functions of the user's with such a name. A range
test takes real steps at rising rates, and puts the model back before the training begins.
"""

from __future__ import annotations

import re
from types import FrameType

_RATE = r"(lr|learning_?rate)s?"
_FUNCTION = re.compile(
    rf"_*(run_|do_)?({_RATE}_?(find|finder|range_?(test|finder))|find_((best|good|optimal|initial)_)?{_RATE}|range_test)",
    re.IGNORECASE,
)
_CLASS = re.compile(r"(lr|learning_?rate)_?(finder|range_?test)", re.IGNORECASE)


def in_lr_finder(frame: FrameType | None) -> bool:
    """Whether a learning rate range test led to this frame."""
    while frame is not None:
        if _FUNCTION.fullmatch(frame.f_code.co_name):
            return True
        owner = frame.f_locals.get("self") if "self" in frame.f_code.co_varnames[:1] else None
        if owner is not None and _CLASS.search(type(owner).__name__):
            return True
        frame = frame.f_back
    return False
