"""Fine-tuning policies: which parts train, at which rates, and how text and vision models are taken over.

Every function is a sound published recipe as a target; its docstring names it and what is unusual about it.
"""

from __future__ import annotations

import copy
from typing import Any

import peft
import torch
import transformers as hf
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, LambdaLR, LinearLR, SequentialLR

from zoo import models, nets
from zoo.groupings import by_ndim, classic, decay_by, trainer

Target = dict[str, Any]
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d)


def _linear(optimizer: torch.optim.Optimizer, warmup: int, total: int) -> Target:
    """The target's entries for a linear schedule with a warm-up."""
    return {"scheduler": hf.get_linear_schedule_with_warmup(optimizer, warmup, total), "total_steps": total}


def bitfit() -> Target:
    """BitFit: biases and the classifier train, everything else is frozen; AdamW 4e-4 with its default decay."""
    model = models.build("bert")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("bias" in name or "classifier" in name)
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=4e-4, weight_decay=0.0)
    return {"model": model, "optimizer": optimizer, **_linear(optimizer, 0, 2_000)}


def norm_tuning() -> Target:
    """LN-tuning: scales and shifts of the layer norms train, and nothing else but the head."""
    model = models.build("vit")
    model.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.requires_grad_(True)
    model.classifier.requires_grad_(True)
    return {"model": model, "optimizer": AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)}


def bert_crf() -> Target:
    """Named entities with BERT and a CRF: encoder 3e-5, classifier and transitions 1e-3; the classic filter."""
    bert = models.build("bert").bert
    model = nn.ModuleDict({"bert": bert, "classifier": nn.Linear(32, 9), "crf": nn.Module()})
    for name, shape in (("start_transitions", (9,)), ("end_transitions", (9,)), ("transitions", (9, 9))):
        model["crf"].register_parameter(name, nn.Parameter(torch.empty(shape).uniform_(-0.1, 0.1)))
    groups = []
    for part, rate in (("bert", 3e-5), ("crf", 1e-3), ("classifier", 1e-3)):
        groups += [{**group, "lr": rate} for group in decay_by(model[part], _not_in_the_classic_list, 0.01)]
    optimizer = AdamW(groups, lr=3e-5, eps=1e-8)
    return {"model": model, "optimizer": optimizer, **_linear(optimizer, 100, 1_000)}


def _not_in_the_classic_list(name: str, parameter: nn.Parameter) -> bool:
    return not any(part in name for part in ("bias", "LayerNorm.weight"))


def sentence_transformers() -> Target:
    """sentence-transformers `fit`: the classic filter on BERT, AdamW 2e-5, decay .01, a tenth of the run to warm up."""
    model = models.build("bert")
    groups = classic(model)
    groups[0]["weight_decay"] = 0.01
    optimizer = AdamW(groups, lr=2e-5)
    return {"model": model, "optimizer": optimizer, **_linear(optimizer, 1_000, 10_000)}


def deberta_layerwise() -> Target:
    """Kaggle's layer-wise rates for encoders: factor .9 per layer, head apart, one group per layer and kind."""
    model = models.build("roberta")
    groups, rate = [{"params": list(model.classifier.parameters()), "lr": 1e-4, "weight_decay": 0.0}], 2e-5
    layers = [model.roberta.embeddings, *model.roberta.encoder.layer]
    for layer in reversed(layers):
        groups += [{**group, "lr": rate} for group in decay_by(layer, _not_in_the_classic_list, 0.01)]
        rate *= 0.9
    optimizer = AdamW(groups, lr=2e-5)
    return {"model": model, "optimizer": optimizer, **_linear(optimizer, 50, 1_000)}


