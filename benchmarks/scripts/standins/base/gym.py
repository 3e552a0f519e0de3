"""The old name of the same thing."""

import sys

import gymnasium

sys.modules[__name__] = gymnasium
