"""As much of torchvision's interface as the scripts of the manifest use, on generated data."""

from torchvision import datasets, models, transforms, utils

__version__ = "0.0"
__all__ = ["datasets", "models", "transforms", "utils"]
