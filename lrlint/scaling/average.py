"""The same layers, seen with different random numbers, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lrlint.facts.scale import ScaledLayer

#: Layers in order, and (place among them, slope of its input) of each norm.
Slopes = tuple[Sequence[ScaledLayer], Sequence[tuple[int, float]]]
_AVERAGED = ("input", "signal", "sensitivity", "update", "change")


def averaged(builds: Sequence[Slopes]) -> tuple[list[ScaledLayer], list[tuple[int, float]]]:
    """The mean of every slope over the builds that have it; layers and norms are those of the first."""
    layers, stream = builds[0]
    same = [{layer.module: layer for layer in other} for other, _ in builds]
    means = []
    for layer in layers:
        others = [table[layer.module] for table in same if layer.module in table]
        values: dict[str, list[float]] = {
            name: [value for other in others if (value := getattr(other, name)) is not None] for name in _AVERAGED
        }
        mean: dict[str, Any] = {name: sum(v) / len(v) if v else None for name, v in values.items()}
        means.append(replace(layer, **mean))
    streams = [other for _, other in builds if len(other) == len(stream)]
    norms = [(place, sum(s[k][1] for s in streams) / len(streams)) for k, (place, _) in enumerate(stream)]
    return means, norms
