"""Layer-wise rates do not rise from input to output: a layer fell out of the ladder.

With layer-wise decay the stem has the lowest rate, each block a higher one, the head the highest. What the code that
assigns the layers does not match falls back to the default, and that is the top rate: an embedding or a patch
projection then trains fastest of all, below layers that were meant to be protected from change. Two stacks that share
one ladder (a text tower of 12 blocks beside a vision tower of 24) leave the shorter one's last block far below the
top.

What to do: print the rates in order (`lrlint show`), assign the stem the deepest scale, count each stack by itself.

Needs at least `rates` distinct peak rates and a stack of at least four numbered blocks with three of them. Order is
that of execution where the forward pass could be observed, else that of names and registration. Judged are matrices
and tables: norms and biases often have rates of their own. Left out: stacks with several rates inside a block (rates
by kind of parameter, as in RWKV or muP), and tied tables. ELECTRA's published gap between last layer and head is no
disorder (see `layer-decay-ladder-gap`).

Sources: https://github.com/allenai/rslearn/pull/648 (channel embeddings at the decoder's rate),
https://github.com/zihangdai/xlnet/issues/184, https://github.com/unslothai/unsloth/pull/7834 (two towers, one
ladder), https://arxiv.org/abs/2003.10555 (ELECTRA), https://arxiv.org/abs/2106.08254 (BEiT)"""

from collections.abc import Iterator
from itertools import permutations

from lrlint import Finding, Setup, rule
from lrlint.analysis.layer_rates import stacks
from lrlint.analysis.param_groups import exceeds, peak, rated
from lrlint.text.names import describe
from lrlint.text.wording import listing, rate


@rule("LR209", severity="warning", confidence="medium", needs=("optimizer",))
def non_monotone_layer_lr(setup: Setup, *, rates: int = 4) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        if len({peak(group) for group in rated(optimizer)}) < rates:
            continue
        found = stacks(optimizer, setup.graph)
        for stack in found:
            yield from _disorder(stack)
        for short, tall in permutations(found, 2):
            if len(tall.blocks) - len(short.blocks) >= 2 and tall.rates[: len(short.rates)] == short.rates:
                yield _finding(
                    [m for block in short.blocks for m in block.members],
                    f"`{short.path}` has {len(short.blocks)} blocks and shares the ladder of `{tall.path}`, which has "
                    f"{len(tall.blocks)}: its last block trains at {rate(short.rates[-1])} instead of "
                    f"{rate(tall.rates[-1])}",
                )


def _disorder(stack):
    first, last = stack.blocks[0].rate, stack.blocks[-1].rate
    span = f"`{stack.path or 'the blocks'}` rises from {rate(first)} to {rate(last)}"
    blocks = [member for block in stack.out_of_order() for member in block.members]
    if exceeds(first, last) and len(blocks) > 1:
        yield _finding(
            [m for block in stack.blocks for m in block.members],
            f"rates fall from {rate(first)} in the first to {rate(last)} in the last of {len(stack.blocks)} blocks of "
            f"`{stack.path}`: the ladder stands upside down",
        )
        return
    for members, where in (
        (blocks or stack.strays(), "out of order"),
        ([m for m in stack.before if exceeds(peak(m.group), first)], "before the first block and above its rate"),
        ([m for m in stack.after if exceeds(last, peak(m.group))], "after the last block and below its rate"),
    ):
        if members:
            given = listing(map(rate, sorted({peak(m.group) for m in members})[:3]))
            yield _finding(members, f"{describe(m.name for m in members)} at {given}, {where}: {span}")


def _finding(members, message):
    return Finding(
        members,
        message,
        data={"parameters": len(members), "rates": sorted({peak(member.group) for member in members})},
        help="stem lowest, head highest, one ladder per stack: print the rates in order with `lrlint show`",
        key="lr",
    )
