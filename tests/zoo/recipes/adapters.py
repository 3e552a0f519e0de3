"""Adapters, prompts, diffusion and vision-language models.

Every function is a sound published recipe as a target; its docstring names it and what is unusual about it.
"""

from __future__ import annotations

from typing import Any

import peft
import torch
import transformers as hf
from peft.optimizers import create_loraplus_optimizer
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from zoo import models, nets
from zoo.groupings import decay_by, trainer

Target = dict[str, Any]


def _adapted(config: peft.PeftConfig) -> nn.Module:
    return peft.get_peft_model(models.build("llama"), config)


def lora_trainer() -> Target:
    """PEFT LoRA under the Trainer: decay 0, and the no-decay group is empty."""
    model = models.build("lora")
    groups = trainer(model)
    groups[0]["weight_decay"] = 0.0
    optimizer = AdamW(groups, lr=2e-4)
    scheduler = hf.get_cosine_schedule_with_warmup(optimizer, 30, 1_000)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 1_000}


def lora_qlora() -> Target:
    """QLoRA: 2e-4 constant on the adapters, clip .3, the base frozen and left out."""
    model = models.build("lora")
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4, weight_decay=0.0)
    return {"model": model, "optimizer": optimizer, "clip_norm": 0.3}


def loraplus() -> Target:
    """LoRA+ by PEFT's own function: B sixteen times faster than A, empty groups for what is not there."""
    model = models.build("lora")
    return {"model": model, "optimizer": create_loraplus_optimizer(model, AdamW, lr=2e-4, loraplus_lr_ratio=16)}


def loraplus_embedding() -> Target:
    """LoRA+ with an adapted embedding: its default rate 1e-6 lies 3200 times below that of B."""
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "embed_tokens"], r=4)
    optimizer = create_loraplus_optimizer(model := _adapted(config), AdamW, lr=2e-4, loraplus_lr_ratio=16)
    return {"model": model, "optimizer": optimizer}


def lora_fa() -> Target:
    """LoRA-FA: A is frozen and stays in the optimizer."""
    model = models.build("lora")
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            parameter.requires_grad_(False)
    adapters = [p for n, p in model.named_parameters() if "lora_" in n]
    return {"model": model, "optimizer": AdamW(adapters, lr=7e-5, weight_decay=0.0)}


def lora_modules_to_save() -> Target:
    """LoRA with a fully trained copy of the head, which PEFT keeps beside the frozen original."""
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=4, modules_to_save=["lm_head"])
    model = _adapted(config)
    return {"model": model, "optimizer": AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)}


def prompt_tuning() -> Target:
    """Prompt tuning: AdamW at .3 on a soft prompt, decay 1e-5, the frozen base passed too."""
    model = _adapted(peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=8))
    return {"model": model, "optimizer": AdamW(model.parameters(), lr=0.3, weight_decay=1e-5)}


def prefix_tuning() -> Target:
    """Prefix tuning: AdamW 3e-2, far above what the model itself would take."""
    model = _adapted(peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=8))
    return {"model": model, "optimizer": AdamW(model.parameters(), lr=3e-2)}


def ia3() -> Target:
    """IA3: learned scales of keys, values and feed-forward activations, AdamW 8e-3 with the default decay."""
    config = peft.IA3Config(
        task_type="CAUSAL_LM", target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
    )
    model = _adapted(config)
    return {"model": model, "optimizer": AdamW([p for p in model.parameters() if p.requires_grad], lr=8e-3)}


def vera() -> Target:
    """VeRA: shared frozen random projections, trained scaling vectors at 1e-2."""
    config = peft.VeraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=4)
    model = _adapted(config)
    return {"model": model, "optimizer": AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)}


def setfit() -> Target:
    """SetFit: body at 1e-5, head at 1e-2: exactly a thousand times apart."""
    model = models.build("bert")
    groups = [{"params": model.bert.parameters(), "lr": 1e-5}, {"params": model.classifier.parameters(), "lr": 1e-2}]
    return {"model": model, "optimizer": AdamW(groups, lr=1e-5, weight_decay=0.01)}


