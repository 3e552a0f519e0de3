"""A one-shot iterator is used twice: the second use gets nothing.

`model.parameters()`, `filter(...)` and generator expressions are empty after their first use. Given to an optimizer and
then to `clip_grad_norm_`, nothing is clipped; given to two groups, the second is empty. torch reports neither.

What to do: `list(...)` it where it is bound.

Read from the source around the target. Reported for a name that is bound once in its function and used in a loop, an
optimizer, a `params` entry, clipping, or a call such as `list`; silent where conditions decide about its uses.

Sources: https://docs.python.org/3/glossary.html#term-iterator; reproduced with torch 2.13: `clip_grad_norm_` of an
exhausted generator returns 0 and clips nothing
"""

from lrlint import Finding, rule


@rule("LR702", severity="error", confidence="high", needs=("source",))
def iterator_reused(setup):
    for calls in setup.source.functions():
        for call in calls:
            if call.kind == "iterator":
                yield Finding(
                    call,
                    f"`{call.receiver}` is an iterator that line {call.first.line} has used up: there is nothing left",
                    data={"first": call.first.line},
                    help=f"make it a list where `{call.receiver}` is bound",
                )
