"""The callbacks of Lightning and transformers in real trainings: what they say, when they stop, what they leave alone."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrlint.errors import UsageError

pl = pytest.importorskip("lightning.pytorch")
transformers = pytest.importorskip("transformers")

from lightning.pytorch.callbacks import BackboneFinetuning, Callback  # noqa: E402
from lightning.pytorch.loggers import CSVLogger  # noqa: E402
from lightning.pytorch.utilities.exceptions import MisconfigurationException  # noqa: E402

from lrlint.integrations.callback import OptimizerLintError, StepsAside  # noqa: E402
from lrlint.integrations.lightning import OptimizerLint  # noqa: E402
from lrlint.integrations.transformers import OptimizerLintCallback  # noqa: E402


class Lit(pl.LightningModule):  # type: ignore[name-defined,misc]
    def __init__(self, head_only: bool = False, lr: float = 1e-2) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 16))
        self.head = nn.Linear(16, 2)
        self.head_only, self.lr = head_only, lr
        self.losses: list[float] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x))

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> Any:
        module = self.head if self.head_only else self
        return torch.optim.Adam(module.parameters(), lr=self.lr)


def fit(module: Lit, *callbacks: Callback, epochs: int = 2, logger: Any = False, **options: Any) -> Any:
    pl.seed_everything(7)
    module.load_state_dict({key: torch.full_like(value, 0.1) for key, value in module.state_dict().items()})
    quiet = dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, logger=logger, callbacks=list(callbacks), **quiet, **options
    )
    data = TensorDataset(torch.randn(64, 8), torch.randint(0, 2, (64,)))
    trainer.fit(module, DataLoader(data, 8, shuffle=True))
    return trainer


@pytest.mark.parametrize("probe", [False, True], ids=["static", "probe"])
def test_lightning_trains_the_same_with_and_without(probe: bool) -> None:
    plain, watched, callback = Lit(), Lit(), OptimizerLint(probe=probe)
    fit(plain)
    fit(watched, callback)
    assert watched.losses == plain.losses
    assert callback.run is not None
    setup = callback.run.setup
    assert setup is not None
    assert (setup.training.total_steps, setup.training.steps_per_epoch, setup.training.batch_size) == (16, 8, 8)
    assert (setup.probe is not None) is probe


def test_lightning_stops_before_the_first_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faulty = Lit(head_only=True, lr=1e-2)
    with pytest.raises(MisconfigurationException, match=r"(?s)LR101.*in no optimizer"):
        fit(faulty, OptimizerLint())
    assert faulty.losses == []
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=1)
    fit(Lit(head_only=True), OptimizerLint(fail_on="never", select=["LR101"]), logger=logger, epochs=1)
    assert "error[LR101]" in capsys.readouterr().err
    logger.save()
    assert "lrlint/errors" in next(tmp_path.rglob("metrics.csv")).read_text()
    fit(Lit(head_only=True), OptimizerLint(ignore=["LR101"]), epochs=1)


def test_lightning_looks_again_when_a_callback_adds_a_group() -> None:
    looks: list[int] = []

    class Counting(OptimizerLint):
        def _look(self, trainer: Any) -> None:
            super()._look(trainer)
            assert self.run is not None
            assert self.run.setup is not None
            looks.append(len(self.run.setup.optimizers[0].groups))

    fit(Lit(head_only=True), BackboneFinetuning(unfreeze_backbone_at_epoch=1), Counting(), epochs=2)
    assert looks == [1, 2]


def test_an_error_of_its_own_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("a defect")

    plain = Lit()
    fit(plain, epochs=1)
    for place in ("lrlint.inspection.build.build", "lrlint.integrations.callback.lint"):
        module, callback = Lit(), OptimizerLint()
        monkeypatch.setattr(place, broken)
        with pytest.warns(StepsAside, match="RuntimeError: a defect"):
            fit(module, callback, epochs=1)
        monkeypatch.undo()
        assert module.losses == plain.losses
        assert callback.run is None


def test_a_wrong_argument_is_said_at_once() -> None:
    with pytest.raises(UsageError, match="error, warning, info, never"):
        OptimizerLint(fail_on="errors")
    with pytest.raises(UsageError):
        OptimizerLintCallback(fail_on="high")


class Net(nn.Module):
    def __init__(self, lr_free: bool = True) -> None:
        super().__init__()
        self.embed, self.drop, self.head = nn.Embedding(32, 8), nn.Dropout(0.5), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.head(self.drop(self.embed(x)).mean(1))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def train(folder: Path, *callbacks: Any, optimizers: Any = (None, None), model: Any = None) -> tuple[Any, list[float]]:
    transformers.set_seed(3)
    data = [{"x": torch.arange(8) + k % 20, "labels": torch.tensor(k % 2)} for k in range(64)]
    arguments = transformers.TrainingArguments(
        str(folder), use_cpu=True, report_to="none", save_strategy="no", logging_steps=1, num_train_epochs=1,
        disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model=model or Net(), args=arguments, train_dataset=data, callbacks=list(callbacks), optimizers=optimizers
    )
    trainer.train()
    return trainer, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_transformers_trains_the_same_with_and_without(tmp_path: Path) -> None:
    _, plain = train(tmp_path)
    callback = OptimizerLintCallback()
    trainer, watched = train(tmp_path, callback)
    assert watched == plain
    assert callback.run is not None
    assert callback.run.setup is not None
    assert callback.run.setup.training.total_steps == trainer.state.max_steps == 8
    assert callback.run.setup.optimizers[0].groups_from == "transformers"
    assert [found.rule for found in callback.run.findings] == []


def test_transformers_stops_before_the_first_step(tmp_path: Path) -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    with pytest.raises(OptimizerLintError, match="LR101"):
        train(tmp_path, OptimizerLintCallback(), optimizers=(optimizer, None), model=model)
    assert not optimizer.state
    with warnings.catch_warnings():
        warnings.simplefilter("error", StepsAside)
        train(tmp_path, OptimizerLintCallback(fail_on="never"), optimizers=(optimizer, None), model=model)
