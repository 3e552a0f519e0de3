"""`lrlint diff` in a reviewer's words: what is told, what makes no difference."""

import json
from dataclasses import replace

import pytest
from setups import decoder, single

import lrlint
from lrlint.facts import Group, GroupSchedule, Optimizer, Schedule, Setup, Trace
from lrlint.lint.setup_diff import Comparison
from lrlint.reports.style import Style
from lrlint.reports.views import diff as views


def texts(before: Setup, after: Setup) -> list[str]:
    found: Comparison = lrlint.diff(before, after)
    return [change.text for change in found.changes]


def with_groups(setup: Setup, *groups: Group) -> Setup:
    return replace(setup, optimizers=(replace(setup.optimizers[0], groups=groups),))


def test_nothing_changed() -> None:
    found = lrlint.diff(decoder(), decoder(target="another name"))
    assert found.same
    assert str(found) == "no difference"


def test_order_of_groups_and_parameters_makes_no_difference() -> None:
    setup = decoder()
    first, second = setup.optimizers[0].groups
    swapped = with_groups(
        replace(setup, parameters=setup.parameters[::-1]),
        replace(second, index=0, parameters=second.parameters[::-1]),
        replace(first, index=1),
    )
    assert lrlint.diff(setup, swapped).same


def test_depth_makes_no_difference_but_is_remarked() -> None:
    found = lrlint.diff(decoder(2), decoder(4))
    assert found.same
    assert found.remarks == ("4 parameters more of the same kind: `h.{2,3}.attn.weight`, `h.{2,3}.ln_1.weight`",)
    assert "fewer" in lrlint.diff(decoder(4), decoder(2)).remarks[0]


def test_decay_on_norms_is_told_by_pattern() -> None:
    setup = decoder(12)
    first, second = setup.optimizers[0].groups
    norms = tuple(p for p in second.parameters if p.role == "norm")
    head = tuple(p for p in second.parameters if p.role != "norm")
    moved = with_groups(
        setup,
        first,
        replace(second, options={**second.options, "weight_decay": 0.1}, parameters=norms),
        replace(second, index=2, options={**second.options, "lr": 1e-3}, parameters=head),
    )
    assert sorted(texts(setup, moved)) == [
        "`h.*.ln_1.weight` (12): weight decay 0 → 0.1",
        "`head.weight`: lr 1e-04 → 1e-03",
    ]


def test_new_and_lost_parameters() -> None:
    setup = decoder()
    other = decoder(head="adapter.weight")
    assert texts(setup, other) == [
        "`head.weight`: 1 parameter gone from AdamW (lr 1e-04, weight decay 0)",
        "`adapter.weight`: 1 new parameter in AdamW (lr 1e-04, weight decay 0)",
    ]


def test_a_parameter_that_leaves_the_optimizer() -> None:
    setup = decoder()
    first, second = setup.optimizers[0].groups
    without = with_groups(setup, first, replace(second, parameters=second.parameters[:-1]))
    (change,) = lrlint.diff(setup, without).changes
    assert (change.kind, change.text) == ("moved", "`head.weight`: optimizer AdamW → none")


def test_new_layers_that_are_treated_differently_are_changes() -> None:
    deeper = decoder(3)
    first, second = deeper.optimizers[0].groups
    last = tuple(p for p in first.parameters if p.name.startswith("h.2"))
    rest = tuple(p for p in first.parameters if p not in last)
    odd = with_groups(
        deeper, replace(first, parameters=rest), second,
        replace(first, index=2, options={**first.options, "weight_decay": 0.5}, parameters=last),
    )  # fmt: skip
    (change,) = lrlint.diff(decoder(2), odd).changes
    assert change.text == "`h.2.attn.weight`: 1 new parameter in AdamW (lr 3, weight decay 0.5)"


def test_a_ladder_of_rates_is_one_change() -> None:
    def ladder(base: float) -> Setup:
        setup = decoder(6)
        first, second = setup.optimizers[0].groups
        steps = [
            replace(first, index=k, options={**first.options, "lr": base * 0.5**k}, parameters=(p,))
            for k, p in enumerate(first.parameters)
        ]
        return with_groups(setup, *steps, replace(second, index=6))

    assert texts(ladder(1.0), ladder(2.0)) == [
        "`h.*.attn.weight` (6): lr 0.0312 to 1 (6 values) → 0.0625 to 2 (6 values)"
    ]


def test_another_optimizer_frozen_parameters_dtype_and_run() -> None:
    setup = decoder()
    lion = replace(setup.optimizers[0], class_name="Lion")
    assert texts(setup, replace(setup, optimizers=(lion,))) == ["all parameters: optimizer AdamW → Lion"]
    assert "all parameters: weight decay 0.1 → 0.2" in texts(single(setup), single(setup, weight_decay=0.2))
    training = replace(setup.training, total_steps=1000)
    assert texts(setup, replace(setup, training=training)) == ["total steps: none → 1000"]


def test_a_change_of_the_schedule_is_told_by_its_course() -> None:
    def scheduled(peak: float) -> Setup:
        setup = decoder()
        traces = [GroupSchedule(k, Trace((0, 10, 100), (0.0, peak, 0.0))) for k in (0, 1)]
        schedule = Schedule(0, "OneCycleLR", "torch", 0, 100, tuple(traces), horizon_from="scheduler")
        return replace(setup, schedules=(schedule,))

    assert texts(scheduled(1e-3), scheduled(2e-3)) == ["all parameters: lr 0 … 1e-03 at 10 … 0 → 0 … 2e-03 at 10 … 0"]
    assert texts(decoder(), scheduled(1e-3))[0] == "scheduler: none → OneCycleLR over 100 steps"


def test_two_optimizers_in_another_order() -> None:
    setup = decoder()
    first, second = setup.optimizers[0].groups

    def pair(order: tuple[int, int]) -> Setup:
        made = [
            Optimizer(0, "", "Muon", "x", "muon", (replace(first, optimizer=order[0], index=0),)),
            Optimizer(0, "", "AdamW", "x", "adam", (replace(second, optimizer=order[1], index=0),)),
        ]
        placed = sorted(zip(order, made, strict=True), key=lambda item: item[0])
        return replace(setup, optimizers=tuple(replace(o, index=k) for k, (_, o) in enumerate(placed)))

    assert lrlint.diff(pair((0, 1)), pair((1, 0))).same


@pytest.mark.parametrize("format_", ["text", "json", "markdown"])
def test_views(format_: str) -> None:
    found = lrlint.diff(decoder(), decoder(lr=1.0))
    out = views.render(format_, found, "a.json", "b|.json", Style(80))
    if format_ == "json":
        data = json.loads(out)
        assert (data["schema"], data["same"], data["before"]) == ("lrlint-diff/1", False, "a.json")
        assert data["changes"][0]["patterns"] == ["h.{0,1}.attn.weight"]
    elif format_ == "markdown":
        assert "- `h.*.attn.weight` (2): lr 3 → 1\n" in out
    else:
        assert out == "a.json → b|.json\n\n  ~ `h.*.attn.weight` (2): lr 3 → 1\n\n1 change\n"
