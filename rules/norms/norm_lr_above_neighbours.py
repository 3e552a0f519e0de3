"""The scale of a batch norm trains at a far higher rate than the layer it normalises.

The norm makes the layer's own size irrelevant, so that its scale alone sets the size of the features. At many times the
layer's rate the features' size changes faster than the layer can follow.

What to do: give the norm the rate of its layer; a multiplier meant for biases may have caught it.

Compared is the peak rate of a batch norm's scale with that of the weight it normalises: by the observed order of
execution, else the layer before it in the same module. *Info* above `info`, *warning* above `warning`;
above 1000 see `risky-lr-ratio`.

Sources: https://arxiv.org/abs/1502.03167 (batch normalisation), https://github.com/KellerJordan/airbench (a factor of 64
on biases of batch norms, with frozen scales, on purpose)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import exceeds, peak
from lrlint.text.names import describe
from lrlint.text.wording import count, rate

_LAYERS = ("conv", "linear")
_SAID_ELSEWHERE = 1e3  # `risky-lr-ratio` reports such rates, whoever has them


@rule("LR508", severity="warning", confidence="medium", needs=("optimizer",))
def norm_lr_above_neighbours(setup: Setup, *, info: float = 10.0, warning: float = 100.0) -> Iterator[Finding]:
    layers = _layers(setup)
    found = {}
    for norm in setup.norms:
        layer = layers.get(norm.path)
        if norm.kind != "batch" or norm.weight is None or layer is None:
            continue
        fast, slow = _rate(setup, norm.weight), _rate(setup, layer)
        if fast and slow and exceeds(fast / slow, info) and not exceeds(fast / slow, _SAID_ELSEWHERE):
            found.setdefault((fast, slow), []).append(norm.weight)
    for (fast, slow), scales in found.items():
        yield Finding(
            scales,
            f"{count(len(scales), 'batch norm scale')} at {rate(fast)}, {fast / slow:.3g}× the rate of the layers they "
            f"normalise ({rate(slow)}): {describe(scale.name for scale in scales)}",
            data={"lr": fast, "layer": slow, "ratio": fast / slow},
            help="give norms the rate of their layers",
            key="lr",
            severity="" if exceeds(fast / slow, warning) else "info",
        )


def _rate(setup, parameter):
    groups = setup.groups_of(parameter)
    return peak(groups[0]) if groups and parameter.requires_grad and groups[0].lr is not None else None


def _layers(setup):
    """Path of a batch norm → the weight it normalises."""
    found, last = {}, {}
    if setup.graph is not None:
        for parameter in setup.parameters:
            use = setup.graph.parameters.get(parameter.name)
            if use is not None and use.followed_by and parameter.leaf == "weight" and parameter.module_kind in _LAYERS:
                found.setdefault(use.followed_by, parameter)
        return found
    weights = {parameter.module: parameter for parameter in setup.parameters if parameter.leaf == "weight"}
    for module in setup.modules:  # in order of registration, within one parent
        if module.kind in _LAYERS and module.path in weights:
            last[module.parent] = weights[module.path]
        elif module.kind == "norm:batch" and module.parent in last:
            found[module.path] = last[module.parent]
    return found
