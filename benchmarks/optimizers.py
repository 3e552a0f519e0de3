"""What `lr`, `weight_decay` and `eps` do in every optimizer class of the packages that are installed, measured.

    python -m benchmarks.optimizers                     # all packages of PACKAGES that can be imported
    python -m benchmarks.optimizers --disagreements     # only where lrlint's table says something else

Each class updates one 8 × 8 matrix of fixed values with fixed gradients, twice with one thing changed:

- gradients × 100: the ratio of the two movements is about 1 where the step is normalised, about 100 where it is
  proportional to the gradient;
- `weight_decay` 0.1 instead of 0 under gradients of 100: the difference after one step is lr · decay · w where decay is
  decoupled (whatever the gradient), nearly nothing where it goes through a normalised gradient, and decay · w where the
  rate does not multiply it;
- `eps` 1 instead of its default under gradients of 1e-4: the movement falls by orders of magnitude where eps is added to
  the root of the second moment.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import io
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from lrlint.facts.algorithms import algorithm

PACKAGES = (
    *("torch.optim", "pytorch_optimizer", "heavyball", "came_pytorch", "schedulefree", "prodigyopt", "torchao.optim"),
    *("galore_torch", "apollo_torch", "lion_pytorch", "bitsandbytes.optim", "dadaptation", "optimi", "muon", "dion"),
)
LR, DECAY, STEPS = 1e-3, 0.1, 5


@dataclass(frozen=True)
class Measured:
    """``growth``: movement under 100 times the gradient over that under the gradient. ``shrink``: the share of
    lr · decay · w that decay took in one step. ``eps``: movement with eps 1 over that with its default."""

    name: str
    growth: float | None = None
    shrink: float | None = None
    eps: float | None = None
    problem: str = ""

    @property
    def scale(self) -> str:
        if self.growth is None:
            return "?"
        return "normalised" if self.growth < 3 else "gradient" if 30 < self.growth < 300 else "other"

    @property
    def decay(self) -> str:
        if self.shrink is None:
            return "none"
        if 0.8 < self.shrink < 1.2:
            return "decoupled"
        return "without-lr" if self.shrink > 100 else "coupled" if self.shrink < 0.5 else "other"


def classes(packages: tuple[str, ...] = PACKAGES) -> Iterator[tuple[str, type]]:
    """(package, class) of each optimizer that a package exports."""
    for package in packages:
        try:
            module = importlib.import_module(package)
            if package == "heavyball":  # compiles every step, for minutes, unless told not to
                importlib.import_module("heavyball.utils").compile_mode = None
        except Exception as error:  # a package may fail in any way on a machine it was not built for
            print(f"{package}: {type(error).__name__}", file=sys.stderr)
            continue
        for name, value in vars(module).items():
            own = inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and not name.startswith("_")
            foreign = package == "torch.optim" or not getattr(value, "__module__", "").startswith("torch.")
            if own and foreign and value is not torch.optim.Optimizer:
                yield package, value


def measure(cls: type) -> Measured:
    """What one class does. A class that cannot be driven by a plain loop has ``problem`` instead."""
    try:
        base, larger = _movement(cls, 1.0), _movement(cls, 100.0)
    except Exception as error:
        return Measured(
            cls.__name__, problem=f"{type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}"
        )
    growth = larger / base if base else None
    return Measured(cls.__name__, growth, _shrink(cls), _eps(cls))


def _shrink(cls: type) -> float | None:
    with contextlib.suppress(Exception):
        plain, decayed = (_run(cls, 100.0, 1, {"weight_decay": decay}) for decay in (0.0, DECAY))
        weight = _weight()
        return float(((plain - decayed) * weight).sum() / (LR * DECAY * weight.square().sum()))
    return None


def _eps(cls: type) -> float | None:
    key = next((k for k in ("eps", "epsilon") if k in inspect.signature(cls).parameters), None)
    if key is None or not isinstance(inspect.signature(cls).parameters[key].default, float):
        return None
    with contextlib.suppress(Exception):
        small = _movement(cls, 1e-4)
        return _movement(cls, 1e-4, {key: 1.0}) / small if small else None
    return None


def _movement(cls: type, scale: float, options: dict[str, Any] | None = None) -> float:
    options = options or ({"weight_decay": 0.0} if "weight_decay" in inspect.signature(cls).parameters else {})
    return float((_run(cls, scale, STEPS, options) - _weight()).norm())


def _weight() -> torch.Tensor:
    return torch.randn(8, 8, generator=torch.Generator().manual_seed(0))


def _run(cls: type, scale: float, steps: int, options: dict[str, Any]) -> torch.Tensor:
    weight = torch.nn.Parameter(_weight())
    given = {"lr": LR, **options} if "lr" in inspect.signature(cls).parameters else dict(options)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        optimizer = _build(cls, weight, given)
        if callable(getattr(optimizer, "train", None)):
            optimizer.train()
        gradients = torch.Generator().manual_seed(1)
        for _ in range(steps):
            weight.grad = scale * torch.randn(8, 8, generator=gradients)
            optimizer.step()
    return weight.detach().clone()


def _build(cls: type, weight: torch.nn.Parameter, options: dict[str, Any]) -> Any:
    if "Muon" in cls.__name__ and "muon" in (cls.__module__, cls.__module__.partition(".")[0]):  # wants the algorithm
        return cls(
            [{"params": [weight], "use_muon": True, **options}] if "With" in cls.__name__ else [weight],
            **({} if "With" in cls.__name__ else options),
        )
    with contextlib.suppress(TypeError):
        return cls([weight], **options)
    return cls([{"params": [weight], "use_muon": True, **options}])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="*", default=PACKAGES)
    parser.add_argument("--disagreements", action="store_true", help="only classes on which the table says otherwise")
    arguments = parser.parse_args()
    print(f"{'class':44} {'step':10} {'decay':10} {'growth':>9} {'shrink':>9} {'eps':>9}  {'table'}")
    for package, cls in classes(tuple(arguments.packages)):
        row = measure(cls)
        known = algorithm(cls.__name__)
        said = f"{known.family} ({known.rate or 'unknown'}, {'decoupled' if known.decoupled else 'coupled'})"
        agree = row.scale == "?" or known.family == "other" or (row.scale == "gradient") == (known.rate == "gradient")
        if arguments.disagreements and agree:
            continue
        shown = [" " * 8 + "-" if v is None else f"{v:9.3g}" for v in (row.growth, row.shrink, row.eps)]
        print(
            f"{package + '.' + row.name:44} {row.scale:10} {row.decay:10} {' '.join(shown)}  {said} {row.problem}",
            flush=True,
        )


if __name__ == "__main__":
    main()
