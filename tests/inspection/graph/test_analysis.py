"""What is read off a captured graph: places, neighbours, norms, and two exact claims proven by gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from architectures import ZOO
from torch import nn

from lrlint.facts import GraphFacts
from lrlint.inspection.graph.observe import observe


def observed(model: nn.Module, *inputs: torch.Tensor) -> GraphFacts:
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    facts, notes = observe({"": model}, name_of, example_inputs=inputs)
    assert facts is not None, notes
    return facts


class Residual(nn.Module):
    """stem → norm → two residual blocks → head, with the blocks registered last and in reverse."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 2)
        self.norm = nn.LayerNorm(8)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, 8)) for _ in range(2)
        )
        self.stem = nn.Linear(6, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x))
        for block in reversed(self.blocks):
            x = x + block(x)
        return self.head(F.relu(x))


def test_order_and_depth_are_those_of_execution() -> None:
    uses = observed(Residual(), torch.randn(4, 6)).parameters
    weights = ["stem.weight", "norm.weight", "blocks.1.0.weight", "blocks.1.3.weight", "blocks.0.0.weight"]
    weights += ["blocks.0.3.weight", "head.weight"]
    assert sorted(weights, key=lambda name: uses[name].order or 0) == weights
    assert [uses[name].depth_from_input for name in weights] == [0, 1, 2, 3, 4, 5, 6]
    assert [uses[name].depth_from_output for name in weights] == [6, 5, 4, 3, 2, 1, 0]
    assert sorted(use.order for use in uses.values() if use.order is not None) == list(range(len(uses)))
    assert uses["stem.bias"].depth_from_input == 0


def test_neighbours_are_norms_and_activations_with_no_layer_between() -> None:
    uses = observed(Residual(), torch.randn(4, 6)).parameters
    assert uses["stem.weight"].followed_by == "norm"
    assert uses["blocks.1.0.weight"].preceded_by == "norm"
    assert uses["blocks.1.0.weight"].followed_by == "blocks.1.1"
    assert uses["blocks.0.3.weight"].preceded_by == "blocks.0.1"  # through dropout
    assert uses["blocks.0.3.weight"].followed_by == "relu"  # without a module of its own
    assert uses["blocks.1.3.weight"].followed_by == "relu"  # along the residual connection
    assert uses["head.weight"].followed_by is None


def test_a_shared_layer_counts_from_both_ends() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.mid = nn.Embedding(12, 8), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.linear(self.mid(self.embed(x)), self.embed.weight)

    use = observed(Shared(), torch.randint(0, 12, (2, 5))).parameters["embed.weight"]
    assert (use.role, use.count, use.depth_from_input, use.depth_from_output) == ("embedding", 2, 0, 0)
    assert use.uses == ("embed", "")


def test_a_recurrent_loop_is_one_layer() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.GRUCell(6, 8), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            state = x.new_zeros(len(x), 8)
            for step in range(x.shape[1]):
                state = self.cell(x[:, step], state)
            return self.head(state)

    uses = observed(Loop(), torch.randn(3, 5, 6)).parameters
    assert uses["cell.weight_ih"].role == "rnn"
    assert uses["cell.weight_ih"].count == 5
    assert uses["cell.weight_ih"].depth_from_output == 1
    assert uses["head.weight"].depth_from_input == 1


def test_an_unused_parameter_has_no_place() -> None:
    model = Residual()
    model.spare = nn.Linear(3, 3)
    use = observed(model, torch.randn(4, 6)).parameters["spare.weight"]
    assert use.used is False
    assert use.reaches_output is False
    assert (use.role, use.order, use.depth_from_input) == (None, None, None)


