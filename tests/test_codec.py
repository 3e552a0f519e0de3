"""A snapshot keeps every fact and needs no torch to be read back."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrlint.facts import Group, NormLayer, Optimizer, Parameter, Setup, Span, StateMisfit, Training, Values

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


@pytest.mark.parametrize(
    "data", [None, [], {}, {"schema": "other/1"}, {"schema": "lrlint-setup/1", "norms": [{"oops": 1}]}]
)
def test_what_is_no_snapshot_is_said(data: object) -> None:
    with pytest.raises(ValueError, match=r"snapshot|unknown key"):
        Setup.from_dict(data)  # type: ignore[arg-type]
