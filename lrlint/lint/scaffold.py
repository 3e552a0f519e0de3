"""Write the two files of a new rule: the check, and the fixture that proves it."""

from __future__ import annotations

import re
from pathlib import Path

from lrlint.config import files
from lrlint.errors import UsageError

_RULE = '''"""{title}

Why it matters, and for whom. What to do: say it in one sentence.

Silent where: name the cases that look alike and are right.

Sources: https://...
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule


@rule("{code}", severity="warning", confidence="medium", needs=("optimizer",))
def {function}(setup: Setup, *, limit: float = 0.1) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        for group in optimizer.groups:
            if group.lr is not None and group.lr > limit:
                yield Finding(
                    group,
                    f"{{group.label}} has a rate of {{group.lr:g}}, above {{limit:g}}",
                    key="lr",
                    data={{"lr": group.lr, "limit": limit}},
                    help="lower it, or raise the limit in the configuration",
                )
'''

_FIXTURE = '''"""{title}"""

from torch import nn
from torch.optim import SGD


def bad():
    model = nn.Linear(4, 2)
    return model, SGD(model.parameters(), lr=0.5)  # expect: {code}


def good_below_the_limit():
    model = nn.Linear(4, 2)
    return model, SGD(model.parameters(), lr=0.01)
'''


def new_rule(name: str, code: str | None, folder: Path | None = None, family: str | None = None) -> list[Path]:
    """Write a rule and its fixture, ``rules/<family>/<name>.py`` and ``fixtures/<family>/<name>.py``; returns the paths.

    In a checkout of lrlint, where no folder is given, they go among the shipped rules, and the family has to be named;
    elsewhere into ``lrlint_rules`` and the family ``house``. Without a code it is the next free one. The check works as
    it is and is meant to be rewritten. Raises UsageError for a name that is no kebab-case name, for a code that is taken
    or in lrlint's own range outside a checkout, for an unknown family, or for a file that exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(f"{name!r} is no rule name", "write it in lower case with hyphens: embedding-rate-too-high")
    own = folder is None and _is_checkout(Path.cwd())
    place = Path.cwd() if own else folder or Path("lrlint_rules")
    family = _shipped_family(place, family) if own else family or "house"
    used = _codes(place, family if own else "**")
    code = code or _next_code(used, own)
    if own and not re.fullmatch(r"LR[0-9]{3}", code):
        raise UsageError(f"{code!r} is no code for a shipped rule", f"the next free one is {_next_code(used, own)}")
    if not own and not re.fullmatch(r"(?!LR)[A-Z]{2,}[0-9]+", code):
        raise UsageError(f"{code!r} is no code for a rule of your own", "use a prefix of your own: ACME001")
    if code in {f"{prefix}{number:03d}" for prefix, number in _codes(place, "**")}:
        raise UsageError(f"{code} is taken", f"the next free one is {_next_code(used, own)}; codes are never reused")
    return _written(name, code, place, family)


def _written(name: str, code: str, folder: Path, family: str) -> list[Path]:
    function = name.replace("-", "_")
    title = f"{name.replace('-', ' ').capitalize()}."
    texts = {
        folder / "rules" / family / f"{function}.py": _RULE,
        folder / "fixtures" / family / f"{function}.py": _FIXTURE,
    }
    for path in texts:
        if path.exists():
            raise UsageError(f"{path} exists already", "nothing was written; choose another name")
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{path.parent} cannot be made: {error.strerror}") from None
        files.write(path, text.format(title=title, code=code, function=function))
    return list(texts)


def _is_checkout(folder: Path) -> bool:
    """Whether the folder is the top of a checkout of lrlint."""
    return (folder / "lrlint" / "lint" / "scaffold.py").is_file() and (folder / "rules").is_dir()


def _shipped_family(checkout: Path, family: str | None) -> str:
    known = sorted(path.name for path in (checkout / "rules").iterdir() if any(path.glob("*.py")))
    if family not in known:
        said = "a shipped rule belongs to a family" if family is None else f"there is no family {family!r}"
        raise UsageError(said, f"--family is one of {', '.join(known)}; --folder writes a rule of your own")
    return family


def _codes(folder: Path, family: str) -> list[tuple[str, int]]:
    """(prefix, number) of the rules in the folder."""
    return [
        (match[1], int(match[2]))
        for path in sorted(folder.glob(f"rules/{family}/*.py"))
        for match in re.finditer(r'@rule\(\s*"([A-Z]+)(\d+)"', path.read_text(encoding="utf-8", errors="replace"))
    ]


def _next_code(used: list[tuple[str, int]], shipped: bool) -> str:
    """The first free number after the highest one, with its prefix; else HOUSE001.

    Of a shipped family: after the highest of the hundred that most of it lies in, as families share hundreds.
    """
    if shipped and used:
        hundreds = [number // 100 for _, number in used]
        usual = max(set(hundreds), key=hundreds.count)
        used = [(prefix, number) for prefix, number in used if number // 100 == usual]
    prefix, number = max(used, key=lambda pair: pair[1], default=("HOUSE", 0))
    return f"{prefix}{number + 1:03d}"
