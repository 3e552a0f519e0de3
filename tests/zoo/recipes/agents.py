"""Agents, meta-learning, architecture search, graphs, recommendation, equilibrium and scientific models.

Every function is a sound published recipe as a target; its docstring names it and what is unusual about it.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adam, AdamW, RMSprop, SparseAdam
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LambdaLR, MultiStepLR, StepLR

from zoo import nets

Target = dict[str, Any]


class Agent(nn.Module):
    """CleanRL's continuous agent: a mean network and a free `actor_logstd`."""

    def __init__(self) -> None:
        super().__init__()
        self.critic, self.actor_mean = nets.mlp(8, 64, 64, 1), nets.mlp(8, 64, 64, 2)
        self.actor_logstd = nn.Parameter(torch.zeros(1, 2))


def ppo_continuous() -> Target:
    """CleanRL PPO for continuous actions: Adam 3e-4, eps 1e-5, annealed by the loop, clip .5."""
    agent = Agent()
    return {"model": agent, "optimizer": Adam(agent.parameters(), lr=3e-4, eps=1e-5), "clip_norm": 0.5}


def spinning_up_ppo() -> Target:
    """Spinning Up PPO: policy at 3e-4 and value at 1e-3, an Adam each."""
    ac = nn.ModuleDict({"pi": nets.mlp(8, 64, 64, 2), "v": nets.mlp(8, 64, 64, 1)})
    return {"model": ac, "optimizers": [Adam(ac["pi"].parameters(), lr=3e-4), Adam(ac["v"].parameters(), lr=1e-3)]}


def ddpg() -> Target:
    """DDPG: actor 1e-4, critic 1e-3 with L2 1e-2 through Adam as the paper says; target copies without optimizers."""
    actor, critic = nets.mlp(8, 64, 2), nets.mlp(10, 64, 1)
    named = {
        "actor": actor,
        "critic": critic,
        "actor_target": copy.deepcopy(actor),
        "critic_target": copy.deepcopy(critic),
    }
    optimizers = [Adam(actor.parameters(), lr=1e-4), Adam(critic.parameters(), lr=1e-3, weight_decay=1e-2)]
    return {"models": named, "optimizers": optimizers}


def double_dqn_inside_one_module() -> Target:
    """An online and a target network in one module; every parameter has its gradient on."""
    model = nn.ModuleDict({"online": nets.mlp(8, 64, 4)})
    model["target"] = copy.deepcopy(model["online"])
    return {"model": model, "optimizer": Adam(model["online"].parameters(), lr=1e-4, eps=1.5e-4)}


def dreamer() -> Target:
    """DreamerV3 in PyTorch: world model 1e-4 with eps 1e-8, actor and critic 3e-5 with eps 1e-5, slow critic."""
    world = nn.ModuleDict({"encoder": nets.mlp(32, 64, 32), "rssm": nn.GRUCell(32, 32), "heads": nets.mlp(32, 64, 8)})
    actor, value = nets.mlp(32, 64, 2), nets.mlp(32, 64, 255)
    named = {"world_model": world, "actor": actor, "value": value, "slow_target": copy.deepcopy(value)}
    optimizers = [Adam(world.parameters(), lr=1e-4, eps=1e-8), Adam(actor.parameters(), lr=3e-5, eps=1e-5),
                  Adam(value.parameters(), lr=3e-5, eps=1e-5)]  # fmt: skip
    return {"models": named, "optimizers": optimizers, "clip_norm": 1000.0}


def impala() -> Target:
    """IMPALA in TorchBeast: RMSprop 4.8e-4, eps .01, alpha .99, rate linear to zero."""
    model = nn.ModuleDict({"core": nn.LSTM(32, 32, 2), "policy": nn.Linear(32, 6), "baseline": nn.Linear(32, 1)})
    optimizer = RMSprop(model.parameters(), lr=4.8e-4, momentum=0, eps=0.01, alpha=0.99)
    scheduler = LambdaLR(optimizer, lambda epoch: 1 - min(epoch * 640, 1e6) / 1e6)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler}


