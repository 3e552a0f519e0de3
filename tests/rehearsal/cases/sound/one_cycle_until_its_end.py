"""A one-cycle schedule that is shorter than the run is stepped until its own end, and no further."""

import torch
from torch import nn

model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
batches = [(torch.randn(8, 8), torch.randint(0, 4, (8,))) for _ in range(40)]
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=1000)
done = 0
for epoch in range(50):
    for x, y in batches:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        done += 1
        if done < 1000:
            cycle.step()
