"""The rate rises by a function as long as the loop lets it, in the first 20 of 200 epochs; the rehearsal sees one."""

import multiprocessing

import torch
from torch import nn

model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
batches = [(torch.randn(8, 8), torch.randint(0, 4, (8,))) for _ in range(40)]
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
ramp = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.1 + step / 9000)
for epoch in range(200):
    for x, y in batches:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if epoch < 20:
            ramp.step()
    multiprocessing.Process(target=print).start()  # ends a rehearsal
