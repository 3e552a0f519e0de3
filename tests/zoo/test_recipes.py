"""What experts do on purpose stays silent: no finding at warning or above on published recipes.

The recipes are targets in `zoo/recipes`; each runs through the same door as `lrlint check file.py:function`.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from lrlint.config.settings import Settings
from lrlint.facts import Setup
from lrlint.inspection.build import build
from lrlint.lint.finding import Finding
from lrlint.lint.run import lint
from lrlint.targets.load import load

HERE = Path(__file__).parent
#: Every second one in `make test`; CI runs the others as well.
RECIPES = [
    (path, node.name)
    for path in sorted((HERE / "recipes").glob("[!_]*.py"))
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
]


def check(path: Path, function: str, *, graph: bool = True) -> tuple[Setup, list[Finding]]:
    setup = build(load(f"{path}:{function}", root=path.parent), graph=graph)
    return setup, list(lint(setup, Settings()).findings)


@pytest.mark.parametrize(
    ("path", "function"),
    [
        pytest.param(path, name, id=f"{path.stem}:{name}", marks=(pytest.mark.long,) if index % 2 else ())
        for index, (path, name) in enumerate(RECIPES)
    ],
)
def test_a_published_recipe_is_clean(path: Path, function: str) -> None:
    setup, findings = check(path, function)
    assert setup.optimizers, "the recipe gave no optimizer"
    loud = [f"{found.rule} {found.name}: {found.message}" for found in findings if found.severity != "info"]
    assert not loud


def test_the_survey_is_wide() -> None:
    assert len(RECIPES) >= 60
