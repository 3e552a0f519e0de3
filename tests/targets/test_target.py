"""Targets: what can be named, called and returned; what is said when it fails; and that nothing stays changed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy
import pytest
import torch
from torch import nn

from lrlint.errors import LrlintError, TargetError, UsageError
from lrlint.facts import Training
from lrlint.targets import arguments, sandbox
from lrlint.targets.declared import training
from lrlint.targets.load import from_objects, load

HEAD = """
import functools, os, sys, time
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import StepLR

def net():
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))

def setup():
    m = net()
    return m, AdamW(m.parameters(), lr=1e-3)

"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Write a file into the current project folder; its modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    known = set(sys.modules)

    def make(source: str, name: str = "job.py", head: str = HEAD) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(head + textwrap.dedent(source), encoding="utf-8")
        return path

    yield make
    for name in sys.modules.keys() - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def failure(*args: Any, **kwargs: Any) -> LrlintError:
    with pytest.raises(LrlintError) as caught:
        load(*args, **kwargs)
    return caught.value


# --- naming a target ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["job.py:setup", "./job.py:setup", "job:setup"])
def test_a_factory_in_a_file_or_module(write: Callable[..., Path], target: str) -> None:
    write("")
    built = load(target)
    assert list(built.models) == [""]
    assert isinstance(built.models[""], nn.Sequential)
    assert type(built.optimizers[""]) is torch.optim.AdamW
    assert (built.target, built.schedulers, built.rejections) == (target, [], [])
    assert str(built.span).startswith("job.py:")


def test_a_file_elsewhere_imports_its_neighbours_and_the_current_folder(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    write("rate = 0.25", "beside_cwd.py", head="")
    write("momentum = 0.5", "deep/er/beside_file.py", head="")
    path = write(
        """
        from beside_cwd import rate
        from beside_file import momentum

        def build():
            m = net()
            return m, SGD(m.parameters(), lr=rate, momentum=momentum)
        """,
        "deep/er/job.py",
    )
    group = load(f"{path}:build").optimizers[""].param_groups[0]
    assert (group["lr"], group["momentum"]) == (0.25, 0.5)
    assert load("deep/er/job.py:build").optimizers[""].param_groups[0]["lr"] == 0.25


def test_a_file_in_a_package_may_import_relatively(write: Callable[..., Path]) -> None:
    write("", "pack/__init__.py", head="")
    write("rate = 0.125", "pack/rates.py", head="")
    write(
        "from .rates import rate\ndef build():\n    m = net()\n    return m, SGD(m.parameters(), lr=rate)",
        "pack/job.py",
    )
    for target in ("pack/job.py:build", "pack.job:build"):
        assert load(target).optimizers[""].param_groups[0]["lr"] == 0.125


def test_two_projects_may_have_modules_of_the_same_name(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, rate in (("one", 0.25), ("two", 0.5)):
        write(f"rate = {rate}", f"{name}/shared_name.py", head="")
        write(
            "from shared_name import rate\ndef build():\n    m = net()\n    return m, SGD(m.parameters(), lr=rate)",
            f"{name}/job.py",
        )
    rates = []
    for name in ("one", "two", "one"):
        monkeypatch.chdir(tmp_path / name)
        rates.append(load("job.py:build").optimizers[""].param_groups[0]["lr"])
    assert rates == [0.25, 0.5, 0.25]


def test_a_file_named_like_a_library_does_not_replace_it(write: Callable[..., Path]) -> None:
    before = sys.modules["random"], sys.modules["torch"]
    for name in ("random.py", "torch.py"):
        write("def build():\n    m = net()\n    return m, SGD(m.parameters(), lr=1)", f"named/{name}", head="")
        error = failure(f"named/{name}:build")
        assert "NameError" in error.message  # it ran, without the head that imports torch
    assert (sys.modules["random"], sys.modules["torch"]) == before


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("job.py:setpu", "did you mean setup"),
        ("job:setpu", "did you mean setup"),
        ("jib.py:setup", "did you mean job.py"),
        ("jib:setup", "did you mean job"),
        ("no/such/file.py:setup", "no file no/such/file.py"),
        ("job.py", "names no factory"),
        (".", "folder"),
        ("a b:c", "is no target"),
        (":setup", "is no target"),
        ("notes.ipynb:setup", "not a Python file"),
    ],
)
def test_a_target_that_is_not_there(write: Callable[..., Path], tmp_path: Path, target: str, says: str) -> None:
    write("")
    (tmp_path / "notes.ipynb").write_text("{}")
    error = failure(target if target != "." else f"{tmp_path}/:x")
    assert isinstance(error, UsageError)
    assert says in error.message


