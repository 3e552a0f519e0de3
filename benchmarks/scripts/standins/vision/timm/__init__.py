"""The two modules of timm 0.3.2 that masked autoencoders are built from, and its grouping of parameters."""

__version__ = "0.3.2"
