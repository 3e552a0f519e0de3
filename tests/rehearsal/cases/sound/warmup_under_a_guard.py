"""A warm-up of its own class is stepped in the first epoch only; the rehearsal is cut before it sees a second one."""

import multiprocessing

import torch
from torch import nn


class WarmUp(torch.optim.lr_scheduler.LRScheduler):
    """Grows without bound when it is stepped on: the loop ends it."""

    def __init__(self, optimizer, total):
        self.total = total
        super().__init__(optimizer)

    def get_lr(self):
        return [base * (self.last_epoch + 1) / self.total for base in self.base_lrs]


def train(epoch):
    for x, y in batches:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if epoch < 1:
            warm_up.step()


model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
batches = [(torch.randn(8, 8), torch.randint(0, 4, (8,))) for _ in range(40)]
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
decay = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[60, 120, 160], gamma=0.2)
warm_up = WarmUp(optimizer, len(batches))
for epoch in range(200):
    if epoch > 0:
        decay.step()
    train(epoch)
    multiprocessing.Process(target=print).start()  # ends a rehearsal
