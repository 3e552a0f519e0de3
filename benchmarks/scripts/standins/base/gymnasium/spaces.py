import numpy as np


class Box:
    def __init__(self, low, high, shape=None, dtype=np.float32):
        self.shape, self.dtype = shape, dtype
        self.low, self.high = np.full(shape, low, dtype), np.full(shape, high, dtype)

    def sample(self):
        return np.random.uniform(-1, 1, self.shape).astype(self.dtype)

    def seed(self, seed=None):
        pass


class Discrete:
    def __init__(self, n):
        self.n, self.shape, self.dtype = n, (), np.int64

    def sample(self):
        return np.random.randint(self.n)

    def seed(self, seed=None):
        pass
