"""The batches of a probe: taken once, without a trace left on their source, and the same for every run."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lrlint.errors import UsageError
from lrlint.probing.training.failures import target_code
from lrlint.targets.frameworks import hf_trainer
from lrlint.targets.preservation.generators import random_states
from lrlint.targets.preservation.object_walk import ObjectGraph
from lrlint.targets.preservation.records import Attributes, Contents
from lrlint.targets.preservation.storage import device_memory

#: Share of the free memory that batches may take on the device; above it they wait where they came from.
_SHARE = 0.1
_HINT = "give a list of batches, a DataLoader, or a LightningDataModule"


class Batches:
    """A fixed sequence of batches. `at` gives a copy, so that a step that changes its batch changes no other step's.

    ``cycled``: the source ended before as many were found as were asked for, so steps meet batches again. ``weak``:
    they were made up, and say little about real data.
    """

    def __init__(
        self,
        items: Sequence[Any],
        device: torch.device | None = None,
        *,
        cycled: bool = False,
        weak: bool = False,
        order: Sequence[int] | None = None,
    ) -> None:
        self._items = items
        self._order = range(len(items)) if order is None else order
        self.device, self.cycled, self.weak = device, cycled, weak

    def __len__(self) -> int:
        return len(self._order)

    def at(self, step: int) -> Any:
        """The batch of this step, on the device; from the first one again when they are used up."""
        return moved(self._items[self._order[step % len(self._order)]], self.device)

    def fresh(self, seed: int, steps: int, last: int) -> Batches:
        """For a run of so many steps: the batches in another order (by ``seed``), but for the ``last`` ones.

        They stay where they are, so that a run's end can be compared with those in the order of the source.
        """
        closing = [k % len(self) for k in range(steps - last, steps)]
        others = sorted(set(range(len(self))) - set(closing)) or closing
        mixed = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed), device="cpu").tolist()
        order = [others[mixed[k % len(others)]] for k in range(steps - last)] + closing
        return Batches(self._items, self.device, cycled=self.cycled, weak=self.weak, order=order)


def collect(
    batches: Any, device: torch.device | str | None = None, limit: int = 100, *, batch_size: int | None = None
) -> Batches:
    """At most ``limit`` batches from whatever gives them.

    ``batches``: an iterable of batches, a DataLoader, a LightningDataModule, a transformers Trainer, a torch Dataset
    (``batch_size`` samples each), a function that returns one of these, or a single batch (a mapping or a tuple of
    tensors). A loader is read in this process; its generators, its sampler and the global random states are put back.
    ``device``: where `at` puts them. Raises UsageError for something else or nothing, TargetError when reading fails.
    """
    target = None if device is None else torch.device(device)
    source = batches.trainer if isinstance(batches, hf_trainer.Batches) else batches
    with _unnoticed(source), target_code("reading the batches"):
        taken = [moved(item, None) for item in itertools.islice(_iterator(source, batch_size), limit)]
    if not taken:
        raise UsageError("there are no batches to take steps with", _HINT)
    if any(isinstance(item, DataLoader) for item in taken):
        raise UsageError(
            "there are several loaders", "give the batches of one, or what the training loop makes of both"
        )
    return Batches(_held(taken, target), target, cycled=len(taken) < limit)


def synthesize(
    example_inputs: Any, device: torch.device | str | None = None, *, count: int = 16, seed: int = 0
) -> Batches:
    """Batches like the example, for want of real ones (``weak``): same shapes, new values.

    Floats are normal with the example's mean and deviation, integers and flags are drawn from the example's own values.
    """
    generator = torch.Generator().manual_seed(seed)
    items = [_map(example_inputs, lambda part: _like(part, generator)) for _ in range(count)]
    target = None if device is None else torch.device(device)
    return Batches(_held(items, target), target, cycled=True, weak=True)


def _like(part: Any, generator: torch.Generator) -> Any:
    if not isinstance(part, torch.Tensor):
        return part
    tensor = part.detach().cpu()
    if tensor.is_floating_point() and tensor.numel() > 1:
        noise = torch.randn(tensor.shape, generator=generator, device="cpu")
        return (noise * tensor.float().std() + tensor.float().mean()).to(tensor.dtype)
    order = torch.randint(max(tensor.numel(), 1), (tensor.numel(),), generator=generator, device="cpu")
    return tensor.flatten()[order].view(tensor.shape)


def _iterator(source: Any, batch_size: int | None) -> Iterator[Any]:
    if isinstance(source, (str, bytes, torch.Tensor)) or source is None:
        raise UsageError(f"batches is {_described(source)}", _HINT)
    if isinstance(source, DataLoader):
        return iter(_in_process(getattr(source, "base_dataloader", source)))  # accelerate's wrapper counts and moves
    if _is_one_batch(source):
        return iter([source])
    for method in ("get_train_dataloader", "train_dataloader"):
        if callable(getattr(source, method, None)):
            return _iterator(_loader_of(source, method), batch_size)
    if isinstance(source, Dataset):
        return iter(DataLoader(source, batch_size=batch_size or 8, shuffle=not isinstance(source, IterableDataset)))
    if callable(source) and not isinstance(source, Iterable):
        return _iterator(source(), batch_size)
    try:
        return iter(source)
    except TypeError as error:
        raise UsageError(f"batches is {_described(source)}, which gives none", _HINT) from error


def _is_one_batch(source: Any) -> bool:
    tensors = source.values() if isinstance(source, Mapping) else source if isinstance(source, tuple) else ()
    return any(isinstance(item, torch.Tensor) for item in tensors)


def _in_process(loader: DataLoader[Any]) -> Any:
    """The loader without worker processes: the same batches, and its own workers neither started nor disturbed."""
    twin = copy.copy(loader)
    fields = vars(twin)
    fields.update(num_workers=0, timeout=0, prefetch_factor=None, persistent_workers=False, pin_memory=False)
    fields.update(_iterator=None, _DataLoader__multiprocessing_context=None)
    return twin


def _loader_of(source: Any, method: str) -> Any:
    """The training loader of a data module or Trainer."""
    try:
        return getattr(source, method)()
    except (AttributeError, TypeError, NotImplementedError):
        if not callable(getattr(source, "setup", None)):
            raise
    source.prepare_data()
    source.setup("fit")
    return getattr(source, method)()


@contextmanager
def _unnoticed(source: Any) -> Iterator[None]:
    """Reading leaves no trace: random states, generators, samplers and the source's own attributes are put back."""
    attributes = [] if isinstance(source, (type, DataLoader)) else [*getattr(source, "__dict__", {}).values()]
    loaders = [item for item in (source, *attributes) if isinstance(item, DataLoader)]
    records = [*random_states(), *ObjectGraph(loaders).records]
    if attributes:
        records.append(Attributes(source))
    registered = getattr(getattr(source, "accelerator", None), "_dataloaders", None)
    if isinstance(registered, list):
        records.append(Contents(registered))  # a transformers Trainer has its loader entered there
    try:
        yield
    finally:
        for record in records:
            record.restore()


