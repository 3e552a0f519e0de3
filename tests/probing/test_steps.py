"""Steps are those of a training loop, their statistics those of the textbook, and what goes wrong is told."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from setups_probe import OPTIMIZERS, SPECIAL, Odd, Plain, Recurrent, Table
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lrlint.errors import TargetError, UsageError
from lrlint.facts import Training
from lrlint.probing.training.batches import Batches, collect
from lrlint.probing.training.device import move
from lrlint.probing.training.seeding import seed_all
from lrlint.probing.training.stepper import Stepper
from lrlint.targets.preservation.snapshot import Snapshot, preserved


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def pairs(count: int = 6, size: int = 7) -> Batches:
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return collect([(draw(size, 6), draw(size, 1)) for _ in range(count)])


def halves(model: nn.Module, **options: Any) -> list[dict[str, Any]]:
    """Two groups: matrices and the rest."""
    params = list(model.parameters())
    return [
        {"params": [p for p in params if p.ndim > 1], **options},
        {"params": [p for p in params if p.ndim < 2], **options},
    ]


def sgd(model: nn.Module, lr: float = 0.1, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, **options)


def stepper(model: nn.Module, optimizer: Any = None, loss_fn: Any = F.mse_loss, **options: Any) -> Stepper:
    return Stepper([model], [optimizer or sgd(model)], options.pop("batches", pairs()), loss_fn, **options)


# What a step does


@pytest.mark.parametrize("name", sorted({**OPTIMIZERS, **SPECIAL}))
def test_steps_are_those_of_a_plain_loop(name: str) -> None:
    """Losses and weights to the bit, with dropout and batch norm, for every optimizer class."""

    def make() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = Plain()
        return model, {**OPTIMIZERS, **SPECIAL}[name](halves(model))

    model, optimizer = make()
    trace = stepper(model, optimizer).run(5)
    twin, other = make()
    losses = []
    for k in range(5):
        seed_all(0, k)
        x, y = pairs().at(k)

        def gradients(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            other.zero_grad()
            loss = F.mse_loss(twin(x), y)
            loss.backward()
            return loss

        if name == "two":
            other.train()
        if name == "lbfgs":
            losses.append(float(other.step(gradients).detach()))
        else:
            losses.append(float(gradients().detach()))
            other.step(gradients) if name == "sharp" else other.step()
    assert trace.loss == losses
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_accumulated_batches_make_the_step_of_one_large_batch() -> None:
    model, twin = nn.Linear(6, 1), nn.Linear(6, 1)
    twin.load_state_dict(model.state_dict())
    small = pairs(6)
    large = collect([tuple(torch.cat([small.at(2 * k + i)[j] for i in range(2)]) for j in range(2)) for k in range(3)])
    first = stepper(model, batches=small, training=Training(accumulation=2)).run(3)
    second = stepper(twin, batches=large).run(3)
    assert first.loss == pytest.approx(second.loss)
    assert first.gradient[0, 0] == pytest.approx(second.gradient[0, 0])
    torch.testing.assert_close(model.weight, twin.weight)


@pytest.mark.parametrize(
    ("declared", "asked", "expected"), [(0.5, "declared", 0.5), (0.5, None, None), (None, 0.2, 0.2)]
)
def test_gradients_are_clipped_as_declared_or_asked(declared: Any, asked: Any, expected: Any) -> None:
    """The norm is that of the whole model's gradients; statistics are of those before."""
    model = nn.Linear(6, 1)
    made = stepper(model, sgd(model, 1.0), training=Training(clip_norm=declared))
    facts = (made.step(0) if asked == "declared" else made.step(0, clip=asked)).read()
    size = math.hypot(*(group.update for group in facts.groups.values()))
    assert facts.norm > 0.6
    assert size == pytest.approx(expected or facts.norm, rel=1e-4)


