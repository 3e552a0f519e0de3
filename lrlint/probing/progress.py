"""How far a probe is, shown as a bar: in a terminal, and as a widget in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lrlint.errors import UsageError

Progress = Callable[[int, int, str], None]


@contextmanager
def shown(progress: object) -> Iterator[Progress | None]:
    """The function to tell the progress to: the user's own, that of a bar for True, or None.

    Raises UsageError for anything else, and where a bar is asked for and tqdm is not installed.
    """
    if progress is None or progress is False:
        yield None
    elif callable(progress):
        yield progress
    elif progress is True:
        with _bar() as tell:
            yield tell
    else:
        raise UsageError(f"progress is {progress!r}, and must be True or a function of (done, expected, what)")


@contextmanager
def _bar() -> Iterator[Progress]:
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped]
    except ImportError:
        raise UsageError("progress=True shows a bar of tqdm, which is not installed", "pip install tqdm") from None
    with tqdm(desc="lrlint", unit="step", leave=False) as bar:

        def tell(done: int, expected: int, what: str) -> None:
            bar.total = max(expected, done)  # a run that ends early makes the estimate shorter
            bar.set_description_str(f"lrlint: {what}", refresh=False)
            bar.update(done - bar.n)

        yield tell
