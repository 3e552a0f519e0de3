"""One optimizer per parameter, each stepped inside the backward pass: shown as the one optimizer that they are.

Source: https://docs.pytorch.org/tutorials/intermediate/optimizer_step_in_backward_tutorial.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: So many optimizers of one class with a tensor each are no coincidence.
FEWEST = 4


def merged(optimizers: Mapping[str, Any]) -> Any:
    """An optimizer of the same class with the groups and the state of all, alike ones merged; None for other optimizers.

    It is a view for inspection: it shares tensors and state with the real ones, which step on their own.
    """
    parts = list(optimizers.values())
    if len(parts) < FEWEST or len({type(part) for part in parts}) > 1 or not all(map(_single, parts)):
        return None
    view = object.__new__(type(parts[0]))
    vars(view).update(vars(parts[0]))
    view.param_groups = _merged_groups([part.param_groups[0] for part in parts])
    view.per_parameter = parts
    view.state = type(parts[0].state)(parts[0].state.default_factory)
    for part in parts:
        view.state.update(part.state)
    return view


def _single(optimizer: Any) -> bool:
    groups = optimizer.param_groups
    return len(groups) == 1 and len(groups[0]["params"]) == 1


def _merged_groups(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    by_options: dict[str, dict[str, Any]] = {}
    for group in groups:
        options = {key: value for key, value in group.items() if key != "params"}
        known = by_options.setdefault(
            repr(sorted(options.items(), key=lambda item: item[0])), {**options, "params": []}
        )
        known["params"] = [*known["params"], *group["params"]]
    return list(by_options.values())
