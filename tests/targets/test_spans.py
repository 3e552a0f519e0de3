"""Where optimizers, groups and schedulers were written: every span is read back from the source it points at."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
import torch
from torch.optim import Optimizer, lr_scheduler

from lrlint.facts import Span
from lrlint.targets.live_target import LiveTarget
from lrlint.targets.load import load
from lrlint.targets.provenance import literals as literal_marking
from lrlint.targets.provenance.project import Project, project_root
from lrlint.targets.provenance.recorder import ConstructionRecorder, recording

NET = """
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

def net():
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))

"""
columns = pytest.mark.skipif(sys.version_info < (3, 11), reason="columns of calls are known from Python 3.11 on")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LiveTarget]]:
    """Write files, load ``setup.py``'s ``build`` from the folder, and forget the modules afterwards."""
    monkeypatch.chdir(tmp_path)
    known = set(sys.modules)

    def make(source: str, factory: str = "build", /, *, hook: bool = True, **files: str) -> LiveTarget:
        for name, text in {"setup_under_test": NET + textwrap.dedent(source), **files}.items():
            path = tmp_path.joinpath(*name.split("__")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        return load(f"setup_under_test.py:{factory}", source_hook=hook)

    yield make
    for name in sys.modules.keys() - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def text(span: Span | None) -> str:
    """The source that a span covers, read from the current folder."""
    assert span is not None
    assert span.column is not None
    assert span.end_line is not None
    lines = Path(span.path).read_text(encoding="utf-8").split("\n")[span.line - 1 : span.end_line]
    lines[-1] = lines[-1][: (span.end_column or 1) - 1]
    lines[0] = lines[0][span.column - 1 :]
    return "\n".join(lines)


def groups(built: LiveTarget) -> list[str]:
    """The text of each group's span."""
    optimizer = built.optimizers[""]
    return [text(built.recording.group(optimizer, i).span) for i in range(len(optimizer.param_groups))]


def test_literals_of_every_shape_lead_to_their_own_text(project: Callable[..., LiveTarget]) -> None:
    built = project("""
        def build():
            m = net()
            ps = list(m.parameters())
            opt = AdamW([
                {"params": ps[0], "weight_decay": 0.1},
                dict(params=[ps[1]], lr=1e-4),
                {**{"lr": 2e-3}, "params": ps[2:3],
                 "betas": (0.9, 0.95)},
            ], lr=1e-3)
            opt.add_param_group({"params": ps[3]})
            late = {"lr": 1e-5, "params": ps[4:]}
            opt.add_param_group(late)
            return m, opt
    """)
    assert groups(built) == [
        '{"params": ps[0], "weight_decay": 0.1}',
        "dict(params=[ps[1]], lr=1e-4)",
        '{**{"lr": 2e-3}, "params": ps[2:3],\n         "betas": (0.9, 0.95)}',
        '{"params": ps[3]}',
        '{"lr": 1e-5, "params": ps[4:]}',
    ]


def test_loops_comprehensions_and_tables_of_groups(project: Callable[..., LiveTarget]) -> None:
    built = project("""
        def build():
            m = net()
            named = {"decay": {"params": [], "weight_decay": 0.1}, "rest": {"params": []}}
            for p in m[0].parameters():
                named["decay" if p.ndim > 1 else "rest"]["params"].append(p)
            found = list(named.values())
            for p in m[1].parameters():
                found.append({"params": [p], "lr": 1e-5})
            found += [{"params": p} for p in m[2].parameters()]
            return m, AdamW(found, lr=1e-3)
    """)
    assert groups(built) == [
        '{"params": [], "weight_decay": 0.1}',
        '{"params": []}',
        *['{"params": [p], "lr": 1e-5}'] * 2,
        *['{"params": p}'] * 2,
    ]


def test_a_helper_in_another_package_of_the_project(project: Callable[..., LiveTarget]) -> None:
    built = project(
        """
        from optim.groups import by_depth

        def build():
            m = net()
            return m, SGD(by_depth(m), lr=0.1)
        """,
        optim____init__="",
        optim__groups="""
        def by_depth(model):
            return [{"params": layer.parameters(), "lr": 0.1 ** k} for k, layer in enumerate(model)]
        """,
    )
    record = built.recording.group(built.optimizers[""], 1)
    assert record is not None
    assert record.span is not None
    assert record.span.path == "optim/groups.py"
    assert text(record.span) == '{"params": layer.parameters(), "lr": 0.1 ** k}'
    assert text(built.recording.optimizer(built.optimizers[""])) == "SGD(by_depth(m), lr=0.1)"


@pytest.mark.parametrize(
    "change", ['{**base, "lr": 1e-2}', 'base | {"lr": 1e-2}', "dict(base, lr=1e-2)", "copy.copy(base)"]
)
def test_a_copy_of_a_literal_leads_back_to_it(project: Callable[..., LiveTarget], change: str) -> None:
    built = project(f"""
        import copy

        def build():
            m = net()
            base = {{"params": m.parameters(), "weight_decay": 0.5}}
            return m, SGD([{change}], lr=0.1)
    """)
    assert groups(built) == ['{"params": m.parameters(), "weight_decay": 0.5}']


@columns
def test_without_a_literal_the_call_that_added_the_group(project: Callable[..., LiveTarget]) -> None:
    built = project("""
        import json

        def build():
            m = net()
            options = json.loads('{"lr": 0.5, "momentum": 0.9}')
            opt = SGD(
                m[0].parameters(), **options)
            extra = json.loads('{"lr": 0.25}')
            extra["params"] = m[1].parameters()
            opt.add_param_group(extra)
            return m, opt
    """)
    assert groups(built) == [
        "SGD(\n        m[0].parameters(), **options)",
        "opt.add_param_group(extra)",
    ]


def test_keys_and_what_the_user_wrote(project: Callable[..., LiveTarget]) -> None:
    built = project("""
        def build():
            m = net()
            return m, AdamW([{"params": m[0].parameters(), "lr": 1e-3 * 0.1, "weight_decay": (
                0.0)}, {"params": m[1:].parameters()}], lr=1e-3)
    """)
    optimizer, record = built.optimizers[""], built.recording
    first, second = record.group(optimizer, 0), record.group(optimizer, 1)
    assert first is not None
    assert second is not None
    assert {key: text(span) for key, span in first.key_spans.items()} == {
        "params": '"params": m[0].parameters()',
        "lr": '"lr": 1e-3 * 0.1',
        "weight_decay": '"weight_decay": (\n        0.0',
    }
    assert first.written == {"lr", "weight_decay"}
    assert second.written == frozenset()


def test_options_before_any_scheduler(project: Callable[..., LiveTarget]) -> None:
    built = project("""
        def build():
            m = net()
            opt = SGD([{"params": m[0].weight, "lr": torch.tensor(1e-5)}, {"params": m[1:].parameters()}], lr=1e-3)
            opt.param_groups[1]["lr"] = 5e-3
            scheduler = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=1.0, total_steps=10)
            opt.param_groups[1]["lr"] = 77
            return m, opt, scheduler
    """)
    optimizer, record = built.optimizers[""], built.recording
    assert float(optimizer.param_groups[0]["lr"]) != pytest.approx(1e-5)
    assert float(record.before(optimizer, 0)["lr"]) == pytest.approx(1e-5)
    assert record.before(optimizer, 1)["lr"] == 5e-3
    assert "params" not in record.before(optimizer, 0)
    assert "max_lr" not in record.before(optimizer, 0)
    assert record.before(optimizer, 9) == {}


@columns
def test_classes_of_the_user_point_to_the_call_that_creates_them(project: Callable[..., LiveTarget]) -> None:
    built = project("""
        from functools import partial

        class Mine(AdamW):
            def __init__(self, params, **options):
                super().__init__(params, **options)

        class Warm(torch.optim.lr_scheduler.LambdaLR):
            def __init__(self, opt, steps):
                self.steps = steps
                super().__init__(opt, lambda step: min(1.0, step / self.steps))

        make = partial(Mine, lr=1e-3)

        def build():
            m = net()
            opt = make(m.parameters())
            warm = Warm(opt, 10)
            both = torch.optim.lr_scheduler.SequentialLR(
                opt, [warm, torch.optim.lr_scheduler.StepLR(opt, 3)], milestones=[5])
            return m, opt, both
    """)
    record = built.recording
    assert text(record.optimizer(built.optimizers[""])) == "make(m.parameters())"
    assert [text(span) for _, span in record.created_schedulers] == [
        "Warm(opt, 10)",
        "torch.optim.lr_scheduler.StepLR(opt, 3)",
        text(record.scheduler(built.schedulers[0])),
    ]
    assert text(record.scheduler(built.schedulers[0])).startswith("torch.optim.lr_scheduler.SequentialLR(")
    assert [type(optimizer).__name__ for optimizer, _ in record.created_optimizers] == ["Mine"]


def test_columns_count_characters(project: Callable[..., LiveTarget]) -> None:
    built = project("""
        def build():
            m = net()
            größe = "✓ ümläut"; opt = SGD([{"params": m.parameters(), "näme": größe, "lr": 0.5}], lr=0.1)
            return m, opt
    """)
    assert groups(built) == ['{"params": m.parameters(), "näme": größe, "lr": 0.5}']
    record = built.recording.group(built.optimizers[""], 0)
    assert record is not None
    assert text(record.key_spans["lr"]) == '"lr": 0.5'
    if sys.version_info >= (3, 11):
        assert text(built.recording.optimizer(built.optimizers[""])).startswith("SGD([{")


@columns
def test_without_the_hook_only_calls_are_known(project: Callable[..., LiveTarget]) -> None:
    built = project(
        """
        def build():
            m = net()
            return m, SGD([{"params": m.parameters(), "lr": 0.5}], lr=0.1)
        """,
        hook=False,
    )
    assert groups(built) == ['SGD([{"params": m.parameters(), "lr": 0.5}], lr=0.1)']
    record = built.recording.group(built.optimizers[""], 0)
    assert record is not None
    assert dict(record.key_spans) == {}
    assert record.written == {"lr"}
    assert not hasattr(sys.modules["setup_under_test"], literal_marking.NAME)


def test_only_lines_where_python_keeps_no_columns_and_no_framework_is_imported(tmp_path: Path) -> None:
    source = NET + "def build():\n    m = net()\n    return m, SGD(m.parameters(), lr=0.1)\n"
    (tmp_path / "plain.py").write_text(source)
    script = (
        "from lrlint.targets.load import load\n"
        "built = load('plain.py:build')\n"
        "print(built.recording.optimizer(built.optimizers['']))\n"
        "import sys; print([n for n in ('transformers', 'lightning', 'accelerate') if n in sys.modules])"
    )
    environment = {"PYTHONPATH": str(Path(literal_marking.__file__).parents[3]), "PYTHONNODEBUGRANGES": "1", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    where, heavy = done.stdout.splitlines()
    assert where == f"plain.py:{len(source.splitlines())}"
    assert "transformers" not in heavy
    assert "lightning" not in heavy
    assert "accelerate" not in heavy


def test_files_outside_the_project_and_installed_ones_stay_unmarked(
    project: Callable[..., LiveTarget],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    helper = 'def groups(m):\n    return [{"params": m.parameters(), "lr": 0.5}]\n'
    outside = tmp_path_factory.mktemp("elsewhere")
    (outside / "outside_helper.py").write_text(helper)
    installed = tmp_path / ".venv" / "lib" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "installed_helper.py").write_text(helper)
    monkeypatch.syspath_prepend(str(outside))
    monkeypatch.syspath_prepend(str(installed))
    built = project("""
        import installed_helper, outside_helper

        def build():
            m = net()
            return m, [SGD(installed_helper.groups(m), lr=0.1), SGD(outside_helper.groups(m), lr=0.2)]
    """)
    for name in ("installed_helper", "outside_helper"):
        assert not hasattr(sys.modules[name], literal_marking.NAME)
    spans = [built.recording.group(optimizer, 0).span for optimizer in built.optimizers.values()]
    assert [span.path for span in spans] == ["setup_under_test.py"] * 2
    for name in ("installed_helper", "outside_helper"):
        sys.modules.pop(name)


def test_torch_and_the_import_system_are_as_they_were(project: Callable[..., LiveTarget]) -> None:
    before = (Optimizer.__init__, Optimizer.add_param_group, lr_scheduler.StepLR.__init__, list(sys.meta_path))
    with pytest.raises(Exception, match="boom"):
        project("def build():\n    raise RuntimeError('boom')")
    after = (Optimizer.__init__, Optimizer.add_param_group, lr_scheduler.StepLR.__init__, list(sys.meta_path))
    assert after == before
    assert not literal_marking.listeners


def test_nothing_marked_is_cached_on_disk_and_edits_are_seen(
    project: Callable[..., LiveTarget], tmp_path: Path
) -> None:
    source = """
        from cached_helper import groups

        def build():
            m = net()
            return m, SGD(groups(m), lr=0.1)
    """
    first = project(source, cached_helper='def groups(m):\n    return [{"params": m.parameters(), "lr": 0.5}]\n')
    assert first.optimizers[""].param_groups[0]["lr"] == 0.5
    assert not list(tmp_path.rglob("*.pyc"))
    del sys.modules["cached_helper"]
    second = project(source, cached_helper='def groups(m):\n    return [{"params": m.parameters(), "lr": 0.7}]\n')
    assert second.optimizers[""].param_groups[0]["lr"] == 0.7


def test_a_group_dict_that_was_replaced_is_found_by_its_position(project: Callable[..., LiveTarget]) -> None:
    built = project("""
        def build():
            m = net()
            opt = SGD([{"params": m[0].parameters(), "lr": 1}, {"params": m[1:].parameters(), "lr": 2}], lr=3)
            opt.load_state_dict(opt.state_dict())
            return m, opt
    """)
    assert groups(built) == ['{"params": m[0].parameters(), "lr": 1}', '{"params": m[1:].parameters(), "lr": 2}']


def test_schedulers_made_by_a_library_point_to_the_users_call(project: Callable[..., LiveTarget]) -> None:
    built = project("""
        from transformers import get_cosine_schedule_with_warmup

        def build():
            m = net()
            opt = SGD(m.parameters(), lr=0.1)
            return m, opt, get_cosine_schedule_with_warmup(opt, 10, 100)
    """)
    span = built.recording.scheduler(built.schedulers[0])
    assert span is not None
    assert span.path == "setup_under_test.py"
    if sys.version_info >= (3, 11):
        assert text(span) == "get_cosine_schedule_with_warmup(opt, 10, 100)"


def test_the_recording_of_existing_objects_knows_nothing() -> None:
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    record = ConstructionRecorder.none()
    assert record.optimizer(optimizer) is None
    assert record.group(optimizer, 0) is None
    assert record.before(optimizer, 0) == {}


def test_recording_code_that_is_already_imported(tmp_path: Path) -> None:
    root = project_root(Path(__file__))
    assert root is not None
    with recording(root) as record:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    span = record.optimizer(optimizer)
    assert span is not None
    assert span.path == "tests/targets/test_spans.py"
    late = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    assert record.optimizer(late) is None


# --- marking leaves the code as it is -------------------------------------------------------------------------------

SOURCES = {
    "docstring": '"""doc"""\nx = {"params": [1]}\nresult = (__doc__, x)',
    "future": (
        'from __future__ import annotations\ndef f(a: {"params": int} = {"params": 1}) -> {"params": str}:\n'
        "    return a\n"
        "v: {'params': 2} = {'params': 3}\nresult = (f(), f.__annotations__, __annotations__)"
    ),
    "nested": 'result = {"params": {"params": [1, {"params": 2}]}, "a": dict(params=3, b={"params": 4})}',
    "class": 'class A:\n    __x = {"params": 1}\n    def f(self):\n        return self.__x\nresult = A().f()',
    "lambda": 'f = lambda p={"params": 0}: {"params": p}\nresult = f(5)',
    "generator": (
        'def g():\n    got = yield {"params": (yield 1)}\n    yield got\n'
        "i = g()\nresult = [next(i), i.send(7), i.send(8)]"
    ),
    "walrus": 'result = [{"params": (y := x)} for x in range(3)] + [y]',
    "async": (
        "import asyncio\nasync def a():\n    return 3\nasync def b():\n    return {'params': await a()}\n"
        "result = asyncio.run(b())"
    ),
    "match": (
        'match {"params": 3, "x": 1}:\n    case {"params": p, **rest}:\n        result = (p, rest)\n'
        "    case _:\n        result = 0"
    ),
    "fstring": "result = f\"{ {'params': 1}['params']!r:>4} { {'params': 2}= }\"",
    "shadowed": "def dict(**k):\n    return list(k)\nresult = dict(params=1)",
    "star": 'def f(**k):\n    return k\nresult = f(**{"params": 1})',
    "decorator": (
        'def d(x):\n    return lambda f: (x, f)\n@d({"params": 1})\ndef f():\n    "text"\nresult = (f[0], f[1].__doc__)'
    ),
    "cookie": '# -*- coding: utf-8 -*-\nresult = {"params": "ü"}',
    "globals": 'result = [n for n in dir() if not n.startswith("_")] + [{"params": 1}]',
}


def _run(code: CodeType, extra: dict[str, Any]) -> Any:
    namespace: dict[str, Any] = {"__name__": "m", "__doc__": None, **extra}
    exec(code, namespace)
    return namespace["result"]


@pytest.mark.parametrize("name", SOURCES)
def test_marked_code_gives_the_same_result_at_the_same_lines(name: str) -> None:
    literals: list[literal_marking.Literal] = []
    tree = literal_marking.mark(SOURCES[name], "m.py", literals)
    if name != "fstring":
        assert tree is not None
    plain = compile(SOURCES[name], "m.py", "exec", dont_inherit=True)
    marked = compile(tree or SOURCES[name], "m.py", "exec", dont_inherit=True)
    marker = literal_marking.Marker()
    marker.literals = literals
    assert repr(_run(marked, {literal_marking.NAME: marker})) == repr(_run(plain, {}))
    assert {line for *_, line in marked.co_lines()} == {line for *_, line in plain.co_lines()}


def test_tracebacks_of_marked_code_are_the_same(tmp_path: Path) -> None:
    source = 'def f(x):\n    return {"params": [1],\n            "lr": 1 / x}\n\n\ndef g():\n    return f(0)\n'
    path = tmp_path / "broken.py"
    path.write_text(source)
    literals: list[literal_marking.Literal] = []
    told = []
    for code in (source, literal_marking.mark(source, str(path), literals)):
        namespace: dict[str, Any] = {literal_marking.NAME: lambda value, index: value}
        exec(compile(code, str(path), "exec", dont_inherit=True), namespace)  # type: ignore[arg-type]
        with pytest.raises(ZeroDivisionError) as caught:
            namespace["g"]()
        told.append("".join(traceback.format_tb(caught.tb)[1:]))
    assert told[0] == told[1]
    assert len(literals) == 1


def test_code_that_mentions_no_group_is_left_alone() -> None:
    assert literal_marking.mark('x = {"parameters": 1}; f(params=2)\ny = "params"', "m.py", []) is None


def test_every_group_of_a_long_file_is_found() -> None:
    lines = [f'if True:\n    x{k} = [\n        {{"params": {k}, "lr": {k}}},\n    ]' for k in range(300)]
    literals: list[literal_marking.Literal] = []
    tree = literal_marking.mark("\n".join(lines), "long.py", literals)
    assert isinstance(tree, ast.Module)
    assert [(literal.span.line, literal.span.column) for literal in literals] == [(4 * k + 3, 9) for k in range(300)]


# --- files ----------------------------------------------------------------------------------------------------------


def test_paths_are_relative_to_the_project_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    folder = tmp_path / "src" / "pkg"
    folder.mkdir(parents=True)
    (folder / "deep.py").write_text(
        NET + 'def build():\n    m = net()\n    return m, SGD([{"params": m.parameters()}], lr=1)\n'
    )
    monkeypatch.chdir(folder)
    built = load("deep.py:build")
    assert built.span is not None
    assert built.span.path == "src/pkg/deep.py"
    assert built.recording.root == tmp_path.resolve()


def test_which_files_are_the_users(tmp_path: Path) -> None:
    files = Project(tmp_path)
    for own in ("a.py", "pkg/b.py", "lib/c.py"):
        assert files.owns(str(tmp_path / own))
    for foreign in (
        torch.__file__,
        ast.__file__,
        literal_marking.__file__,
        "<string>",
        str(tmp_path / "v/site-packages/d.py"),
    ):
        assert not files.owns(foreign)
    assert not files.owns(str(tmp_path.parent / "e.py"))


def test_a_definition_is_the_name_in_its_statement(project: Callable[..., LiveTarget]) -> None:
    built = project("""
        import functools

        def noted(**options):
            return lambda f: functools.wraps(f)(lambda *a: f(*a))

        class Trainer:
            pass

        @noted(
            name="x")
        def build():
            m = net()
            return m, SGD(m.parameters(), lr=1)
    """)
    assert text(built.span) == "def build"


@pytest.mark.parametrize(
    ("source", "name", "expected"),
    [
        ("space = {}\nexec(TEXT, space)\nbuild = space['build']", "build", "build"),
        (
            "import json\nspace = {}\nexec(TEXT, space)\nclass A:\n    pass\nA.build = space['build']",
            "A.build",
            "class A",
        ),
        ("import functools\nexec(TEXT)\nother = functools.partial(build)", "other", "other"),
        ("from made import build as ours", "ours", "build as ours"),
    ],
)
def test_what_has_no_definition_on_disk_is_where_it_gets_its_name(
    project: Callable[..., LiveTarget], source: str, name: str, expected: str
) -> None:
    code = "def build():\n    m = net()\n    return m, SGD(m.parameters(), lr=1)\n"
    made = f"import setup_under_test as s\nspace = dict(net=s.net, SGD=s.SGD)\nexec({code!r}, space)\nbuild = space['build']"
    source = source.replace("space = {}", "space = {'net': net, 'SGD': SGD}")
    built = project(f"TEXT = {code!r}\n{source}\n", name, made=made)
    assert text(built.span) == expected
