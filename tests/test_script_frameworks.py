"""Training scripts that a framework runs: read as the factory of the same setup is, with the real libraries."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lrlint.config.settings import Settings
from lrlint.errors import TargetError
from lrlint.facts import Setup
from lrlint.inspection.build import build
from lrlint.lint.run import lint
from lrlint.targets.load import load

LIGHTNING = """
import torch
import lightning.pytorch as pl
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

class Lit(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32)), nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.backbone(x))

    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3, weight_decay=0.1)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "frequency": 1, "intervall": "step"}}

def loader():
    return DataLoader(TensorDataset(torch.randn(128, 16), torch.randint(0, 4, (128,))), 16)

def trainer():
    from lightning.pytorch.callbacks import BackboneFinetuning
    return pl.Trainer(max_epochs=2, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, accumulate_grad_batches=4, gradient_clip_val=1.0)

def setup():
    return {"model": Lit(), "trainer": trainer(), "batches": loader()}

if __name__ == "__main__":
    trainer().fit(Lit(), loader())
"""

TRANSFORMERS = """
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.ln_1, self.head = nn.Embedding(32, 8), nn.RMSNorm(8), nn.Linear(8, 2)

    def forward(self, x, labels):
        logits = self.head(self.ln_1(self.embed(x)).mean(1))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

def setup():
    data = [{"x": torch.arange(8), "labels": torch.tensor(1)}] * 64
    return Trainer(model=Net(), train_dataset=data, args=TrainingArguments(
        "out", use_cpu=True, report_to="none", save_strategy="no",
        learning_rate=0.7,
        weight_decay=0.1, gradient_accumulation_steps=2, warmup_steps=3, lr_scheduler_type="cosine"))

if __name__ == "__main__":
    setup().train()
"""

ACCELERATE = """
import torch
from torch import nn
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

def parts():
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
    model = nn.Sequential(nn.Linear(16, 8), nn.LayerNorm(8), nn.Linear(8, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.5, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=32)
    loader = DataLoader(TensorDataset(torch.randn(128, 16), torch.randint(0, 4, (128,))), 16)
    return accelerator, *accelerator.prepare(model, optimizer, scheduler, loader)

def setup():
    accelerator, model, optimizer, scheduler, loader = parts()
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "accelerator": accelerator,
            "steps_per_epoch": 2, "batch_size": 16}

if __name__ == "__main__":
    accelerator, model, optimizer, scheduler, loader = parts()
    for x, y in loader:
        with accelerator.accumulate(model):
            accelerator.backward(nn.functional.cross_entropy(model(x), y))
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
"""

FABRIC = """
import torch
from torch import nn
from lightning.fabric import Fabric

def parts():
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    model = nn.Sequential(nn.Linear(16, 8), nn.LayerNorm(8), nn.Linear(8, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=30.0, weight_decay=0.1, momentum=0.9)
    return fabric, *fabric.setup(model, optimizer)

def setup():
    fabric, model, optimizer = parts()
    return {"model": model, "optimizer": optimizer, "fabric": fabric}

if __name__ == "__main__":
    fabric, model, optimizer = parts()
    loss = nn.functional.cross_entropy(model(torch.randn(8, 16)), torch.randint(0, 4, (8,)))
    fabric.backward(loss)
    optimizer.step()
"""

SETUPS = {"lightning": LIGHTNING, "transformers": TRANSFORMERS, "accelerate": ACCELERATE, "lightning.fabric": FABRIC}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        (tmp_path / "framework_script.py").write_text(text, encoding="utf-8")
        return "framework_script.py"

    yield write
    sys.modules.pop("framework_script", None)


def facts(spec: str | None, **options: Any) -> Setup:
    return build(load(spec, **options))


def told(setup: Setup) -> list[tuple[Any, ...]]:
    findings = lint(setup, Settings()).findings
    return [(f.rule, f.severity, f.message, f.locations) for f in findings]


@pytest.mark.parametrize("library", SETUPS)
def test_a_script_gives_what_a_factory_of_the_same_setup_gives(file: Callable[[str], str], library: str) -> None:
    pytest.importorskip(library)
    name = file(SETUPS[library])
    factory, script = facts(f"{name}:setup"), facts(None, script=name)
    assert told(script), "this setup has faults"
    assert script.training == factory.training
    assert [s.config for s in script.schedules] == [s.config for s in factory.schedules]
    assert told(script) == told(factory)


RANGE_TEST = """
import torch
from torch import nn

net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

def steps(optimizer, scheduler, count):
    for _ in range(count):
        optimizer.zero_grad()
        net(torch.randn(4, 4)).sum().backward()
        optimizer.step()
        scheduler.step()

def lr_range_test():
    before = {key: value.clone() for key, value in net.state_dict().items()}
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-6)
    steps(optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 10), 12)
    net.load_state_dict(before)

lr_range_test()
"""
TRAINING = """
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
steps(optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 30), 2)
"""


def test_steps_of_a_range_test_are_not_the_training(file: Callable[[str], str]) -> None:
    setup = facts(None, script=file(RANGE_TEST + TRAINING))
    assert [schedule.class_name for schedule in setup.schedules] == ["StepLR"]
    assert [group.lr for group in setup.optimizers[0].groups] == [0.1]
    assert not setup.discarded
    with pytest.raises(TargetError, match="those of a learning rate range test"):
        facts(None, script=file(RANGE_TEST))


def test_lightnings_finder_is_no_training_either(file: Callable[[str], str]) -> None:
    pytest.importorskip("lightning")
    text = LIGHTNING.replace("import BackboneFinetuning", "import LearningRateFinder as Finder")
    text = text.replace("super().__init__()\n", "super().__init__()\n        self.lr = 1e-3\n", 1)
    text = text.replace("limit", "").replace("gradient_clip_val=1.0)", "callbacks=[Finder(num_training_steps=5)])")
    setup = facts(None, script=file(text))
    assert [schedule.class_name for schedule in setup.schedules] == ["OneCycleLR"]
    assert [optimizer.class_name for optimizer in (*setup.optimizers, *setup.discarded)] == ["Adam"]


def test_a_callback_that_adds_the_backbone_later(file: Callable[[str], str]) -> None:
    pytest.importorskip("lightning")
    text = LIGHTNING.replace("gradient_clip_val=1.0)", "callbacks=[BackboneFinetuning(1)])")
    found = {f.rule: f for f in lint(facts(None, script=file(text)), Settings()).findings}
    assert found["LR109"].severity == "warning"
    assert "they join at 4e-05 instead" in found["LR109"].message
    assert all(name.startswith("backbone.") for name in found["LR109"].parameters)
