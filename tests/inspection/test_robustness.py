"""Odd models and odd optimizers: no crash, a clear answer, and nothing of the user's changed."""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR
from work import calls

import lrlint
from lrlint.errors import UsageError
from lrlint.facts import Setup
from lrlint.lint.run import Run

ROOT = Path(__file__).resolve().parents[2]
Pair = tuple[Any, Any]
LAZY = nn.parameter.UninitializedTensorMixin


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def checked(model: Any, optimizer: Any, scheduler: Any = None, **declared: Any) -> Run:
    """The run, after making sure that no rule crashed and that it survives being written and read."""
    run = lrlint.check(model, optimizer, scheduler, **declared)
    assert not [found.message for found in run.findings if found.rule == "LR003"]
    assert run.setup is not None
    encoded = json.dumps(run.setup.to_dict())
    assert Setup.from_dict(json.loads(encoded)).to_dict() == run.setup.to_dict()
    json.dumps(run.to_dict())
    return run


def names(run: Run) -> set[str]:
    assert run.setup is not None
    return {parameter.name for parameter in run.setup.parameters}


# -- models --------------------------------------------------------------------------------------------------------


class Cyclic(nn.Module):
    """Its child knows it, registered and in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.Linear(2, 2)
        self.child.parent = self
        self.relatives: list[Any] = [self, self.child]
        self.relatives.append(self.relatives)


class Raising(nn.Module):
    """Every attribute it does not have raises something else than AttributeError."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            raise RuntimeError(f"no {name} here") from None


class Effects(nn.Module):
    """Its properties count how often they are read, and one raises."""

    reads = 0

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)

    @property
    def weight(self) -> Any:
        Effects.reads += 1
        return self.inner.weight

    @property
    def device(self) -> Any:
        Effects.reads += 1
        raise ValueError("not placed yet")


class NoDecayRaises(nn.Module):
    """Its own declarations raise, and its `train` too."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm = nn.Linear(2, 2), nn.BatchNorm1d(2)

    def no_weight_decay(self) -> set[str]:
        raise RuntimeError("not built")

    def train(self, mode: bool = True) -> Any:
        raise RuntimeError("never")


class OddDeclarations(nn.Module):
    """Declares things of the wrong types."""

    no_weight_decay = ("inner.weight", 3, None)

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.inner.weight._no_weight_decay = torch.zeros(3)
        self.inner.bias._optim = "lr"


class OddEquality(nn.Module):
    """Comparing it or asking for its truth is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def __eq__(self, other: object) -> bool:
        raise TypeError("not comparable")

    __hash__ = nn.Module.__hash__

    def __bool__(self) -> bool:
        raise TypeError("neither true nor false")

    def __len__(self) -> int:
        return 0


class MakesLayers(nn.Module):
    """Its first pass registers modules, buffers and parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.late = nn.Linear(2, 2), None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.late is None:
            self.late = nn.Linear(2, 2)
            self.register_buffer("seen", torch.zeros(2))
            self.inner.scale = nn.Parameter(torch.ones(2))
            self.inner.register_forward_hook(lambda *_: None)
        return self.late(self.inner(x)) * self.inner.scale


class Exits(nn.Module):
    """Its pass ends the program."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sys.exit(5)


class Disturbs(nn.Module):
    """Its pass changes the process."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        random.random(), numpy.random.rand(), torch.rand(1)
        os.environ["LEFT_BEHIND"] = "1"
        os.chdir("/")
        sys.path.append("nowhere")
        warnings.simplefilter("error")
        torch.set_default_dtype(torch.float64)
        return self.inner(x)


class Holds(nn.Module):
    """Holds what can be neither copied nor pickled, and says so."""

    __slots__ = ("beside",)

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.beside = nn.Linear(2, 2), nn.Identity()
        self.lock, self.items, self.me = threading.Lock(), (i for i in range(3)), weakref.ref(self)
        self.data = [{"x": i, "y": [i]} for i in range(10_000)]

    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("no copies")

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise RuntimeError("no pickles")

    def __dir__(self) -> Any:
        raise RuntimeError("no list")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


class OddRepresentation(nn.Module):
    """It cannot be printed."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def __repr__(self) -> str:
        raise RuntimeError("unprintable")