def test_clipping_counts_parameters_that_no_optimizer_holds() -> None:
    """As `clip_grad_norm_(model.parameters(), ...)` does."""
    model = Plain()
    made = stepper(model, torch.optim.SGD(model.head.parameters(), lr=1.0), training=Training(clip_norm=1e-3))
    facts = made.step(0).read()
    assert facts.groups[0, 0].update < 0.9e-3
    assert model.body[0].weight.grad is not None


def test_gradients_of_lost_parameters_do_not_pile_up() -> None:
    model = Plain()
    made = stepper(model, torch.optim.SGD(model.head.parameters(), lr=0.0))
    model.eval()
    norms = []
    for _ in range(2):
        made.step(0)
        norms.append(float(model.body[0].weight.grad.norm()))
    assert norms[0] == norms[1]


def test_dropout_noise_depends_on_seed_and_step_alone() -> None:
    model = nn.Sequential(nn.Linear(6, 50), nn.Dropout(0.5), nn.Linear(50, 1))
    one = collect([pairs().at(0)])
    frozen = {(0, 0): 0.0}
    runs = [stepper(model, batches=one, seed=seed).run(3, frozen).loss for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]
    assert len(set(runs[0])) == 3


def test_rates_are_written_for_the_step() -> None:
    model = nn.Linear(6, 1)
    made = stepper(model, torch.optim.SGD(halves(model), lr=0.1))
    assert made.rates == {(0, 0): 0.1, (0, 1): 0.1}
    trace = made.run(3, lambda k: {(0, 0): 0.0, (0, 1): 0.1 * k})
    assert trace.update[0, 0] == [0, 0, 0]
    assert trace.update[0, 1][0] == 0 < trace.update[0, 1][1] < trace.update[0, 1][2]


def test_a_tensor_rate_stays_that_tensor_unless_groups_share_it() -> None:
    model, rate = nn.Linear(6, 1), torch.tensor(0.1)
    optimizer = torch.optim.AdamW(halves(model), lr=rate)
    assert optimizer.param_groups[1]["lr"] is rate  # torch shares it
    with preserved([model], [optimizer]):
        stepper(model, optimizer).step(0, {(0, 0): 0.5, (0, 1): 0.25})
        assert optimizer.param_groups[0]["lr"] is rate
        assert [float(group["lr"]) for group in optimizer.param_groups] == [0.5, 0.25]
    assert all(group["lr"] is rate for group in optimizer.param_groups)
    assert rate == torch.tensor(0.1)


def test_a_group_without_a_rate_is_left_alone() -> None:
    model = nn.Linear(6, 1)
    optimizer = Odd(model.parameters(), 0.1)
    optimizer.param_groups[0]["lr"] = None
    assert stepper(model, optimizer).rates == {}


def test_several_optimizers_follow_one_loss() -> None:
    model = Plain()
    groups = halves(model)
    made = Stepper([model], [torch.optim.Adam(groups[:1], 0.01), torch.optim.SGD(groups[1:], 0.1)], pairs(), F.mse_loss)
    trace = made.run(2)
    assert trace.keys == ((0, 0), (1, 0))
    assert all(value > 0 for key in trace.keys for value in trace.update[key])


def test_each_optimizer_may_follow_its_own_loss() -> None:
    """A generator and its critic: each step leaves the other's parameters alone."""
    generator, critic = nn.Linear(6, 1), nn.Linear(1, 1)
    seen = []

    def critic_loss(models: Any, batch: Any) -> torch.Tensor:
        return models[1](models[0](batch[0])).mean() - models[1](batch[1]).mean()

    def generator_loss(models: Any, batch: Any) -> torch.Tensor:
        seen.append(critic.weight.detach().clone())
        return -models[1](models[0](batch[0])).mean()

    start = critic.weight.detach().clone()
    made = Stepper([generator, critic], [sgd(critic), sgd(generator)], pairs(), {"c": critic_loss, "g": generator_loss})
    trace = made.run(1)
    assert not torch.equal(seen[0], start)  # the critic has moved when the generator's turn comes
    assert torch.equal(critic.weight, seen[0])
    assert trace.update[0, 0][0] > 0 < trace.update[1, 0][0]


