"""Muon holds parameters that it is not made for: embeddings, the output head, adapters, vectors.

Muon orthogonalises the update of hidden matrices. Rows of a table are independent of each other, the head's outputs
have scales of their own, and vectors have no orthogonal form: their authors give all of these to AdamW, with its own
rate. Torch's Muon refuses tensors that are not 2-D, and takes an embedding without a word.

What to do: move them to the AdamW group; print both lists once.

Reported for members of a Muon optimizer or of groups with `use_muon`: weights of embedding modules, position tables and
tokens, the output head, LoRA factors, and tensors with fewer than two dimensions. Convolutions are flattened and left
alone, as is everything that is frozen.

Sources: https://github.com/KellerJordan/Muon, https://github.com/deepspeedai/DeepSpeed/pull/7641,
https://github.com/vllm-project/speculators/pull/866, https://github.com/hiyouga/LlamaFactory/pull/10618
"""

from lrlint import Finding, rule
from lrlint.text.names import describe
from lrlint.text.wording import count

_TABLES = frozenset(("embedding", "position", "token", "relative_position"))


@rule("LR119", severity="error", confidence="high", needs=("optimizer",))
def muon_on_non_hidden(setup):
    for optimizer in setup.optimizers:
        found = {}
        for member in optimizer.members:
            told = member.group.options.get("use_muon")
            what = _what(member) if (told is True or (told is None and optimizer.family == "muon")) else ""
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
    return "vector" if member.ndim is not None and member.ndim < 2 else ""