def _odd_names() -> nn.Module:
    model = nn.Module()
    for name in (
        "weird name",
        "ünïcode",
        "new\nline",
        "tab\t",
        "a[0]",
        "*",
        "{0,3}",
        "<b>",
        "`tick`",
        "::error::",
        "%d",
    ):
        model.add_module(name, nn.Linear(2, 2))
    model.register_parameter("\ud800", nn.Parameter(torch.zeros(2)))  # a lone surrogate: no valid UTF-8
    return model


def _keys_that_are_no_text() -> nn.Module:
    model = mlp()
    model.lookup = {3: nn.Linear(2, 2), None: [nn.Linear(2, 2)], (1, 2): torch.nn.Parameter(torch.zeros(2))}
    return model


def _shared_everywhere() -> nn.Module:
    shared, model = nn.Linear(2, 2), nn.Module()
    level = [shared] * 4
    for _ in range(6):
        level = [nn.ModuleList(level) for _ in range(4)]
    model.tree = nn.ModuleList(level)
    return model


def _deep() -> nn.Module:
    model: nn.Module = nn.Linear(2, 2)
    for _ in range(300):
        model = nn.Sequential(model)
    return model


def _lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.Linear(4, 2))


def _meta() -> nn.Module:
    with torch.device("meta"):
        return mlp()


def _half_on_meta() -> nn.Module:
    model = mlp()
    model[2].to("meta")
    return model


def _fake() -> nn.Module:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return mlp()


def _sparse() -> nn.Module:
    model = mlp()
    model.table = nn.Parameter(torch.eye(4).to_sparse())
    model.rows = nn.Parameter(torch.eye(4).to_sparse_csr())
    return model


def _quantized() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(mlp(), {nn.Linear})


def _integers() -> nn.Module:
    model = mlp()
    model.codes = nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    model.flags = nn.Parameter(torch.zeros(3, dtype=torch.bool), requires_grad=False)
    return model


def _exotic_dtypes() -> nn.Module:
    model = mlp()
    model.low = nn.Parameter(torch.zeros(4, dtype=torch.float8_e4m3fn))
    model.waves = nn.Parameter(torch.zeros(4, dtype=torch.cfloat))
    model.high = nn.Parameter(torch.zeros(4, dtype=torch.double))
    return model


def _not_finite() -> nn.Module:
    model = mlp()
    nn.init.constant_(model[0].weight, float("nan"))
    nn.init.constant_(model[2].weight, float("inf"))
    return model


def _empty_tensors() -> nn.Module:
    model = mlp()
    model.none, model.nothing = nn.Parameter(torch.zeros(0, 4)), nn.Parameter(torch.zeros(()))
    return model


def _expanded() -> nn.Module:
    model = mlp()
    model.broadcast = nn.Parameter(torch.zeros(1).expand(1000))
    model.overlapping = nn.Parameter(torch.zeros(8).as_strided((4, 4), (1, 1)))
    return model


