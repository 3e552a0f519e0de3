"""The Python API: the public functions of `lrlint`.

What an object may be is said by the aliases below; a keyword that is not listed is an error with the nearest name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, Protocol, TypeAlias

from lrlint.config.json_schema import suggestion
from lrlint.errors import UsageError
from lrlint.facts import Setup
from lrlint.lint.run import lint
from lrlint.results import Run

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.fx import Graph

    from lrlint.config.settings import Settings
    from lrlint.lint.setup_diff import Comparison
    from lrlint.probing.result import ProbeResult
    from lrlint.scaling.result import ScaleResult


class Trainer(Protocol):
    """A Trainer of transformers or Lightning: it has the model, and makes or holds the optimizer."""

    @property
    def model(self) -> object: ...


class Optimizer(Protocol):
    """A torch optimizer, or a wrapper that stands for one: it has parameter groups, and steps."""

    @property
    def param_groups(self) -> Sequence[Mapping[str, object]]: ...

    @property
    def step(self) -> Callable[..., object]: ...


class Scheduler(Protocol):
    """A learning rate scheduler of torch, timm, transformers or the user's own."""

    @property
    def step(self) -> Callable[..., object]: ...


#: A model, or several in a list or by name; a LightningModule or a Trainer brings its optimizer along.
Models: TypeAlias = "nn.Module | Trainer | Sequence[nn.Module] | Mapping[str, nn.Module]"
Optimizers: TypeAlias = "Optimizer | Sequence[Optimizer] | Mapping[str, Optimizer]"
#: Lightning's form around a scheduler, a dict or an LRSchedulerConfig, is taken too.
Schedulers: TypeAlias = "Scheduler | Mapping[str, object] | Sequence[object]"
#: Tells how far the probe is: steps done, steps expected, what it does.
Progress: TypeAlias = Callable[[int, int, str], None]


_OBJECTS = ("model", "optimizer", "scheduler", "progress")


def check(
    model: Models,
    optimizer: Optimizers | None = None,
    scheduler: Schedulers | None = None,
    *,
    total_steps: int | None = None,
    steps_per_epoch: int | None = None,
    max_epochs: int | None = None,
    batch_size: int | None = None,
    accumulation: int | None = None,
    world_size: int | None = None,
    precision: str | torch.dtype | None = None,
    grad_scaler: object = None,
    clip_norm: float | None = None,
    distributed: str | None = None,
    find_unused_parameters: bool | None = None,
    unfreezes: str | Sequence[str] | None = None,
    manual_schedule: bool | None = None,
    interval: Literal["step", "epoch"] | None = None,
    resume: str | None = None,
    batches: Iterable[object] | None = None,
    loss_fn: Callable[..., object] | None = None,
    example_inputs: object = None,
    extra_modules: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module] | None = None,
    train: Callable[..., object] | None = None,
    trainer: Trainer | None = None,
    datamodule: object = None,
    accelerator: object = None,
    fabric: object = None,
    options: Mapping[str, object] | None = None,
    graph: bool = True,
    settings: Settings | None = None,
    **unknown: NoReturn,
) -> Run:
    """Check live objects. Nothing of them is changed.

    ``model``, ``optimizer`` and ``scheduler`` are one object each, or a list or dict of them. A LightningModule, or a
    Trainer of transformers or Lightning, needs no ``optimizer``: what it trains with is read, else what it would make.

    The run around them is declared by keyword: ``total_steps`` counts optimizer steps, ``accumulation`` backward passes
    per step, ``clip_norm`` is the limit of the global gradient norm, ``unfreezes`` are patterns of parameters that train
    later, ``manual_schedule`` says that the loop sets rates by hand, ``interval`` how often it steps the scheduler,
    ``resume`` is a checkpoint whose effect is checked,
    ``train`` the function that trains (it is read, never run). ``trainer`` is a Trainer that says these things itself,
    and ``datamodule`` its data; an ``accelerator`` or a ``fabric`` says what it knows. ``example_inputs`` is a tuple of
    positional arguments, a dict of keyword arguments, or the pair of both. ``options`` has whatever else a rule of yours
    reads.

    ``graph=False`` leaves the forward pass unobserved. ``settings`` selects rules (default: no configuration file is
    read).

    Raises UsageError when an object is not what its argument asks for, and for an unknown keyword.
    """
    arguments = {**locals()}
    arguments.pop("settings")
    if settings is None:
        from lrlint.config.loader import Settings as Defaults

        settings = Defaults()
    return lint(_inspect("check", arguments), settings)


def inspect(
    model: Models,
    optimizer: Optimizers | None = None,
    scheduler: Schedulers | None = None,
    *,
    total_steps: int | None = None,
    steps_per_epoch: int | None = None,
    max_epochs: int | None = None,
    batch_size: int | None = None,
    accumulation: int | None = None,
    world_size: int | None = None,
    precision: str | torch.dtype | None = None,
    grad_scaler: object = None,
    clip_norm: float | None = None,
    distributed: str | None = None,
    find_unused_parameters: bool | None = None,
    unfreezes: str | Sequence[str] | None = None,
    manual_schedule: bool | None = None,
    interval: Literal["step", "epoch"] | None = None,
    resume: str | None = None,
    batches: Iterable[object] | None = None,
    loss_fn: Callable[..., object] | None = None,
    example_inputs: object = None,
    extra_modules: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module] | None = None,
    train: Callable[..., object] | None = None,
    trainer: Trainer | None = None,
    datamodule: object = None,
    accelerator: object = None,
    fabric: object = None,
    options: Mapping[str, object] | None = None,
    graph: bool = True,
    **unknown: NoReturn,
) -> Setup:
    """The facts that `check` reads, with the same arguments. ``Setup.to_dict()`` is the JSON snapshot."""
    return _inspect("inspect", {**locals()})


