"""A trainable parameter is in no optimizer: it never trains.

Nothing fails. The layer keeps its initial values, and its gradient, which no `zero_grad` of an optimizer clears, grows
from step to step and takes its share of a global norm clipping. Groups that are collected by name or type leave out
what no pattern matched: a new head, free-standing parameters such as a class token, layers added later.

What to do: build the last group from the complement of the others, assert that every trainable parameter is in exactly
one group, and build the optimizer after the last change to the model.

Compared by identity, over all optimizers. Told apart and left to other rules: parameters that were replaced after the
optimizer was built (`optimizer-holds-stale-params`), those of loss modules (`loss-module-params-not-in-optimizer`), and
those that the observed forward pass does not use (`trainable-param-unused`). Copies that are not meant to train
(teachers, target networks, averages: by name, or by having the values of a module that trains) are *info*. `ignore`
holds globs of names that are left out on purpose.

Where the loop was rehearsed, also parameters outside every module that an optimizer trains (a forgotten second critic):
they got gradients, are in no optimizer and never moved. *Info* in evaluation mode (a frozen feature extractor).

Sources: https://github.com/adapter-hub/adapters/issues/260, https://github.com/ACEsuit/mace/issues/525,
https://github.com/ultralytics/ultralytics/pull/2855
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.coverage import bundles, coverage
from lrlint.analysis.order import seen_loop
from lrlint.facts.loop import LoopLocation
from lrlint.text.module_names import is_copy
from lrlint.text.names import any_match, describe
from lrlint.text.wording import count


@rule("LR101", severity="error", confidence="high", needs=("optimizer",))
def param_not_in_optimizer(setup: Setup, *, ignore: tuple[str, ...] = ()) -> Iterator[Finding]:
    for seen in seen_loop(setup).uncovered:
        beyond = [n for n in seen.parameters if n not in setup.by_name and not any_match(ignore, n)]
        spared = seen.evaluation or all(any(map(is_copy, n.split("."))) for n in beyond)
        if beyond:
            yield Finding(
                LoopLocation(seen.span, tuple(beyond)),
                f"{count(len(beyond), 'parameter')} in no optimizer get gradients and never move: {describe(beyond)}",
                data={"parameters": len(beyond), "elements": seen.elements, "cause": "loop"},
                help="hand them to an optimizer, or freeze them (requires_grad_(False))",
                severity="info" if spared else "",
            )
    cover = coverage(setup)
    if len(cover.missing) == len(cover.trainable):
        return  # nothing is covered: the optimizer was built for something else, or for other copies
    for bundle in bundles(cover):
        lost = [p for p in bundle.parameters if not any_match(ignore, p.name)]
        if lost:
            yield Finding(
                lost,
                f"{count(len(lost), 'trainable parameter')} ({sum(p.numel for p in lost):,} elements) in no optimizer: "
                f"{describe(p.name for p in lost)}{_cause(bundle, cover)}",
                data={"parameters": len(lost), "elements": sum(p.numel for p in lost), "cause": bundle.cause},
                help="build the last group from all parameters that the others do not hold, or freeze these",
            )
    copies = [p for p in cover.copies if not any_match(ignore, p.name)]
    if copies:
        yield Finding(
            copies,
            f"{count(len(copies), 'parameter')} of copies in no optimizer: {describe(p.name for p in copies)}",
            data={"parameters": len(copies), "elements": sum(p.numel for p in copies), "cause": "copy"},
            help="freeze them (requires_grad_(False)), so that no gradient is computed for them",
            severity="info",
        )


def _cause(bundle, cover):
    modules = dict.fromkeys(path for p in bundle.parameters if (path := cover.subtree(p)) is not None)
    return {
        "module": f"; all of {describe(modules)}",
        "class": f"; every {bundle.place}",
        "vectors": "; everything with one dimension",
        "direct": "; parameters that a module holds itself, whose names end in neither weight nor bias",
        "filter": "; others of the same kind are held",
        "adapter": "; low-rank adapters",
    }.get(bundle.cause, "")
