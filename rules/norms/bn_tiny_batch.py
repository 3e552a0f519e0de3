"""Batch norm sees too few values: its statistics are noise, or it raises.

In training mode every channel is normalised with the mean and variance of the batch. With one value per channel torch
raises "Expected more than 1 value per channel"; with two or three samples per device the statistics vary so much that
training and evaluation differ.

What to do: SyncBatchNorm over devices, group norm, frozen statistics, or `drop_last=True` for a last batch of one.

Needs the declared batch size per device. *Error* where batch × positions is 1 (positions from the observed pass),
*warning* below `batch`, *info* below `distributed-batch` in distributed runs without SyncBatchNorm. Norms in evaluation
mode are left alone.

Sources: https://arxiv.org/abs/1803.08494 (error of batch norm by batch size),
https://docs.pytorch.org/docs/stable/generated/torch.nn.SyncBatchNorm.html
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.names import describe
from lrlint.text.wording import count


@rule("LR506", severity="warning", confidence="medium")
def bn_tiny_batch(setup: Setup, *, batch: int = 4, distributed_batch: int = 8) -> Iterator[Finding]:
    size = setup.training.batch_size
    if size is None:
        return
    uses = setup.graph.norms if setup.graph else {}
    spread = bool(setup.training.distributed)
    found = {}
    for norm in setup.norms:
        if norm.kind != "batch" or not norm.training or not norm.trains_statistics or "Sync" in norm.class_name:
            continue
        use = uses.get(norm.path)
        positions = use.elements_per_sample if use else None
        if positions is not None and positions * size == 1:
            found.setdefault("error", []).append(norm)
        elif size < batch:
            found.setdefault("warning", []).append(norm)
        elif spread and size < distributed_batch:
            found.setdefault("info", []).append(norm)
    for severity, norms in found.items():
        effect = "has one value per channel and raises" if severity == "error" else "estimates from few samples"
        yield Finding(
            norms,
            f"{count(len(norms), 'batch norm')} in training mode with {count(size, 'sample')} per device {effect}: "
            f"{describe(norm.path for norm in norms)}",
            data={"batch_size": size, "norms": len(norms)},
            help="SyncBatchNorm, group norm or frozen statistics; drop_last=True for a last batch of one",
            severity=severity,
        )
