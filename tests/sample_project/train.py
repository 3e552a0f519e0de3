"""A script of the shop: it trains when run, and `build` is a target."""

import argparse

import torch
from shop.models import Ranker
from torch import nn
from torch.optim import AdamW


def build(rate: float = 1e-3, width: int = 8):
    model = Ranker(width)
    optimizer = AdamW(model.body.parameters(), lr=rate)
    batches = [(torch.randn(4, 8), torch.randn(4, 1)) for _ in range(2)]
    return {
        "model": model,
        "optimizer": optimizer,
        "batches": batches,
        "loss_fn": lambda net, batch: nn.functional.mse_loss(net(batch[0]), batch[1]),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-3)
    parts = build(parser.parse_args().lr)
    model, optimizer = parts["model"], parts["optimizer"]
    for _ in range(2):
        for batch in parts["batches"]:
            loss = parts["loss_fn"](model, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


if __name__ == "__main__":
    main()
