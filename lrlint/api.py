"""The Python API: the public functions of `lrlint`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lrlint.facts import Setup
from lrlint.lint.run import Run, lint

if TYPE_CHECKING:
    from lrlint.config.loader import Settings


def check(
    model: Any,
    optimizer: Any,
    scheduler: Any = None,
    *,
    total_steps: int | None = None,
    example_inputs: Any = None,
    graph: bool = True,
    settings: Settings | None = None,
    **declared: Any,
) -> Run:
    """Check live objects. Nothing of them is changed.

    ``model``, ``optimizer`` and ``scheduler`` are one object each, or a list or dict of them. ``total_steps`` counts
    optimizer steps. ``example_inputs`` is a tuple of positional arguments, a dict of keyword arguments, or the pair of
    both. ``declared`` says more about the run: ``steps_per_epoch``, ``batch_size``, ``precision``, ``accumulation``,
    ``clip_norm``, ``extra_modules``, ``batches``, ``loss_fn`` ... ``settings`` selects rules (default: no configuration
    file is read).

    Raises UsageError when an object is not what its argument asks for.
    """
    if settings is None:
        from lrlint.config.loader import Settings as Defaults

        settings = Defaults()
    setup = inspect(
        model, optimizer, scheduler, total_steps=total_steps, example_inputs=example_inputs, graph=graph, **declared
    )
    return lint(setup, settings)


def inspect(
    model: Any,
    optimizer: Any,
    scheduler: Any = None,
    *,
    total_steps: int | None = None,
    example_inputs: Any = None,
    graph: bool = True,
    **declared: Any,
) -> Setup:
    """The facts that `check` reads, with the same arguments. ``Setup.to_dict()`` is the JSON snapshot."""
    from lrlint.inspection.build import build
    from lrlint.targets.load import adopt

    built = adopt(model, optimizer, scheduler, total_steps=total_steps, example_inputs=example_inputs, **declared)
    return build(built, graph=graph)


def graph(model: Any, inputs: Any = None) -> Any:
    """The observed forward pass as a ``torch.fx.Graph``; nodes carry module path and source line in ``meta``."""
    from lrlint.inspection.graph.observe import trace

    return trace(model, inputs)


def probe(model: Any, optimizer: Any, *, batches: Any, **options: Any) -> Any:
    """A short, undisturbing stability experiment; see `lrlint.probing.run.probe` for arguments and result."""
    from lrlint.probing.run import probe as run_probe

    return run_probe(model, optimizer, batches=batches, **options)


def diff(before: Setup, after: Setup) -> Any:
    """What changed between two setups, per parameter pattern."""
    from lrlint.lint.setup_diff import compare

    return compare(before, after)
