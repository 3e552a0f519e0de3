"""Stands in for the package of that name: an optimizer with a train mode and an evaluation mode."""

import torch


class AdamWScheduleFree(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, warmup_steps=0, betas=(0.9, 0.999), weight_decay=0.0):
        defaults = {"lr": lr, "warmup_steps": warmup_steps, "betas": betas, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "train_mode": False})

    def train(self):
        for group in self.param_groups:
            group["train_mode"] = True

    def eval(self):
        for group in self.param_groups:
            group["train_mode"] = False

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(p.grad, alpha=-group["lr"])