def test_step_hooks_and_wrapped_steps_of_the_user_run() -> None:
    model = nn.Linear(6, 1)
    optimizer, calls = sgd(model), []
    optimizer.register_step_pre_hook(lambda *arguments: calls.append("pre"))
    optimizer.register_step_post_hook(lambda *arguments: calls.append("post"))
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    stepper(model, optimizer).run(2)
    assert calls == ["pre", "post"] * 2


# Statistics


def naive(model: nn.Module, optimizer: Any, made: Stepper, k: int) -> Iterator[Any]:
    """(gradients, weights before, updates) of every group, in float64, from a step taken by hand."""
    seed_all(made.seed, k)
    batch = made.batches.at(k)
    optimizer.zero_grad()
    for p in model.parameters():
        p.grad = None
    loss = F.mse_loss(model(batch[0]).float(), batch[1])
    loss.backward()
    groups = [[p for p in group["params"] if p.requires_grad] for group in optimizer.param_groups]
    flat = lambda tensors: torch.cat([torch.zeros(0), *(t.detach().to_dense().double().flatten() for t in tensors)])  # noqa: E731
    gradients = [flat(torch.zeros_like(p) if p.grad is None else p.grad for p in group) for group in groups]
    before = [flat(group) for group in groups]
    optimizer.step()
    return zip(gradients, before, [flat(g) - b for g, b in zip(groups, before, strict=True)], strict=True)


CASES: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "adamw": lambda: (m := Plain(), torch.optim.AdamW(halves(m), lr=0.01)),
    "gradients changed by the optimizer": lambda: (m := Plain(), Odd(halves(m), 0.01)),
    "channels last": lambda: (m := Recurrent(), torch.optim.SGD(halves(m), lr=0.1, momentum=0.9)),
    "sparse": lambda: (m := Table(), torch.optim.SGD([{"params": m.parameters()}, {"params": []}], lr=0.1)),
    "bfloat16": lambda: (m := Half(), torch.optim.SGD(halves(m), lr=0.1)),
    "float64": lambda: (m := Mixed(), torch.optim.SGD(halves(m), lr=0.1)),
    "unused and frozen": lambda: (m := Unused(), torch.optim.AdamW(halves(m), lr=0.01)),
}


class Half(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 1).bfloat16()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.bfloat16()).float()


class Mixed(nn.Module):
    """Two precisions in one group."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 1).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x).double()).float()


class Unused(nn.Module):
    """One layer is used in every other step, one never, one is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.never = nn.Linear(6, 1), nn.Linear(6, 1), nn.Linear(6, 1)
        self.a.bias.requires_grad_(False)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.a(x) + (self.b(x) if self.calls % 2 else 0)


@pytest.mark.parametrize("case", CASES)
def test_statistics_are_those_of_the_textbook(case: str) -> None:
    torch.manual_seed(0)
    model, optimizer = CASES[case]()
    made = stepper(model, optimizer)
    snapshot = Snapshot.take([model], [optimizer])
    trace = made.run(4)
    snapshot.restore()
    last: list[Any] = []
    for k in range(4):
        rows = list(naive(model, optimizer, made, k))
        for g, (gradient, weight, update) in enumerate(rows):
            key, close = (0, g), {"rel": 1e-5, "abs": 1e-7}
            assert trace.gradient[key][k] == pytest.approx(gradient.norm().item(), **close)
            assert trace.weight[key][k] == pytest.approx(weight.norm().item(), **close)
            assert trace.update[key][k] == pytest.approx(update.norm().item(), rel=1e-4, abs=1e-7)
            assert trace.slope[key][k] == pytest.approx((gradient @ update).item(), rel=1e-3, abs=1e-6)
            if last:
                before, _, moved = last[g]
                expected = ((gradient - before) @ moved).item()
                assert trace.curvature[key][k - 1] == pytest.approx(expected, rel=1e-3, abs=1e-6)
        last = rows
        assert trace.norm[k] == pytest.approx(math.hypot(*(row[0].norm().item() for row in rows)), rel=1e-5)
    assert all(len(trace.curvature[key]) == 3 for key in trace.keys)


