"""Setups that Lightning, transformers and accelerate build, with the real libraries."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from lrlint.errors import TargetError, UsageError
from lrlint.facts import Training
from lrlint.targets.load import LiveTarget, from_objects, load

LIGHTNING = """
import torch
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR
import lightning.pytorch as pl

class Base(pl.LightningModule):
    def __init__(self, lr: float = 1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.g, self.d = nn.Linear(3, 4), nn.Linear(4, 1)
        self.a, self.b = SGD(self.g.parameters(), lr=lr), Adam(self.d.parameters(), lr=1)

"""
TRANSFORMERS = """
import torch
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel
from transformers import Trainer, TrainingArguments

class Data(torch.utils.data.Dataset):
    def __len__(self): return 100
    def __getitem__(self, i): return {"input_ids": torch.ones(8, dtype=torch.long), "labels": torch.tensor(0)}

def bert():
    return BertForSequenceClassification(BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=99))

def arguments(**options):
    return TrainingArguments(
        output_dir="out", report_to=[], use_cpu=True,
        learning_rate=5e-5,
        weight_decay=0.01,
        per_device_train_batch_size=8, gradient_accumulation_steps=2, **options)

"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LiveTarget]]:
    monkeypatch.chdir(tmp_path)

    def make(head: str, source: str, factory: str, **options: Any) -> LiveTarget:
        (tmp_path / "framework_setup.py").write_text(head + textwrap.dedent(source), encoding="utf-8")
        return load(f"framework_setup.py:{factory}", **options)

    yield make
    sys.modules.pop("framework_setup", None)


def line(path: Path, text: str) -> int:
    """The number of the first line with this text."""
    return next(number for number, found in enumerate(path.read_text().splitlines(), 1) if text in found)


# --- Lightning ------------------------------------------------------------------------------------------------------

RETURNED = {
    "one": ("self.a", 1, []),
    "list": ("[self.a, self.b]", 2, []),
    "two lists": ("[self.a, self.b], [StepLR(self.a, 1), StepLR(self.b, 2)]", 2, ["epoch", "epoch"]),
    "two lists with a config": ("[self.a], [{'scheduler': StepLR(self.a, 1), 'interval': 'step'}]", 1, ["step"]),
    "one list, one scheduler": ("[self.a], StepLR(self.a, 1)", 1, ["epoch"]),
    "dict": ("{'optimizer': self.a}", 1, []),
    "dict with a scheduler": ("{'optimizer': self.a, 'lr_scheduler': StepLR(self.a, 1)}", 1, ["epoch"]),
    "tuple of dicts": (
        "({'optimizer': self.a, 'frequency': 5, 'lr_scheduler': {'scheduler': StepLR(self.a, 1), 'interval': 'step'}},"
        " {'optimizer': self.b, 'frequency': 1})",
        2,
        ["step"],
    ),
    "none": ("None", 0, []),
}


@pytest.mark.parametrize("shape", RETURNED)
def test_every_result_of_configure_optimizers(project: Callable[..., LiveTarget], shape: str) -> None:
    expression, count, intervals = RETURNED[shape]
    built = project(
        LIGHTNING, f"class Lit(Base):\n    def configure_optimizers(self):\n        return {expression}\n", "Lit"
    )
    module = built.models[""]
    assert [type(o).__name__ for o in built.optimizers.values()] == ["SGD", "Adam"][:count]
    assert [config["interval"] for config in built.scheduler_configs] == intervals
    assert len(built.schedulers) == len(intervals)
    assert built.owner is module
    assert built.span is not None
    assert built.span.path == "framework_setup.py"
    assert built.span.line == len(LIGHTNING.splitlines()) + 2
    assert [note.fact for note in built.notes] == (["optimizer"] if count == 0 else [])


def test_scheduler_options_and_where_they_were_written(project: Callable[..., LiveTarget]) -> None:
    built = project(
        LIGHTNING,
        """
        class Lit(Base):
            def configure_optimizers(self):
                return {"optimizer": self.a, "monitor": "val_loss", "interval": "step",
                        "lr_scheduler": {"scheduler": ReduceLROnPlateau(self.a), "frequency": 3, "intervall": "step"}}
        """,
        "Lit",
    )
    [config] = built.scheduler_configs
    assert (config["monitor"], config["interval"], config["frequency"]) == ("val_loss", "epoch", 3)
    assert config["reduce_on_plateau"] is True
    assert (config["stray"], config["unknown"]) == (["interval"], ["intervall"])
    assert config["written"] == ["frequency", "intervall"]