class Tagged(torch.Tensor):
    """A tensor subclass that refuses every operation."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in ("add", "mul", "abs", "reshape", "as_strided"):
            raise NotImplementedError(func.__name__)
        return super().__torch_function__(func, types, args, kwargs or {})


def _subclass() -> nn.Module:
    model = mlp()
    model.tagged = nn.Parameter(torch.zeros(4).as_subclass(Tagged))
    return model


def _parametrized() -> nn.Module:
    model = mlp()
    nn.utils.parametrizations.weight_norm(model[0])
    nn.utils.parametrizations.spectral_norm(model[2])
    prune.l1_unstructured(model[2], "bias", 1)
    return model


def _scripted() -> nn.Module:
    return torch.jit.script(mlp())


MODELS: dict[str, Callable[[], nn.Module]] = {
    maker.__name__.strip("_"): maker
    for maker in (
        *(Cyclic, Raising, Effects, NoDecayRaises, OddDeclarations, OddEquality, OddRepresentation),
        *(MakesLayers, Exits, Disturbs, Holds),
        *(_odd_names, _keys_that_are_no_text, _shared_everywhere, _deep, _lazy, _meta, _half_on_meta, _fake, _sparse),
        *(_quantized, _integers, _exotic_dtypes, _not_finite, _empty_tensors, _expanded, _subclass, _parametrized),
        _scripted,
    )
}


def state(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Everything that a check must leave alone, as plain values."""
    modules = list(model.modules())
    tensors = [*model.parameters(), *model.buffers()]
    return {
        "training": [module.training for module in modules],
        "attributes": [sorted(map(str, vars(module))) for module in modules],
        "hooks": [len(getattr(module, "_forward_hooks", ())) + len(module._forward_pre_hooks) for module in modules],
        "identities": [id(tensor) for tensor in tensors],
        "versions": [tensor._version for tensor in tensors if not isinstance(tensor, LAZY)],
        "gradients": [tensor.grad is None for tensor in tensors if tensor.is_leaf],
        "needs": [tensor.requires_grad for tensor in tensors],
        "groups": [{k: copy.copy(v) for k, v in group.items() if k != "params"} for group in optimizer.param_groups],
        "members": [[id(p) for p in group["params"]] for group in optimizer.param_groups],
        "state": len(optimizer.state),
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(numpy.random.get_state()),
        "python": random.getstate(),
        "warnings": list(warnings.filters),
        "default": (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()),
        "place": (os.getcwd(), list(sys.path), dict(os.environ)),
    }


