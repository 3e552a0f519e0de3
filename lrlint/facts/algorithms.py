"""What an optimizer means by ``lr``, ``weight_decay``, ``eps`` and ``momentum``: one table of families, and which family a
parameter group belongs to where one class runs several algorithms.

A family is what rules compare by: two rates have one unit only within a family. What the columns say was read in the
sources cited and measured on every class of the packages that install (``python -m benchmarks.optimizers``): the growth
of a step under a hundredfold gradient (1: normalised), the share of lr · decay · w that decay takes, and whether a large
eps stops the step.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One row: classes whose name the pattern finds.

    ``rate``: ``element`` (each element moves by about lr, whatever the gradient), ``sign`` (by lr exactly), ``gradient``
    (lr × gradient), ``spectral`` (an orthogonal matrix × lr), ``tensor`` (a share lr of the tensor's norm),
    ``relative`` (lr may be chosen by the optimizer), ``multiplier`` (of a rate that the optimizer estimates; 1 is usual).
    ``decoupled``: decay multiplies weights by 1 − lr · decay unless an option of the class says otherwise. ``eps``:
    ``root`` (added to √v), ``square`` (added to g², or inside the root), ``norm`` (guards a division by a norm), "" (none).
    ``momentum``: ``betas`` (averages of g and g²), ``heavy-ball`` (a sum: the step grows by 1 / (1 − momentum)),
    ``average`` (of g alone), "" (none).
    """

    pattern: str
    family: str
    rate: str
    decoupled: bool
    eps: str
    momentum: str
    source: str


_PYTORCH_OPTIMIZER = "github.com/kozistr/pytorch_optimizer"
_HEAVYBALL = "github.com/HomebrewML/HeavyBall"

# fmt: off
#: The first row that matches along the method resolution order decides, on the class's name.
ALGORITHMS: tuple[Algorithm, ...] = (
    Algorithm(
        r"prodigy|dadapt|d_adapt", "lr-free", "multiplier", True, "root", "betas", "arXiv 2306.06101, 2301.07733"
    ),
    Algorithm(r"^(l?dog|dowg|mechanic|adamg)$", "lr-free", "multiplier", False, "norm", "", "arXiv 2302.12022 (DoG)"),
    Algorithm(
        r"^muonadamw$|muon|^dion\d?$|musgd",
        "muon",
        "spectral",
        True,
        "norm",
        "average",
        "github.com/KellerJordan/Muon; arXiv 2504.05295 (Dion); 2502.16982",
    ),
    Algorithm(r"lion|signum|signsgd|tiger", "sign", "sign", True, "", "average", "arXiv 2302.06675"),
    Algorithm(
        r"adafactor|came$|adalite|adalomo",
        "adafactor",
        "relative",
        True,
        "square",
        "betas",
        "arXiv 1804.04235; 2307.02047 (CAME: eps is (1e-30, 1e-16))",
    ),
    Algorithm(r"sparseadam", "sparse-adam", "element", False, "root", "betas", "torch.optim.SparseAdam"),
    Algorithm(r"adadelta", "adadelta", "relative", False, "square", "", "arXiv 1212.5701"),
    Algorithm(r"adagrad|^sm3$", "adagrad", "element", False, "root", "", "jmlr.org/papers/v12/duchi11a.html"),
    Algorithm(r"rmsprop", "rmsprop", "element", False, "root", "heavy-ball", "torch.optim.RMSprop"),
    Algorithm(r"lars", "lars", "tensor", False, "norm", "heavy-ball", "arXiv 1708.03888"),
    Algorithm(r"lamb$|lamb(8|32)bit$", "lamb", "tensor", True, "root", "betas", "arXiv 1904.00962"),
    Algorithm(r"lbfgs", "lbfgs", "relative", False, "", "", "torch.optim.LBFGS"),
    # Preconditioners and spheres whose steps have units of their own; without this row their names read as SGD or AdamW.
    Algorithm(
        r"psgd|^qsgd$|kron$|lather|shampoo|scion|sphere|hyperball|unscaledadamw|sudsadamw|apollodqn|madgrad|padam$",
        "other",
        "relative",
        True,
        "root",
        "betas",
        f"{_HEAVYBALL}; {_PYTORCH_OPTIMIZER}",
    ),
    Algorithm(
        r"adamw|decoupledadam|adamp$|adan$|nadamw|soap|sophia|adamc$|galore|apollo|fira$|conda$",
        "adam",
        "element",
        True,
        "root",
        "betas",
        "arXiv 1711.05101 (AdamW); 2403.03507 (GaLore); 2412.05270 (APOLLO); 2409.11321 (SOAP)",
    ),
    Algorithm(
        r"laprop|stablespam|^spam$|^mars$|^ano$|^grams$|adatam|adanorm|adagc|adapnm|adamod",
        "adam",
        "element",
        True,
        "root",
        "betas",
        f"{_PYTORCH_OPTIMIZER}; arXiv 2002.04839 (LaProp); 2411.10438 (MARS)",
    ),
    Algorithm(
        r"adopt|ademamix|exadam|^aida$",
        "adam",
        "element",
        False,
        "root",
        "betas",
        "arXiv 2411.02853 (ADOPT); 2409.03137 (AdEMAMix)",
    ),
    Algorithm(r"adam|adabelief|yogi|ranger|novograd", "adam", "element", False, "root", "betas", "arXiv 1412.6980"),
    Algorithm(r"sgdw", "sgd", "gradient", True, "", "heavy-ball", "arXiv 1711.05101"),
    Algorithm(r"sgd|nesterov|^pid$|^qhm$|^lomo$", "sgd", "gradient", False, "", "heavy-ball", "torch.optim.SGD"),
)
# fmt: on