def gradual_unfreezing() -> Target:
    """ULMFiT's gradual unfreezing: every layer has its group from the start, and the lower ones are frozen yet."""
    layers = nn.ModuleDict({"encoder": nn.Embedding(64, 32), "rnns": nn.LSTM(32, 32), "head": nn.Linear(32, 3)})
    layers["encoder"].requires_grad_(False)
    layers["rnns"].requires_grad_(False)
    rates = (1e-2 / 2.6**2, 1e-2 / 2.6, 1e-2)
    groups = [{"params": part.parameters(), "lr": rate} for part, rate in zip(layers.values(), rates, strict=True)]
    return {"model": layers, "optimizer": Adam(groups, betas=(0.7, 0.99)), "unfreezes": ["rnns.*", "encoder.*"]}


def lit_locked_image() -> Target:
    """LiT: the image tower is locked and in evaluation mode, the text tower and the temperature train."""
    model = models.build("clip")
    model.vision_model.requires_grad_(False)
    groups = by_ndim(model)
    return {"model": model, "optimizer": AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-6)}


def coop() -> Target:
    """CoOp: SGD 2e-3 on the context vectors of the prompt, CLIP frozen as a whole."""
    model = nn.ModuleDict({"clip": models.build("clip").requires_grad_(False), "prompt_learner": nn.Module()})
    model["prompt_learner"].register_parameter("ctx", nn.Parameter(0.02 * torch.randn(16, 32)))
    optimizer = SGD(model["prompt_learner"].parameters(), lr=2e-3, momentum=0.9, weight_decay=5e-4)
    return {"model": model, "optimizer": optimizer, "scheduler": CosineAnnealingLR(optimizer, 50), "total_steps": 50}


def blip2() -> Target:
    """BLIP-2 in LAVIS: the Q-Former trains, the vision tower is frozen; vectors, `bias`, `ln` and `bn` are exempt."""
    model = nn.ModuleDict({"visual_encoder": nets.ViT().requires_grad_(False), "Qformer": models.build("bert").bert})
    model["ln_vision"], model["language_projection"] = nn.LayerNorm(32), nn.Linear(32, 32)
    model["query_tokens"] = nn.ParameterList([nn.Parameter(0.02 * torch.randn(1, 4, 32))])
    groups = decay_by(model, lambda n, p: p.ndim >= 2 and not any(k in n for k in ("bias", "ln", "bn")), 0.05)
    optimizer = AdamW(groups, lr=1e-4, betas=(0.9, 0.999))
    return {"model": model, "optimizer": optimizer}


def llava_pretrain() -> Target:
    """LLaVA's first stage: the projector alone at 1e-3, tower and language model frozen."""
    model = nn.ModuleDict({"model": models.build("llama").requires_grad_(False), "mm_projector": nets.mlp(32, 32, 32)})
    optimizer = AdamW(model["mm_projector"].parameters(), lr=1e-3, weight_decay=0.0)
    scheduler = hf.get_cosine_schedule_with_warmup(optimizer, 65, 2_181)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 2_181}


def dpo() -> Target:
    """DPO: the reference is a frozen copy beside the policy; rate 5e-7."""
    policy = models.build("llama")
    reference = copy.deepcopy(policy).eval().requires_grad_(False)
    optimizer = AdamW(policy.parameters(), lr=5e-7, weight_decay=0.0)
    named = {"policy": policy, "reference_model": reference}
    return {
        "models": named,
        "optimizer": optimizer,
        "scheduler": LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / 151)),
    }


class WithValueHead(nn.Module):
    """trl's layout: the language model and a scalar head on its hidden states."""

    def __init__(self) -> None:
        super().__init__()
        self.pretrained_model = models.build("gpt2")
        self.v_head = nn.Module()
        self.v_head.summary = nn.Linear(32, 1)


def rlhf_ppo() -> Target:
    """trl's PPO: policy with a value head in one Adam at 1.41e-5, a reference model without one."""
    model, ref_model = WithValueHead(), models.build("gpt2").requires_grad_(False)
    optimizer = Adam([p for p in model.parameters() if p.requires_grad], lr=1.41e-5)
    return {"models": {"model": model, "ref_model": ref_model}, "optimizer": optimizer}