class Norms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.batch, self.frozen, self.stateless = (
            nn.BatchNorm2d(8),
            nn.BatchNorm2d(8).eval(),
            nn.BatchNorm2d(8, track_running_stats=False),
        )
        self.group, self.instance, self.layer = nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True), nn.LayerNorm(8)
        self.g = nn.Parameter(torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stateless(self.frozen(self.batch(self.conv(x))))
        x = self.layer(self.instance(self.group(x)).flatten(2).transpose(1, 2))
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.g


def test_norms_say_what_they_normalise_over() -> None:
    norms = observed(Norms(), torch.randn(4, 3, 6, 5)).norms
    said = {path: (n.kind, n.axes, n.uses_batch_statistics, n.updates_statistics) for path, n in norms.items()}
    assert said == {
        "batch": ("batch", (0, 2, 3), True, True),
        "frozen": ("batch", (0, 2, 3), False, False),
        "stateless": ("batch", (0, 2, 3), True, False),
        "group": ("group", (1, 2, 3), False, False),
        "instance": ("instance", (0, 2, 3), True, False),
        "layer": ("layer", (2,), False, False),
        "": ("rms", (2,), False, False),
    }
    assert (norms["batch"].elements, norms["batch"].elements_per_sample) == (48, 12)
    assert norms["layer"].elements == 8
    assert (norms["batch"].scale, norms["batch"].shift) == ("batch.weight", "batch.bias")
    assert norms[""].scale == "g"


#: Sums in another precision than the model's, or operators that have none in double precision.
SINGLE = {"mixtral", "qwen2_moe", "numpy_inside", "scripted_part", "scripted_whole"}


def exactly(model: nn.Module) -> nn.Module:
    """The model in double precision, without dropout, with values off their symmetric start, and with no eps to speak of."""
    model.double()
    for module in model.modules():
        for key, value in vars(module).items():
            if isinstance(value, float) and ("eps" in key or "epsilon" in key):
                setattr(module, key, 1e-40)
            elif isinstance(value, float) and (key == "p" or "drop" in key):
                setattr(module, key, 0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.requires_grad_(True).add_(0.1 * torch.randn_like(parameter))
    return model


def double(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: double(item) for key, item in value.items()}
    return tuple(double(item) for item in value) if isinstance(value, tuple) else value


def backward(model: nn.Module, inputs: Any) -> None:
    result = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    outputs = {"": result} if isinstance(result, torch.Tensor) else dict(result) if hasattr(result, "keys") else {}
    chosen = outputs.get("loss", outputs.get("logits"))
    roots = [chosen] if chosen is not None else [v for v in outputs.values() if isinstance(v, torch.Tensor)]
    roots = roots or [v for v in result if isinstance(v, torch.Tensor)]
    roots = [root for root in roots if root.requires_grad]
    torch.autograd.backward(roots, [torch.randn_like(root) for root in roots])


@pytest.mark.parametrize("name", [name for name in ZOO if name not in SINGLE])
def test_claims_of_invariance_hold_for_the_gradient(name: str) -> None:
    """Scale invariance is orthogonality (Euler: sum w · dL/dw = 0), a cancelled bias has no gradient at all."""
    torch.manual_seed(0)
    model, inputs = ZOO[name]()
    model, inputs = exactly(model), double(inputs)
    name_of = {id(parameter): key for key, parameter in model.named_parameters()}
    facts, notes = observe({"": model}, name_of, example_inputs=inputs)
    assert facts is not None, notes
    backward(model, inputs)
    gradients = {key: parameter.grad for key, parameter in model.named_parameters() if parameter.grad is not None}
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for key, gradient in gradients.items():
        use, parameter = facts.parameters[key], model.get_parameter(key).detach()
        if use.scale_invariant:
            product, size = float((parameter * gradient).sum()), float(parameter.norm() * gradient.norm())
            # RMS norms of transformers compute in single precision whatever the model's.
            assert abs(product) <= 1e-6 * size + 1e-12 * largest, key
        if use.bias_cancelled:
            assert float(gradient.abs().max()) <= 1e-7 * largest, key


class Cases(nn.Module):
    """A layer, something between, a head."""

    def __init__(self, between: nn.Module, bias: bool = True) -> None:
        super().__init__()
        self.layer, self.between, self.head = nn.Conv2d(3, 8, 3, bias=bias), between, nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.between(self.layer(x)))


#: What stands between → (the weight is scale-invariant if it has no bias, a bias is cancelled).
BETWEEN: dict[str, tuple[Any, bool, bool]] = {
    "batch norm": (lambda: nn.BatchNorm2d(8), True, True),
    "batch norm in evaluation": (lambda: nn.BatchNorm2d(8).eval(), False, False),
    "instance norm": (lambda: nn.InstanceNorm2d(8), True, True),
    "group norm": (lambda: nn.GroupNorm(2, 8), True, False),
    "one group per channel": (lambda: nn.GroupNorm(8, 8), True, True),
    "relu first": (lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(8)), True, False),
    "gelu first": (lambda: nn.Sequential(nn.GELU(), nn.BatchNorm2d(8)), False, False),
    "pooled first": (lambda: nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(8)), True, True),
    "another layer first": (lambda: nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)), False, True),
    "padded layer first": (
        lambda: nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)),
        False,
        False,
    ),
    "dropout first": (lambda: nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(8)), True, False),
    "nothing": (lambda: nn.Identity(), False, False),
}


@pytest.mark.parametrize("case", BETWEEN)
def test_what_a_norm_cancels(case: str) -> None:
    between, alone, cancelled = BETWEEN[case]
    x = torch.randn(4, 3, 9, 9)
    with_bias = observed(Cases(between()), x).parameters
    without = observed(Cases(between(), bias=False), x).parameters
    assert bool(with_bias["layer.bias"].bias_cancelled) == cancelled
    assert bool(without["layer.weight"].scale_invariant) == alone


def test_the_keys_of_attention_need_no_bias() -> None:
    class Attention(nn.Module):
        def __init__(self, rotated: bool) -> None:
            super().__init__()
            self.q, self.k, self.v, self.rotated = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), rotated

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            k = self.k(x)
            if self.rotated:  # as by rotary positions
                k = k * torch.linspace(0, 1, x.shape[1])[:, None]
            scores = (self.q(x) @ k.transpose(-1, -2) / 8**0.5).masked_fill(torch.ones(5, 5).triu(1).bool(), -1e9)
            return scores.softmax(-1) @ self.v(x)

    said = {n: u.bias_cancelled for n, u in observed(Attention(False), torch.randn(2, 5, 8)).parameters.items()}
    assert (said["q.bias"], said["k.bias"], said["v.bias"]) == (False, True, False)
    assert observed(Attention(True), torch.randn(2, 5, 8)).parameters["k.bias"].bias_cancelled is False


def test_a_network_without_biases_is_walked_once() -> None:
    """Every weight of a deep chain of homogeneous layers asks the same question of what follows."""
    layers: list[nn.Module] = []
    for _ in range(1200):
        layers += [nn.Linear(4, 4, bias=False), nn.ReLU()]
    uses = observed(nn.Sequential(*layers, nn.LayerNorm(4)), torch.randn(2, 4)).parameters
    known = [use.scale_invariant for name, use in uses.items() if name.endswith(".weight")]
    assert known == [True] * 1200 + [False]
