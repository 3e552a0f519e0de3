"""The observed pass of many architectures: who gets a gradient is what a real backward pass says, and nothing changes."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from architectures import ZOO
from torch import fx, nn

import lrlint
from lrlint.errors import TargetError
from lrlint.facts import GraphFacts
from lrlint.inspection.graph.observe import observe

#: What needs arguments that nobody could guess.
UNGUESSABLE = {"packed_lstm", "scripted_whole"}
#: What a single backward pass says of these is not what the next one says.
BY_CHANCE = {name for name in ZOO if name.startswith("layers_dropped")}


def observed(model: nn.Module, inputs: Any) -> GraphFacts | None:
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    facts, notes = observe({"": model}, name_of, example_inputs=inputs)
    assert (facts is None) == bool(notes)
    return facts


def gradients(model: nn.Module, inputs: Any) -> dict[str, bool]:
    """Which parameters a real backward pass reaches; frozen ones are asked as if they trained."""
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    result = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    loss = getattr(result, "loss", None)
    roots = [loss] if loss is not None else list(tensors(result))
    torch.autograd.backward(roots, [torch.ones_like(root) for root in roots])
    return {name: parameter.grad is not None for name, parameter in model.named_parameters()}


def tensors(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        yield from [value] if value.requires_grad else []
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors(item)


def state(model: nn.Module) -> list[Any]:
    """Everything that an observation could leave behind, with the objects' identities."""
    found: list[Any] = [
        random.getstate(),
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
    ]
    for module in model.modules():
        held = [*module._parameters.items(), *module._buffers.items()]
        found.append([(name, id(t), None if t is None else (t._version, t.requires_grad, t.grad)) for name, t in held])
        found.append(
            (module.training, sorted(module.__dict__), [len(module._forward_hooks), len(module._forward_pre_hooks)])
        )
    return found


@pytest.mark.parametrize("name", [name for name in ZOO if name not in BY_CHANCE])
def test_the_verdict_is_that_of_a_backward_pass(name: str) -> None:
    torch.manual_seed(0)
    model, inputs = ZOO[name]()
    before, values = state(model), {key: tensor.clone() for key, tensor in model.state_dict().items()}
    facts = observed(model, inputs)
    assert state(model) == before
    assert all(torch.equal(tensor, values[key]) for key, tensor in model.state_dict().items())
    assert facts is not None
    assert facts.inputs == "given"
    verdicts = {key: use.reaches_output for key, use in facts.parameters.items() if not use.guessed}
    assert verdicts
    truth = gradients(model, inputs)
    assert verdicts == {key: truth[key] for key in verdicts}


@pytest.mark.parametrize("generator", ["python", "torch", "numpy"])
def test_what_chance_decides_is_not_called_dead(generator: str) -> None:
    facts = observed(*ZOO[f"layers_dropped_by_{generator}"]())
    assert facts is not None
    layers = {name: use for name, use in facts.parameters.items() if name.startswith(("second", "unused"))}
    assert all(use.reaches_output or use.guessed for use in layers.values())
    assert not any(use.guessed for name, use in facts.parameters.items() if name not in layers)
    assert observed(*ZOO[f"layers_dropped_by_{generator}"]()) == facts  # and every check says the same


@pytest.mark.long
def test_most_models_need_no_inputs() -> None:
    missed = {name for name, build in ZOO.items() if observed(build()[0], None) is None}
    assert missed <= UNGUESSABLE
    assert len(ZOO) >= 60


def test_one_that_fails_says_what_to_pass() -> None:
    model = nn.Linear(4, 2)
    run = lrlint.check(model, torch.optim.SGD(model.parameters(), 0.1), example_inputs=(torch.randn(2, 5),))
    reason = run.setup.note("graph")
    assert reason is not None
    assert "example_inputs" in reason
    assert "trainable-param-unused" in {skipped.name for skipped in run.skipped}
    with pytest.raises(TargetError, match="example_inputs"):
        lrlint.graph(model, (torch.randn(2, 5),))