def deepspeed_chat_lora() -> Target:
    """DeepSpeed-Chat: adapters in a group of their own at 5e-4 beside the model at 9.65e-6."""
    model = models.build("lora")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name or "norm" in name or "lm_head" in name)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    exempt = ("bias", "layer_norm.weight", "layernorm.weight", "norm.weight", "ln_f.weight")
    spared = [n for n, _ in named if any(part in n for part in exempt)]
    groups = [
        {"params": [p for n, p in named if n not in spared and "lora_" not in n], "weight_decay": 0.1},
        {"params": [p for n, p in named if "lora_" in n], "weight_decay": 0.1, "lr": 5e-4},
        {"params": [p for n, p in named if n in spared], "weight_decay": 0.0},
    ]
    return {"model": model, "optimizer": AdamW(groups, lr=9.65e-6, betas=(0.9, 0.95))}


def adalora() -> Target:
    """AdaLoRA: three factors per layer, AdamW 1e-3 on what trains."""
    config = peft.AdaLoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], init_r=4, total_step=1_000)
    model = peft.get_peft_model(models.build("llama"), config)
    return {"model": model, "optimizer": AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)}


def dora() -> Target:
    """DoRA: low-rank factors and a magnitude vector per layer."""
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], r=4, use_dora=True)
    model = peft.get_peft_model(models.build("llama"), config)
    return {"model": model, "optimizer": AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)}


def whisper_decoder_only() -> Target:
    """Whisper with a frozen encoder: the Trainer's grouping of what is left, decay .01."""
    model = models.build("whisper")
    model.freeze_encoder()
    optimizer = AdamW(trainer(model), lr=1e-5)
    return {"model": model, "optimizer": optimizer, **_linear(optimizer, 500, 4_000)}


def wav2vec2_fairseq_freeze_then_train() -> Target:
    """fairseq's `freeze_finetune_updates`: the encoder is in the optimizer and frozen for the first updates."""
    model = models.build("wav2vec2")
    model.freeze_feature_encoder()
    model.wav2vec2.encoder.requires_grad_(False)
    rest = [p for n, p in model.named_parameters() if "feature_extractor" not in n]
    return {"model": model, "optimizer": Adam(rest, lr=3e-5, betas=(0.9, 0.98)), "unfreezes": ["wav2vec2.encoder.**"]}


def fixmatch() -> Target:
    """FixMatch: `["bias", "bn"]` are exempt under SGD with Nesterov momentum, an average of the weights beside."""
    model = nets.ResNet()
    average = copy.deepcopy(model).requires_grad_(False)
    named = [(n, p) for n, p in model.named_parameters()]
    spared = [p for n, p in named if any(part in n for part in ("bias", "bn")) or "downsample.1" in n]
    chosen = {id(p) for p in spared}
    groups = [{"params": [p for _, p in named if id(p) not in chosen], "weight_decay": 5e-4},
              {"params": spared, "weight_decay": 0.0}]  # fmt: skip
    optimizer = SGD(groups, lr=0.03, momentum=0.9, nesterov=True)
    return {"models": {"model": model, "ema_model": average}, "optimizer": optimizer}


def simsiam() -> Target:
    """SimSiam: the predictor keeps its rate (`fix_lr`), the loop lowers the encoder's."""
    model = nn.ModuleDict({"encoder": nets.ResNet(32), "predictor": nets.mlp(32, 16, 32)})
    groups = [{"params": model["encoder"].parameters(), "fix_lr": False},
              {"params": model["predictor"].parameters(), "fix_lr": True}]  # fmt: skip
    return {"model": model, "optimizer": SGD(groups, 0.05, momentum=0.9, weight_decay=1e-4)}


def byol() -> Target:
    """BYOL: online and target inside one module, predictor beside; Adam 3e-4 on the online half."""
    learner = nn.ModuleDict({"online_encoder": nets.ResNet(32), "online_predictor": nets.mlp(32, 32, 32)})
    learner["target_encoder"] = copy.deepcopy(learner["online_encoder"]).requires_grad_(False)
    return {"model": learner, "optimizer": Adam([p for p in learner.parameters() if p.requires_grad], lr=3e-4)}