STEPS = """
class Lit(Base):
    def __init__(self, lr: float = 1e-3, max_steps: int | None = None):
        super().__init__(lr)
        self.save_hyperparameters()

    def configure_optimizers(self):
        self.a = SGD(self.g.parameters(), lr=self.hparams.lr)
        steps = self.trainer.estimated_stepping_batches
        return [self.a], [{"scheduler": OneCycleLR(self.a, 1.0, total_steps=int(steps)), "interval": "step"}]

def quiet(**options):
    return pl.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu", **options)

def with_trainer():
    return Lit(), quiet(max_steps=77, max_epochs=-1, gradient_clip_val=0.5, precision="bf16-mixed")

def attached():
    module = Lit()
    module.trainer = quiet(max_steps=55, max_epochs=-1, accumulate_grad_batches=4)
    return module
"""


def test_a_module_that_asks_its_trainer_for_the_number_of_steps(project: Callable[..., LiveTarget]) -> None:
    lonely = project(LIGHTNING, STEPS, "Lit")
    assert lonely.schedulers[0].total_steps == 1000
    assert lonely.training.total_steps is None
    assert "1000 were assumed" in lonely.notes[0].reason
    assert lonely.models[""]._trainer is None
    assert [type(o).__name__ for o, _ in lonely.recording.created_optimizers] == ["SGD", "Adam", "SGD"]  # once each
    hyper = project(LIGHTNING, STEPS, "Lit", args=["max_steps=33"])
    assert (hyper.schedulers[0].total_steps, hyper.notes) == (33, [])
    told = project(LIGHTNING, STEPS, "Lit", declared={"total_steps": 44})
    assert (told.schedulers[0].total_steps, told.training.total_steps, told.notes) == (44, 44, [])


def test_a_trainer_beside_or_on_the_module(project: Callable[..., LiveTarget]) -> None:
    beside = project(LIGHTNING, STEPS, "with_trainer")
    assert beside.schedulers[0].total_steps == 77
    training = beside.training
    assert (training.total_steps, training.precision, training.clip_norm) == (77, "bf16-mixed", 0.5)
    assert beside.models[""]._trainer is None
    attached = project(LIGHTNING, STEPS, "attached")
    assert (attached.training.total_steps, attached.training.accumulation) == (55, 4)
    assert attached.models[""]._trainer is not None


HOOKS = """
class WithoutOptimizers(Base):
    pass

class LateLayers(Base):
    def configure_model(self):
        self.late = nn.Linear(2, 2)
    def configure_optimizers(self):
        return SGD(self.parameters(), lr=1)

class NeedsSetup(pl.LightningModule):
    def setup(self, stage):
        self.net = nn.Linear(4, 2)
    def configure_optimizers(self):
        return SGD(self.net.parameters(), lr=1)

class AsksForTheDevice(Base):
    def configure_optimizers(self):
        on_cpu = self.trainer.strategy.root_device.type == "cpu"
        return SGD(self.parameters(), lr=1 if on_cpu else 2)

class CountsBatches(Base):
    def configure_optimizers(self):
        batches = len(self.trainer.datamodule.train_dataloader())
        return [SGD(self.parameters(), lr=1)], []

class Mistyped(Base):
    def configure_optimizers(self):
        return SGD(self.parameters(), lr=self.hparams.learning_rate)

class Cycle(Base):
    def configure_optimizers(self):
        steps = self.trainer.estimated_stepping_batches
        return [self.a], [{"scheduler": OneCycleLR(self.a, 1.0, total_steps=int(steps)), "interval": "step"}]

def loader():
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(64, 3)), batch_size=8)

class Data(pl.LightningDataModule):
    def train_dataloader(self): return loader()

def quiet(**options):
    return pl.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu", **options)

def everything():
    return {"model": CountsBatches(), "trainer": quiet(max_epochs=2), "datamodule": Data()}

def with_loader():
    return {"model": Cycle(), "trainer": quiet(max_epochs=3, accumulate_grad_batches=2), "batches": loader()}

def without_data():
    return Cycle(), quiet(max_epochs=3)

def trainer_alone():
    return quiet(max_steps=3)
"""


def test_hooks_that_lightning_calls_before_the_optimizers_are_configured(project: Callable[..., LiveTarget]) -> None:
    built = project(LIGHTNING, HOOKS, "LateLayers")
    assert len(built.optimizers[""].param_groups[0]["params"]) == 6
    assert project(LIGHTNING, HOOKS, "NeedsSetup").optimizers[""].param_groups[0]["lr"] == 1
    assert project(LIGHTNING, HOOKS, "AsksForTheDevice").optimizers[""].param_groups[0]["lr"] == 1
    module = type(built.models[""])()
    from_objects(module, None)
    assert not hasattr(module, "late"), "a module that was passed stays as it is"


