"""What the probe does to a setup: nothing, to the bit, however it ends."""

from __future__ import annotations

import collections
import gc
import os
import random
import signal
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from setups_probe import MODELS, OPTIMIZERS, SCHEDULERS, SPECIAL, Setup, Stateful
from torch import nn

from lrlint.errors import UsageError
from lrlint.targets.preservation.snapshot import Snapshot, preserved


class Fingerprint:
    """Everything reachable from some objects as plain data: identities, bits, order. Written apart from what it tests."""

    def __init__(self, *roots: Any) -> None:
        self._seen: dict[int, int] = {}
        self._held: list[Any] = []
        process = (random.getstate(), torch.get_rng_state().numpy().tobytes(), numpy.random.get_state())
        modes = (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))
        self.data = [self._of(root) for root in (*roots, process, modes)]

    def _of(self, item: Any) -> Any:
        if item is None or isinstance(item, (int, str, bool, bytes, torch.dtype, torch.device, torch.Size)):
            return item
        if isinstance(item, float):
            return item.hex()
        if isinstance(item, (type, type(os))) or (callable(item) and not isinstance(item, nn.Module)):
            return id(item)
        if id(item) in self._seen:
            return ("again", self._seen[id(item)])
        self._seen[id(item)] = len(self._seen)
        self._held.append(item)
        return self._new(item)

    def _new(self, item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            return self._tensor(item)
        if isinstance(item, torch.Generator):
            return item.get_state().numpy().tobytes()
        if isinstance(item, numpy.ndarray):
            return item.tobytes()
        if isinstance(item, numpy.random.Generator):
            return str(item.bit_generator.state)
        if isinstance(item, random.Random):
            return item.getstate()
        if isinstance(item, dict):
            entries: Any = [(self._of(key), self._of(value)) for key, value in item.items()]
        elif isinstance(item, (list, tuple, collections.deque)):
            entries = [self._of(value) for value in item]
        elif isinstance(item, (set, frozenset)):
            entries = sorted(str(self._of(value)) for value in item)
        else:
            entries = None
        slots = tuple(getattr(item, name, None) for name in getattr(type(item), "__slots__", ()))
        attributes = [(name, self._of(value)) for name, value in getattr(item, "__dict__", {}).items()]
        identity = None if isinstance(item, tuple) else id(item)
        return (type(item).__name__, identity, entries, self._of(slots) if slots else None, attributes)

    def _tensor(self, item: torch.Tensor) -> Any:
        if item.layout != torch.strided:
            dense = item.detach().coalesce()
            return (id(item), dense.indices().numpy().tobytes(), dense.values().numpy().tobytes(), item.is_coalesced())
        flat = torch.empty(0, dtype=torch.uint8).set_(item.detach().clone().contiguous().untyped_storage())
        grad = self._of(item.grad) if item.is_leaf else None
        place = (item.data_ptr(), item.storage_offset(), item.shape, item.stride(), item.dtype, item.requires_grad)
        return (id(item), place, flat.numpy().tobytes(), grad, self._of(item.__dict__))


class Boom(Exception):
    pass


ENDINGS = (None, Boom, KeyboardInterrupt, SystemExit)
setups = st.one_of(
    st.tuples(st.sampled_from(sorted(MODELS)), st.sampled_from(sorted({**OPTIMIZERS, **SPECIAL}))).filter(
        lambda kind: kind != ("recurrent", "lbfgs")  # torch's refuses weights in another memory order
    ),
    st.sampled_from([("table", "sparse-adam"), ("table", "sgd")]),
)


@settings(max_examples=120)
@given(
    setups,
    st.sampled_from(sorted(SCHEDULERS)),
    st.sampled_from(["fresh", "used", "gradients"]),
    st.sampled_from(["auto", "host", "disk"]),
    st.sampled_from(ENDINGS),
    st.booleans(),
    st.integers(1, 3),
)
def test_a_probe_leaves_no_trace(
    kind: tuple[str, str], scheduler: str, use: str, place: str, ending: Any, poison: bool, runs: int
) -> None:
    """Bits, identities and order are those of before; the next twenty steps are those of a twin without a probe."""
    setup = Setup(*kind, scheduler)
    _use(setup, use)
    before = Fingerprint(setup.model, setup.optimizer, setup.scheduler).data
    try:
        with preserved([setup.model], [setup.optimizer], [setup.scheduler], place=place) as snapshot:
            for _ in range(runs):
                snapshot.restore()
                assert Fingerprint(setup.model, setup.optimizer, setup.scheduler).data == before
                _mess_up(setup, poison)
            if ending is not None:
                raise ending
    except (Boom, KeyboardInterrupt, SystemExit) as error:
        assert type(error) is ending  # noqa: PT017 - what comes through decides, not that something does
    assert Fingerprint(setup.model, setup.optimizer, setup.scheduler).data == before
    losses = [setup.step().hex() for _ in range(20)]
    twin = Setup(*kind, scheduler)
    _use(twin, use)
    assert losses == [twin.step().hex() for _ in range(20)]


def _use(setup: Setup, use: str) -> None:
    for _ in range(0 if use == "fresh" else 3):
        setup.step()
    if use == "gradients":
        setup.gradients()


def _mess_up(setup: Setup, poison: bool) -> None:
    """What the steps of a probe do, and worse."""
    for number in range(3):
        if poison and number == 1:
            with torch.no_grad():
                for parameter in setup.model.parameters():
                    parameter.fill_(float("nan"))
        setup.step()
    setup.model.eval()
    setup.model.requires_grad_(False)
    for parameter in setup.model.parameters():
        parameter.grad = None
        parameter.note = "added"
    setup.optimizer.defaults["lr"] = 17
    setup.optimizer.param_groups[0]["params"].append(nn.Parameter(torch.zeros(1)))
    setup.optimizer.param_groups.append(dict(setup.optimizer.param_groups[0]))
    setup.optimizer.state.clear()
    setup.model.register_buffer("late_buffer", torch.zeros(1))
    setup.model.double()
    torch.set_grad_enabled(False)
    torch.set_autocast_enabled("cpu", True)
    random.seed(3)
    numpy.random.seed(3)
    torch.manual_seed(3)


def test_ctrl_c_waits_until_the_restoration_is_complete() -> None:
    """The signal arrives while the state is being put back."""
    setup = Setup("plain", "adamw")
    before = Fingerprint(setup.model, setup.optimizer).data
    snapshot = Snapshot.take([setup.model], [setup.optimizer])
    setup.step()

    class Interrupting:
        def restore(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    snapshot._records.insert(0, Interrupting())
    with pytest.raises(KeyboardInterrupt):
        snapshot.restore()
    assert Fingerprint(setup.model, setup.optimizer).data == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_probe_may_run_in_a_thread() -> None:
    setup = Setup("plain", "adamw")
    before = Fingerprint(setup.model, setup.optimizer).data

    def work() -> None:
        with preserved([setup.model], [setup.optimizer]):
            setup.step()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert Fingerprint(setup.model, setup.optimizer).data == before


def test_shared_storage_is_saved_once() -> None:
    base = torch.zeros(1000)
    model = nn.Module()
    model.a, model.b = nn.Parameter(base[:600]), nn.Parameter(base[400:])
    model.c = model.a
    optimizer = torch.optim.SGD([model.a, model.b], lr=0.1)
    assert Snapshot.take([model], [optimizer]).nbytes == 4000


def test_only_the_part_that_tensors_cover_is_saved() -> None:
    model = nn.Module()
    model.a = nn.Parameter(torch.zeros(10_000)[100:110])
    assert Snapshot.take([model], []).nbytes == 40


def test_what_did_not_change_is_not_written() -> None:
    """A dict that reports writes hears nothing of a restoration when nothing happened."""

    class Reporting(dict):  # type: ignore[type-arg]
        writes = 0

        def __setitem__(self, key: Any, value: Any) -> None:
            Reporting.writes += 1
            super().__setitem__(key, value)

        def clear(self) -> None:
            Reporting.writes += 1
            super().clear()

    model = nn.Linear(2, 2)
    model.table = Reporting(a=1)
    with preserved([model], []):
        pass
    with preserved([model], []):
        dict.__setitem__(model.table, "a", 2)
    assert (Reporting.writes, model.table) == (0, {"a": 1})


def test_closures_and_hooks_are_wound_back() -> None:
    """Counters in closures, activations that a hook collects, a patched step, a generator in a loss function."""
    model, count, kept = nn.Linear(2, 1), 0, []
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    plain = optimizer.step

    def step(closure: Any = None) -> None:
        nonlocal count
        count += 1
        plain(closure)

    def loss_fn() -> torch.Tensor:
        return model(torch.randn(3, 2, generator=generator)).mean()

    optimizer.step = step
    model.register_forward_hook(lambda module, inputs, output: kept.append(output))
    state = generator.get_state()
    with preserved([model], [optimizer], [loss_fn]):
        loss_fn().backward()
        optimizer.step()
        assert (count, len(kept)) == (1, 1)
    assert (count, len(kept)) == (0, 0)
    assert torch.equal(generator.get_state(), state)


def test_a_probe_may_come_between_forward_and_backward() -> None:
    setup = Setup("plain", "adamw")
    loss = setup.loss()
    with preserved([setup.model], [setup.optimizer]):
        setup.step()
    loss.backward()
    gradient = setup.model.head.weight.grad
    twin = Setup("plain", "adamw")
    twin.loss().backward()
    assert torch.equal(gradient, twin.model.head.weight.grad)


def test_a_gradient_scaler_and_an_average_are_others() -> None:
    setup = Setup("plain", "adamw")
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)
    average = torch.optim.swa_utils.AveragedModel(setup.model)
    before = Fingerprint(scaler, average).data
    with preserved([setup.model], [setup.optimizer], [scaler, average]):
        scaler.scale(setup.loss()).backward()
        scaler.step(setup.optimizer)
        scaler.update()
        average.update_parameters(setup.model)
        assert scaler.get_scale() == 16.0
    assert Fingerprint(scaler, average).data == before
    assert scaler.get_scale() == 8.0


def test_the_order_of_a_loader_is_restored() -> None:
    data = torch.utils.data.TensorDataset(torch.arange(8.0)[:, None])
    generator = torch.Generator().manual_seed(3)
    loader = torch.utils.data.DataLoader(data, batch_size=2, shuffle=True, generator=generator)
    with preserved([nn.Linear(1, 1)], [], [loader]):
        first = [batch[0].tolist() for batch in loader]
    assert [batch[0].tolist() for batch in loader] == first


def test_autocast_casts_of_old_weights_are_forgotten() -> None:
    """Inside the user's autocast block the casts of weights are cached, also those of weights that were put back."""
    model = nn.Linear(4, 4)
    x = torch.ones(1, 4)
    with torch.autocast("cpu", torch.bfloat16):
        before = model(x).detach()
        with preserved([model], []):
            with torch.no_grad():
                model.weight.add_(1)
            torch.clear_autocast_cache()
            model(x)
        assert torch.equal(model(x), before)


def test_the_file_of_a_copy_on_disk_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    setup = Setup("plain", "adamw")
    with preserved([setup.model], [setup.optimizer], place="disk") as snapshot:
        assert len(list(tmp_path.iterdir())) == 1
        assert "in a temporary file" in snapshot.describe()
    assert not list(tmp_path.iterdir())
    snapshot = Snapshot.take([setup.model], [setup.optimizer], place="disk")
    del snapshot
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_full_memory_sends_the_copy_to_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrlint.targets.preservation.storage.host_memory", lambda: 1000)
    setup = Setup("plain", "adamw")
    with preserved([setup.model], [setup.optimizer]) as snapshot:
        assert snapshot.place == "disk"
        assert (
            snapshot.describe() == "state kept in a temporary file (684 bytes; the host has 1000 bytes of memory free)"
        )


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(UsageError, match="'cloud' is no place"):
        Snapshot.take([nn.Linear(1, 1)], [], place="cloud")


def test_lazy_modules_are_refused() -> None:
    model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(UsageError, match=r"'0.weight' has no shape yet"):
        Snapshot.take([model], [])


def test_the_probed_object_graph_is_not_kept_alive() -> None:
    setup = Setup("stateful", "odd")
    with preserved([setup.model], [setup.optimizer], [setup.scheduler]) as snapshot:
        setup.step()
    assert isinstance(setup.model, Stateful)
    assert not snapshot._records


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("place", ["device", "host", "disk"])
def test_state_on_a_gpu_is_restored(place: str) -> None:
    """Values, the device's random state, and the state of an optimizer with tensors for its step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 1)).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=torch.tensor(0.01, device="cuda"), capturable=True)

    def step() -> float:
        optimizer.zero_grad()
        loss = model(torch.randn(16, 8, device="cuda")).square().mean()
        loss.backward()
        optimizer.step()
        return float(loss)

    step()
    with preserved([model], [optimizer], place=place):
        first = [step() for _ in range(5)]
    assert [step() for _ in range(5)] == first
