"""What the forward pass does with each parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ParameterUse:
    """How one parameter takes part in the observed pass.

    A field is None where it could not be established. ``order``: rank of the first use. ``depth_from_input`` and
    ``depth_from_output`` count parametrised layers. ``followed_by``/``preceded_by``: module path of the nearest
    normalisation or activation with no other parametrised layer between.
    """

    reaches_output: bool | None = None
    used: bool | None = None
    detached: bool | None = None
    guessed: bool = False
    role: str | None = None
    order: int | None = None
    depth_from_input: int | None = None
    depth_from_output: int | None = None
    followed_by: str | None = None
    preceded_by: str | None = None
    uses: tuple[str, ...] = ()  # module paths
    count: int = 0
    outputs: tuple[str, ...] = ()
    scale_invariant: bool | None = None
    bias_cancelled: bool | None = None


@dataclass(frozen=True, slots=True)
class NormUse:
    """A norm layer (or hand-written normalisation) as it ran. ``elements``: values per statistic in the pass."""

    path: str
    kind: str
    axes: tuple[int, ...] = ()
    uses_batch_statistics: bool = False
    updates_statistics: bool = False
    elements: int | None = None
    elements_per_sample: int | None = None


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """One observed pass. ``parameters`` maps canonical names, ``norms`` module paths."""

    method: str
    inputs: str
    complete: bool
    parameters: Mapping[str, ParameterUse] = field(default_factory=dict)
    norms: Mapping[str, NormUse] = field(default_factory=dict)
    operators: int = 0