def test_the_slope_foretells_the_change_of_the_loss() -> None:
    model = nn.Linear(6, 1)
    trace = stepper(model, sgd(model, 1e-4), batches=collect([pairs().at(0)])).run(2)
    assert trace.loss[1] - trace.loss[0] == pytest.approx(trace.slope[0, 0][0], rel=1e-2)
    assert trace.slope[0, 0][0] < 0


def test_a_continued_run_is_one_run() -> None:
    model = Plain()
    optimizer = sgd(model, momentum=0.9)
    made = stepper(model, optimizer)
    snapshot = Snapshot.take([model], [optimizer])
    whole = made.run(6)
    snapshot.restore()
    made.begin()
    parts = made.run(4)
    assert made.run(2, start=4, trace=parts) == whole


def test_a_new_run_knows_nothing_of_the_last_one() -> None:
    model = nn.Linear(6, 1)
    made = stepper(model)
    made.run(2)
    made.begin()
    assert math.isnan(made.step(0).read().groups[0, 0].along)


def test_without_statistics_only_the_loss_is_known() -> None:
    model = Plain()
    made = stepper(model)
    snapshot = Snapshot.take([model], [])
    full = made.run(3)
    snapshot.restore()
    bare = made.run(3, statistics=False)
    assert bare.loss == full.loss
    assert bare.gradient == {}
    assert all(math.isnan(value) for value in bare.norm)


class Reads(TorchDispatchMode):
    """Counts what makes the host wait for a device: values read, truth asked, sizes that depend on data."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "item"):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_step_reads_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at all before `Reading.read`, and there one vector, however many groups there are."""
    model = Plain()
    optimizer = torch.optim.SGD([{"params": [p]} for p in model.parameters()], lr=0.1, momentum=0.9)
    made = stepper(model, optimizer, training=Training(clip_norm=1.0))
    reads: list[int] = []
    plain = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: reads.append(self.numel()) or plain(self))
    with Reads() as mode:
        reading = made.step(0)
    assert (mode.found, reads) == ([], [])
    with Reads() as mode:
        reading.read()
    assert mode.found == []
    assert reads == [1 + 5 * len(made.keys)]


def test_a_reading_may_wait_until_later_steps_were_taken() -> None:
    model = Plain()
    made = stepper(model)
    snapshot = Snapshot.take([model], [])
    expected = [made.step(k).read() for k in range(3)]
    snapshot.restore()
    made.begin()
    late = [reading.read() for reading in [made.step(k) for k in range(3)]]
    assert [repr(facts) for facts in late] == [repr(facts) for facts in expected]


# Precision


def test_declared_bfloat16_is_the_forward_passes_alone() -> None:
    model = nn.Linear(6, 1)
    seen = []
    model.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    trace = stepper(model, training=Training(precision="bf16-mixed")).run(2)
    assert seen == [torch.bfloat16] * 2
    assert model.weight.dtype == model.weight.grad.dtype == torch.float32
    assert all(map(math.isfinite, trace.loss))


