"""The processes of a distributed run treat the same parameter differently: the replicas drift apart in silence.

Data parallelism averages gradients and nothing else. Each rank builds its own optimizer, and where one orders its groups
differently, freezes something else or reads another configuration, its copy of the model takes other steps from the
first one on. No error is raised, and rank 0 is what is saved.

What to do: build groups from names in the model's order, from the same configuration on all ranks; no set, no `rank` and
no random choice in it.

Compared are the options of each parameter that the models of both ranks have, and whether an optimizer holds it, by
name. Left alone: ranks whose models are of different classes (an actor and a learner), and parameters that only one rank
has (pipeline stages, experts).

Sources: https://docs.pytorch.org/docs/stable/notes/ddp.html ("the optimizer ... each process keeps its own"),
https://github.com/pytorch/pytorch/issues/31035; reproduced with torch 2.13 and two gloo processes
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.names import describe
from lrlint.text.wording import listing


@rule("LR120", severity="error", confidence="high", needs=("optimizer",))
def groups_differ_between_ranks(setup: Setup) -> Iterator[Finding]:
    if not setup.ranks:
        return
    first, *others = setup.ranks
    ours = first.treatment()
    cases = {}
    for view in others if first.models else ():
        if view.models != first.models:
            continue
        theirs = view.treatment()
        for name in ours.keys() & theirs.keys():
            if ours[name] != theirs[name]:
                cases.setdefault((ours[name], theirs[name]), {}).setdefault(name, []).append(view.rank)
    for (here, there), ranks_of in sorted(cases.items(), key=str):
        subject = [setup.by_name[name] for name in ours if name in ranks_of and name in setup.by_name]
        ranks = sorted({rank for ranks in ranks_of.values() for rank in ranks})
        yield Finding(
            subject,
            f"rank {first.rank} and {_ranks(ranks)} treat {describe(p.name for p in subject)} differently: "
            f"{_told(here, there)} on rank {first.rank}, {_told(there, here)} on {_ranks(ranks)}",
            data={"ranks": [first.rank, *ranks], "parameters": len(subject)},
            help="build the groups alike on every rank: from names in the model's order, and one configuration",
        )


def _ranks(ranks):
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {listing(map(str, ranks))}"


def _told(options, other):
    """The options that differ from the other rank's, as the group holds them."""
    if options is None:
        return "in no optimizer"
    other = dict(other or ())
    differing = [f"{key} {value}" for key, value in options if other.get(key) != value and (other or key == "lr")]
    return listing(differing) or "in an optimizer"
