import numpy as np


class SyncVectorEnv:
    def __init__(self, makers, **options):
        self.envs = [make() for make in makers]
        self.num_envs = len(self.envs)
        self.single_observation_space = self.envs[0].observation_space
        self.single_action_space = self.envs[0].action_space

    @property
    def action_space(self):
        return self

    def sample(self):
        return np.stack([env.action_space.sample() for env in self.envs])

    def reset(self, seed=None, options=None):
        return np.stack([env.reset(seed)[0] for env in self.envs]), {}

    def step(self, actions):
        observations, rewards, ended, cut = [], [], [], []
        for env, action in zip(self.envs, actions, strict=True):
            observation, reward, over, truncated, _ = env.step(action)
            if over or truncated:
                observation, _ = env.reset()
            observations.append(observation)
            rewards.append(reward)
            ended.append(over)
            cut.append(truncated)
        return np.stack(observations), np.array(rewards), np.array(ended), np.array(cut), {}

    def close(self):
        pass


AsyncVectorEnv = SyncVectorEnv
AutoresetMode = type("AutoresetMode", (), {"SAME_STEP": 0, "NEXT_STEP": 1})