def _held(items: list[Any], device: torch.device | None) -> list[Any]:
    """The batches on an accelerator, where they leave room for the steps."""
    if device is None or device.type == "cpu":
        return items
    free = device_memory(device)
    fit = free is None or sum(_bytes_of(item) for item in items) < _SHARE * free
    return [moved(item, device) for item in items] if fit else items


def _bytes_of(item: Any) -> int:
    total = 0

    def count(part: Any) -> Any:
        nonlocal total
        total += part.numel() * part.element_size() if isinstance(part, torch.Tensor) else 0
        return part

    _map(item, count)
    return total


def moved(item: Any, device: torch.device | None) -> Any:
    """A copy of the batch on the device (None: where it is)."""
    return _map(item, lambda part: _on(part, device))


def _on(part: Any, device: torch.device | None) -> Any:
    if isinstance(part, torch.Tensor):
        twin = part.detach().clone() if device is None else part.detach().to(device, copy=True)
        return twin.requires_grad_() if part.requires_grad else twin
    twin = part.clone() if callable(getattr(part, "clone", None)) else copy.copy(part)
    return twin if device is None else twin.to(device)


def _map(item: Any, function: Callable[[Any], Any]) -> Any:
    """The batch with the function applied to every tensor in it, and to what moves as a whole (a packed sequence, a
    graph). Containers of any class are copied.
    """
    if isinstance(item, torch.Tensor) or _moves_itself(item):
        return function(item)
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*(_map(value, function) for value in item))
    if isinstance(item, (list, tuple)):
        return type(item)(_map(value, function) for value in item)
    if type(item) is dict:
        return {key: _map(value, function) for key, value in item.items()}
    if isinstance(item, Mapping):
        twin: Any = copy.copy(item)
        for key, value in item.items():
            twin[key] = _map(value, function)
        return twin
    attributes = getattr(item, "__dict__", None)
    if isinstance(attributes, dict) and not isinstance(item, type) and not callable(item):
        twin = copy.copy(item)
        for name, value in list(vars(twin).items()):
            vars(twin)[name] = _map(value, function)
        return twin
    return item


def _moves_itself(item: Any) -> bool:
    if isinstance(item, (Mapping, type)) or not callable(getattr(item, "to", None)):
        return False
    return isinstance(item, tuple) or callable(getattr(item, "clone", None))


def _described(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
