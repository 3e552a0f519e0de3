"""A one-shot iterator is used twice: the second use gets nothing.

`model.parameters()`, `filter(...)` and generator expressions are empty after their first use. Given to an optimizer and
then to `clip_grad_norm_`, nothing is clipped; given to two groups, the second is empty. torch reports neither.

What to do: `list(...)` it where it is bound.

Read from the source around the target. Reported for a name that is bound once in its function (or an attribute bound
once in its class) and used in a loop, an optimizer, a `params` entry, clipping, or a call such as `list`: twice, or once
in a loop that does not bind it anew. Silent where conditions decide about its uses, and where a class of the same file
defines its own `parameters()` that may return a list.

Sources: https://docs.python.org/3/glossary.html#term-iterator, https://github.com/PixArt-alpha/PixArt-alpha/pull/160,
https://github.com/pytorch/torchtitan/pull/1258; reproduced with torch 2.13: `clip_grad_norm_` of an
exhausted generator returns 0 and clips nothing
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule


@rule("LR702", severity="error", confidence="high", needs=("source",))
def iterator_reused(setup: Setup) -> Iterator[Finding]:
    for calls in setup.source.functions():
        for call in calls:
            if call.kind == "iterator":
                again = call.first == call.span
                before = "the loop's first round" if again else f"line {call.first.line}"
                yield Finding(
                    call,
                    f"`{call.receiver}` is an iterator that {before} has used up: there is nothing left",
                    data={"first": call.first.line},
                    help=f"make it a list where `{call.receiver}` is bound",
                )