def test_a_trainer_that_has_no_data_yet(project: Callable[..., LiveTarget]) -> None:
    assert len(project(LIGHTNING, HOOKS, "everything").optimizers) == 1
    built = project(LIGHTNING, HOOKS, "with_loader")
    assert (built.schedulers[0].total_steps, built.training.total_steps, built.notes) == (12, 12, [])
    unknown = project(LIGHTNING, HOOKS, "without_data")
    assert (unknown.schedulers[0].total_steps, unknown.training.total_steps) == (1000, None)
    assert "it has no training data" in unknown.notes[0].reason


def test_what_a_module_lacks_is_said_with_what_to_do(project: Callable[..., LiveTarget]) -> None:
    for factory, message, hint in (
        ("WithoutOptimizers", "a LightningModule without configure_optimizers", "return"),
        ("trainer_alone", "a Lightning Trainer without its module", "return"),
        ("CountsBatches", "AttributeError at framework_setup.py", "its Trainer for 'datamodule' before any `fit`"),
        ("Mistyped", "'learning_rate'", ""),
    ):
        with pytest.raises(TargetError, match=message) as caught:
            project(LIGHTNING, HOOKS, factory)
        assert hint in caught.value.hint
    assert not caught.value.hint, "no Trainer would help"


def test_lightning_modules_by_instance_factory_argument_and_adoption(project: Callable[..., LiveTarget]) -> None:
    source = """
        class Lit(Base):
            def configure_optimizers(self):
                return SGD([{"params": self.g.parameters(), "lr": self.hparams.lr}], lr=1)

        instance = Lit(lr=0.25)

        def factory():
            return Lit(lr=0.5)

        def with_optimizer():
            module = Lit()
            return module, Adam(module.parameters(), lr=0.125)
    """
    for factory, options, rate in (
        ("instance", {}, 0.25),
        ("factory", {}, 0.5),
        ("Lit", {"args": ["lr=0.75"]}, 0.75),
        ("with_optimizer", {}, 0.125),
    ):
        built = project(LIGHTNING, source, factory, **options)
        assert built.optimizers[""].param_groups[0]["lr"] == rate
    assert from_objects(built.models[""], None).optimizers[""].param_groups[0]["lr"] == 1e-3


def test_what_configure_optimizers_raises_or_returns_wrongly(project: Callable[..., LiveTarget]) -> None:
    source = """
        class Wrong(Base):
            def configure_optimizers(self): return 3
        class Raises(Base):
            def configure_optimizers(self): return self.trainer.no_such_thing
        class Overlaps(Base):
            def configure_optimizers(self): return SGD([{"params": self.parameters()}, {"params": self.g.weight}], lr=1)
        class Needs(Base):
            def __init__(self, width: int):
                super().__init__()
    """
    with pytest.raises(TargetError, match="configure_optimizers returned an int"):
        project(LIGHTNING, source, "Wrong")
    with pytest.raises(TargetError, match="no_such_thing"):
        project(LIGHTNING, source, "Raises")
    with pytest.raises(UsageError, match="width"):
        project(LIGHTNING, source, "Needs")
    built = project(LIGHTNING, source, "Overlaps")
    [(kind, _, _, params, _)] = built.rejections
    assert (kind, params) == ("overlap", [built.models[""].g.weight])


# --- transformers ---------------------------------------------------------------------------------------------------


def test_a_trainer_creates_its_own_optimizer_and_stays_as_it_was(
    project: Callable[..., LiveTarget], tmp_path: Path
) -> None:
    source = "\ndef build(): return Trainer(model=bert(), args=arguments(bf16=True), train_dataset=Data())\n"
    built = project(TRANSFORMERS, source, "build")
    trainer, optimizer = built.owner, built.optimizers[""]
    assert built.models[""] is trainer.model
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    assert (trainer.optimizer, trainer.lr_scheduler) == (None, None)
    assert built.schedulers[0].optimizer is optimizer
    training = built.training
    assert (training.total_steps, training.steps_per_epoch) == (21, 7)  # ceil(ceil(100 / 8) / 2) updates, 3 epochs
    assert (training.batch_size, training.accumulation, training.clip_norm) == (8, 2, 1.0)
    assert training.precision == "bf16-mixed"
    file = tmp_path / "framework_setup.py"
    record = built.recording.group(optimizer, 0)
    assert record is not None
    assert record.span is not None
    assert record.span.line == line(file, "return TrainingArguments(")
    assert record.key_spans["weight_decay"].line == line(file, "weight_decay=0.01")
    assert record.key_spans["lr"].line == line(file, "learning_rate=5e-5")
    assert next(iter(built.batches))["input_ids"].shape == (8, 8)


