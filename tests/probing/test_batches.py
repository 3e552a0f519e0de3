"""Batches: the same for every run, whatever they come from, and their source notices nothing."""

from __future__ import annotations

import collections
import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lrlint.errors import TargetError, UsageError
from lrlint.probing.training.batches import collect, moved, synthesize
from lrlint.targets.frameworks import hf_trainer

Pair = collections.namedtuple("Pair", "x y")


def states() -> list[Any]:
    return [random.getstate(), torch.get_rng_state().tolist(), str(numpy.random.get_state())]


def first(batches: Any) -> list[float]:
    return [float(batches.at(step)[0].flatten()[0]) for step in range(len(batches))]


def numbers(count: int) -> TensorDataset:
    return TensorDataset(torch.arange(float(count))[:, None])


def test_a_shuffled_loader_gives_its_own_next_batches_and_does_not_notice() -> None:
    """What is collected is what training would have seen, and training will still see it."""
    loader = DataLoader(numbers(12), batch_size=3, shuffle=True, num_workers=2, persistent_workers=True)
    before = states()
    batches = collect(loader)
    assert states() == before
    assert loader._iterator is None  # no worker was started
    assert first(batches) == [float(batch[0][0]) for batch in DataLoader(loader.dataset, 3, shuffle=True)]


def test_generator_and_sampler_of_a_loader_are_put_back() -> None:
    generator = torch.Generator().manual_seed(1)
    sampler = torch.utils.data.RandomSampler(numbers(8), generator=generator)
    loader = DataLoader(numbers(8), batch_size=2, sampler=sampler)
    expected = first(collect(loader))
    assert first(collect(loader)) == expected == [float(batch[0][0]) for batch in loader]


