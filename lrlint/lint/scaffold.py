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


def new_rule(name: str, code: str | None, folder: Path) -> list[Path]:
    """Write ``rules/house/<name>.py`` and ``fixtures/house/<name>.py`` in the folder; returns their paths.

    The check works as it is and is meant to be rewritten. Raises UsageError for a name that is no kebab-case name, a
    code in lrlint's own range, or a file that exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(f"{name!r} is no rule name", "write it in lower case with hyphens: embedding-rate-too-high")
    code = code or _next_code(folder)
    if not re.fullmatch(r"(?!LR)[A-Z]{2,}[0-9]+", code):
        raise UsageError(f"{code!r} is no code for a rule of your own", "use a prefix of your own: ACME001")
    function = name.replace("-", "_")
    title = f"{name.replace('-', ' ').capitalize()}."
    texts = {
        folder / "rules" / "house" / f"{function}.py": _RULE,
        folder / "fixtures" / "house" / f"{function}.py": _FIXTURE,
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


def _next_code(folder: Path) -> str:
    """The first free number after the highest one in the folder, with its prefix; else HOUSE001."""
    numbers = [
        (match[1], int(match[2]))
        for path in sorted(folder.glob("rules/**/*.py"))
        for match in re.finditer(r'@rule\(\s*"([A-Z]+)(\d+)"', path.read_text(encoding="utf-8", errors="replace"))
    ]
    prefix, number = max(numbers, key=lambda pair: pair[1], default=("HOUSE", 0))
    return f"{prefix}{number + 1:03d}"
