"""Steps run as they are written, whatever the target compiles."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """Compiled modules and functions run eagerly, and what was compiled of them stays as it is.

    Runs from restored states would be compiled again and again, up to the limit after which torch gives a function up
    for good, also in the user's own training; some were seen to fail at that (an optimizer's compiled step); and a CUDA
    graph's outputs are overwritten by its next replay. torch before 2.6 has no such switch: there, they run compiled.
    """
    stance = getattr(torch.compiler, "set_stance", None)
    if stance is None or "torch._dynamo" not in sys.modules:  # nothing is compiled without it, and its import is slow
        yield
        return
    with stance("force_eager"):
        yield