def alphazero() -> Target:
    """AlphaZero: SGD .2 with momentum and L2 1e-4 on everything, three drops by ten."""
    model = nets.ResNet()
    optimizer = SGD(model.parameters(), lr=0.2, momentum=0.9, weight_decay=1e-4)
    scheduler = MultiStepLR(optimizer, [100_000, 300_000, 500_000], 0.1)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 700_000}


def decision_transformer() -> Target:
    """Decision Transformer: AdamW 1e-4 with decay 1e-4 on everything, warm-up of 10 000 steps that stays at one."""
    model = nets.GPT(tied=False)
    optimizer = AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4)
    scheduler = LambdaLR(optimizer, lambda steps: min((steps + 1) / 10_000, 1))
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 100_000}


def random_network_distillation() -> Target:
    """RND: the predictor trains with the policy, the random target is frozen for good."""
    model = nn.ModuleDict({"policy": nets.mlp(8, 64, 4), "predictor": nets.mlp(8, 64, 16)})
    model["target"] = nets.mlp(8, 64, 16).requires_grad_(False)
    return {
        "model": model,
        "optimizer": Adam([*model["policy"].parameters(), *model["predictor"].parameters()], lr=1e-4),
    }


def maml() -> Target:
    """MAML++: Adam 1e-3 on the weights and on one inner rate per step and layer; cosine to 1e-5."""
    model = nets.mlp(32, 64, 5)
    rates = nn.ParameterDict(
        {name.replace(".", "-"): nn.Parameter(0.1 * torch.ones(6)) for name, _ in model.named_parameters()}
    )
    learner = nn.ModuleDict({"classifier": model, "inner_loop_optimizer": nn.Module()})
    learner["inner_loop_optimizer"].names_learning_rates_dict = rates
    optimizer = Adam(learner.parameters(), lr=1e-3, amsgrad=False)
    scheduler = CosineAnnealingLR(optimizer, T_max=100, eta_min=1e-5)
    return {"model": learner, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 100}


def meta_sgd() -> Target:
    """Meta-SGD: a rate of its own for every weight, trained beside it at the same rate."""
    model = nets.mlp(32, 64, 5)
    alphas = nn.ParameterList([nn.Parameter(torch.full_like(p, 0.01)) for p in model.parameters()])
    return {"models": {"model": model, "alphas": alphas}, "optimizer": Adam([*model.parameters(), *alphas], lr=1e-3)}


def enas() -> Target:
    """ENAS: shared weights under SGD .05 with L2 2.5e-4, the controller under Adam 3.5e-4."""
    shared, controller = nets.ResNet(), nn.LSTM(32, 32)
    optimizers = [
        SGD(shared.parameters(), 0.05, momentum=0.9, weight_decay=2.5e-4),
        Adam(controller.parameters(), lr=3.5e-4),
    ]
    return {"models": {"model": shared, "controller": controller}, "optimizers": optimizers}


def proxyless_nas() -> Target:
    """ProxylessNAS: architecture parameters are parameters of the network, Adam 6e-3 (0, .999); weights under SGD."""
    model = nn.ModuleList()
    for _ in range(3):
        mixed = nn.ModuleList([nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 5)])
        mixed.AP_path_alpha = nn.Parameter(1e-3 * torch.randn(2))
        model.append(mixed)
    weights = [p for n, p in model.named_parameters() if "AP_path_alpha" not in n]
    alphas = [p for n, p in model.named_parameters() if "AP_path_alpha" in n]
    optimizers = [SGD(weights, 0.025, momentum=0.9, nesterov=True, weight_decay=4e-5),
                  Adam(alphas, 6e-3, betas=(0.0, 0.999), eps=1e-8)]  # fmt: skip
    return {"model": model, "optimizers": optimizers}


