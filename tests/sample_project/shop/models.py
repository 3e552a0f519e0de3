"""Two models."""

from torch import nn


class Ranker(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width))
        self.head = nn.Linear(width, 1)

    def forward(self, x):
        return self.head(self.body(x))


class Tagger(Ranker):
    """The same body, for another task."""