def test_the_factories_there_are(write: Callable[..., Path]) -> None:
    write("helper = 3\nclass Thing: pass\ndef other(): pass\ndef _private(): pass")
    error = failure("job.py")
    assert error.hint.endswith("there is net, setup, other")


def test_model_optimizer_and_scheduler_factories(write: Callable[..., Path]) -> None:
    write("""
        class Net(nn.Linear): pass
        def make(width: int = 3): return Net(width, 1)
        def optim(model, lr: float):
            assert isinstance(model, Net)
            return SGD(model.parameters(), lr=lr)
        def sched(optimizer, *, every: int = 5): return StepLR(optimizer, every)
    """)
    built = load(
        None,
        model="job.py:make",
        optimizer="job.py:optim",
        scheduler="job.py:sched",
        args=["width=7", "lr=0.5", "every=9"],
    )
    assert built.models[""].in_features == 7
    assert built.optimizers[""].param_groups[0]["lr"] == 0.5
    assert built.schedulers[0].step_size == 9
    assert built.schedulers[0].optimizer is built.optimizers[""]
    direct = load(None, model="job:make", optimizer="torch.optim:AdamW", args={"lr": 0.25})
    assert direct.optimizers[""].param_groups[0]["lr"] == 0.25


def test_parts_need_each_other(write: Callable[..., Path]) -> None:
    write("")
    for given in ({"model": "job:net"}, {"optimizer": "job:net"}, {}):
        assert isinstance(failure(None, **given), UsageError)
    assert isinstance(failure("job:setup", model="job:net", optimizer="job:net"), UsageError)
    assert "no_such" in failure(None, model="job:net", optimizer="job:net", args=["no_such=1"]).message


# --- arguments ------------------------------------------------------------------------------------------------------


@dataclass
class Inner:
    width: int = 4


