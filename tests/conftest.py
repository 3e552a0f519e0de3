"""Settings of every test: none fails for being slow on a loaded machine, and none takes cores from the others.

One thread for torch also keeps forks safe: the threads of a pool would be missing in the forked process.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read as torch is imported, here and in every process of a test

from hypothesis import HealthCheck, settings

settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
