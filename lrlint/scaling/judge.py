"""Which layer breaks transfer: what the maximal update parametrisation asks, and who is the first not to keep to it.

Asked of every layer, whatever the optimizer (Yang & Hu 2020, arXiv 2011.14522; Yang et al. 2022, "Tensor Programs V",
arXiv 2203.03466, table 3 and appendix D; for optimizers other than SGD and Adam, Muon among them, the spectral form of the
same condition, Yang, Simon & Bernstein 2023, arXiv 2310.17813):

* what comes out of input and hidden layers at the start does not depend on the width, the readout's output does not grow
  beyond width^-1/2 (the size of a random readout whose updates are right; a readout of zeros is right as well),
* each layer's own new weights move what comes out of it by the same amount at every width,
* so the gradient at what comes out of input and hidden layers falls like 1/width.

A factor in front of or behind a layer changes two of these sizes in opposite ways, and nothing for the training: such
pairs are no fault.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lrlint.facts.scale import ScaledLayer, ScaleFault

#: A slope that is this far from what is asked is a fault. Wrong parametrisations are wrong by 1/2 or more; in
#: single builds random numbers add 0.3 to 0.4 now and then, so that two are averaged
#: (`python -m benchmarks.scale` measures both; neither half of its cases is blind).
LIMIT = 0.3
#: What is asked of each kind of layer.
SIGNAL = {"input": 0.0, "hidden": 0.0, "output": -0.5}
SENSITIVITY = {"input": -1.0, "hidden": -1.0, "output": 0.0}
UPDATE = 0.0
#: Queries and keys: the gradient at them also falls with the scale of the attention scores, and with how little they say
#: at the start.
_SCORES = re.compile(r"(^|\.)(w?q|w?k|quer(y|ies)|keys?|q_?proj|k_?proj|to_?q|to_?k|w_?q|w_?k)(_proj|_lin)?$")


@dataclass(frozen=True)
class _Fault:
    kind: ScaleFault
    off: float


def judged(layers: Sequence[ScaledLayer], stream: Sequence[tuple[int, float]] = ()) -> tuple[ScaledLayer, ...]:
    """The layers, each with its fault, in the order in which they run.

    ``stream``: (position among the layers, slope of its input) of each norm.
    """
    faults: dict[int, _Fault] = {}
    for k, layer in enumerate(layers):
        if layer.kind == "output":
            found = _readout(layer, _arriving(layer, layers[:k], bool(faults)))
        elif layer.kind in ("input", "hidden"):
            found = _inner(layers, k, faults, stream)
        else:
            continue
        if found is not None:
            faults[k] = found
    faults = _own(layers, faults) if faults else _behind(layers)
    return tuple(
        replace(layer, fault=faults[k].kind, off=faults[k].off) if k in faults else layer
        for k, layer in enumerate(layers)
    )


def _own(layers: Sequence[ScaledLayer], faults: dict[int, _Fault]) -> dict[int, _Fault]:
    """Without what a larger fault elsewhere explains: a step that is a multiple of the gradient feels every one of them."""
    largest = max(abs(fault.off) for fault in faults.values())
    return {
        k: fault
        for k, fault in faults.items()
        if not (layers[k].scalar_rate and fault.kind == "rate" and 2 * abs(fault.off) < largest)
    }


def _inner(
    layers: Sequence[ScaledLayer], k: int, faults: dict[int, _Fault], stream: Sequence[tuple[int, float]]
) -> _Fault | None:
    """An input or hidden layer's fault; one in front of it is entered into ``faults`` for the layer before."""
    layer = layers[k]
    came, signal = _inherited(layer), layer.signal
    tail = 0.0 if layer.sensitivity is None else layer.sensitivity - SENSITIVITY[layer.kind]
    usual = 0.0  # what comes out by convention: a factor behind the layer undoes it
    fault: _Fault | None = None
    if signal is not None and abs(came) <= LIMIT:
        signal -= came  # chance, handed down
    if signal is not None and abs(signal) > LIMIT:
        if abs(came) > LIMIT and abs(signal - came) <= LIMIT:
            if not faults and k:  # a factor between the two
                faults[k - 1] = _Fault("multiplier", came)
        elif abs(signal + tail) <= LIMIT and not _reaches(stream, layers, k, signal):
            usual = signal
        else:
            fault = _Fault("initialisation", signal - (came if abs(came) > LIMIT and faults else 0.0))
    if layer.update is None:
        return fault
    excess = (
        tail + usual if layer.scalar_rate else 0.0
    )  # a larger gradient is not this layer's doing, but its step's size
    moved = layer.update - usual - excess - came * (2 if layer.scalar_rate else 1)
    if fault is not None:
        return replace(fault, kind="multiplier") if abs(moved - UPDATE) > LIMIT else fault
    return _Fault("rate", moved) if abs(moved - UPDATE) > LIMIT else None