class GraphConvolution(nn.Module):
    """GCNII's layer: one bare matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(64, 64))


def gcn2() -> Target:
    """GCNII: convolutions with L2 .01, dense layers with 5e-4, Adam .01 (`params1`, `params2`)."""
    model = nn.Module()
    model.convs = nn.ModuleList(GraphConvolution() for _ in range(8))
    model.fcs = nn.ModuleList([nn.Linear(32, 64), nn.Linear(64, 7)])
    groups = [
        {"params": model.convs.parameters(), "weight_decay": 0.01},
        {"params": model.fcs.parameters(), "weight_decay": 5e-4},
    ]
    return {"model": model, "optimizer": Adam(groups, lr=0.01)}


def gat() -> Target:
    """GAT on Cora: Adam 5e-3 with L2 5e-4 on everything, attention vectors too."""
    model = nn.Module()
    model.lin, model.att_src, model.att_dst = (
        nn.Linear(32, 64, bias=False),
        *(nn.Parameter(torch.randn(1, 8, 8)) for _ in "sd"),
    )
    model.bias = nn.Parameter(torch.zeros(64))
    return {"model": model, "optimizer": Adam(model.parameters(), lr=0.005, weight_decay=5e-4)}


def word2vec() -> Target:
    """Skip-gram with sparse tables: SparseAdam 1e-3, cosine to zero."""
    model = nn.ModuleDict({name: nn.Embedding(100, 16, sparse=True) for name in ("u_embeddings", "v_embeddings")})
    nn.init.zeros_(model["v_embeddings"].weight)
    optimizer = SparseAdam(list(model.parameters()), lr=1e-3)
    scheduler = CosineAnnealingLR(optimizer, 10_000)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 10_000}


def matrix_factorization() -> Target:
    """Factors and biases of users and items under SGD with L2 through the optimizer."""
    model = nn.ModuleDict({"user_factors": nn.Embedding(50, 8), "item_factors": nn.Embedding(80, 8),
                           "user_biases": nn.Embedding(50, 1), "item_biases": nn.Embedding(80, 1)})  # fmt: skip
    return {"model": model, "optimizer": SGD(model.parameters(), lr=0.05, weight_decay=1e-5)}


def deep_and_wide() -> Target:
    """Wide and deep: the linear part under Adagrad, the deep part under Adam."""
    model = nn.ModuleDict({"wide": nn.Linear(100, 1), "deep": nets.mlp(32, 64, 1)})
    optimizers = [torch.optim.Adagrad(model["wide"].parameters(), lr=0.05), Adam(model["deep"].parameters(), lr=1e-3)]
    return {"model": model, "optimizers": optimizers}


class Injected(nn.Module):
    """A deep equilibrium cell: weight-normalised layers around an injection."""

    def __init__(self) -> None:
        super().__init__()
        self.lin1, self.inject = nn.utils.parametrizations.weight_norm(nn.Linear(32, 64)), nn.Linear(32, 64)
        self.lin2, self.norm = nn.utils.parametrizations.weight_norm(nn.Linear(64, 32)), nn.GroupNorm(8, 32)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.norm(z + self.lin2(torch.relu(self.lin1(z) + self.inject(x))))


def deep_equilibrium() -> Target:
    """Deep equilibrium model: one cell solved to its fixed point, Adam 1e-3 under a cosine."""
    model = nn.ModuleDict({"encoder": nn.Linear(16, 32), "cell": Injected(), "head": nn.Linear(32, 10)})
    optimizer = Adam(model.parameters(), lr=1e-3)
    return {
        "model": model,
        "optimizer": optimizer,
        "scheduler": CosineAnnealingLR(optimizer, 50, eta_min=1e-6),
        "total_steps": 50,
    }


def neural_ode() -> Target:
    """torchdiffeq's MNIST: SGD .1 with momentum, drops at epochs 60, 100 and 140 by the loop."""
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.GroupNorm(4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(8, 10))
    return {"model": model, "optimizer": SGD(model.parameters(), lr=0.1, momentum=0.9)}