def llava_projector() -> Target:
    """LLaVA: the projector trains ten times more slowly than the adapters of the language model."""
    language = models.build("lora")
    model = nn.ModuleDict({"model": language, "mm_projector": nets.mlp(32, 32, 32)})
    adapters = [p for p in language.parameters() if p.requires_grad]
    groups = [
        {"params": adapters, "weight_decay": 0.0},
        {"params": model["mm_projector"].parameters(), "weight_decay": 0.0, "lr": 2e-5},
    ]
    return {"model": model, "optimizer": AdamW(groups, lr=2e-4)}


def linear_probe() -> Target:
    """MoCo: SGD at 30 on the classifier of a frozen network, no decay."""
    model = nets.ResNet()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("fc"))
    model.eval()
    optimizer = SGD([p for p in model.parameters() if p.requires_grad], lr=30.0, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [60, 80])
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 100}


def diffusers_text_to_image() -> Target:
    """diffusers train_text_to_image: AdamW 1e-4, decay .01 on everything, constant after a warm-up."""
    model = nets.UNet()
    optimizer = AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
    scheduler = hf.get_constant_schedule_with_warmup(optimizer, 500)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 15_000,
            "example_inputs": (torch.zeros(2, 4, 8, 8), torch.zeros(2, 1))}  # fmt: skip


def textual_inversion() -> Target:
    """diffusers textual_inversion: one tensor, the whole token table; the loop restores the other rows."""
    model = models.build("clip").text_model
    model.requires_grad_(False)
    table = model.get_input_embeddings()
    table.requires_grad_(True)
    return {"model": model, "optimizer": AdamW(table.parameters(), lr=5e-4 * 4, weight_decay=1e-2)}


def controlnet() -> Target:
    """ControlNet: AdamW 5e-6 on the copy; the original network is frozen and in no optimizer."""
    unet, controlnet = nets.UNet(), nets.UNet()
    unet.requires_grad_(False)
    nn.init.zeros_(controlnet.conv_out.weight)
    nn.init.zeros_(controlnet.conv_out.bias)
    optimizer = AdamW(controlnet.parameters(), lr=5e-6, weight_decay=1e-2)
    return {"models": {"unet": unet, "controlnet": controlnet}, "optimizer": optimizer}


def dreambooth_text_encoder() -> Target:
    """DreamBooth LoRA training scripts: U-Net at 1e-4, text encoder at 5e-6, one optimizer, 20 times apart."""
    unet, text_encoder = nets.UNet(), models.build("clip").text_model
    groups = [
        {"params": unet.parameters(), "lr": 1e-4},
        {"params": text_encoder.parameters(), "lr": 5e-6, "weight_decay": 1e-3},
    ]
    return {"models": {"unet": unet, "text_encoder": text_encoder}, "optimizer": AdamW(groups, weight_decay=1e-4)}


def dit() -> Target:
    """DiT: AdamW 1e-4, constant, no decay, an average of the weights beside the model."""
    model = nets.ViT(declares=False)
    ema = nets.ViT(declares=False).requires_grad_(False)
    optimizer = AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)
    return {"models": {"model": model, "ema": ema}, "optimizer": optimizer}


def open_clip() -> Target:
    """open_clip: gains, biases and the temperature are exempt, the position table decays; β2 .98, eps 1e-6."""
    model = models.build("clip")

    def exempt(name: str, parameter: nn.Parameter) -> bool:
        return parameter.ndim < 2 or any(part in name for part in ("bn", "ln", "bias", "logit_scale"))

    groups = decay_by(model, lambda n, p: not exempt(n, p), 0.2)
    optimizer = AdamW(groups, lr=5e-4, betas=(0.9, 0.98), eps=1e-6)
    return {"model": model, "optimizer": optimizer, "scheduler": CosineAnnealingLR(optimizer, 30_000),
            "total_steps": 30_000}  # fmt: skip


def nerf() -> Target:
    """NeRF: Adam 5e-4 for the coarse and the fine network, exponential decay."""
    coarse, fine = nets.mlp(63, 64, 64, 4), nets.mlp(63, 64, 64, 4)
    optimizer = Adam([*coarse.parameters(), *fine.parameters()], lr=5e-4, betas=(0.9, 0.999))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1 ** (1 / 250_000))
    return {"models": {"coarse": coarse, "fine": fine}, "optimizer": optimizer, "scheduler": scheduler}