def _readout(layer: ScaledLayer, arriving: Sequence[float]) -> _Fault | None:
    """The readout's fault. What comes out of it times the gradient there does not depend on factors behind it.

    ``arriving``: what may be inherited; it is a fault only where it is one on any of these counts.
    """
    gradient = layer.sensitivity or 0.0
    chance = gradient if abs(gradient) <= LIMIT else 0.0  # how wrong the first guesses are; more is a factor behind it
    tail = gradient - chance
    fault = None
    if layer.signal is not None:
        over = min(layer.signal + tail - came - SIGNAL["output"] for came in arriving)
        fault = _Fault("initialisation", over) if over > LIMIT else None
    if layer.update is None:
        return fault
    power = 2 if layer.scalar_rate else 1
    moved = min((layer.update + tail - chance * (power - 1) - came * power for came in arriving), key=abs)
    off = abs(moved - UPDATE) > LIMIT
    if fault is not None:
        return replace(fault, kind="multiplier") if off else fault
    # What arrives larger at a step that is a multiple of the gradient changes the loss itself: nothing can be said.
    unknown = layer.scalar_rate and max(map(abs, arriving)) > LIMIT
    return _Fault("rate", moved) if off and not unknown else None


def _arriving(layer: ScaledLayer, before: Sequence[ScaledLayer], faulty: bool) -> tuple[float, ...]:
    """How what arrives at the readout depends on the width through chance or the faults of others.

    A factor in front of it is a convention, and none of these: there the output of the layer before tells.
    """
    came = _inherited(layer)
    if abs(came) <= LIMIT:
        return (came,)
    sent = next((b.signal for b in reversed(before) if b.signal is not None), 0.0)
    if faulty:
        return (0.0, came, sent)
    return (sent if abs(sent) <= LIMIT else 0.0,)


def _inherited(layer: ScaledLayer) -> float:
    """How what goes in depends on the width, where that is inner signal and not data."""
    return layer.input if layer.kind != "input" and layer.input is not None else 0.0


def _reaches(stream: Sequence[tuple[int, float]], layers: Sequence[ScaledLayer], k: int, signal: float) -> bool:
    """Whether what comes out of layer ``k`` shows in what comes into a later norm or layer: nothing has undone it."""
    later = [came for position, came in stream if position > k]
    later += [_inherited(layer) for layer in layers[k + 1 :] if layer.kind == "hidden"]
    return any(abs(came) > LIMIT and came * signal > 0 for came in later)


def _behind(layers: Sequence[ScaledLayer]) -> dict[int, _Fault]:
    """A factor behind a layer, in a branch: the gradient there is off, and elsewhere it is not."""
    inner = [k for k, layer in enumerate(layers) if layer.kind in ("input", "hidden") and layer.sensitivity is not None]
    off: dict[int, float] = {}
    for k in inner:
        layer = layers[k]
        tail = (layer.sensitivity or 0.0) + 1 + (layer.signal or 0.0)
        if abs(tail) > LIMIT and not (tail < 0 and _SCORES.search(layer.module)):
            off[k] = tail
    sound = [k for k in inner if k not in off and not _SCORES.search(layers[k].module)]
    return {max(off): _Fault("multiplier", off[max(off)])} if off and sound else {}
