"""Found on PYTHONPATH at start: packages that a script imports, and that a rehearsal needs nothing of, are imitated.

Plotting, image and tracking packages become modules whose every attribute can be called and does nothing. TensorBoard's
writer makes its folder and one file, as the real one does, so that there is something to hold.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

QUIET = "matplotlib PIL cv2 skimage imageio seaborn tensorboardX wandb torchsummary evaluate portalocker visdom".split()
REPLACED = {"torch.utils.tensorboard": "tensorboard_writer.py", "torch._six": "torch_six.py"}


class Quiet(ModuleType):
    """Every attribute is a callable that returns another such object."""

    __path__: list[str] = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()


class Nothing:
    def __call__(self, *args, **kwargs):
        return Nothing()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()

    def __getitem__(self, key):
        return Nothing()

    def __setitem__(self, key, value):
        pass

    def __iter__(self):
        return iter((Nothing(), Nothing()))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """After all others: only what is not installed is imitated."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in QUIET:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return Quiet(spec.name)

    def exec_module(self, module):
        pass


class Replacer(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in REPLACED:
            return importlib.util.spec_from_file_location(name, Path(__file__).with_name(REPLACED[name]))
        return None


sys.meta_path.insert(0, Replacer())
sys.meta_path.append(Finder())
