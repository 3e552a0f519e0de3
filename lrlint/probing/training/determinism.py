"""The conditions under which a probe's steps run: as they are written, and the same every time."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Iterator

import torch

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


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


@contextlib.contextmanager
def repeatable(device: torch.device, *, strict: bool = True) -> Iterator[None]:
    """On CUDA, operations give the same bits every time. Those of which torch has no deterministic form raise (see
    `irregular`), or run as they are where it is not ``strict``.

    Attention and embeddings were seen to differ from the first step on without it, in float32 and bfloat16.
    """
    if device.type != "cuda":
        yield
        return
    cudnn, own = torch.backends.cudnn, torch._C  # the public setter would change the compiler's options as well
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fills, flags = own._get_deterministic_fill_uninitialized_memory(), (cudnn.deterministic, cudnn.benchmark)
    own._set_deterministic_algorithms(True, warn_only=not strict)
    own._set_deterministic_fill_uninitialized_memory(False)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="(?s).*deterministic")
            _admit_products(device)
            yield
    finally:
        own._set_deterministic_algorithms(algorithms[0], warn_only=algorithms[1])
        own._set_deterministic_fill_uninitialized_memory(fills)
        cudnn.deterministic, cudnn.benchmark = flags


def _admit_products(device: torch.device) -> None:
    """torch asks once per process, at the first matrix product, for a variable by which products repeat on several
    streams; on one they do without. Where it is set, torch up to 2.11 parses it at every product, which doubles a
    ViT-B's step: so it is set for that one product.
    """
    if _CUBLAS in os.environ or not torch.cuda.is_available():
        return
    os.environ[_CUBLAS] = ":4096:8"
    try:
        one = torch.ones(1, 1, dtype=torch.float32, device=device)
        with contextlib.suppress(RuntimeError):  # asked before, and not set then: the model's own product says so
            torch.mm(one, one)
    finally:
        os.environ.pop(_CUBLAS, None)


def irregular(message: str) -> str:
    """The operation that torch says cannot be `repeatable`; empty where the message is about something else."""
    match = re.search(r"(\S+) does not have a deterministic implementation", message)
    if match is not None:
        return match.group(1)
    return "a matrix product" if "not deterministic because it uses CuBLAS" in message else ""