def test_a_source_that_ends_early_is_cycled() -> None:
    batches = collect([torch.tensor([float(i)]) for i in range(3)], limit=5)
    assert (len(batches), batches.cycled, batches.weak) == (3, True, False)
    assert [float(batches.at(step)) for step in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert not collect([torch.zeros(1)] * 5, limit=5).cycled


def test_fresh_batches_are_the_same_in_another_order() -> None:
    batches = collect([(torch.tensor([float(i)]),) for i in range(20)])
    fresh = batches.fresh(1, steps=20, last=3)
    assert sorted(first(fresh)) == first(batches) != first(fresh)
    assert first(batches.fresh(1, 20, 3)) == first(fresh) != first(batches.fresh(2, 20, 3))


@pytest.mark.parametrize("steps", [6, 20, 45])
def test_fresh_batches_close_with_the_ones_that_all_runs_close_with(steps: int) -> None:
    """And meet none of them before, as long as there are others."""
    batches = collect([(torch.tensor([float(i)]),) for i in range(20)])
    fresh = batches.fresh(1, steps, last=3)
    met = [fresh.at(k)[0].item() for k in range(steps)]
    closing = [batches.at(k)[0].item() for k in range(steps - 3, steps)]
    assert met[-3:] == closing
    assert not set(met[:-3]) & set(closing)


def test_a_step_that_changes_its_batch_changes_no_other_step() -> None:
    batches = collect([{"x": torch.zeros(2), "meta": ["a"]}])
    batch = batches.at(0)
    batch["x"].add_(1)
    batch["meta"].append("b")
    del batch["meta"]
    assert torch.equal(batches.at(0)["x"], torch.zeros(2))
    assert batches.at(1)["meta"] == ["a"]


@dataclasses.dataclass
class Graph:
    nodes: torch.Tensor
    name: str = "g"


@pytest.mark.parametrize(
    "batch",
    [
        (torch.ones(1), torch.zeros(1)),
        Pair(torch.ones(1), torch.zeros(1)),
        [torch.ones(1), {"deep": (torch.zeros(1), "text", 3, None)}],
        collections.OrderedDict(x=torch.ones(1)),
        Graph(torch.ones(1)),
        torch.nn.utils.rnn.pack_sequence([torch.ones(3), torch.ones(2)]),
        torch.ones(2, requires_grad=True),
    ],
    ids=lambda batch: type(batch).__name__,
)
def test_batches_of_any_structure_are_copied(batch: Any) -> None:
    twin = moved(batch, torch.device("cpu"))
    assert type(twin) is type(batch)
    assert repr(twin) == repr(batch)
    assert twin is not batch
    for a, b in zip(tensors(batch), tensors(twin), strict=True):
        assert a.data_ptr() != b.data_ptr()
        assert b.is_leaf


def tensors(item: Any) -> list[torch.Tensor]:
    if isinstance(item, torch.nn.utils.rnn.PackedSequence):
        return []  # its lengths stay where they are
    if isinstance(item, torch.Tensor):
        return [item]
    parts = item.values() if isinstance(item, dict) else item if isinstance(item, (list, tuple)) else []
    return [tensor for part in [*parts, *getattr(item, "__dict__", {}).values()] for tensor in tensors(part)]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(torch.arange(6.0))


@pytest.mark.parametrize(
    ("source", "count"),
    [
        (DataLoader(Stream(), batch_size=2), 3),
        (numbers(9), 3),
        (lambda: [torch.zeros(1)], 1),
        ((torch.zeros(3) for _ in range(4)), 4),
        ((torch.zeros(2), torch.ones(2)), 1),
        ({"x": torch.zeros(2)}, 1),
        (((torch.zeros(2), torch.ones(2)), (torch.zeros(2), torch.ones(2))), 2),
    ],
    ids=["stream", "dataset", "function", "generator", "one pair", "one mapping", "tuple of pairs"],
)
def test_sources(source: Any, count: int) -> None:
    assert len(collect(source, batch_size=4)) == count


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "there are no batches"),
        (None, "batches is None"),
        ("data", "batches is a str"),
        (torch.zeros(3), "batches is a Tensor"),
        (3, "batches is a int, which gives none"),
        ([DataLoader(numbers(2))] * 2, "there are several loaders"),
    ],
)
def test_what_gives_no_batches_is_refused(source: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        collect(source)


def test_a_failing_source_is_told_as_such() -> None:
    def broken() -> Iterator[Any]:
        yield torch.zeros(1)
        raise OSError("no such disk")

    with pytest.raises(TargetError, match="reading the batches raised OSError: no such disk") as info:
        collect(broken())
    assert 'raise OSError("no such disk")' in info.value.trace


def test_synthesized_batches_look_like_the_example() -> None:
    example = ((torch.tensor([[3, 5, 9]]), torch.full((2, 3), 7.0)), {"mask": torch.tensor([True, False])})
    batches = synthesize(example, count=4)
    assert batches.weak
    (ids, floats), options = batches.at(1)
    assert set(ids.flatten().tolist()) <= {3, 5, 9}
    assert torch.equal(floats, torch.full((2, 3), 7.0))
    assert options["mask"].dtype == torch.bool
    wide = synthesize(torch.randn(1000) * 3 + 1, count=2)
    assert wide.at(0).std() == pytest.approx(3, rel=0.2)
    assert not torch.equal(wide.at(0), wide.at(1))


def test_a_data_module_is_set_up_only_for_the_reading() -> None:
    lightning = pytest.importorskip("lightning.pytorch")

    class Data(lightning.LightningDataModule):  # type: ignore[misc, name-defined]
        def setup(self, stage: str) -> None:
            self.data = numbers(4)

        def train_dataloader(self) -> Any:
            return DataLoader(self.data, batch_size=2)

    data = Data()
    assert first(collect(data)) == [0, 2]
    assert not hasattr(data, "data")


def test_a_trainers_loader_is_not_entered_with_accelerate(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_embd=8, n_head=2, n_layer=1, vocab_size=20, n_positions=8)
    data = [{"input_ids": torch.full((4,), i), "labels": torch.full((4,), i)} for i in range(8)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), report_to=[], use_cpu=True, per_device_train_batch_size=2, dataloader_num_workers=2
    )
    trainer = transformers.Trainer(transformers.GPT2LMHeadModel(config), arguments, train_dataset=data)
    before = states()
    for source in (trainer, hf_trainer.Batches(trainer.get_train_dataloader)):
        batches = collect(source)
        assert states() == before
        assert trainer.accelerator._dataloaders == []
        assert len(batches) == 4
        assert sorted(batches.at(0)) == ["input_ids", "labels"]