def test_float16_steps_with_a_loss_scale_that_fits() -> None:
    """At the first scale of 65536 these gradients overflow; a loop would skip steps, and runs could not be compared."""
    model = nn.Linear(6, 1)
    batches = collect([(100 * x, y) for x, y in (pairs().at(k) for k in range(3))])
    made = stepper(model, sgd(model, 1e-6), batches=batches, training=Training(precision="fp16-mixed"))
    trace = made.run(3)
    assert trace.stopped is None
    assert all(update > 0 for update in trace.update[0, 0])
    assert made.scaler.get_scale() < 65536
    scaled = trace.gradient[0, 0][0]
    torch.manual_seed(0)
    twin = nn.Linear(6, 1)
    plain = stepper(twin, sgd(twin, 1e-6), batches=batches).run(1)
    assert scaled == pytest.approx(plain.gradient[0, 0][0], rel=1e-2)


def test_float16_gradients_that_are_nan_end_the_run() -> None:
    class Root(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + torch.where(self.weight.sum() > 1e9, 1.0, (self.weight * 0).sum().sqrt())

    model = Root(6, 1)
    trace = stepper(model, training=Training(precision="fp16-mixed")).run(3)
    assert (len(trace), trace.stopped) == (1, "non-finite")
    assert math.isfinite(trace.loss[0])


# The end of a run


def test_the_first_value_that_is_not_finite_ends_the_run() -> None:
    model = Plain()
    trace = stepper(model, sgd(model, 1e25)).run(50)
    assert trace.stopped == "non-finite"
    assert len(trace) < 5
    assert not math.isfinite(trace.loss[-1] + trace.norm[-1] + trace.update[0, 0][-1])


def test_a_run_ends_when_it_is_asked_to() -> None:
    trace = stepper(Plain()).run(50, stop=lambda trace: len(trace) == 3)
    assert (len(trace), trace.stopped) == (3, "asked")


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_without_memory_what_was_learned_is_kept(error: Exception) -> None:
    class Hungry(nn.Linear):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            if self.calls > 2:
                raise error
            return super().forward(x)

    model = Hungry(6, 1)
    trace = stepper(model).run(10)
    assert (len(trace), trace.stopped) == (2, "memory")
    assert model.weight.grad is None


# Where the loss comes from


class OwnLoss(nn.Linear):
    """Returns its loss in the way it is told."""

    def __init__(self, way: str) -> None:
        super().__init__(6, 1)
        self.way = way

    def forward(self, x: torch.Tensor, y: Any = None) -> Any:
        output = super().forward(x)
        loss = output.square().mean() if y is None else F.mse_loss(output, y)
        ways: dict[str, Callable[[], Any]] = {
            "scalar": lambda: loss,
            "pair": lambda: (output, loss),
            "dict": lambda: {"logits": output, "loss": loss},
            "several": lambda: {"box": loss, "class": loss},
            "attribute": lambda: type("Output", (), {"loss": loss})(),
            "none": lambda: output,
        }
        return ways[self.way]()


@pytest.mark.parametrize("way", ["scalar", "pair", "dict", "several", "attribute"])
@pytest.mark.parametrize("as_mapping", [False, True])
def test_a_model_may_return_its_loss(way: str, as_mapping: bool) -> None:
    model = OwnLoss(way)
    source = [pairs().at(k) for k in range(2)]
    batches = collect([{"x": x, "y": y} for x, y in source] if as_mapping else source)
    loss = stepper(model, loss_fn=None, batches=batches).step(0).read().loss
    torch.manual_seed(0)
    twin = nn.Linear(6, 1)
    expected = F.mse_loss(twin(source[0][0]), source[0][1]).item() * (2 if way == "several" else 1)
    assert loss == pytest.approx(expected)


CRITERION = nn.MSELoss()
MODEL = nn.Linear(6, 1)


@pytest.mark.parametrize(
    "loss_fn",
    [
        CRITERION,
        F.mse_loss,
        lambda model, batch: F.mse_loss(model(batch[0]), batch[1]),
        lambda net, data: F.mse_loss(net(data[0]), data[1]),
        lambda batch: F.mse_loss(MODEL(batch[0]), batch[1]),
        lambda outputs, targets: F.mse_loss(outputs, targets),
        lambda pred, y, weight=1.0: F.mse_loss(pred, y) * weight,
        lambda model, batch: {"loss": F.mse_loss(model(batch[0]), batch[1])},
    ],
)
def test_a_loss_function_of_any_shape(loss_fn: Any) -> None:
    with preserved([MODEL], []):
        batch = pairs().at(0)
        expected = F.mse_loss(MODEL(batch[0]), batch[1]).item()
        assert stepper(MODEL, loss_fn=loss_fn).step(0).read().loss == pytest.approx(expected)


def test_a_criterion_finds_the_labels_of_a_mapping() -> None:
    class Net(nn.Linear):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return super().forward(pixels)

    x, y = pairs().at(0)
    assert stepper(Net(6, 1), loss_fn=CRITERION, batches=collect([{"pixels": x, "labels": y}])).step(0).read().loss > 0


def test_several_models_are_given_to_the_loss_together_or_one_by_one() -> None:
    a, b = nn.Linear(6, 3), nn.Linear(3, 1)
    both = [sgd(a), sgd(b)]
    together = Stepper([a, b], both, pairs(), lambda models, batch: models[1](models[0](batch[0])).mean())
    single = Stepper([a, b], both, pairs(), lambda encoder, head, batch: head(encoder(batch[0])).mean())
    with preserved([a, b], both) as snapshot:
        first = together.run(1).loss
        snapshot.restore()
        assert single.run(1).loss == first


class Scalar(nn.Linear):
    """A loss that is no loss."""

    def __init__(self, give: Callable[[torch.Tensor], Any]) -> None:
        super().__init__(6, 1)
        self.give = give


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (lambda out: None, "the loss is None, not a tensor"),
        (lambda out: 3.0, "the loss is a float, not a tensor"),
        (lambda out: out, r"the loss has shape \(7, 1\), not one value"),
        (lambda out: out.mean().detach(), "the loss has no gradient: nothing trainable leads to it"),
        (lambda out: out.argmax(), "the loss has dtype torch.int64, which has no gradient"),
        (lambda out: {"total": out.mean()}, "the loss is None, not a tensor"),
    ],
)
def test_what_is_no_loss_is_refused(give: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        stepper(nn.Linear(6, 1), loss_fn=lambda model, batch: give(model(batch[0]))).step(0)


def test_a_model_without_a_loss_asks_for_a_loss_function() -> None:
    with pytest.raises(UsageError, match=r"the model returns a tensor of shape \(7, 1\) without a loss") as info:
        stepper(OwnLoss("none"), loss_fn=None).step(0)
    assert info.value.hint.startswith("give loss_fn(model, batch)")


def test_a_model_that_needs_more_than_the_batch_is_told() -> None:
    class Masked(nn.Linear):
        def forward(self, x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return super().forward(x)

    with pytest.raises(UsageError, match=r"a batch does not fit: .*missing 1 required positional argument: 'mask'"):
        stepper(Masked(6, 1), loss_fn=None).step(0)


def test_a_type_error_inside_the_model_is_the_models() -> None:
    class Buggy(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return len(3) + super().forward(x)  # type: ignore[arg-type]

    with pytest.raises(TargetError, match="computing the loss raised TypeError: object of type 'int'") as info:
        stepper(Buggy(6, 1)).step(0)
    assert "len(3)" in info.value.trace


def test_failures_of_backward_and_step_are_told_apart() -> None:
    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no way back")

    model = nn.Linear(6, 1)
    with pytest.raises(TargetError, match="the backward pass raised RuntimeError: no way back"):
        stepper(model, loss_fn=lambda model, batch: Bad.apply(model(batch[0])).mean()).step(0)
    optimizer = sgd(model)
    optimizer.param_groups[0]["lr"] = "0.1"
    with pytest.raises(TargetError, match="the step of SGD raised TypeError"):
        stepper(model, optimizer).step(0)


def test_setups_that_cannot_step_are_refused() -> None:
    with pytest.raises(UsageError, match="meta device"):
        stepper(nn.Linear(6, 1, device="meta"))
    with pytest.raises(UsageError, match="2 loss functions for 1 optimizer"):
        stepper(nn.Linear(6, 1), loss_fn=[CRITERION, CRITERION])
    with pytest.raises(UsageError, match="no model or no optimizer"):
        Stepper([], [], pairs())


# Frameworks


def test_a_lightning_module_gives_its_training_step() -> None:
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.seen = nn.Linear(6, 1), []

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.seen.append(batch_idx)
            loss = F.mse_loss(self.layer(batch[0]), batch[1])
            self.log("train/loss", loss, prog_bar=True)
            self.log_dict({"a": loss})
            return {"loss": loss}

    model = Module()
    optimizer = sgd(model)
    before = dict(vars(model))
    with preserved([model], [optimizer]):
        trace = stepper(model, optimizer, None, training=Training(accumulation=2)).run(2)
        assert model.seen == [0, 1, 2, 3]
    assert len(trace) == 2
    assert vars(model) == before
    assert model.seen == []
    model.automatic_optimization = False
    with pytest.raises(UsageError, match="optimizes manually"):
        stepper(model, optimizer, None)


def test_the_index_of_a_training_step_may_have_any_name() -> None:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 1)

        def training_step(self, batch: Any, index: int) -> Any:
            return F.mse_loss(self.layer(batch[0]), batch[1]) * (index + 1)

    module = Module()
    losses = stepper(module, None, None).look(0, 3)
    expected = [F.mse_loss(module.layer(x), y).item() * (k + 1) for k, (x, y) in enumerate(map(pairs().at, range(3)))]
    assert losses == pytest.approx(expected)


def test_a_transformers_model_gives_its_loss() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_embd=8, n_head=2, n_layer=1, vocab_size=20, n_positions=8)
    model = transformers.GPT2LMHeadModel(config)
    batches = collect([transformers.BatchEncoding({k: torch.arange(8)[None] for k in ("input_ids", "labels")})])
    optimizer = torch.optim.AdamW(halves(model), lr=1e-3)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with preserved([model], [optimizer]):
        trace = stepper(model, optimizer, None, batches=batches).run(5)
        assert trace.loss[-1] < trace.loss[0]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not optimizer.state


# On a GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_step_on_a_gpu_does_not_wait_for_it() -> None:
    """torch raises on any synchronisation; only reading is allowed one."""
    model = Plain().cuda()
    optimizer = torch.optim.AdamW(halves(model), lr=0.01)
    made = stepper(model, optimizer, batches=collect(pairs()._items, "cuda"), training=Training(clip_norm=1.0))
    made.run(2)
    with _no_synchronisation():
        reading = made.step(2)
    assert reading.read().finite


@contextlib.contextmanager
def _no_synchronisation() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed", "fp16-mixed"])
def test_a_setup_is_moved_to_the_gpu_and_back(precision: str) -> None:
    model = Plain()
    optimizer = torch.optim.AdamW(halves(model), lr=0.01)
    stepper(model, optimizer).run(2)
    before = [p.detach().clone() for p in model.parameters()]
    places = [p.data_ptr() for p in model.parameters()]
    with preserved([model], [optimizer]):
        assert move([model], [optimizer], None, torch.device("cuda"))
        assert next(model.parameters()).is_cuda
        on_device = collect(pairs()._items, "cuda")
        with preserved([model], [optimizer]) as snapshot:
            made = stepper(model, optimizer, training=Training(precision=precision), batches=on_device)
            first = made.run(3)
            snapshot.restore()
            made.begin()
            assert made.run(3).loss == pytest.approx(first.loss, rel=1e-3)
        assert next(model.parameters()).is_cuda
    assert [p.data_ptr() for p in model.parameters()] == places
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert all(not value.is_cuda for state in optimizer.state.values() for value in state.values())