def test_a_trainer_whose_steps_are_given_or_unknown(project: Callable[..., LiveTarget]) -> None:
    source = """
        class Stream(torch.utils.data.IterableDataset):
            def __iter__(self): return iter(())

        def given(): return Trainer(model=bert(), args=arguments(max_steps=50), train_dataset=Stream())
        def unknown(): return Trainer(model=bert(), args=arguments())

        class Custom(Trainer):
            def create_optimizer(self, model=None):
                self.optimizer = torch.optim.SGD([{"params": self.model.parameters(), "lr": 0.5}], lr=1)
                return self.optimizer

        def custom(): return Custom(model=bert(), args=arguments(max_steps=5))
        def passed():
            model = bert()
            optimizer = torch.optim.SGD(model.parameters(), lr=0.125)
            return Trainer(model=model, args=arguments(max_steps=5), optimizers=(optimizer, None))
    """
    given = project(TRANSFORMERS, source, "given")
    assert given.training.total_steps == 50
    assert len(given.schedulers) == 1
    unknown = project(TRANSFORMERS, source, "unknown")
    assert (unknown.training.total_steps, unknown.schedulers) == (None, [])
    assert unknown.notes[0].fact == "total_steps"
    custom = project(TRANSFORMERS, source, "custom")
    record = custom.recording.group(custom.optimizers[""], 0)
    assert record is not None
    assert set(record.key_spans) == {"params", "lr"}
    passed = project(TRANSFORMERS, source, "passed")
    assert passed.optimizers[""] is passed.owner.optimizer
    assert passed.optimizers[""].param_groups[0]["lr"] == 0.125


def test_the_classic_filter_on_gpt2(project: Callable[..., LiveTarget], tmp_path: Path) -> None:
    source = """
        def build():
            model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=99))
            no_decay = ["bias", "LayerNorm.weight"]
            groups = [
                {"params": [p for n, p in model.named_parameters() if not any(x in n for x in no_decay)],
                 "weight_decay": 0.1},
                {"params": [p for n, p in model.named_parameters() if any(x in n for x in no_decay)],
                 "weight_decay": 0.0},
            ]
            return model, torch.optim.AdamW(groups, lr=5e-5)
    """
    built = project(TRANSFORMERS, source, "build")
    file = tmp_path / "framework_setup.py"
    records = [built.recording.group(built.optimizers[""], i) for i in (0, 1)]
    assert [r.key_spans["weight_decay"].line for r in records] == [
        line(file, '"weight_decay": 0.1'),
        line(file, '"weight_decay": 0.0'),
    ]


# --- accelerate -----------------------------------------------------------------------------------------------------


def test_prepared_objects_are_unwrapped_and_keep_their_spans(project: Callable[..., LiveTarget]) -> None:
    source = """
        from accelerate import Accelerator

        def build():
            model = bert()
            optimizer = torch.optim.AdamW([{"params": model.parameters(), "lr": 0.5}], lr=1)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
            model, optimizer, scheduler = Accelerator(cpu=True).prepare(model, optimizer, scheduler)
            return model, optimizer, scheduler
    """
    built = project(TRANSFORMERS, source, "build")
    optimizer = built.optimizers[""]
    assert type(optimizer) is torch.optim.AdamW
    assert built.wraps == {"": "AcceleratedOptimizer"}
    assert type(built.schedulers[0]) is torch.optim.lr_scheduler.StepLR
    assert built.scheduler_configs[0]["framework"] == "accelerate"
    record = built.recording.group(optimizer, 0)
    assert record is not None
    assert set(record.key_spans) == {"params", "lr"}
    assert built.training == Training()


def test_a_container_of_optimizers_is_taken_apart() -> None:
    class Both:
        def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
            self.optimizers = list(optimizers)

        @property
        def param_groups(self) -> list[dict[str, Any]]:
            return [group for optimizer in self.optimizers for group in optimizer.param_groups]

        def step(self) -> None: ...

    model = torch.nn.Linear(2, 2)
    both = Both(torch.optim.SGD([model.weight], lr=1), torch.optim.AdamW([model.bias], lr=2))
    built = from_objects(model, both)
    assert list(built.optimizers.values()) == both.optimizers