def test_nothing_of_the_size_of_a_parameter_is_allocated() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(100_000, 100_000), nn.ReLU(), nn.Linear(100_000, 10))  # 40 GB
    facts = observed(model, (torch.empty(2, 100_000, device="meta"),))
    assert facts is not None
    assert facts.method == "meta"
    assert all(use.reaches_output for use in facts.parameters.values())


@pytest.mark.parametrize("name", ["roberta", "bart", "pegasus", "longformer", "t5", "rwkv", "packed_lstm"])
def test_values_of_constants_are_known_without_running_for_real(name: str) -> None:
    """Masks of ones, tables of token types, lengths: a model of any size is observed on the meta device."""
    facts = observed(*ZOO[name]())
    assert facts is not None
    assert (facts.method, facts.complete) == ("meta", True)


def test_a_constant_that_was_written_into_is_none_any_more() -> None:
    class Written(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            total = torch.zeros(1, device=x.device)
            total[:] = super().forward(x).sum()
            return total if bool((total != 0).all()) else total.detach()

    facts = observed(Written(4, 2), (torch.randn(3, 4),))
    assert facts is not None
    assert facts.method == "cpu"  # the value was asked for
    assert all(use.reaches_output for use in facts.parameters.values())


def test_what_selects_rows_by_values_needs_none_to_find_the_dead() -> None:
    with torch.device("meta"):
        model, _ = ZOO["routed_experts"]()
        model.spare = nn.Linear(6, 6)
    facts = observed(model, (torch.randn(4, 6),))
    assert facts is not None
    assert facts.method == "meta"
    dead = {name for name, use in facts.parameters.items() if use.reaches_output is False and not use.guessed}
    assert dead == {"spare.weight", "spare.bias"}


def test_the_graph_is_one_of_torch_with_modules_and_lines() -> None:
    model, inputs = ZOO["detached_branch"]()
    graph = lrlint.graph(model, inputs)
    assert isinstance(graph, fx.Graph)
    calls = [node for node in graph.nodes if node.op == "call_function"]
    assert {"first", "second", "norm", "head"} <= {node.meta["module"] for node in calls}
    own = [node.meta["line"] for node in calls if node.meta["module"] == ""]
    assert own
    assert all(line is not None and line[0].endswith("architectures.py") for line in own)


def test_a_pair_of_models_is_observed_one_by_one() -> None:
    models = {"generator": nn.Linear(4, 6), "critic": nn.Linear(6, 1)}
    optimizers = {name: torch.optim.Adam(model.parameters()) for name, model in models.items()}
    graph = lrlint.check(models, optimizers).setup.graph
    assert graph is not None
    assert {name for name, use in graph.parameters.items() if use.reaches_output} == {
        "generator.weight",
        "generator.bias",
        "critic.weight",
        "critic.bias",
    }


def test_hand_written_norms_are_known_by_what_they_compute() -> None:
    facts = observed(*ZOO["hand_written_norm"]())
    assert facts is not None
    assert facts.parameters["1.g"].role == "norm_scale"
    assert facts.norms["1"].kind == "rms"
    assert facts.parameters["0.weight"].depth_from_input == 0
    assert facts.parameters["2.weight"].depth_from_output == 0


def test_scale_invariance_is_that_of_the_gradient() -> None:
    """A weight whose scale does not matter has a gradient orthogonal to it (Euler)."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8, eps=1e-12), nn.ReLU(), nn.Linear(8, 3)
    ).double()
    x = torch.randn(16, 6, dtype=torch.float64)
    facts = observed(model, (x,))
    assert facts is not None
    (model(x) ** 2).sum().backward()
    for name, parameter in model.named_parameters():
        use = facts.parameters[name]
        if use.scale_invariant is not None:
            assert parameter.grad is not None
            product = float((parameter * parameter.grad).sum())
            size = float(parameter.norm() * parameter.grad.norm())
            assert use.scale_invariant == (abs(product) < 1e-6 * max(size, 1e-30)), name
    assert facts.parameters["0.weight"].scale_invariant