@dataclass
class Outer:
    lr: float = 0.1
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("text", "wanted", "value"),
    [
        ("3", int, 3),
        ("1e5", int, 100_000),
        ("1e-3", float, 1e-3),
        ("true", bool, True),
        ("off", bool, False),
        ("3", str, "3"),
        ("none", int | None, None),
        ("4", int | None, 4),
        ("x", int | str, "x"),
        ("4", int | str, 4),
        ("1,2", list[int], [1, 2]),
        ("[0.5, 1]", tuple[float, ...], (0.5, 1.0)),
        ("0.9,0.95", tuple[float, float], (0.9, 0.95)),
        ("a/b", Path, Path("a/b")),
        ("adam", Literal["adam", "sgd"], "adam"),
        ("2", Literal[1, 2], 2),
        ("bfloat16", torch.dtype, torch.bfloat16),
        ('{"a": 1}', dict[str, int], {"a": 1}),
        ("0.5", Any, 0.5),
        ("text", Any, "text"),
        ('{"lr": 1, "inner": {"width": "8"}}', Outer, Outer(1.0, Inner(8))),
        ("{}", Outer | None, Outer()),
        ("none", Outer | None, None),
        ({"inner": {"width": 8}}, Outer, Outer(inner=Inner(8))),
    ],
)
def test_values_take_the_annotated_type(text: Any, wanted: Any, value: Any) -> None:
    read = arguments.convert(text, wanted, "x")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "wanted", "says"),
    [
        ("abc", int, "argument x: 'abc' is not an int"),
        ("1.5", int, "'1.5' is not an int"),
        ("maybe", bool, "'maybe' is not a bool"),
        ("rms", Literal["adam", "sgd"], "'rms' is not one of adam, sgd"),
        ("1,b", list[int], "'1,b' is not list[int]"),
        ("1", tuple[int, int], "'1' is not tuple[int, int]"),
        ("float7", torch.dtype, "'float7' is not a dtype"),
        ("3", dict[str, int], "'3' is not dict[str, int]"),
        ("nan", int, "'nan' is not an int"),
        ("3", Outer, 'is not a table of Outer\'s fields, as JSON: {"lr", "inner"}'),
        ('{"rate": 1}', Outer, "Outer has no argument 'rate'"),
        ('{"inner": {"width": "wide"}}', Outer, "argument width: 'wide' is not an int"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(text: str, wanted: Any, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        arguments.convert(text, wanted, "x")
    assert says in caught.value.message


def test_arguments_reach_the_factory_and_wrong_ones_are_named(write: Callable[..., Path]) -> None:
    write(
        """
        from __future__ import annotations
        import torch
        from torch import nn

        def build(lr: float, layers: list[int], decay=0.1, *, nesterov: bool = False):
            m = nn.Linear(layers[0], 1)
            return m, torch.optim.SGD(m.parameters(), lr=lr, weight_decay=decay, nesterov=nesterov, momentum=0.5)
    """,
        head="",
    )
    built = load("job.py:build", args=["lr=1e-2", "layers=5,6", "decay=1", "nesterov=yes"])
    group = built.optimizers[""].param_groups[0]
    assert (group["lr"], group["weight_decay"], group["nesterov"]) == (1e-2, 1.0, True)
    assert built.models[""].in_features == 5
    missing = failure("job.py:build", args=["lr=1"])
    assert isinstance(missing, UsageError)
    assert "layers" in missing.message
    assert "--arg layers=" in missing.hint
    assert "did you mean layers" in failure("job.py:build", args=["lr=1", "layer=3"]).message
    assert "not of the form" in failure("job.py:build", args=["lr"]).message
    assert "argument lr: 'x' is not a float" in failure("job.py:build", args=["lr=x", "layers=1"]).message


# --- what a factory may return --------------------------------------------------------------------------------------

SHAPES = {
    "pair": ("m, o", 0),
    "triple": ("m, o, s", 1),
    "list": ("[m, o, s]", 1),
    "swapped": ("o, m", 0),
    "dict": ("{'model': m, 'optimizer': o, 'scheduler': s}", 1),
    "plural": ("{'models': [m], 'optimizers': [o], 'schedulers': [s]}", 1),
    "namespace": ("types.SimpleNamespace(model=m, optimizer=o, scheduler=s)", 1),
    "dataclass": ("Parts(m, o)", 0),
    "named tuple": ("Named(m, o, s)", 1),
    "object": ("Thing(m, o)", 0),
    "with None": ("(m, o, None)", 0),
    "lightning form": ("m, o, {'scheduler': s, 'interval': 'step'}", 1),
    "declared last": ("m, o, {'total_steps': 7}", 0),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_one_model_and_optimizer(write: Callable[..., Path], shape: str) -> None:
    expression, schedulers = SHAPES[shape]
    write(f"""
        import types
        from collections import namedtuple
        from dataclasses import dataclass
        from typing import Any
        Named = namedtuple("Named", "model optimizer scheduler")

        @dataclass
        class Parts:
            model: Any
            optimizer: Any

        class Thing:
            def __init__(self, m, o):
                self._m, self.optimizer = m, o
            @property
            def model(self): return self._m

        def build():
            m = net(); o = SGD(m.parameters(), lr=1); s = StepLR(o, 3)
            return {expression}
    """)
    built = load("job.py:build")
    assert list(built.models) == [""]
    assert list(built.optimizers) == [""]
    assert isinstance(built.models[""], nn.Sequential)
    assert type(built.optimizers[""]) is torch.optim.SGD
    assert len(built.schedulers) == len(built.scheduler_configs) == schedulers


SEVERAL = {
    "dict and list": ("{'g': g, 'd': d}, [og, od]", ["g", "d"], ["0", "1"]),
    "lists": ("[g, d], [og, od]", ["0", "1"], ["0", "1"]),
    "flat": ("g, d, og, od", ["0", "1"], ["0", "1"]),
    "dicts": ("{'models': {'g': g, 'd': d}, 'optimizers': {'og': og, 'od': od}}", ["g", "d"], ["og", "od"]),
    "own names": ("{'gen': g, 'dis': d, 'opt_gen': og, 'opt_dis': od}", ["gen", "dis"], ["opt_gen", "opt_dis"]),
    "one model": ("nn.ModuleList([g, d]), [og, od]", [""], ["0", "1"]),
}


@pytest.mark.parametrize("shape", SEVERAL)
def test_several_models_and_optimizers(write: Callable[..., Path], shape: str) -> None:
    expression, models, optimizers = SEVERAL[shape]
    write(f"""
        def build():
            g, d = nn.Linear(3, 4), nn.Linear(4, 1)
            og, od = Adam(g.parameters(), lr=1), SGD(d.parameters(), lr=2)
            return {expression}
    """)
    built = load("job.py:build")
    assert list(built.models) == models
    assert list(built.optimizers) == optimizers
    assert [o.param_groups[0]["lr"] for o in built.optimizers.values()] == [1, 2]


def test_everything_else_a_factory_may_declare(write: Callable[..., Path]) -> None:
    write("""
        def build():
            m = net(); o = SGD(m.parameters(), lr=1)
            return dict(model=m, optimizer=o, batches=[1], example_inputs=(torch.ones(2, 3),), loss_fn=max,
                        criterion=nn.Bilinear(2, 2, 2), extra_modules={"ema": nn.Linear(1, 1)}, total_steps=100,
                        steps_per_epoch=10, batch_size=8, accumulation=2, world_size=4, precision="bf16-mixed",
                        clip_norm=1.0, unfreezes=["0.*"], partial_schedule=True, max_epochs=None)
    """)
    built = load("job.py:build", declared={"total_steps": 5, "distributed": "ddp"})
    assert (built.batches, built.loss_fn) == ([1], max)
    assert built.example_inputs[0].shape == (2, 3)
    assert set(built.extra_modules) == {"criterion", "ema"}
    assert built.training == Training(
        total_steps=100, steps_per_epoch=10, batch_size=8, accumulation=2, world_size=4, precision="bf16-mixed",
        clip_norm=1.0, distributed="ddp", unfreezes=("0.*",), options={"partial_schedule": True},
    )  # fmt: skip


def test_a_loss_module_in_the_tuple_is_no_second_model(write: Callable[..., Path]) -> None:
    write("""
        class CenterLoss(nn.Module):
            def __init__(self):
                super().__init__()
                self.centers = nn.Parameter(torch.zeros(3))

        def build():
            m = net()
            return m, CenterLoss(), SGD(m.parameters(), lr=1)
    """)
    built = load("job.py:build")
    assert list(built.models) == [""]
    assert type(built.extra_modules["criterion"]).__name__ == "CenterLoss"
    assert built.loss_fn is built.extra_modules["criterion"]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("None", "gave None"),
        ("3", "gave an int"),
        ("net()", "a model but no optimizer"),
        ("Adam(net().parameters())", "an optimizer but no model"),
        ("(net(), 3)", "an int at position 1"),
        ("(net(), None)", "a model but no optimizer"),
        ("{'a': 3}", "a dict with 'a'"),
        ("{'model': 3, 'optimizer': 4}", "an int as 'model', where a torch.nn.Module is expected"),
        ("(net, Adam)", "a function that was not called at position 0"),
        ("()", "neither a model nor an optimizer"),
        ("(x for x in 'ab')", "a generator (it says `yield` where `return` is needed)"),
        ("Adam", "the class Adam, and not an object of it"),
        ("(net(), functools.partial(Adam, lr=1))", "a partial that was not called at position 1"),
    ],
)
def test_nonsense_is_named_with_what_is_expected(write: Callable[..., Path], value: str, says: str) -> None:
    write(f"def build():\n    return {value}")
    error = failure("job.py:build")
    assert isinstance(error, TargetError)
    assert says in error.message
    assert "(model, optimizer)" in error.hint


def test_an_async_factory_is_nonsense_without_a_warning(write: Callable[..., Path]) -> None:
    write("async def build():\n    return 1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "coroutine" in failure("job.py:build").message


def test_wrong_declared_values_are_usage_errors(write: Callable[..., Path]) -> None:
    write("def build():\n    return {'model': (m := net()), 'optimizer': Adam(m.parameters()), 'total_steps': -3}")
    assert "total_steps is -3" in failure("job.py:build").message
    with pytest.raises(UsageError, match="did you mean 'bf16-mixed'"):
        training({"precision": "bf16-mixd"})
    assert training({"total_steps": float("inf"), "grad_scaler": True}) == Training(
        grad_scaler=f"{torch.amp.GradScaler.__module__}.GradScaler"
    )


# --- code that fails ------------------------------------------------------------------------------------------------


def test_an_exception_is_told_with_the_users_frames_only(write: Callable[..., Path]) -> None:
    write("""
        def helper(m):
            return m(torch.ones(2, 2))

        def build():
            helper(net())
    """)
    error = failure("job.py:build")
    assert isinstance(error, TargetError)
    assert error.exit_code == 3
    assert "RuntimeError" in error.message
    assert error.message.startswith("job.py:build raised RuntimeError at job.py:")
    assert 'File "job.py"' in error.trace
    assert "in helper" in error.trace
    assert "site-packages" not in error.trace
    assert "lrlint" not in error.trace
    assert os.getcwd() not in error.trace


def test_an_error_is_told_in_short_beside_its_traceback(write: Callable[..., Path]) -> None:
    write("""
        class Mute(Exception):
            def __str__(self): raise TypeError("no words")

        def long():
            raise ValueError("word " * 1000)

        def mute():
            raise Mute
    """)
    error = failure("job.py:long")
    assert isinstance(error, TargetError)
    assert error.message.endswith("word word…")
    assert len(error.message) < 300
    assert error.trace.count("word") == 1000 + 1  # and the source line
    assert failure("job.py:mute").message.startswith("job.py:mute raised Mute at job.py:")


def test_a_declared_value_may_contain_itself(write: Callable[..., Path]) -> None:
    write(
        "def build():\n    m, o = setup()\n    d = {'model': m, 'optimizer': o, 'lr': [1]}\n    d['all'] = d\n    return d"
    )
    options = load("job.py:build").training.options
    assert options["lr"] == [1]
    json.dumps(options)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import not_there_at_all", "ModuleNotFoundError while importing"),
        ("def build(:", "SyntaxError while importing"),
        ("raise ValueError('at import')", "at import"),
        ("import sys; sys.exit(4)", "sys.exit(4) while importing"),
    ],
)
def test_errors_while_importing(write: Callable[..., Path], source: str, says: str) -> None:
    write(source, head="")
    for target in ("job.py:build", "job:build"):
        error = failure(target)
        assert isinstance(error, TargetError)
        assert says in error.message
        assert "job.py" in error.trace
        assert "job" not in sys.modules


def test_sys_exit_says_what_to_do(write: Callable[..., Path]) -> None:
    write("def build():\n    import argparse\n    argparse.ArgumentParser().error('no')")
    error = failure("job.py:build")
    assert "sys.exit(2)" in error.message
    assert "__main__" in error.hint


def test_the_command_line_is_not_the_factorys(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["lrlint", "check", "--select", "LR301"])
    write("import argparse\nargparse.ArgumentParser().parse_args()")
    load("job.py:setup")
    assert sys.argv[1] == "check"


def test_an_interrupt_passes_through(write: Callable[..., Path]) -> None:
    write("def build():\n    raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load("job.py:build")


# --- time -----------------------------------------------------------------------------------------------------------

HANG = """
def build():
    while True:
        try:
            time.sleep(30)
        except Exception:
            pass
"""


def test_a_hang_ends_at_the_time_limit(write: Callable[..., Path]) -> None:
    write(HANG)
    error = failure("job.py:build", timeout=0.3)
    assert isinstance(error, TargetError)
    assert "did not finish running job.py:build within 0.3 s" in error.message
    assert "job.py:" in error.message
    assert "--timeout" in error.hint
    assert "time.sleep(30)" in error.trace
    assert "Expired" not in error.trace


def test_a_hang_in_another_thread_ends_too(write: Callable[..., Path]) -> None:
    write("def build():\n    while True:\n        time.sleep(0.01)")
    caught: list[LrlintError] = []
    thread = threading.Thread(target=lambda: caught.append(failure("job.py:build", timeout=0.3)), daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert "did not finish" in caught[0].message


def test_code_that_cannot_be_interrupted_ends_the_process_with_3(write: Callable[..., Path], tmp_path: Path) -> None:
    write("def build():\n    while True:\n        try:\n            time.sleep(30)\n        except:\n            pass")
    script = (
        "from lrlint.targets import load, sandbox\nsandbox.GRACE = 0.5\nprint('{', flush=True)\n"
        "load.load('job.py:build', timeout=0.3)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(sandbox.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 3
    assert "job.py:build did not finish within 0.3 s" in done.stderr
    assert done.stdout == "{\n"


def test_a_quick_factory_leaves_no_timer_behind(write: Callable[..., Path]) -> None:
    import signal

    write("")
    before = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)[1]
    load("job.py:setup", timeout=60)
    assert (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)[1]) == before


# --- nothing stays changed ------------------------------------------------------------------------------------------


def test_prints_of_every_kind_go_to_standard_error(
    write: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    write("""
        import ctypes, subprocess
        print("at import")

        def build():
            print("python"); sys.__stdout__.write("original\\n")
            os.system("echo shell"); subprocess.run(["echo", "process"]); os.write(1, b"raw\\n")
            ctypes.CDLL(None).puts(b"native")
            return setup()
    """)
    built = load("job.py:build")
    out, err = capfd.readouterr()
    assert out == ""
    for word in ("at import", "python", "original", "shell", "process", "raw", "native"):
        assert word in err
    print("results")
    with built.running():
        print("later")
    out, err = capfd.readouterr()
    assert (out, err) == ("results\n", "later\n")


def _state() -> dict[str, Any]:
    return {
        "path": list(sys.path),
        "argv": list(sys.argv),
        "cwd": os.getcwd(),
        "environ": dict(os.environ),
        "random": random.getstate(),
        "numpy": str(numpy.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "filters": list(warnings.filters),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "meta_path": list(sys.meta_path),
        "stdout": sys.stdout,
    }


@pytest.mark.parametrize("end", ["return setup()", "raise RuntimeError", "sys.exit(0)"])
def test_process_state_is_restored(write: Callable[..., Path], end: str) -> None:
    write(f"""
        import random, warnings
        import numpy

        def build():
            os.environ["LRLINT_TEST"] = "1"; os.environ.pop("PATH", None); os.chdir("/")
            sys.path.insert(0, "/nowhere"); sys.argv.append("more")
            random.seed(1); numpy.random.seed(1); torch.manual_seed(1); warnings.simplefilter("error")
            torch.set_default_dtype(torch.float64); torch.set_default_device("meta"); torch.set_grad_enabled(False)
            torch.set_num_threads(3 if torch.get_num_threads() != 3 else 2)
            torch.use_deterministic_algorithms(True); torch.autograd.set_detect_anomaly(True, check_nan=False)
            torch.set_float32_matmul_precision("medium")
            {end}
    """)
    before = _state()
    if end.startswith("return"):
        assert next(load("job.py:build").models[""].parameters()).device.type == "meta"
    else:
        failure("job.py:build")
    assert _state() == before


def test_more_of_the_targets_code_can_run_later(write: Callable[..., Path]) -> None:
    write("value = 42", "lazy_helper.py", head="")
    write("""
        def loss(output):
            import lazy_helper
            return lazy_helper.value

        def build():
            m = net()
            return {"model": m, "optimizer": SGD(m.parameters(), lr=1), "loss_fn": loss}
    """)
    built = load("job.py:build")
    with built.running():
        assert built.loss_fn(None) == 42


def test_it_runs_with_the_settings_of_torch_that_the_target_left(write: Callable[..., Path]) -> None:
    write("""
        def build():
            torch.set_default_dtype(torch.float64)
            m = net()
            return m, SGD(m.parameters(), lr=1)
    """)
    built = load("job.py:build")
    assert torch.get_default_dtype() == torch.float32
    with built.running():
        assert torch.ones(1).dtype == torch.float64
    assert torch.get_default_dtype() == torch.float32


# --- torch refuses --------------------------------------------------------------------------------------------------

REFUSED = {
    "overlap": (
        "AdamW([{'params': m.parameters()}, {'params': m[2].parameters(), 'lr': 1}])",
        "overlap",
        ["2.weight", "2.bias"],
    ),
    "added": ("(o := SGD(m.parameters(), lr=1)).add_param_group({'params': [m[1].weight]})", "overlap", ["1.weight"]),
    "empty": ("SGD([], lr=1)", "empty", []),
    "filtered": ("SGD(filter(lambda p: p.ndim > 9, m.parameters()), lr=1)", "empty", []),
    "value": ("SGD(m[0].parameters(), lr=-1)", "value", ["0.weight", "0.bias"]),
    "text": ("AdamW(m[0].parameters(), lr='1e-3')", "value", ["0.weight", "0.bias"]),
    "betas": ("Adam([{'params': m[0].weight}], betas=(1.5, 0.9))", "value", ["0.weight"]),
    "nesterov": ("SGD(m.parameters(), lr=1, nesterov=True)", "value", None),
    "own class": ("Mine(m[0].parameters(), lr=-1)", "value", ["0.weight", "0.bias"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_torch_refuses_is_a_rejection_with_names(write: Callable[..., Path], case: str) -> None:
    expression, kind, names = REFUSED[case]
    write(f"""
        class Mine(SGD):
            def __init__(self, params, lr):
                if lr < 0:
                    raise ValueError("negative rate")
                super().__init__(params, lr=lr)

        def build():
            m = net()
            return m, {expression}
    """)
    built = load("job.py:build")
    assert built.optimizers == {}
    [(found, error, class_name, params, span)] = built.rejections
    assert found == kind
    assert error
    assert class_name in ("AdamW", "Adam", "SGD", "Mine")
    known = {id(p): name for name, p in built.models[""].named_parameters()}
    if names is not None:
        assert [known[id(p)] for p in params] == names
    assert span is not None
    assert span.line == len(HEAD.splitlines()) + 10
    assert built.recording.failed[0].kind == kind


def test_a_non_leaf_tensor_is_a_rejection(write: Callable[..., Path]) -> None:
    write("def build():\n    m = net()\n    return m, SGD([m[0].weight, m[1].weight * 2], lr=1)")
    [(kind, _, _, params, _)] = load("job.py:build").rejections
    assert kind == "non-leaf"
    assert [tuple(p.shape) for p in params] == [(4,)]


def test_the_owners_of_refused_parameters_are_found_in_helpers_and_in_self(write: Callable[..., Path]) -> None:
    write("""
        class Job:
            def __init__(self):
                self.nets = None
                self.student, self.teacher = net(), net()

            def optimizer(self):
                return helper([*self.student.parameters(), *self.student[0].parameters()], [self.student[0].weight])

        def helper(first, second):
            return Adam([{"params": first[:6]}, {"params": second}])

        def build():
            return Job().optimizer()
    """)
    built = load("job.py:build")
    [(kind, _, _, params, _)] = built.rejections
    assert kind == "overlap"
    assert {id(p): n for n, p in built.models[""].named_parameters()}[id(params[0])] == "0.weight"


@pytest.mark.parametrize(
    "body",
    [
        "return net(), SGD(p for p in [1 / 0])",
        "return net(), SGD(net().parameters(), learning_rate=1)",
        "return net(), Mine(net().parameters())",
        "o = SGD(net().parameters(), lr=1); StepLR(o, 3, gamma='x').step(); raise ValueError('mine')",
    ],
)
def test_errors_of_the_user_are_no_rejections(write: Callable[..., Path], body: str) -> None:
    write(f"""
        class Mine(SGD):
            def __init__(self, params):
                self.missing.attribute

        def build():
            {body}
    """)
    assert isinstance(failure("job.py:build"), TargetError)


def test_a_refusal_that_the_user_handles_is_none(write: Callable[..., Path]) -> None:
    write("""
        def build():
            m = net()
            try:
                o = SGD(m.parameters(), lr=-1)
            except ValueError:
                o = SGD(m.parameters(), lr=1)
            return m, o
    """)
    built = load("job.py:build")
    assert built.rejections == []
    assert [optimizer for optimizer, _ in built.recording.created_optimizers] == [built.optimizers[""]]


# --- objects that exist ---------------------------------------------------------------------------------------------


def test_adopting_objects() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    head = nn.Linear(2, 1)
    built = from_objects(
        model,
        optimizer,
        scheduler,
        total_steps=10,
        batches=None,
        extra_modules=[head],
        precision=torch.bfloat16,
        note="x",
    )
    assert built.models == {"": model}
    assert built.optimizers == {"": optimizer}
    assert built.schedulers == [scheduler]
    assert list(built.extra_modules.values()) == [head]
    assert built.training == Training(total_steps=10, precision="bf16", options={"note": "x"})
    assert built.recording.optimizer(optimizer) is None
    assert built.span is not None
    assert built.span.path == "tests/targets/test_target.py"


def test_adopting_several_and_wrong_objects() -> None:
    g, d = nn.Linear(2, 2), nn.Linear(2, 2)
    optimizers = [torch.optim.SGD(g.parameters(), lr=1), torch.optim.SGD(d.parameters(), lr=1)]
    built = from_objects({"g": g, "d": d}, optimizers, [torch.optim.lr_scheduler.StepLR(optimizers[0], 1)])
    assert list(built.models) == ["g", "d"]
    assert list(built.optimizers) == ["0", "1"]
    for model, optimizer, scheduler in (
        (3, optimizers, None),
        (g, g, None),
        (g, optimizers[0], 3),
        (g, None, None),
        ([], optimizers, None),
    ):
        with pytest.raises(UsageError):
            from_objects(model, optimizer, scheduler)
