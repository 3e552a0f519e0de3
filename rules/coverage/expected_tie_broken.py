"""The embedding and the output head should be one parameter, and are two.

`load_state_dict(assign=True)`, a deep copy of one of them or a new initialisation break a tie without a word. Both then
train, with two optimizer states, and differ from the first step on; saving and loading ties them again, to one of them.

What to do: call `tie_weights()` after loading, and before the optimizer is built.

Told by the model's configuration (`tie_word_embeddings`, where its class lists tied keys). Two equal matrices, an
embedding and a last linear layer, are *info*: they were copied from each other once. Left alone: sharded models; *info*
for PEFT models, whose `modules_to_save` are copies.

Sources: https://github.com/paiml/entrenar/issues/314, https://github.com/NVIDIA/Megatron-LM/issues/656,
https://github.com/huggingface/accelerate/pull/4171; reproduced with torch 2.13
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule


@rule("LR113", severity="warning", confidence="medium")
def expected_tie_broken(setup: Setup) -> Iterator[Finding]:
    if setup.training.distributed == "fsdp":
        return
    adapters = any(model.attributes.get("peft") for model in setup.models)
    for tie in setup.ties:
        if not tie.tied and (tie.first.requires_grad or tie.second.requires_grad):
            yield Finding(
                tie,
                f"`{tie.first.name}` and `{tie.second.name}` are two parameters, and should be one: {tie.reason}",
                data={"reason": tie.reason},
                help="call tie_weights() after loading and before building the optimizer",
                severity="" if tie.certain and not adapters else "info",
                confidence="" if tie.certain else "low",
            )
