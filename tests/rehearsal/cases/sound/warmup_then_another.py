"""A warm-up by a function is stepped for five epochs, a cosine afterwards; the rehearsal is cut before that."""

import multiprocessing

import torch
from torch import nn

model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
batches = [(torch.randn(8, 8), torch.randint(0, 4, (8,))) for _ in range(40)]
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (200 * len(batches))) ** 0.5)
cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=195)
for epoch in range(200):
    for x, y in batches:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if epoch < 5:
            warm_up.step()
    if epoch >= 5:
        cosine.step()
    multiprocessing.Process(target=print).start()  # ends a rehearsal
