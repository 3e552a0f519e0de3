"""Language models: pretraining, state-space models, fine-tuning of encoders and decoders.

Every function is a sound published recipe as a target; its docstring names it and what is unusual about it.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
import transformers as hf
from torch import nn
from torch.optim import SGD, Adam, AdamW, Muon
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, SequentialLR

from zoo import models, nets
from zoo.groupings import by_ndim, classic, decay_by, trainer

Target = dict[str, Any]


def _warmup_cosine(optimizer: torch.optim.Optimizer, warmup: int, total: int, floor: float = 0.1) -> LambdaLR:
    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / (total - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def nanogpt() -> Target:
    """nanoGPT: AdamW 6e-4, β (.9, .95), matrices and embeddings decay, tied head; the loop writes the rate itself."""
    model = nets.GPT()
    optimizer = AdamW(by_ndim(model), lr=6e-4, betas=(0.9, 0.95), fused=False)
    return {"model": model, "optimizer": optimizer, "example_inputs": nets.tokens(), "clip_norm": 1.0}


def mingpt() -> Target:
    """minGPT: decays Linear weights only; LayerNorm, Embedding and biases are exempt."""
    model = nets.GPT(tied=False)
    linear = {f"{path}.weight" for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    optimizer = AdamW(decay_by(model, lambda name, _: name in linear), lr=3e-4, betas=(0.9, 0.95))
    return {"model": model, "optimizer": optimizer, "example_inputs": nets.tokens()}


def gpt_neox() -> Target:
    """GPT-NeoX: norm classes by name and biases exempt, fp16 with a scaler, cosine to a tenth."""
    model = models.build("gpt_neox")
    norms = {path for path, module in model.named_modules() if "Norm" in type(module).__name__}
    exempt = {name for name, _ in model.named_parameters() if name.rpartition(".")[0] in norms or "bias" in name}
    groups = decay_by(model, lambda name, _: name not in exempt, 0.01)
    optimizer = AdamW(groups, lr=6e-4, betas=(0.9, 0.95))
    scheduler = _warmup_cosine(optimizer, 1000, 100_000)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 100_000,
            "precision": "fp16-mixed"}  # fmt: skip


def megatron() -> Target:
    """Megatron-LM: multiplier keys beside equal rates, `max_lr` and `min_lr` of its own scheduler."""
    model = nets.GPT()
    groups = by_ndim(model)
    for group, wd_mult in zip(groups, (1.0, 0.0), strict=True):
        group.update(wd_mult=wd_mult, lr_mult=1.0, is_expert_parallel=False, is_decoupled_lr=False, max_lr=3e-4,
                     min_lr=3e-5)  # fmt: skip
    return {"model": model, "optimizer": Adam(groups, lr=3e-4, betas=(0.9, 0.95), decoupled_weight_decay=True)}


def megatron_decoupled_lr() -> Target:
    """Megatron-LM --decoupled-lr: embedding and output layer at a rate of their own, 20 times apart."""
    model = nets.Llama()
    ends = [model.tok_embeddings.weight, model.output.weight]
    rest = [p for n, p in model.named_parameters() if n.startswith(("layers", "norm"))]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in rest if p.ndim == 1], "weight_decay": 0.0},
        {"params": ends, "lr": 6e-3, "weight_decay": 0.1, "is_decoupled_lr": True},
    ]
    return {"model": model, "optimizer": AdamW(groups, lr=3e-4), "example_inputs": nets.tokens()}


def olmo() -> Target:
    """OLMo: Linear weights decay, norms and embeddings do not; `sharded` and `max_grad_norm` travel in the groups."""
    model = nets.Llama()
    linear = {f"{path}.weight" for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    groups = decay_by(model, lambda name, _: name in linear)
    for group, name in zip(groups, ("decay_group", "no_decay_group"), strict=True):
        group.update(name=name, sharded=True, max_grad_norm=1.0)
    optimizer = AdamW(groups, lr=4e-4, betas=(0.9, 0.95), eps=1e-8)
    return {"model": model, "optimizer": optimizer, "scheduler": _warmup_cosine(optimizer, 2000, 70_000),
            "total_steps": 70_000}  # fmt: skip


def torchtitan() -> Target:
    """torchtitan: one group, everything decays, names travel with the parameters."""
    model = nets.Llama()
    optimizer = AdamW(model.named_parameters(), lr=8e-4, betas=(0.9, 0.95), weight_decay=0.1)
    warm = LinearLR(optimizer, 1 / 200, 1.0, 200)
    scheduler = SequentialLR(optimizer, [warm, CosineAnnealingLR(optimizer, 9_800)], [200])
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 10_000}


def torchtitan_muon() -> Target:
    """torchtitan with Muon: matrices of the blocks to Muon by pattern, the rest to AdamW."""
    model = nets.Llama()
    hidden = re.compile(r"layers\.\d+\.(attention|feed_forward)\..*weight")
    named = list(model.named_parameters())
    muon = Muon([p for n, p in named if hidden.fullmatch(n)], lr=2e-4, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adam = AdamW([p for n, p in named if not hidden.fullmatch(n)], lr=2e-4, betas=(0.9, 0.95), weight_decay=0.1)
    return {"model": model, "optimizer": {"muon": muon, "adam": adam}, "example_inputs": nets.tokens()}


def modded_nanogpt() -> Target:
    """modded-nanogpt: Adam at .6 on embeddings, .008 on the head, .04 on scalars; Muon at .05 on hidden matrices."""
    model = nets.GPT(tied=False)
    hidden = [p for n, p in model.named_parameters() if ".h." in n and p.ndim == 2]
    scalars = [p for n, p in model.named_parameters() if p.ndim < 2]
    tables = [model.transformer["wte"].weight, model.transformer["wpe"].weight]
    optimizers = [
        Adam(tables, lr=0.6, betas=(0.8, 0.95), eps=1e-10),
        Adam([model.lm_head.weight], lr=0.008, betas=(0.8, 0.95), eps=1e-10),
        Adam(scalars, lr=0.04, betas=(0.8, 0.95), eps=1e-10),
        Muon(hidden, lr=0.05, momentum=0.95, weight_decay=0.0),
    ]
    schedulers = [LambdaLR(o, lambda s: min(1.0, max(0.0, (1390 - s) / 500))) for o in optimizers]
    return {"model": model, "optimizers": optimizers, "schedulers": schedulers, "total_steps": 1390}


def mosaic_gpt() -> Target:
    """MosaicML GPT 7B: AdamW 1.2e-4 without decay, warm-up then cosine to a tenth, bf16 autocast."""
    model = nets.GPT()
    optimizer = AdamW(model.parameters(), lr=1.2e-4, betas=(0.9, 0.95), weight_decay=0.0)
    return {"model": model, "optimizer": optimizer, "scheduler": _warmup_cosine(optimizer, 100, 63_900),
            "total_steps": 63_900, "precision": "bf16-mixed"}  # fmt: skip


def rwkv() -> Target:
    """RWKV-4: layer-wise rates by `my_lr_scale` (1, 2, 3) that the loop multiplies in; eps 1e-18."""
    model = nn.ModuleDict({"emb": nn.Embedding(64, 32)})
    for number in range(2):
        block = nn.ModuleDict({"ln1": nn.LayerNorm(32), "key": nn.Linear(32, 32, False)})
        block.register_parameter("time_decay", nn.Parameter(torch.ones(32)))
        block.register_parameter("time_mix_k", nn.Parameter(torch.ones(1, 1, 32)))
        model[f"blocks_{number}"] = block
    scale = {"time_decay": 3.0, "time_mix_k": 1.0}
    found: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        found.setdefault(scale.get(name.rpartition(".")[2], 1.0), []).append(parameter)
    groups = [{"params": found[s], "weight_decay": 0.0, "my_lr_scale": s} for s in sorted(found)]
    return {"model": model, "optimizer": Adam(groups, lr=6e-4, betas=(0.9, 0.99), eps=1e-18)}


def mamba() -> Target:
    """Mamba: the dynamics carry `_no_weight_decay`, and the grouping honours it."""
    model = nets.SSMModel()
    for name, parameter in model.named_parameters():
        if name.endswith(("A_log", ".D", "dt_bias")):
            parameter._no_weight_decay = True
    groups = decay_by(model, lambda _, p: p.ndim >= 2 and not getattr(p, "_no_weight_decay", False))
    return {"model": model, "optimizer": AdamW(groups, lr=6e-4, betas=(0.9, 0.95)), "example_inputs": nets.tokens()}


def s4() -> Target:
    """S4: `_optim` on the dynamics asks for rate 1e-3 and no decay; everything else decays at .01, norms too."""
    model = nets.SSMModel()
    for name, parameter in model.named_parameters():
        if name.endswith(("A_log", ".D", "dt_bias")):
            parameter._optim = {"lr": 1e-3, "weight_decay": 0.0}
    marked = [p for p in model.parameters() if hasattr(p, "_optim")]
    optimizer = AdamW([p for p in model.parameters() if not hasattr(p, "_optim")], lr=0.01, weight_decay=0.01)
    optimizer.add_param_group({"params": marked, **marked[0]._optim})
    return {"model": model, "optimizer": optimizer, "scheduler": CosineAnnealingLR(optimizer, 100), "total_steps": 100}


def torchtune_lora() -> Target:
    """torchtune 8B LoRA: `model.parameters()`, frozen ones included, in one group."""
    model = models.build("lora")
    return {"model": model, "optimizer": AdamW(model.parameters(), lr=3e-4, weight_decay=0.01)}


def bert_original() -> Target:
    """BERT: exempt LayerNorm and bias by pattern, eps 1e-6, linear decay after a warm-up."""
    model = models.build("bert")
    optimizer = AdamW(classic(model), lr=1e-4, eps=1e-6)
    scheduler = hf.get_linear_schedule_with_warmup(optimizer, 10_000, 1_000_000)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 1_000_000}


def run_glue_no_trainer() -> Target:
    """transformers run_glue_no_trainer on BERT: the list fits the model; linear schedule without a warm-up."""
    model = models.build("bert")
    optimizer = AdamW(classic(model), lr=5e-5)
    scheduler = hf.get_linear_schedule_with_warmup(optimizer, 0, 3_000)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 3_000}


def hf_trainer_default() -> Target:
    """transformers Trainer: AdamW 5e-5, decay 0 by default, so that its groups are the same."""
    model = models.build("roberta")
    groups = trainer(model)
    groups[0]["weight_decay"] = 0.0
    optimizer = AdamW(groups, lr=5e-5)
    scheduler = hf.get_linear_schedule_with_warmup(optimizer, 0, 1_000)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 1_000}


def electra_layerwise() -> Target:
    """ELECTRA: rates fall by .8 per layer from the head to the embeddings, eps 1e-6."""
    model = models.build("electra")
    groups = []
    for name, parameter in model.named_parameters():
        found = re.search(r"layer\.(\d+)\.", name)
        depth = int(found[1]) + 1 if found else 0 if "embedding" in name else 4
        exempt = "bias" in name or "LayerNorm" in name
        groups.append({"params": [parameter], "lr": 1e-4 * 0.8 ** (5 - depth), "weight_decay": 0.0 if exempt else 0.01})
    return {"model": model, "optimizer": AdamW(groups, lr=1e-4, eps=1e-6)}


def t5_adafactor_relative() -> Target:
    """T5 with Adafactor and relative steps: `lr` is None and the optimizer picks it."""
    model = models.build("t5")
    optimizer = hf.Adafactor(model.parameters(), scale_parameter=True, relative_step=True, warmup_init=True, lr=None)
    return {"model": model, "optimizer": optimizer}


def t5_adafactor_fixed() -> Target:
    """T5 fine-tuning with Adafactor at a constant 1e-3."""
    model = models.build("t5")
    optimizer = hf.Adafactor(model.parameters(), scale_parameter=False, relative_step=False, lr=1e-3)
    return {"model": model, "optimizer": optimizer}


def ulmfit() -> Target:
    """fastai: discriminative rates over splits, 100 times apart, one-cycle with a list of peaks."""
    model = nn.Sequential(nets.mlp(32, 32, 32), nets.mlp(32, 32, 32), nn.Linear(32, 3))
    rates = [1e-5, 1e-4, 1e-3]
    groups = [{"params": part.parameters(), "lr": rate} for part, rate in zip(model, rates, strict=True)]
    optimizer = AdamW(groups, betas=(0.9, 0.99), eps=1e-5, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=500)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 500}


def awd_lstm() -> Target:
    """AWD-LSTM: SGD at 30 with decay 1.2e-6, clip .25."""
    model = nn.ModuleDict({"encoder": nn.Embedding(64, 32), "rnn": nn.LSTM(32, 32, 2), "decoder": nn.Linear(32, 64)})
    model["decoder"].weight = model["encoder"].weight
    return {"model": model, "optimizer": SGD(model.parameters(), lr=30.0, weight_decay=1.2e-6), "clip_norm": 0.25}


def router_apart() -> Target:
    """A mixture of experts: the router's gates train with an Adam of their own, eight times faster."""
    model = models.build("mixtral")
    gates = [p for n, p in model.named_parameters() if "gate.weight" in n or "router" in n]
    chosen = {id(p) for p in gates}
    rest = AdamW([p for p in model.parameters() if id(p) not in chosen], lr=3e-4, weight_decay=0.1)
    return {"model": model, "optimizer": [rest, AdamW(gates, lr=2.4e-3, weight_decay=0.1)]}