def pinn_adam_then_lbfgs() -> Target:
    """A physics-informed network in double precision whose unknown coefficients train too; Adam 1e-3."""
    model = nets.mlp(2, 20, 20, 1).double()
    unknown = nn.ParameterDict(
        {"lambda_1": torch.zeros(1, dtype=torch.double), "lambda_2": -6 * torch.ones(1, dtype=torch.double)}
    )
    optimizer = LBFGS([*model.parameters(), *unknown.parameters()], lr=1.0, max_iter=50_000, tolerance_change=1e-16)
    return {"models": {"dnn": model, "coefficients": unknown}, "optimizer": optimizer}


def fourier_neural_operator() -> Target:
    """FNO: complex spectral weights, Adam 1e-3 with L2 1e-4, halved every hundred epochs."""
    model = nn.ModuleDict(
        {"p": nn.Linear(3, 32), "conv0": nn.Module(), "w0": nn.Conv1d(32, 32, 1), "q": nn.Linear(32, 1)}
    )
    model["conv0"].weights1 = nn.Parameter(torch.rand(32, 32, 8, dtype=torch.cfloat) / 1024)
    optimizer = Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    return {"model": model, "optimizer": optimizer, "scheduler": StepLR(optimizer, 100, 0.5), "total_steps": 500}


def alphafold() -> Target:
    """OpenFold: Adam 1e-3, eps 1e-5, warm-up, plateau and decay per step, clip .1, an average beside."""
    model = nets.ViT(declares=False)
    optimizer = Adam(model.parameters(), lr=1e-3, eps=1e-5)
    scheduler = LambdaLR(optimizer, lambda s: s / 1_000 if s < 1_000 else 0.95 ** (max(0, s - 50_000) // 50_000))
    named = {"model": model, "ema": copy.deepcopy(model).requires_grad_(False)}
    return {"models": named, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 75_000, "clip_norm": 0.1}


def interatomic_potential() -> Target:
    """MACE: Adam with AMSGrad .01; products and embeddings without decay, interactions with 5e-7, keyed by `name`."""
    model = nn.ModuleDict({"node_embedding": nn.Linear(8, 32, bias=False), "interactions": nets.mlp(32, 32, 32),
                           "products": nets.mlp(32, 32), "readouts": nets.mlp(32, 1)})  # fmt: skip
    inter = list(model["interactions"].named_parameters())
    groups = [
        {"name": "embedding", "params": model["node_embedding"].parameters(), "weight_decay": 0.0},
        {"name": "interactions_decay", "params": [p for n, p in inter if n.endswith("weight")], "weight_decay": 5e-7},
        {"name": "interactions_no_decay", "params": [p for n, p in inter if n.endswith("bias")], "weight_decay": 0.0},
        {"name": "products", "params": model["products"].parameters(), "weight_decay": 5e-7},
        {"name": "readouts", "params": model["readouts"].parameters(), "weight_decay": 0.0},
    ]
    optimizer = Adam(groups, lr=0.01, amsgrad=True)
    return {"model": model, "optimizer": optimizer, "scheduler": ExponentialLR(optimizer, 0.9993)}


def learned_task_weights() -> Target:
    """Multi-task learning with learned uncertainties: `log_vars` train beside the network in one group."""
    model = nn.ModuleDict({"body": nets.mlp(32, 64, 32), "depth": nn.Linear(32, 1), "labels": nn.Linear(32, 9)})
    criterion = nn.Module()
    criterion.register_parameter("log_vars", nn.Parameter(torch.zeros(2)))
    every = itertools.chain(model.parameters(), criterion.parameters())
    return {"model": model, "optimizer": Adam(every, lr=1e-4), "extra_modules": {"criterion": criterion}}
