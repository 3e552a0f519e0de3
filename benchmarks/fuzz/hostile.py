"""A hundred targets that do harm, as the text of one module: what each does, and how it has to end."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

HEAD = """
import atexit, builtins, ctypes, faulthandler, gc, io, json, logging, multiprocessing, os, resource, signal, stat
import subprocess, sys, tempfile, threading, time, warnings
import torch
from torch import nn

#: Pipes that were there before: those of whoever runs this, who is not attacked.
OTHERS = {others}


def good():
    model = nn.Linear(4, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def with_scheduler(step):
    model, optimizer = good()
    kind = type("Mine", (torch.optim.lr_scheduler.LRScheduler,), {{"get_lr": step}})
    return model, optimizer, kind(optimizer)


def garbage(data):
    for number in range(3, 64):
        try:
            status = os.fstat(number)
            if stat.S_ISFIFO(status.st_mode) and status.st_ino not in OTHERS:
                os.write(number, data)
        except OSError:
            pass


class Faulty(Exception):
    def __str__(self):
        raise ZeroDivisionError

    __repr__ = __str__


class Stubborn(BaseException):
    pass


def fail(*args, **kwargs):
    raise ZeroDivisionError("mine")


def deep(k=0):
    return deep(k + 1)


def stubborn(seconds=1000):
    while True:
        try:
            time.sleep(seconds)
        except BaseException:
            pass
"""

#: Ends in a failure with exit code 3; may end so; has to be inspected all the same.
FAILS, MAY_FAIL, IS_CHECKED = "fails", "may fail", "is checked"


@dataclass(frozen=True)
class Hostile:
    """What a factory does before it returns a sound setup (or what it returns), and how that has to end.

    ``words``: one of them is in the message. ``timeout``: seconds; a target that hangs needs them all.
    """

    action: str
    end: str = FAILS
    words: tuple[str, ...] = ()
    timeout: float = 30.0
    memory_limit: int | None = None
    graph: bool = False


_SHORT = 1.0

PROCESSES = {
    "kills_its_group": Hostile("os.killpg(os.getpgrp(), signal.SIGKILL)", words=("killed by SIGKILL",)),
    "terminates_its_group": Hostile("os.killpg(0, signal.SIGTERM)", words=("killed by SIGTERM",)),
    "interrupts_its_group": Hostile("os.killpg(0, signal.SIGINT)"),
    "hangs_up_its_group": Hostile("os.killpg(0, signal.SIGHUP)", words=("SIGHUP",)),
    "crashes": Hostile("os.kill(os.getpid(), signal.SIGSEGV)", words=("killed by SIGSEGV",)),
    "crashes_natively": Hostile("ctypes.string_at(0)", words=("killed by SIGSEGV",)),
    "aborts": Hostile("os.abort()", words=("killed by SIGABRT",)),
    "bus_error": Hostile("os.kill(os.getpid(), signal.SIGBUS)", words=("SIGBUS",)),
    "crashes_without_faulthandler": Hostile("faulthandler.disable(); ctypes.string_at(0)", words=("SIGSEGV",)),
    "stops_itself": Hostile("os.kill(os.getpid(), signal.SIGSTOP)", timeout=_SHORT, words=("did not finish",)),
    "leaves": Hostile("os._exit(0)", words=("ended the process with exit code 0",)),
    "leaves_with_70": Hostile("os._exit(70)", words=("exit code 70",)),
    "exits": Hostile("sys.exit(0)"),
    "exits_with_text": Hostile("sys.exit('text')"),
    "interrupts": Hostile("raise KeyboardInterrupt", words=("KeyboardInterrupt",)),
    "raises_a_base_exception": Hostile("raise Stubborn", words=("Stubborn",)),
    "raises_generator_exit": Hostile("raise GeneratorExit"),
    "raises_what_cannot_be_shown": Hostile("raise Faulty", words=("Faulty",)),
    "raises_a_megabyte": Hostile("raise ValueError('x' * 10_000_000)", words=("ValueError",)),
    "raises_escapes": Hostile(r"raise ValueError('\x1b[2J\n::error::x\ud800')", words=("ValueError",)),
    "raises_without_end": Hostile("deep()", words=("RecursionError",)),
    "overflows_the_stack": Hostile(
        "sys.setrecursionlimit(10**9); x = []\n    for _ in range(10**6): x = [x]\n    repr(x)", MAY_FAIL
    ),
    "spins": Hostile("while True: pass", timeout=_SHORT, words=("did not finish",)),
    "sleeps": Hostile("time.sleep(1000)", timeout=_SHORT, words=("did not finish",)),
    "will_not_be_interrupted": Hostile("stubborn()", timeout=_SHORT, words=("did not finish",)),
    "hangs_natively": Hostile(
        "signal.signal(signal.SIGALRM, signal.SIG_IGN); threading.Lock().acquire() and None\n"
        "    ctypes.CDLL(None).sleep(1000)",
        timeout=_SHORT,
        words=("did not finish",),
    ),
    "waits_for_itself": Hostile(
        "lock = threading.Lock(); lock.acquire(); lock.acquire()", timeout=_SHORT, words=("did not finish",)
    ),
    "reads_standard_input": Hostile("sys.stdin.read()", MAY_FAIL, timeout=_SHORT),
    "asks": Hostile("input('your password: ')", MAY_FAIL, timeout=_SHORT),
    "leaves_a_thread": Hostile("threading.Thread(target=stubborn).start()", IS_CHECKED),
    "hangs_at_exit": Hostile("atexit.register(stubborn)", IS_CHECKED),
    "leaves_at_exit": Hostile("atexit.register(os._exit, 5)", IS_CHECKED),
    "leaves_a_process_behind": Hostile("if os.fork() == 0: time.sleep(600)", IS_CHECKED),
    "leaves_a_daemon_behind": Hostile(
        "if os.fork() == 0:\n        os.setsid()\n        time.sleep(20)\n        os._exit(0)", IS_CHECKED
    ),
    "goes_on_as_its_child": Hostile("if os.fork(): os._exit(0)", MAY_FAIL),
    "answers_twice": Hostile("os.fork()", MAY_FAIL),
    "leaves_a_worker": Hostile("multiprocessing.Process(target=time.sleep, args=(600,)).start()", MAY_FAIL),
    "leaves_a_program": Hostile("subprocess.Popen(['sleep', '20'])", IS_CHECKED),
    "takes_a_session": Hostile("os.setsid() if os.getpid() != os.getsid(0) else None", IS_CHECKED),
    "replaces_itself": Hostile("os.execv('/bin/true', ['true'])", words=("ended the process",)),
}

CHANNELS = {
    "writes_garbage": Hostile("garbage(b'garbage')", MAY_FAIL),
    "writes_a_megabyte": Hostile("garbage(bytes(60_000)); garbage(bytes(range(256)) * 200)", MAY_FAIL),
    "writes_garbage_and_leaves": Hostile("garbage(bytes(range(128, 160))); os._exit(0)", words=("ended the process",)),
    "sends_a_pickle": Hostile(
        "import pickle; garbage(pickle.dumps({'setup': {}})); os._exit(0)", words=("ended the process",)
    ),
    "sends_json": Hostile("garbage(json.dumps({'setup': {}}).encode()); os._exit(0)", words=("ended the process",)),
    "closes_everything": Hostile("os.closerange(3, 256)", words=("ended the process", "its process")),
    "closes_even_more": Hostile("os.closerange(0, 256)", words=("ended the process", "its process")),
    "closes_standard_output": Hostile("os.close(1)", MAY_FAIL),
    "closes_standard_error": Hostile("os.close(2)", MAY_FAIL),
    "has_no_standard_output": Hostile("sys.stdout = None", MAY_FAIL),
    "has_no_standard_error": Hostile("sys.stderr = None", MAY_FAIL),
    "has_a_faulty_standard_error": Hostile("sys.stderr = sys.stdout = type('S', (), {'write': fail})()", MAY_FAIL),
    "points_its_ends_elsewhere": Hostile(
        "null = os.open('/dev/null', os.O_RDWR)\n    for k in range(3, 64): os.dup2(null, k)", MAY_FAIL
    ),
    "floods_standard_error": Hostile("for _ in range(20_000): print('x' * 100, file=sys.stderr)", IS_CHECKED),
    "writes_without_a_line_end": Hostile("os.write(2, b'x' * 50_000)", IS_CHECKED),
    "writes_bytes": Hostile("os.write(2, bytes(range(256)))", IS_CHECKED),
    "commands_the_runner": Hostile(r"os.write(2, b'::error::x\n##[error]y\n\x1b[2J\x1b]0;z\x07')", IS_CHECKED),
    "plays_a_crash": Hostile(r"os.write(2, b'Fatal Python error: Segmentation fault\n')", IS_CHECKED),
}

PATCHES = {
    "replaces_exit": Hostile("os._exit = lambda code: None", IS_CHECKED),
    "replaces_getcwd": Hostile("os.getcwd = fail", MAY_FAIL),
    "replaces_chdir": Hostile("os.chdir = None", MAY_FAIL),
    "replaces_write": Hostile("os.write = fail", MAY_FAIL),
    "replaces_dumps": Hostile("json.dumps = fail", MAY_FAIL),
    "replaces_open": Hostile("builtins.open = fail", MAY_FAIL),
    "replaces_print": Hostile("builtins.print = fail", IS_CHECKED),
    "replaces_len": Hostile("builtins.len = fail", MAY_FAIL),
    "replaces_isinstance": Hostile("builtins.isinstance = fail", MAY_FAIL),
    "replaces_import": Hostile("builtins.__import__ = fail", MAY_FAIL),
    "forgets_modules": Hostile("sys.modules.clear()", MAY_FAIL),
    "forgets_torch": Hostile("del sys.modules['torch']", MAY_FAIL),
    "replaces_torch": Hostile("sys.modules['torch'] = None", MAY_FAIL),
    "clears_the_path": Hostile("sys.path.clear()", IS_CHECKED),
    "clears_the_finders": Hostile("sys.meta_path.clear()", IS_CHECKED),
    "clears_the_environment": Hostile("os.environ.clear()", IS_CHECKED),
    "removes_its_folder": Hostile("os.chdir(d := tempfile.mkdtemp()); os.rmdir(d)", IS_CHECKED),
    "lowers_the_recursion_limit": Hostile("sys.setrecursionlimit(60)", MAY_FAIL),
    "turns_warnings_to_errors": Hostile("warnings.simplefilter('error'); warnings.showwarning = fail", IS_CHECKED),
    "breaks_logging": Hostile("logging.Logger.handle = fail; logging.raiseExceptions = True", IS_CHECKED),
    "collects_nothing": Hostile("gc.disable(); gc.freeze()", IS_CHECKED),
    "traces": Hostile("sys.settrace(fail)", MAY_FAIL),
    "profiles": Hostile("sys.setprofile(fail)", MAY_FAIL),
    "traces_threads": Hostile("threading.settrace(fail)", IS_CHECKED),
    "ignores_termination": Hostile("signal.signal(signal.SIGTERM, signal.SIG_IGN)", IS_CHECKED),
    "sets_an_alarm": Hostile(
        "signal.signal(signal.SIGALRM, fail); signal.setitimer(signal.ITIMER_REAL, 0.01)", MAY_FAIL
    ),
    "closes_itself_in_the_collector": Hostile("gc.callbacks.append(fail)", MAY_FAIL),
    "patches_modules": Hostile("nn.Module.named_parameters = fail", MAY_FAIL),
    "patches_calls": Hostile("nn.Module.__call__ = fail", MAY_FAIL),
    "patches_tensors": Hostile("torch.Tensor.__repr__ = torch.Tensor.__hash__ = fail", MAY_FAIL),
    "patches_no_grad": Hostile("torch.no_grad = None", MAY_FAIL),
    "patches_random_states": Hostile("torch.get_rng_state = torch.set_rng_state = fail", MAY_FAIL),
    "stays_in_inference_mode": Hostile("torch.inference_mode().__enter__()", MAY_FAIL),
    "has_another_default_device": Hostile("torch.set_default_device('meta')", IS_CHECKED),
    "hooks_every_module": Hostile("nn.modules.module.register_module_forward_hook(fail)", IS_CHECKED, graph=True),
}

LIMITS = {
    "takes_all_files": Hostile("resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))", MAY_FAIL),
    "writes_no_files": Hostile("resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))", MAY_FAIL),
    "takes_all_processor_time": Hostile(
        "resource.setrlimit(resource.RLIMIT_CPU, (1, 1))\n    while True: pass", timeout=5.0
    ),
    "takes_all_addresses": Hostile("resource.setrlimit(resource.RLIMIT_AS, (1 << 20, 1 << 20))", MAY_FAIL),
    "takes_much_memory": Hostile(
        "held = [torch.ones(1 << 22) for _ in range(1000)]", words=("memory limit of",), memory_limit=768 << 20
    ),
    "takes_much_memory_in_python": Hostile(
        "held = [bytearray(1 << 20) for _ in range(4000)]", words=("memory limit of",), memory_limit=768 << 20
    ),
}

RETURNS = {
    "returns_nothing": Hostile("return None"),
    "returns_a_number": Hostile("return 3"),
    "returns_too_much": Hostile("return (good()[0],) * 10_000"),
    "returns_a_mock": Hostile("from unittest.mock import MagicMock; return MagicMock()", MAY_FAIL),
    "returns_a_mocked_optimizer": Hostile("from unittest.mock import MagicMock; return good()[0], MagicMock()"),
    "returns_a_proxy": Hostile("return type('P', (), {'__getattr__': fail})()"),
    "returns_a_generator": Hostile("return (good() for _ in iter(int, 1))"),
    "returns_itself": Hostile("x = []; x.append(x); return x"),
    "returns_odd_keys": Hostile("return {'model': good()[0], 3: 4, None: 5, 'optimizer': good()[1]}", MAY_FAIL),
    "returns_groups_that_fail": Hostile(
        "m, o = good(); o.__class__ = type('O', (type(o),), {'param_groups': property(fail)}); return m, o"
    ),
    "returns_groups_without_end": Hostile(
        "m, o = good(); o.param_groups = iter(lambda: {'params': []}, 1); return m, o", timeout=3.0
    ),
    "returns_a_rate_that_fails": Hostile(
        "m, o = good(); o.param_groups[0]['lr'] = type('R', (float,), {'__float__': fail, '__repr__': fail, "
        "'__eq__': fail, '__lt__': fail, '__mul__': fail})(0.1); return m, o",
        MAY_FAIL,
    ),
    "returns_options_that_fail": Hostile(
        "m, o = good(); o.param_groups[0]['mine'] = type('R', (), {'__repr__': fail, '__eq__': fail, '__hash__': "
        "None, '__getattr__': fail})(); return m, o",
        MAY_FAIL,
    ),
    "returns_a_scheduler_that_raises": Hostile(
        "return with_scheduler(lambda s: fail() if s.last_epoch else [0.1])", MAY_FAIL
    ),
    "returns_a_scheduler_that_leaves": Hostile(
        "return with_scheduler(lambda s: os._exit(0) if s.last_epoch else [0.1])", words=("ended the process",)
    ),
    "returns_a_scheduler_that_hangs": Hostile(
        "return with_scheduler(lambda s: stubborn() if s.last_epoch else [0.1])", MAY_FAIL, timeout=_SHORT
    ),
    "nested": Hostile(
        "model = nn.Linear(2, 2)\n    for _ in range(2500): model = nn.Sequential(model)\n"
        "    return model, torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)",
        MAY_FAIL,
    ),
}

#: Methods of a model's class that raise, and are called while it is looked at.
_METHODS = (
    *("modules", "named_modules", "children", "named_children", "parameters", "named_parameters", "buffers"),
    *("named_buffers", "train", "state_dict", "apply", "__hash__", "__getattr__", "__repr__", "__len__", "__bool__"),
    *("__iter__", "__dir__", "__setattr__", "__delattr__", "__call__"),
)
CLASSES = {
    f"class_{name.strip('_')}": Hostile(
        f"return looked_at({{{name!r}: fail}})", MAY_FAIL, words=("ZeroDivisionError",), graph=True
    )
    for name in _METHODS
} | {
    "class_eq": Hostile("return looked_at({'__eq__': fail, '__hash__': nn.Module.__hash__})", MAY_FAIL, graph=True),
    "class_class": Hostile("return looked_at({'__class__': property(fail)})", MAY_FAIL, graph=True),
    "class_dict": Hostile("return looked_at({'__dict__': property(fail)})", MAY_FAIL, graph=True),
    "forward_raises": Hostile("return looked_at({'forward': fail})", MAY_FAIL, graph=True),
    "forward_leaves": Hostile(
        "return looked_at({'forward': lambda *a: os._exit(0)})", words=("ended the process",), graph=True
    ),
    "forward_crashes": Hostile(
        "return looked_at({'forward': lambda *a: ctypes.string_at(0)})", words=("SIGSEGV",), graph=True
    ),
    "forward_hangs": Hostile("return looked_at({'forward': lambda *a: stubborn()})", timeout=_SHORT, graph=True),
    "forward_exits": Hostile("return looked_at({'forward': lambda *a: sys.exit(3)})", MAY_FAIL, graph=True),
}
_LOOKED_AT = """
def looked_at(methods):
    weight = nn.Parameter(torch.zeros(2))
    model = nn.Linear(4, 2)
    model.__class__ = type("Mine", (nn.Linear,), methods)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    return {"model": model, "optimizer": optimizer, "example_inputs": (torch.zeros(1, 4),)}
"""

ALL: dict[str, Hostile] = {**PROCESSES, **CHANNELS, **PATCHES, **LIMITS, **RETURNS, **CLASSES}

#: Whole files that are targets: their content.
FILES: dict[str, bytes] = {
    "empty.py": b"",
    "binary.py": bytes(range(256)),
    "syntax.py": b"def build(:\n",
    "nulls.py": b"x = 1\0\n",
    "encoding.py": b"# -*- coding: nonsense -*-\n",
    "leaves.py": b"import os; os._exit(0)\n",
    "exits.py": b"raise SystemExit(0)\n",
    "kills.py": b"import os, signal; os.killpg(0, signal.SIGKILL)\n",
    "shadows.py": b"import sys; sys.modules['lrlint'] = None; build = 3\n",
    "nested.py": b"x = " + b"(" * 5000 + b")" * 5000 + b"\n",
}


def write(folder: Path, others: set[int]) -> Path:
    """The module with all of them, and the files. ``others``: inodes of pipes that are not to be written to."""
    text = HEAD.format(others=sorted(others)) + _LOOKED_AT
    for name, hostile in ALL.items():
        text += f"\n\ndef {name}():\n    {textwrap.dedent(hostile.action)}\n    return good()\n"
    file = folder / "targets.py"
    file.write_text(text)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return file
