"""Parameters: what they are called, what they are for, and what their values look like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Origin: TypeAlias = Literal["model", "extra", "unregistered", "optimizer", "discarded"]
TensorKind: TypeAlias = Literal["plain", "lazy", "meta", "fake", "quantized", "sparse", "dtensor", "subclass"]
Gradient: TypeAlias = Literal["present", "zero", "nonzero"]
ParameterRole: TypeAlias = Literal[
    "norm",
    "embedding",
    "prelu",
    "bias",
    "position",
    "token",
    "relative_position",
    "ssm",
    "lora_A",
    "lora_B",
    "wn_g",
    "scale",
    "scalar",
    "matrix",
    "vector",
    "other",
]

ModuleKind: TypeAlias = Literal[
    "linear",
    "conv",
    "rnn",
    "attention",
    "embedding",
    "prelu",
    "norm:layer",
    "norm:batch",
    "norm:rms",
    "norm:group",
    "norm:instance",
    "norm:other",
    "other",
]


@dataclass(frozen=True, slots=True)
class Values:
    """Statistics of a parameter's values, from at most `sampled` evenly spaced elements.

    ``exponents`` maps the binary exponent e of |w| in [2**(e-1), 2**e) to the share of sampled elements that have it;
    exact zeros are not in it (their share is ``zeros``). From it the share of elements that a step of a given size
    can move in bfloat16 follows without the tensor.
    """

    sampled: int
    rms: float
    absmax: float
    zeros: float
    finite: bool = True
    exponents: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """One parameter object (identity, not name): tied names share one record.

    ``name`` is canonical: wrapper prefixes (``module.``, ``_orig_mod.``, ...) are stripped, and the model's own name
    leads when a target has several. ``names`` are all spellings in the module tree, first the one torch lists.
    ``origin`` tells where it was met first: ``model``; ``extra`` (criterion and other modules beside the model);
    ``unregistered`` (reachable from the model, but not registered); ``optimizer`` (only the optimizer holds it);
    ``discarded`` (only one of the discarded optimizers does).
    ``kind`` is ``plain``, ``lazy``, ``meta``, ``fake``, ``quantized``, ``sparse``, ``dtensor`` or ``subclass``.
    ``role`` is one of norm, embedding, prelu, bias, position, token, relative_position, ssm, lora_A, lora_B, wn_g,
    scale, scalar, matrix (dense, convolution, recurrent weights), vector (other 1-D), other.
    ``module_kind`` is the owner's: linear, conv, rnn, attention, embedding, norm:<layer|batch|rms|group|instance>,
    prelu or other.
    ``free`` is a tensor that is no `nn.Parameter`: no module ever held it.
    """

    index: int
    name: str
    names: tuple[str, ...]
    origin: Origin
    role: ParameterRole
    shape: tuple[int, ...] | None
    dtype: str
    device: str
    requires_grad: bool = True
    kind: TensorKind = "plain"
    leaf: str = ""
    module: str = ""
    module_class: str = ""
    module_kind: ModuleKind = "other"
    is_head: bool = False  # the output head, where the model or its structure tells
    gradient: Gradient | None = None  # None: .grad is None; whether it is zero is told for frozen parameters only
    values: Values | None = None
    no_decay: str | None = None  # how the model's author marked it as exempt from weight decay
    wanted: Mapping[str, Any] = field(default_factory=dict)  # options its author attached (S4's p._optim)
    sparse_gradient: bool = False
    free: bool = False

    @property
    def numel(self) -> int:
        """Number of elements; 0 for a lazy parameter."""
        count = 0 if self.shape is None else 1
        for size in self.shape or ():
            count *= size
        return count

    @property
    def ndim(self) -> int | None:
        return None if self.shape is None else len(self.shape)
