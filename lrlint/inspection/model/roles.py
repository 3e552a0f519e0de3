"""What a module is and what its parameters are for, told from types, names and shapes.

The classification of the rule catalogue's shared definitions: by the owner module's type first, by names only for what
has no type of its own (position tables, tokens, scales). The graph refines it where a forward pass could be observed.
"""

from __future__ import annotations

import re

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from lrlint.facts import ParameterUse
from lrlint.facts.parameters import ModuleKind, ParameterRole
from lrlint.inspection.model.class_cache import per_class

_TYPES: tuple[tuple[tuple[type, ...], ModuleKind], ...] = (
    ((_InstanceNorm,), "norm:instance"),  # before batch norm: torch's InstanceNorm shares its base class
    ((_BatchNorm,), "norm:batch"),
    ((nn.LayerNorm,), "norm:layer"),
    ((nn.GroupNorm,), "norm:group"),
    ((getattr(nn, "RMSNorm", nn.LayerNorm),), "norm:rms"),
    ((nn.Embedding, nn.EmbeddingBag), "embedding"),
    ((nn.Linear, nn.Bilinear), "linear"),
    ((_ConvNd,), "conv"),
    ((nn.RNNBase, nn.RNNCellBase), "rnn"),
    ((nn.MultiheadAttention,), "attention"),
    ((nn.PReLU,), "prelu"),
)
_NORM_TYPES = tuple(kind for types, name in _TYPES if name.startswith("norm") for kind in types)
# "Normal" is a distribution and "normalizing" a flow; "normalize" and "normalization" are norms.
_NORM_NAME = re.compile(r"norm(?!al(?!i[sz]))(?!ali[sz]ing)", re.IGNORECASE)
_NOT_NORM = re.compile("weightnorm|spectralnorm|prenorm|postnorm|parametriz|conv|mlp|block|attention", re.IGNORECASE)
_LINEAR_NAME = re.compile(r"linear|^conv1d$|dense$", re.IGNORECASE)  # transformers' Conv1D is a transposed Linear
_FLAVOURS: tuple[tuple[str, ModuleKind], ...] = (
    *(("rms", "norm:rms"), ("batch", "norm:batch"), ("instance", "norm:instance")),
    *(("group", "norm:group"), ("layer", "norm:layer")),
)

_POSITION = re.compile(
    r"(^|[._])(abs_)?pos(ition(al)?)?_?(s|emb\w*|enc\w*|table|ids)?($|\.)|(^|\.)(wpe|embed_positions)($|\.)",
    re.IGNORECASE,
)
_RELATIVE = re.compile(r"rel(ative)?_?(pos|attention_bias|bias|height|width|embed)|attention_biases", re.IGNORECASE)
_TOKEN = re.compile(
    r"(cls|class|mask|dist(illation)?|reg(ister)?|det(ection)?|prompt|query|storage|latent)_?(token|embedding|embed)s?$"
    r"|masked_spec_embed|^latents$|^prompt\w*$",
    re.IGNORECASE,
)
_SCALE = re.compile(
    r"layer_?scale|^gamma(_?\d)?$|^lambda_?\d$|skip_scale|res(idual)?_scale|^ls\d?$|^scales?$", re.IGNORECASE
)
_SCALAR = re.compile(
    r"logit_(scale|bias)|temp(erature)?$|log_(temp|sigma|var|alpha)|logvar|^alpha$|^eps$", re.IGNORECASE
)
_SSM_LEAVES = frozenset(
    (
        "A_log D A dt_bias log_dt inv_dt Lambda log_lambda nu_log theta_log time_decay time_first Lambda_re Lambda_im"
    ).split()
)
_SSM_OWNER = re.compile(r"mamba|ssm|s4|s5|s6|rwkv|lru|hgrn|gated_?delta|linear_?rec|griffin|rglru", re.IGNORECASE)


@per_class
def module_kind(kind: type) -> ModuleKind:
    """``norm:<flavour>``, linear, conv, rnn, attention, embedding, prelu or other, for a module class."""
    for types, known in _TYPES:
        if issubclass(kind, types):
            return known
    name = kind.__name__
    if _NORM_NAME.search(name) and not _NOT_NORM.search(name):
        return next((flavour for part, flavour in _FLAVOURS if part in name.lower()), "norm:other")
    return "linear" if _LINEAR_NAME.search(name) else "other"


def role(path: str, leaf: str, owner: type, shape: tuple[int, ...] | None) -> ParameterRole:
    """The role of a parameter; ``path`` is its canonical dotted name, ``shape`` None for a lazy one."""
    kind = module_kind(owner)
    ndim = len(shape) if shape is not None else None
    if (lora := _lora(path)) is not None:
        return lora
    if leaf in ("weight_g", "original0") or leaf == "magnitude":
        return "wn_g"
    if leaf in _SSM_LEAVES and _SSM_OWNER.search(owner.__name__):
        return "ssm"
    if _is_bias(leaf, ndim, kind):
        return "bias"
    if kind.startswith("norm") and (_is_vector(shape) or issubclass(owner, _NORM_TYPES)):
        return "norm"
    if kind == "prelu":
        return "prelu"
    if kind == "embedding" or (ndim is not None and ndim >= 2 and kind == "other"):
        return _table(path, leaf, kind)
    if kind not in ("linear", "conv", "rnn"):
        if _SCALAR.search(leaf) or shape in ((), (1,)):
            return "scalar"
        if _SCALE.search(leaf):
            return "scale"
        if _TOKEN.search(leaf):
            return "token"
    return "matrix" if ndim is None or ndim >= 2 else "vector"


#: Roles about which the graph has the last word.
UNDECIDED: frozenset[ParameterRole] = frozenset({"vector", "other", "scale"})
#: Roles in the graph that decide where type and name could not.
_FROM_GRAPH: dict[str | None, ParameterRole] = {
    "norm_scale": "norm",
    "norm_shift": "bias",
    "bias": "bias",
    "layer_scale": "scale",
    "temperature": "scalar",
}


def refined(told: ParameterRole, use: ParameterUse | None) -> ParameterRole:
    """The role by what the parameter computes: so hand-written norms, scales and gates are classified."""
    return _FROM_GRAPH.get(use.role, told) if use is not None and told in UNDECIDED else told


def _lora(path: str) -> ParameterRole | None:
    if "lora_A" in path or "lora_embedding_A" in path:
        return "lora_A"
    return "lora_B" if "lora_B" in path or "lora_embedding_B" in path else None


def _is_bias(leaf: str, ndim: int | None, kind: str) -> bool:
    if (leaf in ("bias_k", "bias_v") and kind == "attention") or (leaf == "beta" and kind.startswith("norm")):
        return True
    return "bias" in leaf and (ndim is None or ndim <= 1) and not _SCALAR.search(leaf)


def _is_vector(shape: tuple[int, ...] | None) -> bool:
    """Whether at most one dimension is larger than 1: a class that is only called a norm may hold matrices as well
    (Transformer Engine's LayerNormLinear, cells of a layer-normalised LSTM)."""
    return shape is None or sum(size > 1 for size in shape) <= 1


def _table(path: str, leaf: str, kind: str) -> ParameterRole:
    """Embedding tables and free-standing parameters of two and more dimensions."""
    if _RELATIVE.search(path):
        return "relative_position"
    own = path if kind == "embedding" else leaf
    if _POSITION.search(own):
        return "position"
    if _TOKEN.search(leaf):
        return "token"
    if _SCALE.search(leaf):
        return "scale"
    return "embedding" if kind == "embedding" else "matrix"
