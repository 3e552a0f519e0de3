"""A stand-in for the Lightning Trainer that `configure_optimizers` asks about the length of the run.

Without a training set a Trainer does not know how many steps there will be. The stand-in answers that from what was
declared; everything else it takes from the Trainer that came with the module, or from a plain one on the CPU.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: Steps of the run where nobody declared a number.
ASSUMED_STEPS = 1000


def has_data(trainer: Any) -> bool:
    """Whether the Trainer has loaded its training set: then it knows the number of steps itself."""
    try:
        return trainer is not None and trainer.train_dataloader is not None
    except Exception:
        return False


class StandIn:
    """What `configure_optimizers` reads of a Trainer.

    ``assumed``: it read a number that nobody declared. ``asked`` is what it last read that only `fit` fills.
    ``own`` is the module's Trainer, where it has one without data. ``known`` holds declared values.
    """

    def __init__(self, module: Any, known: Mapping[str, Any], own: Any = None) -> None:
        hparams = getattr(module, "hparams", {})
        sources = (known, hparams if isinstance(hparams, Mapping) else {}, vars(module))
        self._own, self._plain, self._library = own, None, _library(module)
        self._steps = _first(sources, "total_steps", "max_steps", "num_training_steps")
        self._per_epoch = _first(sources, "steps_per_epoch")
        self._epochs = _first(sources, "max_epochs", "num_epochs", "epochs")
        self._datamodule = known.get("datamodule")
        self.assumed, self.asked = False, ""
        self.accumulate_grad_batches = int(_first(sources, "accumulation", "accumulate_grad_batches") or 1)
        self.world_size = self.num_devices = int(known.get("world_size") or 1)

    @property
    def estimated_stepping_batches(self) -> int:
        if self._steps is None and self._per_epoch and self._epochs:
            return int(self._per_epoch * self._epochs)
        self.assumed = self.assumed or self._steps is None
        return int(self._steps or ASSUMED_STEPS)

    @property
    def max_steps(self) -> int:
        return int(self._own.max_steps) if self._own is not None else self.estimated_stepping_batches

    @property
    def max_epochs(self) -> int | None:
        if self._own is not None:
            epochs: int | None = self._own.max_epochs
            return epochs
        return int(self._epochs or max(1, self.estimated_stepping_batches // self.num_training_batches))

    @property
    def num_training_batches(self) -> int:
        if self._per_epoch:
            return int(self._per_epoch) * self.accumulate_grad_batches
        self.assumed = True
        return max(1, ASSUMED_STEPS // 10)

    @property
    def datamodule(self) -> Any:
        return self._datamodule if self._datamodule is not None else self.__getattr__("datamodule")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.asked = name
        return getattr(self._behind(), name)

    def _behind(self) -> Any:
        """A Trainer of the same library for all that does not depend on the data."""
        if self._own is None and self._plain is None:
            with _silent():
                self._plain = importlib.import_module(self._library).Trainer(
                    accelerator="cpu",
                    devices=1,
                    max_steps=self._steps or -1,
                    logger=False,
                    enable_checkpointing=False,
                    enable_progress_bar=False,
                    enable_model_summary=False,
                )
        return self._own if self._own is not None else self._plain


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without the Trainer's lines about accelerators, which are not the user's choice here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _library(module: Any) -> str:
    """``lightning.pytorch`` or ``pytorch_lightning``: where the module's base class comes from."""
    home = next(base.__module__ for base in type(module).__mro__ if base.__name__ == "LightningModule")
    return home.partition(".core")[0]


def _first(sources: Sequence[Mapping[str, Any]], *names: str) -> float | None:
    for source in sources:
        for name in names:
            value = source.get(name)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
                return value
    return None
