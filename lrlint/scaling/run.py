"""Build one setup at several widths and compare them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from lrlint.errors import TargetError, UsageError
from lrlint.facts import Setup
from lrlint.facts.scale import LayerKind, ScaledLayer, ScaledParameter, ScaleFacts
from lrlint.inspection.build import build
from lrlint.probing.training import peak_rates
from lrlint.probing.training.batches import Batches
from lrlint.probing.training.data import NoData, data_of
from lrlint.probing.training.determinism import repeatable, uncompiled
from lrlint.probing.training.device import place_of
from lrlint.probing.training.seeding import seed_all
from lrlint.probing.training.stepper import Stepper
from lrlint.scaling.average import averaged
from lrlint.scaling.judge import LIMIT, judged
from lrlint.scaling.observe import LayerSeen, Observer
from lrlint.scaling.parameters import compared, differ, kind_of
from lrlint.scaling.slopes import slope
from lrlint.targets.live_target import LiveTarget
from lrlint.targets.preservation.snapshot import preserved
from lrlint.targets.sandbox import user_code

#: Steps at each width: the first few show every update once, and none of them is far from the start.
STEPS = 4
#: Builds with different random numbers at each width, whose slopes are averaged.
BUILDS = 2
#: Builds one setup, given the value of the argument that varies.
Build = Callable[[Any], LiveTarget]


@dataclass
class Width:
    """One width: its setup, what its layers did, and its losses."""

    width: float
    setup: Setup
    seen: list[LayerSeen]
    losses: list[float]
    mup: bool
    notes: list[str]


def scale(
    build_at: Build,
    vary: str,
    widths: Sequence[Any],
    *,
    steps: int | None = None,
    seed: int = 0,
    transfers: bool = False,
) -> tuple[ScaleFacts, Setup]:
    """What the widths show, and the facts of the setup at the smallest one.

    ``build_at`` builds the target at one of ``widths`` (numbers, or texts of numbers). ``transfers``: the user says that
    rates found at one width are right at the others. Raises UsageError for fewer than two widths, widths that are no
    positive numbers, widths that change no parameter's shape, and setups of which no step can be taken.
    """
    ordered = ascending(widths, vary)
    builds: list[list[Width]] = []
    with user_code():  # random states and settings come back
        for build_seed in range(seed, seed + BUILDS):
            builds.append([])
            for number, value in ordered:
                seed_all(build_seed, 0)
                builds[-1].append(_at(number, build_at(value), steps or STEPS, seed))
    seen = builds[0]
    numbers = [number for number, _ in ordered]
    parameters = compared(numbers, [one.setup for one in seen])
    if all(len(set(parameter.shapes)) == 1 for parameter in parameters):
        raise UsageError(
            f"{vary} changes no parameter's shape: the setup is the same at {', '.join(f'{n:g}' for n in numbers)}",
            "name the argument that makes the model wider: --vary NAME=64,128,256",
        )
    layers, stream = averaged([_layers(numbers, one, parameters) for one in builds])
    facts = ScaleFacts(
        vary,
        tuple(numbers),
        steps or STEPS,
        seed,
        transfers=_declared(seen, parameters, transfers),
        layers=judged(layers, stream),
        parameters=parameters,
        losses=tuple(one.losses[0] for one in seen if one.losses),
        notes=tuple(dict.fromkeys(note for one in seen for note in one.notes)),
        limits={"slope": LIMIT},
    )
    return facts, replace(seen[0].setup, scale=facts)


def ascending(widths: Sequence[Any], vary: str) -> list[tuple[float, Any]]:
    """(number, value as given) of each width, in ascending order and once. Raises UsageError."""
    found: dict[float, Any] = {}
    for value in widths:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = 0.0
        if not 0 < number < float("inf"):
            raise UsageError(f"{vary}={value!r} is no width: a width is a positive number")
        found.setdefault(number, value)
    if len(found) < 2:
        raise UsageError("two different widths at least are needed to compare", f"--vary {vary}=64,128,256")
    return sorted(found.items())


def build_with(function: Callable[..., Any], vary: str) -> Build:
    """A function that calls the user's own with a width, by keyword where it takes ``vary``. Raises UsageError."""
    from lrlint.targets import returned
    from lrlint.targets.arguments import bind
    from lrlint.targets.assemble import assemble
    from lrlint.targets.provenance.project import Project, root_for
    from lrlint.targets.provenance.recorder import recording

    if not callable(function):
        raise UsageError(f"lrlint.scale takes a function of the width, not {type(function).__name__}")
    label = getattr(function, "__qualname__", type(function).__name__)

    def build_at(value: Any) -> LiveTarget:
        values = bind(function, {vary: value}, label)
        project = Project(root_for(None))
        with user_code(), recording(project.root) as construction:
            try:
                parts = returned.read(function(**values))
                return assemble(parts, construction, {}, fresh=True)
            except returned.NotASetup as nonsense:
                raise TargetError(f"{label} gave {nonsense}", returned.EXPECTED) from None

    return build_at