def graph(model: nn.Module, inputs: object = None) -> Graph:
    """The observed forward pass as a ``torch.fx.Graph``; nodes carry module path and source line in ``meta``.

    Warns of what the pass changed and could not be undone (a generator that it took something out of).
    """
    from lrlint.inspection.graph.observe import trace

    return trace(model, inputs)


def probe(
    model: Models,
    optimizer: Optimizers | None = None,
    scheduler: Schedulers | None = None,
    *,
    batches: Iterable[object] | None = None,
    loss_fn: Callable[..., object] | None = None,
    total_steps: int | None = None,
    steps: int | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    budget: float | None = None,
    progress: bool | Progress | None = None,
    metric_fn: Callable[..., object] | None = None,
    resume: str | Path | None = None,
    headroom: bool = True,
    thorough: bool = False,
    interval: Literal["step", "epoch"] | None = None,
    steps_per_epoch: int | None = None,
    max_epochs: int | None = None,
    batch_size: int | None = None,
    accumulation: int | None = None,
    world_size: int | None = None,
    precision: str | torch.dtype | None = None,
    grad_scaler: object = None,
    clip_norm: float | None = None,
    example_inputs: object = None,
    extra_modules: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module] | None = None,
    trainer: Trainer | None = None,
    datamodule: object = None,
    accelerator: object = None,
    fabric: object = None,
    options: Mapping[str, object] | None = None,
    **unknown: NoReturn,
) -> ProbeResult:
    """A short, undisturbing stability experiment: real steps at the peak rates, at lower and at higher ones, all undone.

    ``batches`` is an iterable of batches or a loader (at most 100 are taken); without any they are made up after
    ``example_inputs`` or what the model asks for, and the evidence is weak. ``loss_fn(model, batch)`` returns the scalar
    loss; a criterion of (output, target), a LightningModule or a model that returns its loss will do too. ``steps``: of
    one run (default 27). ``device``: where to run, or None for where the model is. ``seed`` decides all random numbers.
    ``budget``: seconds, after which what is known is said. ``progress=True`` shows a bar (needs tqdm), a function is
    called with (steps done, steps expected, what) after each step. ``metric_fn(model)``, lower for better models, is asked
    beside the loss. ``resume``: a checkpoint to start from. ``headroom=False`` leaves out how far each group's rate could
    rise. ``thorough=True`` looks at 300 steps, and at more seeds. Everything else is declared as for `check`.

    Raises UsageError when the objects do not make training steps and for an unknown keyword, TargetError when their own
    code fails, DeviceError for a device that is not there.
    """
    arguments = _declared("probe", {**locals()})
    from lrlint.probing.progress import shown
    from lrlint.probing.run import probe as run_probe

    with shown(arguments.pop("progress")) as tell:
        return run_probe(
            arguments.pop("model"),
            arguments.pop("optimizer"),
            progress=tell,
            **arguments,  # type: ignore[arg-type]
        )


def scale(
    factory: Callable[..., object],
    widths: Iterable[float],
    *,
    vary: str = "width",
    steps: int | None = None,
    seed: int = 0,
    transfers: bool = False,
) -> ScaleResult:
    """Build a setup at several widths, take a few steps at each, and compare: which layer's rates do not carry over.

    ``factory(width=...)`` returns what a target returns: a model, its optimizer, and batches and a loss where it has
    some; ``vary`` is the name of its argument. ``steps``: at each width (default 4). ``seed`` decides all random numbers
    that the factory does not seed itself. ``transfers=True`` says that a rate found at one width is meant to be right at
    the others, so that what breaks it is a finding; a factory that returns ``transfers=True`` says so too, and so do
    parameters with mup's shapes, and rates that depend on the width, each group's in its own way.

    Raises UsageError for an argument that the factory does not take, fewer than two widths and widths that change no
    parameter's shape, TargetError when the factory's own code fails.
    """
    from lrlint.scaling.result import ScaleResult
    from lrlint.scaling.run import build_with
    from lrlint.scaling.run import scale as compare

    return ScaleResult(
        *compare(build_with(factory, vary), vary, list(widths), steps=steps, seed=seed, transfers=transfers)
    )


def diff(before: Setup, after: Setup) -> Comparison:
    """What changed between two setups, per parameter pattern."""
    from lrlint.lint.setup_diff import compare

    return compare(before, after)


def _inspect(function: str, arguments: Mapping[str, object]) -> Setup:
    from lrlint.inspection.build import build
    from lrlint.targets.load import from_objects

    declared = _declared(function, arguments)
    observed = bool(declared.pop("graph"))
    built = from_objects(declared.pop("model"), declared.pop("optimizer"), declared.pop("scheduler"), **declared)
    return build(built, graph=observed)


def _declared(function: str, arguments: Mapping[str, object]) -> dict[str, object]:
    """A function's arguments as one flat mapping, with ``options`` among them. Raises UsageError for unknown ones."""
    given = dict(arguments)
    unknown, options = given.pop("unknown"), given.pop("options")
    assert isinstance(unknown, dict)
    for name in unknown:
        raise UsageError(
            f"lrlint.{function} has no keyword {name!r}{suggestion(name, [*given, 'options'])}",
            "what lrlint itself does not know goes to options={...}",
        )
    if options is not None and not isinstance(options, Mapping):
        raise UsageError(f"options is {options!r}, and must be a mapping")
    said = {key: value for key, value in given.items() if value is not None or key in _OBJECTS}
    return {**(options or {}), **said}
