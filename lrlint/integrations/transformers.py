"""Check the optimizer setup of a transformers Trainer when it starts to train: a callback. TRL's trainers take it too.

```python
Trainer(..., callbacks=[OptimizerLintCallback()])
```
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from transformers import TrainerCallback

from lrlint.integrations.callback import OptimizerLintError, Watch, tell
from lrlint.lint.run import Run


class OptimizerLintCallback(TrainerCallback):  # type: ignore[misc]
    """Lint the optimizer that really trains, at the beginning of `train`, and again when groups are added.

    What is found is written to standard error by the first rank. Findings at or above ``fail_on`` (``error``,
    ``warning``, ``info``; ``never`` only reports) end the training with an OptimizerLintError before its first step.
    ``select`` and ``ignore`` are rules, as on the command line. ``probe=True`` also runs a few real steps on training
    batches and undoes them.

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
        self._watch = Watch(fail_on, select, ignore, probe)

    @property
    def run(self) -> Run | None:
        """The result of the last look; None before it, and where there was none."""
        return self._watch.run

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at what is set up."""
        self._watch.changed([kwargs.get("optimizer")])
        self._look(state, sys._getframe(1), kwargs)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look again where a group was added."""
        if self._watch.changed([kwargs.get("optimizer")]):
            self._look(state, sys._getframe(1), kwargs)

    def _look(self, state: Any, frame: FrameType | None, objects: dict[str, Any]) -> None:
        def batches() -> Any:
            return objects.get("train_dataloader")

        trainer = _trainer(frame, objects.get("optimizer"))
        if trainer is not None:
            report = self._watch.look(trainer, batches)
        else:
            declared = {"optimizer": objects.get("optimizer"), "scheduler": objects.get("lr_scheduler")}
            steps = state.max_steps if state.max_steps > 0 else None
            report = self._watch.look(objects.get("model"), batches, total_steps=steps, **declared)
        if report is None:
            return
        if report.failed:
            raise OptimizerLintError(report.text)
        tell(report)


def _trainer(frame: FrameType | None, optimizer: Any) -> Any:
    """The Trainer that calls, by the frames: it hands callbacks its parts, but not itself."""
    while frame is not None:
        owner = frame.f_locals.get("self")
        if owner is not None and optimizer is not None and getattr(owner, "optimizer", None) is optimizer:
            kinds = {base.__name__: base.__module__ for base in type(owner).__mro__}
            if kinds.get("Trainer", "").startswith("transformers."):
                return owner
        frame = frame.f_back
    return None
