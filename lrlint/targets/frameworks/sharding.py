"""Models whose parameters are distributed over processes while they run."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

#: Of torch: `fully_shard` mixes the first into a module's class, the other is a wrapper.
_SHARDED = {"FSDPModule": "fully_shard", "FullyShardedDataParallel": "FullyShardedDataParallel"}


def sharded_by(models: Iterable[nn.Module]) -> str:
    """What gathers a model's parameters for its forward pass and frees them after its backward pass; "" if nothing does.

    Such a model may not be run without its training loop: a pass that is not followed by its backward leaves whole
    parameters where the shards were, and hooks in a state that no copy of the tensors brings back. By the names of
    classes, since nothing of `torch.distributed` is imported for a model that does without.
    """
    for model in models:
        for module in model.modules():
            for base in type(module).__mro__:
                if base.__name__ in _SHARDED and base.__module__.startswith("torch.distributed."):
                    return _SHARDED[base.__name__]
    return ""
