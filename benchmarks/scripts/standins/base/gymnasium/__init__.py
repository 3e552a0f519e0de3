"""Environments of random observations: the interface of gymnasium, and a reward that depends on the action."""

import numpy as np

from gymnasium import spaces, vector, wrappers

SIZES = {"CartPole-v1": (4, 2), "Acrobot-v1": (6, 3)}
ACTIONS = {"Hopper-v4": (11, 3), "HalfCheetah-v4": (17, 6), "Pendulum-v1": (3, 1)}


class Spec:
    reward_threshold, max_episode_steps = 475.0, 200


class Env:
    metadata, render_mode, spec = {}, None, Spec()

    def __init__(self, name):
        self.observation_size, actions = SIZES.get(name) or ACTIONS[name]
        self.observation_space = spaces.Box(-1.0, 1.0, (self.observation_size,), np.float32)
        self.single_observation_space = self.observation_space
        discrete = name in SIZES
        self.action_space = spaces.Discrete(actions) if discrete else spaces.Box(-1.0, 1.0, (actions,), np.float32)
        self.random, self.steps = np.random.default_rng(0), 0
        self.np_random = self.random

    @property
    def unwrapped(self):
        return self

    def _observation(self):
        return self.random.normal(size=self.observation_size).astype(np.float32)

    def reset(self, seed=None, options=None):
        if seed is not None:
            self.random = np.random.default_rng(seed)
        self.steps = 0
        return self._observation(), {}

    def step(self, action):
        self.steps += 1
        ended = self.steps > 8 and bool(self.random.random() < 0.1)
        info = {"episode": {"r": float(self.steps), "l": self.steps}} if ended else {}
        return self._observation(), float(np.asarray(action).sum() + 1), ended, self.steps >= 200, info

    def close(self):
        pass

    def seed(self, seed=None):
        self.random = np.random.default_rng(seed)


Wrapper = ObservationWrapper = RewardWrapper = Env


def make(name, **options):
    return Env(name)