def dinov2() -> Target:
    """DINOv2: groups with `lr_multiplier`, `wd_multiplier` and `is_last_layer` that the loop applies at every step."""
    model = nets.ViT(layers=6, declares=False)
    groups: dict[tuple[Any, ...], Target] = {}
    for name, parameter in model.named_parameters():
        stem = name.startswith(("cls_token", "pos_embed", "patch_embed"))
        layer = 0 if stem else int(name.split(".")[1]) + 1 if name.startswith("blocks") else 7
        rate = 0.9 ** (7 - layer) * (0.2 if "patch_embed" in name else 1.0)
        exempt = name.endswith(".bias") or "norm" in name or "gamma" in name
        fresh = {"params": [], "is_last_layer": False, "lr_multiplier": rate, "wd_multiplier": 0.0 if exempt else 1.0,
                 "foreach": True}  # fmt: skip
        groups.setdefault((rate, exempt), fresh)["params"].append(parameter)
    return {"model": model, "optimizer": AdamW(list(groups.values()), betas=(0.9, 0.999))}


def beit_finetune() -> Target:
    """BEiT: one group per layer and kind with `lr_scale`, decay .05, the tokens that the model declares exempt."""
    model = nets.ViT(layers=12)
    skip, groups = model.no_weight_decay(), {}
    for name, parameter in model.named_parameters():
        stem = name.startswith(("cls_token", "pos_embed", "patch_embed"))
        layer = 0 if stem else int(name.split(".")[1]) + 1 if name.startswith("blocks") else 13
        exempt = parameter.ndim == 1 or name.endswith(".bias") or name in skip
        group = {"params": [], "lr_scale": 0.65 ** (13 - layer), "weight_decay": 0.0 if exempt else 0.05}
        groups.setdefault((layer, exempt), group)["params"].append(parameter)
    return {"model": model, "optimizer": AdamW(list(groups.values()), lr=5e-4, betas=(0.9, 0.999))}


def stochastic_restarts() -> Target:
    """SGDR: SGD .05 with warm restarts, period doubled after each."""
    model = nets.ResNet()
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    scheduler = CosineAnnealingWarmRestarts(optimizer, T_0=10, T_mult=2)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 150}


def warmup_stable_decay() -> Target:
    """MiniCPM's warm-up, stable and decay phases under AdamW .01 with muP's per-width rates (hidden at lr / 10)."""
    model = nets.Llama()
    hidden = [p for n, p in model.named_parameters() if n.startswith("layers") and p.ndim == 2]
    chosen = {id(p) for p in hidden}
    groups = [{"params": hidden, "lr": 0.001}, {"params": [p for p in model.parameters() if id(p) not in chosen]}]
    optimizer = AdamW(groups, lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    phases = [LinearLR(optimizer, 0.01, total_iters=100), LambdaLR(optimizer, lambda s: 1.0),
              LambdaLR(optimizer, lambda s: 0.5 ** (s / 30))]  # fmt: skip
    return {"model": model, "optimizer": optimizer, "scheduler": SequentialLR(optimizer, phases, [100, 900]),
            "total_steps": 1_000}  # fmt: skip


def transformer_noam() -> Target:
    """The annotated Transformer: Adam at rate 1.0, β (.9, .98), eps 1e-9; the function is the rate."""
    model = nn.ModuleDict({"transformer": nn.Transformer(32, 4, 2, 2, 64), "generator": nn.Linear(32, 64)})
    optimizer = Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)

    def factor(step: int) -> float:
        step = max(step, 1)
        return 512**-0.5 * min(step**-0.5, step * 4_000**-1.5)

    return {"model": model, "optimizer": optimizer, "scheduler": LambdaLR(optimizer, factor), "total_steps": 100_000}
