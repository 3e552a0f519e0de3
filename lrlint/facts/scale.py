"""What building a setup at several widths showed: frozen, torch-free. All slopes are exponents of the width.

A slope is that of log(size) against log(width), by least squares over the widths: 0 stays, -1 falls like 1/width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

#: By what grows with the width. ``input``: the layer's outputs alone; ``hidden``: inputs and outputs; ``output``: its inputs
#: alone; ``vector``: a parameter of one dimension that grows (biases, norms); ``fixed``: nothing.
LayerKind: TypeAlias = Literal["input", "hidden", "output", "vector", "fixed"]
#: What is wrong with a layer: the size of its output at the start, of its own change of it, or both by the same factor.
ScaleFault: TypeAlias = Literal["", "initialisation", "rate", "multiplier"]


@dataclass(frozen=True, slots=True)
class ScaledParameter:
    """One parameter at all widths; what stays the same at each is one value of each tuple per width.

    ``std`` is the root mean square of its sampled values at the start. ``rate`` is the peak rate of its group, ``decay``
    its weight decay times that rate where it is decoupled, else the decay. A slope is None where a size is 0 or unknown.
    """

    name: str
    kind: LayerKind
    shapes: tuple[tuple[int, ...], ...]
    std: tuple[float | None, ...]
    rate: tuple[float | None, ...]
    std_slope: float | None = None
    rate_slope: float | None = None
    decay_slope: float | None = None


@dataclass(frozen=True, slots=True)
class ScaledLayer:
    """One module that owns a matrix (or a table, a kernel), as the data met it; layers stand in the order they run in.

    Slopes of root mean squares: ``input`` and ``signal`` of what goes in and comes out at the start, ``sensitivity`` of the
    loss's gradient at what comes out, ``update`` of how far its own new weights move its output on the first inputs,
    ``change`` of how far its output has moved in the running model (the coordinate check). ``changes`` are those sizes,
    one per width. ``weight`` is the name of its matrix. ``scalar_rate``: its step is a multiple of the gradient (SGD).
    ``fault``: what breaks transfer here, and ``off`` the exponent by which it does.
    """

    module: str
    weight: str
    kind: LayerKind
    input: float | None = None
    signal: float | None = None
    sensitivity: float | None = None
    update: float | None = None
    change: float | None = None
    changes: tuple[float | None, ...] = ()
    scalar_rate: bool = False
    fault: ScaleFault = ""
    off: float | None = None


@dataclass(frozen=True, slots=True)
class ScaleFacts:
    """A target at several widths. ``vary`` is the argument of its factory, ``widths`` its values in ascending order.

    ``transfers`` says by what the setup declares that its rates carry over to other widths; "" where it does not: layers
    are compared with the maximal update parametrisation all the same, and nothing follows from it.
    """

    vary: str
    widths: tuple[float, ...]
    steps: int
    seed: int
    transfers: str = ""
    layers: tuple[ScaledLayer, ...] = ()
    parameters: tuple[ScaledParameter, ...] = ()
    losses: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def faults(self) -> tuple[ScaledLayer, ...]:
        """The layers that break transfer."""
        return tuple(layer for layer in self.layers if layer.fault)
