"""A name pattern matches no parameter, because something stands before the names that its author did not expect.

DistributedDataParallel puts `module.` before every name, `torch.compile` `_orig_mod.`, PEFT `base_model.model.`; a
module that holds the network as an attribute puts that attribute there. `name.startswith("backbone.")` is false for all
of them then: the backbone gets the rate of everything else, a no-decay list exempts nothing. Nothing fails. The other
way round, a pattern that names the prefix (`startswith("module.fc")`) matches nothing on the bare model.

What to do: build the groups before wrapping, or strip the prefix (`name.removeprefix("module.")`).

From the loops over `named_parameters()` that ran while the target was built, with the names that each gave: `in name`,
`==`, `startswith`, `endswith`, `name.split(".")[0]`, `re`, `fnmatch` against literals. Reported where a literal matches
nothing and would match without the prefix, and where no literal of a condition matches and one of them differs from a
name only in case, separators or one letter of a long word. Lists of spellings are kept for many models: one that
matches nothing beside others that do is no finding, and neither is a word that occurs in no form.

Sources: https://github.com/wandb/senpai/pull/2899, https://github.com/neuralmagic/sparseml/pull/1796,
https://github.com/huggingface/lerobot/pull/280
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.wording import count


@rule("LR705", severity="warning", confidence="medium", needs=("source",))
def wrapper_prefix_pattern(setup: Setup) -> Iterator[Finding]:
    walks, found = {}, {}  # found: what is wrong in which file → patterns
    for pattern in setup.source.patterns:
        walks.setdefault(pattern.walk, {}).setdefault(pattern.condition, []).append(pattern)
    for conditions in walks.values():
        heard = [p.text for patterns in conditions.values() for p in patterns if p.matched]
        for patterns in conditions.values():
            if any(pattern.matched for pattern in patterns):
                continue
            for pattern in patterns:
                if pattern.missed and not any(pattern.text in text for text in heard):
                    found.setdefault((pattern.span.path, pattern.lead, ""), []).append(pattern)
                elif pattern.nearest and not any(p.missed for p in patterns):
                    found.setdefault((pattern.span.path, "", pattern.nearest), []).append(pattern)
    for (_, lead, nearest), patterns in found.items():
        yield Finding(
            patterns,
            _text(patterns, lead, nearest),
            data={"patterns": list(dict.fromkeys(p.text for p in patterns)), "prefix": lead, "nearest": nearest},
            help="build the groups before wrapping the model, or strip the prefix from the names"
            if lead
            else "match by the owner's type, or assert that every pattern matches something",
        )


def _text(patterns, lead, nearest):
    texts = list(dict.fromkeys(pattern.text for pattern in patterns))
    shown = ", ".join(f"`{text}`" for text in texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")
    names = count(patterns[0].names, "parameter name")
    matches = "matches" if len(texts) == 1 else "match"
    if nearest:
        return f"{shown} {matches} none of {names}; they spell it `{nearest}`"
    most = max(pattern.missed for pattern in patterns)
    if lead.startswith("-"):
        return (
            f"{shown} {matches} none of {names}: none carries the prefix `{lead[1:]}`, without which {most} would match"
        )
    return f"{shown} {matches} none of {names}: they carry the prefix `{lead}`, without which {most} would match"
