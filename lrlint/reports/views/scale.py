"""A comparison of widths for a terminal: a table of slopes, and the course of each layer's change as a picture."""

from __future__ import annotations

from lrlint.facts.scale import ScaledLayer, ScaledParameter, ScaleFacts
from lrlint.reports.style import Style, clean, wrap
from lrlint.reports.table import table

#: Columns of the picture on either side of zero; it spans slopes of -1 to 1.
_HALF = 12
_LAYER = ("layer", "kind", "std", "rate", "out", "grad", "own", "change", "off")
_OPTIONAL = ("grad", "change", "std")


def render(facts: ScaleFacts, style: Style, *, ascii: bool = False) -> str:
    """Table, picture and what follows, each line at most as wide as the terminal."""
    widths = ", ".join(f"{width:g}" for width in facts.widths)
    lines = [style.paint(clean(f"{facts.vary} = {widths}: exponents of the width, {facts.steps} steps"), "bold"), ""]
    weights = {parameter.name: parameter for parameter in facts.parameters}
    rows = [_row(layer, weights.get(layer.weight)) for layer in facts.layers]
    if rows:
        lines += table(_LAYER, rows, style.width, name="layer", right=_LAYER[2:8], optional=_OPTIONAL)
        lines += ["", *_picture(facts, style, ascii)]
    lines += ["", wrap(_KEY, style.width)]
    if uncalled := _uncalled(facts):
        lines += ["", *table(("parameter", "kind", "std", "rate", "decay"), uncalled, style.width, name="parameter",
                             right=("std", "rate", "decay"))]  # fmt: skip
    lines += ["", wrap(_closing(facts), style.width)]
    lines += [wrap(note, style.width) for note in facts.notes]
    return "\n".join(lines) + "\n"


_KEY = (
    "std: of the weights at the start. rate: of their group. out: what comes out at the start (asked: 0; readout: -0.5 or "
    "less). grad: the loss's gradient there (-1; readout: 0). own: how far the layer's new weights alone move what comes "
    "out (0). change: how far it moves in the running model (0)."
)


def _row(layer: ScaledLayer, weight: ScaledParameter | None) -> list[str]:
    known = weight is not None
    return [
        clean(layer.module or layer.weight),
        "readout" if layer.kind == "output" else layer.kind,
        _slope(weight.std_slope if known and weight is not None else None),
        _slope(weight.rate_slope if known and weight is not None else None),
        *(_slope(value) for value in (layer.signal, layer.sensitivity, layer.update, layer.change)),
        f"{layer.fault} {layer.off:+.2f}" if layer.fault and layer.off is not None else "",
    ]


def _slope(value: float | None) -> str:
    return "-" if value is None else f"{value + 0.0:.2f}"


def _picture(facts: ScaleFacts, style: Style, ascii: bool) -> list[str]:
    """How each layer's change depends on the width, as bars from zero: level ones transfer."""
    bar, zero = ("#", "|") if ascii else ("█", "│")
    shown = [(clean(layer.module or layer.weight), layer.change, layer.fault) for layer in facts.layers]
    room = min(max(len(name) for name, *_ in shown), style.width - 2 * _HALF - 12)
    lines = [f"{'change':{room}}  {'-1':<{_HALF}}0{'1':>{_HALF}}"]
    for name, value, fault in shown:
        cells = min(_HALF, round(abs(value or 0.0) * _HALF))
        left = bar * cells if (value or 0.0) < 0 else ""
        right = bar * cells if (value or 0.0) > 0 else ""
        drawn = f"{left:>{_HALF}}{zero}{right:<{_HALF}}"
        text = name if len(name) <= room else "…" + name[len(name) - room + 1 :]
        lines.append(f"{text:{room}}  {style.paint(drawn, 'red' if fault else 'green')}  {_slope(value):>5}")
    return lines


def _uncalled(facts: ScaleFacts) -> list[list[str]]:
    """Parameters that grow and belong to no layer above: biases, norms, free tables."""
    called = {layer.weight for layer in facts.layers}
    return [
        [clean(p.name), p.kind, _slope(p.std_slope), _slope(p.rate_slope), _slope(p.decay_slope)]
        for p in facts.parameters
        if p.name not in called and p.kind != "fixed"
    ]


def _closing(facts: ScaleFacts) -> str:
    off = len(facts.faults)
    layers = "1 layer is" if off == 1 else f"{off or 'no'} layers are"
    if facts.transfers:
        return f"{layers} off. The setup transfers: {facts.transfers}."
    return (
        f"{layers} off what rates that carry over to other widths need (the maximal update parametrisation). The setup does "
        "not declare that it transfers (--transfers), so this is no finding."
    )