@pytest.mark.parametrize("name", MODELS)
def test_an_odd_model_is_checked_and_left_alone(name: str) -> None:
    model = MODELS[name]()
    trainable = [p for p in model.parameters() if p.requires_grad and p.is_floating_point()]
    optimizer = SGD(trainable or [nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    before, reads = state(model, optimizer), Effects.reads
    run = checked(model, optimizer)
    after = state(model, optimizer)
    assert {key: before[key] == after[key] for key in before} == dict.fromkeys(before, True)
    assert Effects.reads == reads, "a property of the user's was evaluated"
    assert {run.setup.by_name[n].index for n, _ in model.named_parameters()} <= set(range(len(run.setup.parameters)))


def test_every_parameter_is_seen_once() -> None:
    model = _shared_everywhere()
    run = checked(model, SGD(model.parameters(), lr=0.1))
    assert len(run.setup.parameters) == 2


def test_unregistered_modules_are_found_behind_any_key() -> None:
    model = _keys_that_are_no_text()
    run = checked(model, SGD(model.parameters(), lr=0.1))
    assert {"lookup[3].weight", "lookup[None][0].bias", "lookup[(1, 2)]"} <= names(run)


def test_kinds_are_told_apart() -> None:
    kinds = {}
    for maker in (_lazy, _meta, _fake, _sparse, _subclass):
        model = maker()
        run = checked(model, SGD(model.parameters(), lr=0.1))
        kinds[maker.__name__] = {parameter.kind for parameter in run.setup.parameters}
    assert kinds == {
        "_lazy": {"lazy", "plain"},
        "_meta": {"meta"},
        "_fake": {"fake"},
        "_sparse": {"plain", "sparse"},
        "_subclass": {"plain", "subclass"},
    }


def test_another_default_device_is_none_of_its_business() -> None:
    model = mlp()
    model.alias = nn.Parameter(model[0].weight.data.t())
    optimizer = SGD(model.parameters(), lr=0.1)
    plain = checked(model, optimizer, CosineAnnealingLR(optimizer, 10), graph=False)
    with torch.device("meta"):
        elsewhere = checked(model, optimizer, CosineAnnealingLR(optimizer, 10), graph=False)
    assert [p.values for p in elsewhere.setup.parameters] == [p.values for p in plain.setup.parameters]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_another_default_dtype_is_none_of_its_business(dtype: torch.dtype) -> None:
    """Of the program; the model keeps its own."""

    def facts(model: nn.Module) -> dict[str, Any]:
        inputs = (torch.zeros(2, 4, dtype=torch.float32),)
        run = checked(model, AdamW(model.parameters(), lr=1e-3), example_inputs=inputs)
        assert run.setup is not None
        return run.setup.to_dict()

    model = mlp()
    expected = facts(model)
    torch.set_default_dtype(dtype)
    try:
        found = facts(model)
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)
    assert found["graph"] == expected["graph"] is not None
    assert found["parameters"] == expected["parameters"]


@pytest.mark.long
def test_a_distributed_tensor_is_one() -> None:
    program = """
import os, torch
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29531", RANK="0", WORLD_SIZE="1")
torch.distributed.init_process_group("gloo")
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
model = torch.nn.Linear(4, 4)
mesh = init_device_mesh("cpu", (1,))
model.weight = torch.nn.Parameter(distribute_tensor(model.weight.data, mesh, [Shard(0)]))
import lrlint
run = lrlint.check(model, torch.optim.AdamW(model.parameters()), graph=False)
print([p.kind for p in run.setup.parameters], [f.rule for f in run.findings if f.rule == "LR003"])
from torch.distributed.fsdp import fully_shard
model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
for module in (*model, model):
    fully_shard(module, mesh=mesh)
run = lrlint.check(model, torch.optim.AdamW(model.parameters()))
print([f.rule for f in run.findings], run.setup.note("graph"))
torch.distributed.destroy_process_group()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.strip().splitlines()[0] == "['dtensor', 'plain'] []", done.stderr
    assert "[] the model is sharded by fully_shard" in done.stdout


# -- optimizers ----------------------------------------------------------------------------------------------------


def _without_groups() -> Pair:
    model = mlp()
    optimizer = SGD(model.parameters(), lr=0.1)
    optimizer.param_groups.clear()
    return model, optimizer


def _empty_groups() -> Pair:
    model = mlp()
    return model, AdamW([{"params": []}, {"params": model.parameters()}, {"params": []}])


def _frozen() -> Pair:
    model = mlp().requires_grad_(False)
    return model, AdamW(model.parameters())


def _no_parameters() -> Pair:
    return nn.Identity(), SGD([nn.Parameter(torch.zeros(1))], lr=0.1)


def _extra_keys() -> Pair:
    model = mlp()
    group = {"params": model.parameters(), 3: "three", None: None, "fn": len, "model": model, "tensor": torch.zeros(2)}
    return model, SGD([group], lr=0.1)


def _tensor_rate() -> Pair:
    model = mlp()
    return model, Adam(model.parameters(), lr=torch.tensor(1e-3), betas=(torch.tensor(0.9), torch.tensor(0.999)))


def _bad_values() -> Pair:
    model = mlp()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    optimizer.param_groups[0].update(lr=float("nan"), weight_decay="0.1", betas=None, eps=[1e-8])
    return model, optimizer


def _deleted_keys() -> Pair:
    model = mlp()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    for key in ("lr", "weight_decay", "betas"):
        del optimizer.param_groups[0][key]
    return model, optimizer


def _state_of_others() -> Pair:
    model = mlp()
    optimizer = SGD(model.parameters(), lr=0.1)
    optimizer.state["not a tensor"] = {"momentum_buffer": "text"}
    optimizer.state[model[0].weight] = {"momentum_buffer": torch.zeros(7, 7)}
    return model, optimizer


class Unusual(Optimizer):
    """Made without torch's constructor, its groups a tuple of mappings."""

    def __init__(self, parameters: Any) -> None:
        self.param_groups = ({"params": tuple(parameters), "lr": 0.1},)  # type: ignore[assignment]
        self.state, self.defaults = {}, {}  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


def _unusual() -> Pair:
    model = mlp()
    return model, Unusual(model.parameters())


OPTIMIZERS = {
    maker.__name__.strip("_"): maker
    for maker in (
        *(_without_groups, _empty_groups, _frozen, _no_parameters, _extra_keys, _tensor_rate, _bad_values),
        *(_deleted_keys, _state_of_others, _unusual),
    )
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_odd_optimizer_is_checked_and_left_alone(name: str) -> None:
    model, optimizer = OPTIMIZERS[name]()
    before = state(model, optimizer)
    checked(model, optimizer)
    after = state(model, optimizer)
    same = {key: repr(before[key]) == repr(after[key]) for key in before}
    assert same == dict.fromkeys(before, True)


def test_a_scheduler_that_raises_costs_its_facts_alone() -> None:
    model = mlp()
    optimizer = AdamW(model.parameters())

    def factor(step: int) -> float:
        if step > 3:
            raise ZeroDivisionError
        return 1.0

    scheduler = LambdaLR(optimizer, factor)
    before = optimizer.param_groups[0]["lr"], scheduler.last_epoch, scheduler._step_count
    run = checked(model, optimizer, scheduler, total_steps=100)
    assert (optimizer.param_groups[0]["lr"], scheduler.last_epoch, scheduler._step_count) == before
    assert run.setup.optimizers


@pytest.mark.parametrize(
    ("model", "optimizer", "word"),
    [
        (None, None, "model"),
        ("model", None, "str"),
        (nn.Linear, None, "class"),
        ([], None, "model"),
        ([nn.Linear(1, 1), 3], None, "int"),
        (nn.Linear(1, 1), None, "optimizer"),
        (nn.Linear(1, 1), "adam", "optimizer"),
        (nn.Linear(1, 1), AdamW, "optimizer"),
    ],
)
def test_what_is_no_setup_is_said_so(model: Any, optimizer: Any, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        lrlint.check(model, optimizer)


def test_models_in_a_plain_list() -> None:
    models = [nn.Linear(2, 2), nn.Linear(2, 2)]
    run = checked(models, [SGD(model.parameters(), lr=0.1) for model in models])
    assert len(names(run)) == 4
    assert not run.findings


# -- size ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowd() -> nn.Module:
    """10 000 parameter tensors: 5 000 dense layers, four to a block."""
    with torch.device("meta"):
        block = [nn.ModuleList(nn.Linear(1, 1) for _ in range(4)) for _ in range(1_250)]
    return nn.ModuleDict({"blocks": nn.ModuleList(block)})


@pytest.mark.long
def test_ten_thousand_tensors(crowd: nn.Module) -> None:
    vectors = [p for p in crowd.parameters() if p.ndim == 1]
    matrices = [p for p in crowd.parameters() if p.ndim == 2]
    optimizer = AdamW([{"params": matrices[1:]}, {"params": vectors, "weight_decay": 0.0}], foreach=False)
    run = lrlint.check(crowd, optimizer, CosineAnnealingLR(optimizer, 1000), total_steps=1000, graph=False)
    assert len(run.setup.parameters) == 10_000
    assert {name for found in run.findings for name in found.parameters} <= {"blocks.0.0.weight"}


@pytest.mark.long
def test_twice_as_many_groups_are_about_twice_the_work() -> None:
    def work(groups: int) -> int:
        with torch.device("meta"):
            model = nn.ModuleList(nn.Linear(1, 1) for _ in range(groups // 2))
        optimizer = AdamW([{"params": [p], "lr": 1e-4} for p in model.parameters()], foreach=False)
        scheduler = CosineAnnealingLR(optimizer, 1000)
        return calls(lambda: lrlint.check(model, optimizer, scheduler, total_steps=1000))

    work(10)  # imports and first calls are no work of the groups'
    assert work(240) < 2.2 * work(120)
