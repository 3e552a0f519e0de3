"""The Python API: which objects it takes, what it says to a keyword it does not know, and how results show themselves."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR, StepLR
from torch.utils.data import DataLoader, TensorDataset

import lrlint
from lrlint.errors import UsageError


def pair() -> tuple[nn.Module, AdamW]:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    return model, AdamW(model.parameters(), 1e-3)


@pytest.mark.parametrize("function", [lrlint.check, lrlint.inspect, lrlint.probe])
def test_a_misspelt_keyword_is_an_error_with_the_nearest_name(function: Any) -> None:
    with pytest.raises(UsageError, match="'total_step'; did you mean 'total_steps'"):
        function(*pair(), total_step=100)
    assert "Any" not in str(inspect.signature(function))


def test_free_names_go_to_options() -> None:
    setup = lrlint.inspect(*pair(), options={"precise_bn": True, "total_steps": 7}, total_steps=9)
    assert setup.training.options == {"precise_bn": True}
    assert setup.training.total_steps == 9, "an argument wins"
    with pytest.raises(UsageError, match="must be a mapping"):
        lrlint.check(*pair(), options=["precise_bn"])  # type: ignore[arg-type]


def test_a_probe_without_batches_makes_some_up_and_says_so() -> None:
    told: list[tuple[int, int, str]] = []
    result = lrlint.probe(*pair(), steps=10, progress=lambda *args: told.append(args))
    assert any("evidence is weak" in note for note in result.facts.notes)
    assert told[-1][0] == result.steps_run


def test_a_bar_is_a_widget_of_tqdm(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    assert lrlint.probe(*pair(), steps=10, progress=True).steps_run > 10
    assert "lrlint" in capsys.readouterr().err
    with pytest.raises(UsageError, match="progress is 3"):
        lrlint.probe(*pair(), progress=3)  # type: ignore[arg-type]


def test_results_are_one_line_long() -> None:
    model, optimizer = pair()
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(3))], "lr": 100.0})
    run = lrlint.check(model, optimizer)
    assert repr(run).startswith("<Run: ")
    assert "error" in repr(run)
    assert repr(run.setup) == "<Setup: Sequential (5 parameters), AdamW in 2 groups>"
    assert all("\n" not in repr(item) and len(repr(item)) < 120 for item in (run, run.setup))


def test_types_are_shipped() -> None:
    assert (Path(lrlint.__file__).parent / "py.typed").is_file()


# --- Trainers -------------------------------------------------------------------------------------------------------


def lightning(**options: Any) -> tuple[Any, Any, DataLoader[Any]]:
    L = pytest.importorskip("lightning.pytorch")

    class Module(L.LightningModule):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(16, 4)

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            optimizer = AdamW(self.parameters(), lr=1e-3)
            steps = int(self.trainer.estimated_stepping_batches)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": OneCycleLR(optimizer, 1e-3, total_steps=steps)},
            }

    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = L.Trainer(max_epochs=2, accelerator="cpu", devices=1, **quiet, **options)
    return Module(), trainer, DataLoader(TensorDataset(torch.randn(64, 16), torch.randint(0, 4, (64,))), 16)


def test_a_lightning_trainer_says_what_it_trains_with() -> None:
    module, trainer, loader = lightning(accumulate_grad_batches=2, gradient_clip_val=0.5)
    with pytest.raises(UsageError, match="before `fit`, pass the module"):
        lrlint.check(trainer)
    before = lrlint.check(module, trainer=trainer, batches=loader)
    trainer.fit(module, loader)
    optimizer, weights = trainer.optimizers[0], module.net.weight.clone()
    after = lrlint.check(trainer)
    assert [found.rule for found in before.findings] == ["LR414", "LR403"]
    assert [found.rule for found in after.findings] == [found.rule for found in lrlint.check(module).findings]
    for run in (before, after):
        assert run.setup is not None
        training = run.setup.training
        assert (training.total_steps, training.steps_per_epoch, training.batch_size) == (4, 2, 16)
        assert (training.accumulation, training.clip_norm) == (2, 0.5)
    assert trainer.optimizers == [optimizer]
    assert torch.equal(weights, module.net.weight)


def test_a_lightning_scheduler_configuration_is_taken() -> None:
    types = pytest.importorskip("lightning.pytorch.utilities.types")
    model, optimizer = pair()
    config = types.LRSchedulerConfig(StepLR(optimizer, 10), interval="step", frequency=2)
    setup = lrlint.inspect(model, optimizer, [config])
    assert [schedule.class_name for schedule in setup.schedules] == ["StepLR"]
    assert setup.schedules[0].clock.interval == "step"


def transformers(folder: Path, **options: Any) -> Any:
    T = pytest.importorskip("transformers")
    config = T.LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    data = [{"input_ids": torch.arange(8), "labels": torch.arange(8)}] * 64
    arguments = T.TrainingArguments(str(folder), use_cpu=True, report_to="none", **options)
    return T.Trainer(model=T.LlamaForCausalLM(config), args=arguments, train_dataset=data)


def test_a_transformers_trainer_needs_no_optimizer(tmp_path: Path) -> None:
    trainer = transformers(tmp_path, max_grad_norm=0.3)
    run = lrlint.check(trainer)
    assert run.setup is not None
    assert (run.setup.training.total_steps, run.setup.training.clip_norm) == (24, 0.3)
    assert trainer.optimizer is None
    own = AdamW(trainer.model.parameters(), lr=0.25)
    setup = lrlint.inspect(trainer.model, own, trainer=trainer)
    assert [group.lr for group in setup.optimizers[0].groups] == [0.25], "the optimizer that was given counts"
    assert setup.training.clip_norm == 0.3


def rules(run: lrlint.Run) -> list[str]:
    return [found.rule for found in run.findings]


def test_groups_that_a_library_wrote_are_nothing_to_remark_on(tmp_path: Path) -> None:
    trainer = transformers(tmp_path)
    assert rules(lrlint.check(trainer)) == [], "two groups without decay, as the Trainer always makes them"
    trainer.create_optimizer()
    same = [{"params": group["params"], "weight_decay": 0.0} for group in trainer.optimizer.param_groups]
    assert rules(lrlint.check(trainer)) == []
    assert "LR111" in rules(
        lrlint.check(trainer.model, AdamW([*same[:1], *({"params": [p]} for p in same[1]["params"])]))
    )


def test_groups_of_an_adapter(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    plain = transformers(tmp_path).model
    model = peft.get_peft_model(plain, peft.LoraConfig(target_modules=["q_proj"], r=2))
    T = pytest.importorskip("transformers")
    trainer = T.Trainer(
        model=model, args=T.TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", max_steps=9)
    )
    assert "LR108" not in rules(lrlint.check(trainer))
    from peft.optimizers import create_loraplus_optimizer

    faster = create_loraplus_optimizer(model, AdamW, lr=1e-4, loraplus_lr_ratio=8)
    assert [len(group["params"]) for group in faster.param_groups].count(0) == 2
    assert not {"LR108", "LR111"} & set(rules(lrlint.check(model, faster)))


class Scaled(nn.Module):
    """Its norms have names and a class that the Trainer's patterns do not know."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.body, self.ln_2, self.head = nn.RMSNorm(8), nn.Linear(8, 8), nn.RMSNorm(8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.head(self.ln_2(self.body(self.ln_1(x))))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def test_a_fault_of_decay_says_who_wrote_the_groups(tmp_path: Path) -> None:
    T = pytest.importorskip("transformers")
    options = T.TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", weight_decay=0.1, max_steps=9)
    found = lrlint.check(T.Trainer(model=Scaled(), args=options)).findings
    decay = [item.message for item in found if item.rule.startswith("LR3")]
    assert decay, found
    assert all(message.endswith("; transformers wrote these groups") for message in decay)