def _at(width: float, built: LiveTarget, steps: int, seed: int) -> Width:
    """Take the steps at one width; the target's objects are as they were afterwards."""
    setup = build(built, graph=False)
    models, optimizers, others = built.state()
    if not optimizers:
        raise UsageError("the setup has no optimizer: its rates cannot be compared over widths")
    names = {
        id(p): f"{lead}{'.' if lead else ''}{name}"
        for lead, m in built.models.items()
        for name, p in m.named_parameters()
    }
    observer = Observer(built.models, names, seed)
    losses: list[float] = []
    notes: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(built.running())
        stack.enter_context(uncompiled())
        stack.enter_context(preserved(models, optimizers, others, data=built.data()))
        device = place_of(models)
        stack.enter_context(repeatable(device, strict=False))
        try:
            batches, loss_fn, made_up = data_of(built, setup, 1, device, seed)
        except NoData as error:
            raise UsageError(
                f"no step can be taken: {error}", "return `batches` and `loss_fn` from the factory"
            ) from None
        notes += made_up
        one = Batches([batches.at(0)], device)  # always the same, as in a coordinate check
        stepper = Stepper(models, optimizers, one, loss_fn, setup.training, seed=seed, statistics=False)
        rates = peak_rates.peaks(setup, stepper.rates)
        for model in models:
            _without_dropout(model)
        with observer.watching():
            for step in range(steps):
                observer.begin_step(step)
                losses.append(stepper.step(step, rates).read().loss)
            observer.begin_step(steps)
            stepper.look(0, 1)
        seen = observer.finish()
    mup = any(hasattr(p, "infshape") for model in models for p in model.parameters())
    return Width(width, setup, seen, losses, mup, notes)


def _without_dropout(model: nn.Module) -> None:
    """Steps are compared with the first: what is dropped must not differ. The mode is put back with everything else."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.eval()


def _layers(
    widths: Sequence[float], seen: Sequence[Width], parameters: Sequence[ScaledParameter]
) -> tuple[list[ScaledLayer], list[tuple[int, float]]]:
    """Every layer that ran at all widths, in order, and the slopes of what comes into norms with their places."""
    tables = [{record.module: record for record in one.seen} for one in seen]
    by_name = {parameter.name: parameter for parameter in parameters}
    proportional = {
        member.parameter.name
        for optimizer in seen[0].setup.optimizers
        for group in optimizer.groups
        for member in group.members
        if group.family == "sgd"
    }
    layers: list[ScaledLayer] = []
    stream: list[tuple[int, float]] = []
    for record in seen[0].seen:
        records = [table[record.module] for table in tables if record.module in table]
        if len(records) < len(widths):
            continue

        def of(size: Callable[[LayerSeen], float | None], records: Sequence[LayerSeen] = records) -> float | None:
            return slope(widths, [size(item) for item in records])

        came = of(lambda item: item.input)
        if not record.weight:
            if came is not None:
                stream.append((len(layers), came))
            continue
        kind = _kind(of, by_name.get(record.weight))
        layers.append(
            ScaledLayer(
                record.module,
                record.weight,
                kind,
                input=came,
                signal=of(_probed if kind == "output" else _signal),
                sensitivity=of(lambda item: item.sensitivity),
                update=of(lambda item: item.update),
                change=of(lambda item: item.change),
                changes=tuple(item.change for item in records),
                scalar_rate=record.weight in proportional,
            )
        )
    return layers, stream


def _signal(item: LayerSeen) -> float | None:
    return item.signal


def _probed(item: LayerSeen) -> float | None:
    """A readout has few outputs: random inputs tell its size better than the few that data brings."""
    return item.signal if item.probed is None else item.probed


def _kind(
    of: Callable[[Callable[[LayerSeen], float | None]], float | None], weight: ScaledParameter | None
) -> LayerKind:
    """By what grows of what goes in and what comes out, else by the weight's shape."""
    grows_in, grows_out = of(lambda item: float(item.features_in)), of(lambda item: float(item.features_out))
    if grows_in is None or grows_out is None:
        return weight.kind if weight is not None else "fixed"
    return kind_of(grows_in > 0.25, grows_out > 0.25)


def _declared(seen: Sequence[Width], parameters: Sequence[ScaledParameter], asked: bool) -> str:
    """By what the setup says that its rates transfer; "" where it does not say so."""
    if asked:
        return "it was declared"
    if any(one.setup.training.options.get("transfers") for one in seen):
        return "the target says so (transfers)"
    if any(one.mup for one in seen):
        return "its parameters carry mup's shapes (infshape)"
    if differ(parameters):
        return "its groups' rates depend on the width, each in its own way"
    return ""
