"""A layer's rate, initialisation or factor depends on the width in a way that keeps rates from carrying over.

A setup that transfers (µP) lets a rate be found on a narrow model and used on a wide one. For that each layer's update has to
move what comes out of it by the same amount at every width, what comes out at the start must not depend on the width, and
the readout's output must not grow beyond width^-1/2. `lrlint scale` builds the setup at several widths, takes a few steps
at each and measures this layer by layer; the exponents of the width are judged, and the layer is named where the deviation
begins.

What to do: correct the exponent of that layer. For Adam and AdamW, with initial standard deviations of 1/√fan-in (readout:
1/fan-in, or zero): rates ∝ 1 for input layers, biases and norms, ∝ 1/width for hidden layers and the readout. For SGD:
∝ width, 1 and 1/width. For Muon: whatever its scaling of the orthogonal update leaves to do.

Exempt: a factor in front of or behind a layer that another one undoes; readouts that begin smaller, or at zero; a setup that
does not declare that it transfers (`--transfers`, `transfers=True`, mup's shapes, rates that depend on the width).

The limit, 0.3, is set well below the smallest wrong exponent in use (1/2). Chance adds 0.3 to 0.4 to a sound one in single
builds now and then, so that two builds are averaged: `python -m benchmarks.scale`.

Sources: https://arxiv.org/abs/2203.03466 (table 3, appendix D), https://arxiv.org/abs/2011.14522,
https://arxiv.org/abs/2310.17813 (the spectral form, for any optimizer), https://github.com/microsoft/mup (coordinate check)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule

_SAYS = {
    "initialisation": "what comes out of it at the start is off by width^{off:+.2f}",
    "rate": "its own update moves what comes out of it by width^{off:+.2f}, and should by the same at every width",
    "multiplier": "what comes out of it is off by width^{off:+.2f} at the start, and its update with it",
}
_HELP = {
    "initialisation": "correct how its initial standard deviation depends on the width",
    "rate": "correct how its rate (or the factor of its update) depends on the width",
    "multiplier": "correct the factor on its output, or its initialisation and rate together",
}


@rule("LR218", severity="warning", confidence="medium", needs=("scale",), default=False)
def layer_breaks_transfer(setup: Setup) -> Iterator[Finding]:
    facts = setup.scale
    if not facts.transfers:
        return
    widths = ", ".join(f"{width:g}" for width in facts.widths)
    for layer in facts.faults:
        weight = setup.by_name.get(layer.weight)
        yield Finding(
            setup if weight is None else weight,
            f"`{layer.module or layer.weight}` breaks transfer over {facts.vary} = {widths}: "
            f"{_SAYS[layer.fault].format(off=layer.off)}",
            data={"fault": layer.fault, "off": layer.off, "out": layer.signal, "own": layer.update},
            help=_HELP[layer.fault],
            key="lr" if layer.fault == "rate" else None,
        )
