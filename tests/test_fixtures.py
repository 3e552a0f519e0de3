"""Every rule holds on its own fixtures: each bad one found on its line, each near miss left alone."""

import pytest

from lrlint import testing


@pytest.mark.parametrize("case", list(testing.cases()), ids=str)
def test_fixture(case: testing.Case) -> None:
    testing.run(case)
