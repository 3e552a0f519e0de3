"""What the shop trains."""

from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from shop.models import Ranker, Tagger


def groups(model, rate):
    return [
        {"params": model.body.parameters(), "lr": rate / 10},
        {"params": model.head.parameters(), "lr": rate},
    ]


def build_ranker():
    print("loading the ranker")
    model = Ranker()
    optimizer = AdamW(groups(model, 1e-3))
    return model, optimizer, OneCycleLR(optimizer, max_lr=1e-3, total_steps=100)


def build_tagger(rate: float):
    model = Tagger()
    optimizer = AdamW(groups(model, rate))
    return model, optimizer, OneCycleLR(optimizer, max_lr=[rate / 10, rate], total_steps=100)
