"""A snapshot keeps every fact and needs no torch to be read back."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrlint.config.settings import Settings
from lrlint.errors import UsageError
from lrlint.facts import Group, NormLayer, Optimizer, Parameter, Setup, Span, StateMisfit, Training, Values
from lrlint.facts.schedule import Clock, Failure, GroupSchedule, Schedule, Trace
from lrlint.facts.scheduler import Floor, Length, Plateau, SchedulerNode
from lrlint.facts.setup import SCHEMA
from lrlint.lint.run import lint
from lrlint.reports import render
from lrlint.runner.session import snapshot

text = st.text(max_size=12)
numbers = st.floats() | st.integers() | st.booleans() | st.none() | text
options = st.dictionaries(text, numbers | st.lists(st.floats(), max_size=3), max_size=4)


@st.composite
def setups(draw: st.DrawFn) -> Setup:
    parameters = tuple(
        Parameter(
            i,
            draw(text),
            (draw(text),),
            "model",
            "norm",
            draw(st.none() | st.tuples(st.integers(0, 9))),
            "bfloat16",
            "cpu",
            requires_grad=draw(st.booleans()),
            gradient=draw(st.sampled_from([None, "zero"])),
            values=draw(st.none() | st.just(Values(4, 0.5, 1.0, 0.0, True, {-3: 0.25, 0: 0.75}))),
        )
        for i in range(draw(st.integers(0, 3)))
    )
    members = draw(st.lists(st.sampled_from(parameters), max_size=4)) if parameters else []
    group = Group(
        0, 0, draw(options), tuple(members), written=draw(st.none() | st.just(frozenset()) | st.just(frozenset({"lr"})))
    )
    misfits = tuple(StateMisfit(p, "exp_avg", "shape", "(1,)", "(2,)") for p in members[:1])
    optimizer = Optimizer(0, "", "SGD", "torch.optim", "sgd", (group,), defaults=draw(options), misfits=misfits)
    norms = tuple(
        NormLayer("n", "LayerNorm", "layer", weight=p, momentum=draw(st.none() | st.floats(0, 1)))
        for p in parameters[:1]
    )
    return Setup(
        target=draw(text),
        parameters=parameters,
        optimizers=(optimizer,),
        norms=norms,
        training=Training(total_steps=draw(st.none() | st.integers(0, 10**9))),
        span=draw(st.none() | st.just(Span("a.py", 1, None))),
    )


def canonical(setup: Setup) -> str:
    return json.dumps(setup.to_dict(), sort_keys=True)


@given(setups())
def test_round_trip(setup: Setup) -> None:
    data = json.loads(json.dumps(setup.to_dict(), allow_nan=False))
    restored = Setup.from_dict(data)
    assert canonical(restored) == canonical(setup)
    for before, after in zip(setup.optimizers[0].groups, restored.optimizers[0].groups, strict=True):
        assert after.written == before.written
        assert [p.index for p in after.parameters] == [p.index for p in before.parameters]
        assert all(p is restored.parameters[p.index] for p in after.parameters), "references stay identities"


def test_non_finite_options_survive() -> None:
    group = Group(0, 0, {"lr": math.nan, "weight_decay": math.inf}, ())
    setup = Setup(optimizers=(Optimizer(0, "", "SGD", "m", "sgd", (group,)),))
    restored = Setup.from_dict(json.loads(json.dumps(setup.to_dict(), allow_nan=False)))
    assert math.isnan(restored.optimizers[0].groups[0].options["lr"])
    assert restored.optimizers[0].groups[0].weight_decay == math.inf


def saved() -> dict[str, Any]:
    """A snapshot with a bit of everything, as JSON gives it back."""
    parameter = Parameter(0, "w", ("w",), "model", "matrix", (2, 2), "float32", "cpu", requires_grad=True)
    group = Group(0, 0, {"lr": 0.1}, (parameter,), key_spans={"lr": Span("a.py", 1, 2, 1, 3)})
    optimizer = Optimizer(0, "", "SGD", "torch.optim", "sgd", (group,), span=Span("a.py", 1))
    trace = Trace((0, 9), (0.1, 0.0))
    schedule = Schedule(
        0,
        "StepLR",
        "torch.StepLR",
        optimizer=0,
        horizon=9,
        groups=(GroupSchedule(0, trace),),
        horizon_from="total_steps",
        kinds=("decay",),
        clock=Clock("declared", "step"),
        length=Length(9, "T_max"),
        root=SchedulerNode("StepLR", "torch.StepLR", {"gamma": 0.1}, {"base_lrs": 1}, (0.1,)),
    )
    setup = Setup(
        "job", parameters=(parameter,), optimizers=(optimizer,), schedules=(schedule,), training=Training(total_steps=9)
    )
    return json.loads(json.dumps(setup.to_dict()))


def places(data: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of the data outside its free-form tables."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, item in items:
        if key not in ("options", "attributes"):
            yield (*above, key)
            yield from places(item, (*above, key))


def damaged(place: tuple[Any, ...], value: object) -> dict[str, Any]:
    data = inner = saved()
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return data


def read(data: object, folder: Path) -> Setup:
    (folder / "setup.json").write_text(json.dumps(data))
    return snapshot(folder / "setup.json")


def test_a_snapshot_that_is_damaged_anywhere_is_refused_or_checked(tmp_path: Path) -> None:
    refused: list[UsageError] = []
    for place in places(saved()):
        for value in ([[]], {"a": {}}, -7, "x", True, None):
            try:
                setup = read(damaged(place, value), tmp_path)
            except UsageError as error:
                refused.append(error)
                continue
            run = lint(setup, Settings())
            assert not [found.message for found in run.findings if found.rule == "LR003"], (place, value)
            assert render("full", run) + render("html", run)
    assert len(refused) > 100
    assert all(str(tmp_path / "setup.json") in error.message and "--output" in error.hint for error in refused)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("optimizers", 0, "family"), 3, "damaged: optimizers[0].family is an integer, expected a string"),
        (("optimizers", 0, "groups", 0, "parameters", 0), -1, "there is no parameter -1"),
        (("optimizers", 0, "groups", 0, "index"), 4, "groups of optimizer 0 are not numbered in order"),
        (("schedules", 0, "optimizer"), 2, "drives optimizer 2, and there is none"),
        (("schedules", 0, "groups", 0, "group"), 2, "sets the rate of group 2, and there is none"),
        (("schedules", 0, "groups", 0, "lr", "steps"), [1], "values without steps"),
        (("schema",), "lrlint-setup/3", "another lrlint saved it: its schema is 'lrlint-setup/3'"),
        (("later",), 1, "unknown key 'later' in setup (from a newer lrlint?)"),
    ],
)
def test_where_a_snapshot_is_damaged(place: tuple[Any, ...], value: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(damaged(place, value), tmp_path)
    assert words in caught.value.message


@pytest.mark.parametrize("data", [None, [], {}, {"schema": "other/1"}, {"schema": SCHEMA, "norms": [{"oops": 1}]}])
def test_what_is_no_snapshot_is_said(data: object) -> None:
    with pytest.raises(ValueError, match=r"snapshot|unknown key"):
        Setup.from_dict(data)  # type: ignore[arg-type]


#: A scheduler as schema 1 wrote it, and what it said of a checkpoint.
DETAILS = """{
    "class_name": "SequentialLR", "qualified": "torch.S", "begins": [3], "shape": ["decay"],
    "children": [{"class_name": "R", "qualified": "torch.R", "plateau": {"mode": "max", "min_lrs": [0.0]}}],
    "length": 9, "length_name": "T_max", "final": true, "floor_name": "eta_min", "floors": [0.1],
    "clock_from": "declared", "interval": "step", "horizon_from": "total_steps", "together": [0, 1],
    "error": {"step": 3, "type": "TypeError", "message": "no"}
}"""
RESUMED = {"checkpoint": "a.pt", "optimizers": [{"optimizer": 0, "refused": "too few groups", "changes": []}]}


def test_a_snapshot_of_the_first_schema_is_still_read(tmp_path: Path) -> None:
    data = {**saved(), "schema": "lrlint-setup/1"}
    kept = {"index", "class_name", "qualified", "optimizer", "horizon", "groups", "unit", "period"}
    old = {key: value for key, value in data["schedules"][0].items() if key in kept}
    data["schedules"] = [{**old, "details": json.loads(DETAILS)}]
    data["training"]["options"] = {"resumed": RESUMED, "seed": 1}
    setup = read(data, tmp_path)
    (schedule,) = setup.schedules
    assert (schedule.clock, schedule.length) == (Clock("declared", "step"), Length(9, "T_max"))
    assert (schedule.floor, schedule.error) == (Floor("eta_min", rates=(0.1,)), Failure(3, "TypeError", "no"))
    assert (schedule.kinds, schedule.declared, schedule.wiring.together) == (("decay",), True, (0, 1))
    assert [node.plateau for node in schedule.nodes()] == [None, Plateau("max", min_lrs=(0.0,))]
    assert setup.resume is not None
    assert [record.refused for record in setup.resume.optimizers] == ["too few groups"]
    assert setup.training.options == {"seed": 1}
