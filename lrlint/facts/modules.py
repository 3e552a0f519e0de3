"""Models, their modules, and what hangs on these beside registered parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from lrlint.facts.parameters import ModuleKind, Parameter
from lrlint.facts.span import Span

NormKind: TypeAlias = Literal["batch", "layer", "rms", "group", "instance", "other"]
UnregisteredKind: TypeAlias = Literal["module", "parameter", "tensor"]


@dataclass(frozen=True, slots=True)
class Model:
    """A root module. ``prefix`` leads its parameters' names ("" for a single model)."""

    name: str
    prefix: str
    class_name: str
    qualified: str
    library: str = ""  # transformers, lightning, peft, ... where known
    attributes: Mapping[str, Any] = field(default_factory=dict)  # e.g. {"peft": True, "model_type": "gpt2"}


@dataclass(frozen=True, slots=True, eq=False)
class Module:
    """A module of the tree in registration order; ``path`` is canonical, ``parent`` is None at a root."""

    index: int
    path: str
    class_name: str
    qualified: str
    kind: ModuleKind = "other"
    parent: str | None = None
    training: bool = True
    span: Span | None = None  # the class statement, where it lies in the user's project


@dataclass(frozen=True, slots=True, eq=False)
class NormLayer:
    """A normalisation layer. ``kind``: batch, layer, rms, group, instance or other.

    ``trains_statistics``: ``training`` as it is after ``model.train()`` (a module may override ``train``).
    """

    path: str
    class_name: str
    kind: NormKind
    weight: Parameter | None = None
    bias: Parameter | None = None
    features: int | None = None
    eps: float | None = None
    momentum: float | None = None
    tracks_statistics: bool = False
    training: bool = True
    trains_statistics: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Unregistered:
    """Something trainable that hangs on a module but is not registered with it.

    ``kind``: ``module`` (in a plain list, dict, ...), ``parameter``, or ``tensor`` (requires grad, not a Parameter;
    ``non_leaf`` when it is the result of an operation on one, ``derived`` when that operation leads back to a
    registered parameter: a stored activation). ``path`` is like ``encoder.blocks[0]``. ``parameters``
    holds a leaf tensor too.
    """

    path: str
    kind: UnregisteredKind
    class_name: str
    owner: str
    owner_class: str
    parameters: tuple[Parameter, ...] = ()
    non_leaf: bool = False
    derived: bool = False
    span: Span | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ExpectedTie:
    """Two names the model means to be one parameter. ``tied``: they are."""

    first: Parameter
    second: Parameter
    reason: str
    tied: bool
    certain: bool = True
