"""Check the optimizer setup of a Lightning training when it starts: a callback.

```python
Trainer(callbacks=[OptimizerLint()])
```

or, in a configuration of LightningCLI, ``class_path: lrlint.integrations.lightning.OptimizerLint``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

try:
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError:  # the older name of the same library
    from lightning_fabric.utilities.exceptions import MisconfigurationException  # type: ignore[assignment]
    from pytorch_lightning import Callback, LightningModule, Trainer  # type: ignore[assignment]

from lrlint.integrations.callback import Watch, tell
from lrlint.lint.run import Run


class OptimizerLint(Callback):  # type: ignore[misc]
    """Lint the optimizers that really train, as soon as they are there, and again when a callback adds groups.

    What is found is written to standard error by the first rank, and counted in the loggers (``lrlint/errors``,
    ``lrlint/warnings``). Findings at or above ``fail_on`` (``error``, ``warning``, ``info``; ``never`` only reports) end
    the training with a MisconfigurationException before its first step. ``select`` and ``ignore`` are rules, as on the
    command line. ``probe=True`` also runs a few real steps on training batches and undoes them.

    Nothing of the training is changed: a seeded run has the same losses with and without. Where the check itself fails,
    it warns and steps aside.
    """

    def __init__(
        self,
        fail_on: str = "error",
        select: Sequence[str] = (),
        ignore: Sequence[str] = (),
        probe: bool = False,
    ) -> None:
        super().__init__()
        self._watch = Watch(fail_on, select, ignore, probe)

    @property
    def run(self) -> Run | None:
        """The result of the last look; None before it, and where there was none."""
        return self._watch.run

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at what is set up."""
        self._watch.changed(trainer.optimizers)
        self._look(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Look again where a group was added (`unfreeze_and_add_param_group`)."""
        if self._watch.changed(trainer.optimizers):
            self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        report = self._watch.look(trainer, lambda: trainer.train_dataloader)
        if report is None:
            return
        if report.failed:
            raise MisconfigurationException(report.text)
        tell(report)
        counts = report.run.counts()
        metrics: dict[str, float] = {f"lrlint/{severity}s": counts[severity] for severity in ("error", "warning")}
        for logger in trainer.loggers:
            with contextlib.suppress(Exception):  # a logger that has no place for it
                logger.log_metrics(metrics, step=trainer.global_step)