_UNKNOWN = Algorithm("", "other", "", False, "", "", "")

#: Families that divide by √v + eps: a large eps turns their step into a multiple of the gradient. Not RMSprop, whose
#: TensorFlow recipes run at eps 1e-3 to 1 on purpose (MnasNet, Inception).
EPS_AT_THE_ROOT = frozenset(("adam", "lamb", "lr-free", "adagrad", "sparse-adam"))

#: Group keys whose text names the algorithm: Dion's ``algorithm``, nanochat's ``kind``, and other spellings.
_NAMING = re.compile(
    r"^(kind|algo(rithm)?|(update_?)?rule|optim(izer)?(_?(type|name|kind|class))?|opt(_?(type|name))?|method|solver|type)$"
)
#: Group keys that switch an algorithm on or off: ``use_muon``, ``is_adamw``, ``apply_muon``.
_SWITCH = re.compile(r"^(?:use|is|apply|with|enable)_?(\w+)$|^(muon|adamw?|dion|lion)$")
#: timm's Muon marks the groups that its AdamW takes.
_FALLBACK = frozenset(("use_fallback", "fallback", "is_fallback"))
_OF_ADAM = frozenset(("betas", "eps", "epsilon", "beta1", "beta2"))
_OF_MUON = frozenset(("ns_steps", "momentum", "mu", "nesterov", "backend_steps", "rank_fraction"))


def algorithm(name: str) -> Algorithm:
    """The row for a class's or algorithm's name; a row of the family ``other`` where none matches."""
    return next((row for row in ALGORITHMS if re.search(row.pattern, name, re.IGNORECASE)), _UNKNOWN)


def family_of_group(
    options: Mapping[str, Any], class_name: str, family: str, siblings: Iterable[Mapping[str, Any]] = ()
) -> str:
    """The family of one group of an optimizer of the given class and family.

    Read are a key that names the algorithm, one that switches it, and, where siblings have what Muon needs and this
    group has what Adam needs instead, the options present.
    """
    for key, value in options.items():
        if isinstance(value, str) and _NAMING.match(key) and algorithm(value).family != "other":
            return algorithm(value).family
    for key, value in options.items():
        switch = _SWITCH.match(key)
        named = algorithm(switch[1] or switch[2]).family if switch and isinstance(value, bool) else "other"
        if value is True and key in _FALLBACK:
            return beside(class_name, options)
        if named != "other":
            if value:
                return named
            if named == family or named == "muon":
                return beside(class_name, options)
    if family == "muon" and _of_adam(options) and any(_OF_MUON & other.keys() for other in siblings):
        return "adam"
    return family


def beside(class_name: str, options: Mapping[str, Any]) -> str:
    """The family that takes what Muon does not: said by the class's name (MuonWithAuxAdam, MuSGD), else by the options."""
    rest = algorithm(re.sub(r"muon|^mu(?=[A-Z])|dion", "", class_name, flags=re.IGNORECASE) or "-").family
    if rest not in ("other", "muon"):
        return rest
    plain = "momentum" in options and not _OF_ADAM & options.keys() and not any("adam" in key for key in options)
    return "sgd" if plain else "adam"


def _of_adam(options: Mapping[str, Any]) -> bool:
    return bool(_OF_ADAM & options.keys()) and not _OF_MUON & options.keys()
