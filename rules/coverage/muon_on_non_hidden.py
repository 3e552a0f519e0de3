"""Muon holds parameters that it is not made for: embeddings, the output head, adapters, vectors.

Muon orthogonalises the update of hidden matrices. Rows of a table are independent of each other, the head's outputs
have scales of their own, and vectors have no orthogonal form: their authors give all of these to AdamW, with its own
rate. Torch's Muon refuses tensors that are not 2-D, and takes an embedding without a word.

What to do: move them to the AdamW group; print both lists once.

Reported for members of groups that run Muon: weights of embedding modules, position tables and tokens, the output
head, LoRA factors, and tensors with at most one dimension above 1 (LayerScale of shape `(C, 1, 1)`: as a matrix it has
one column, and its update is its sign pattern's direction, of fixed length). Where one class runs Muon and Adam, the
group says which (`use_muon`, `kind`, `algorithm`, ..., or the options it has). Convolutions are flattened and left alone,
as is everything that is frozen.

Sources: https://github.com/KellerJordan/Muon, https://github.com/deepspeedai/DeepSpeed/pull/7641,
https://github.com/vllm-project/speculators/pull/866, https://github.com/hiyouga/LlamaFactory/pull/10618,
https://github.com/ultralytics/ultralytics/issues/25447 (LayerScale in Muon)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.names import describe
from lrlint.text.wording import count

_TABLES = frozenset(("embedding", "position", "token", "relative_position"))


@rule("LR119", severity="error", confidence="high", needs=("optimizer",))
def muon_on_non_hidden(setup: Setup) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        found = {}
        for member in optimizer.members:
            what = _what(member) if member.group.family == "muon" else ""
            if what and member.requires_grad:
                found.setdefault(what, []).append(member)
        for what, members in found.items():
            yield Finding(
                members,
                f"{optimizer.class_name} holds {count(len(members), what, what if len(members) == 1 else what + 's')}: "
                f"{describe(member.name for member in members)}",
                data={"parameters": len(members), "what": what},
                help="give them to AdamW, with a rate of its own",
            )


def _what(member):
    if member.module_kind == "embedding" or member.role in _TABLES:
        return "table"
    if member.is_head:
        return "output head"
    if member.role in ("lora_A", "lora_B"):
        return "low-rank factor"
    # A depthwise filter of one tap is (C, 1, 1) too, but its module says that it is a convolution.
    wide = sum(size > 1 for size in member.shape or ()) if member.module_kind == "other" else member.ndim
    return "vector" if member.shape is not None and (member.ndim < 2 or wide < 2) else ""
