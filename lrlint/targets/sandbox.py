"""Run the user's code so that it can neither corrupt our output, nor hang us, nor leave anything changed."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import torch

from lrlint.targets.rng_state import Kept, random_states

#: Seconds between the time limit and giving up on code that cannot be interrupted.
GRACE = 5.0
_TOO_LATE = 3  # the exit code of a target that hangs


class Expired(BaseException):
    """The time limit passed. Not an Exception: `except Exception` in the user's code must not swallow it."""


@contextmanager
def user_code(
    paths: Sequence[Path] = (), argv: Sequence[str] | None = None, timeout: float | None = None, name: str = ""
) -> Iterator[None]:
    """Run user code: quiet, importable from ``paths`` (in front of sys.path), in at most ``timeout`` seconds.

    Afterwards sys.path, sys.argv, the working directory, the environment, warning filters, random states and torch's
    global settings are what they were. Raises Expired.
    """
    with ExitStack() as stack:
        stack.enter_context(preserved())
        stack.enter_context(stdout_to_stderr())
        sys.path[:0] = [str(path) for path in paths]
        if argv is not None:
            sys.argv = list(argv)
        importlib.invalidate_caches()
        if timeout:
            stack.enter_context(deadline(timeout, name))
        yield


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Whatever is printed in this block, by Python, C code or a subprocess, goes to standard error."""
    _flush()
    saved = _redirect()
    try:
        with contextlib.redirect_stdout(sys.stderr or io.StringIO()):
            yield
    finally:
        _flush()
        if saved is not None:
            os.dup2(saved, 1)
            os.close(saved)


def _redirect() -> int | None:
    """Point file descriptor 1 at 2; a duplicate of the old one, or None where one of them is closed."""
    try:
        saved = os.dup(1)
    except OSError:
        return None
    try:
        os.dup2(2, 1)
    except OSError:
        os.close(saved)
        return None
    return saved


def _flush() -> None:
    for stream in (sys.stdout, sys.__stdout__):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()  # type: ignore[union-attr]
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).fflush(None)  # what C code printed may still be in its buffer


@contextmanager
def preserved() -> Iterator[None]:
    """Restore what user code may change in the process."""
    path, argv, environment = list(sys.path), list(sys.argv), dict(os.environ)
    finders, depth = list(sys.meta_path), sys.getrecursionlimit()
    cwd = _cwd()
    rng = random_states()
    settings = _torch_settings()
    with warnings.catch_warnings():
        try:
            yield
        finally:
            sys.path[:] = path
            sys.argv = argv
            sys.meta_path += [finder for finder in finders if finder not in sys.meta_path]
            sys.setrecursionlimit(max(depth, sys.getrecursionlimit()))
            if dict(os.environ) != environment:
                os.environ.clear()
                os.environ.update(environment)
            if cwd is not None and _cwd() != cwd:
                with contextlib.suppress(OSError):
                    os.chdir(cwd)
            for restore, state in (*rng, *settings):
                restore(state)


def _cwd() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


def training_settings() -> list[Kept]:
    """torch's settings that decide what training steps compute."""
    return [
        (torch.set_default_dtype, torch.get_default_dtype()),
        (_set_default_device, _default_device()),
        (
            _set_deterministic,
            (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        ),
        (_set_matmul_precision, torch.get_float32_matmul_precision()),
    ]


def _torch_settings() -> list[Kept]:
    return [
        *training_settings(),
        (torch.set_grad_enabled, torch.is_grad_enabled()),
        (_set_num_threads, torch.get_num_threads()),
        (torch.autograd.set_detect_anomaly, torch.is_anomaly_enabled()),
    ]


@contextmanager
def no_default_device() -> Iterator[None]:
    """Tensors that are made without a device lie on the CPU, whatever `torch.set_default_device` was given."""
    before = _default_device()
    _set_default_device(None)
    try:
        yield
    finally:
        _set_default_device(before)


def _default_device() -> torch.device | None:
    """The device set by `torch.set_default_device`; None where none was set."""
    context = getattr(getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None), "device_context", None)
    return None if context is None else context.device


def _set_default_device(device: torch.device | None) -> None:
    if _default_device() != device:
        torch.set_default_device(device)


def _set_num_threads(count: int) -> None:
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def limit_threads(count: int) -> None:
    """Use no more threads than this: more than there are cores wait for each other."""
    _set_num_threads(min(torch.get_num_threads(), count))


def _set_deterministic(state: tuple[bool, bool]) -> None:
    now = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if now != state:
        torch.use_deterministic_algorithms(state[0], warn_only=state[1])


def _set_matmul_precision(precision: str) -> None:
    if torch.get_float32_matmul_precision() != precision:
        torch.set_float32_matmul_precision(precision)


@contextmanager
def deadline(seconds: float, name: str = "") -> Iterator[None]:
    """Raise Expired in this block after ``seconds``.

    A signal interrupts the main thread (also a blocking system call); elsewhere an asynchronous exception is raised. A
    main thread that is stuck in native code (a collective without its peers) cannot be interrupted: after a grace
    period the process exits with 3 and says so, because nothing else ends it.
    """
    main = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    over = threading.Event()
    target = threading.get_ident()
    watchdog = threading.Thread(
        target=_watch, args=(over, seconds, target, main, name), daemon=True, name="lrlint-watchdog"
    )
    try:
        with _alarm(seconds) if main else contextlib.nullcontext():
            watchdog.start()
            yield
    finally:
        over.set()


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def expire(number: int, frame: FrameType | None) -> None:
        raise Expired

    handler = signal.signal(signal.SIGALRM, expire)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again: a bare `except:` may have swallowed it
    started = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)
        if left:  # the caller's own timer (a test runner's) goes on
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - started), 0.001), interval)


def _watch(over: threading.Event, seconds: float, target: int, main: bool, name: str) -> None:
    if over.wait(seconds + (GRACE if main else 0.0)):
        return
    if main:
        message = f"lrlint: {name or 'the target'} did not finish within {seconds:g} s and cannot be interrupted\n"
        os.write(2, message.encode("utf-8", "replace"))
        os._exit(_TOO_LATE)
    for _ in range(int(GRACE)):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(target), ctypes.py_object(Expired))
        if over.wait(1.0):
            return
