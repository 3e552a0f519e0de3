"""Let Python load edited source in place of a file, without writing it: the user's tree is not touched by a proof."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any


@contextmanager
def overlaid(texts: Mapping[str, str]) -> Iterator[None]:
    """Within the block the files at these absolute paths read as these texts, for imports and for tracebacks."""
    if not texts:
        yield
        return
    real = {str(Path(path).resolve()): text for path, text in texts.items()}
    stale = {cache_from_source(path) for path in (*real, *texts)}
    ordinary, wrote = SourceFileLoader.__dict__.get("get_data"), sys.dont_write_bytecode

    def get_data(self: SourceFileLoader, path: Any) -> bytes:
        name = str(path)
        if name in stale:  # bytecode of the text on disk
            raise FileNotFoundError(name)
        text = real.get(str(Path(name).resolve()))
        if text is not None:
            return text.encode()
        return super(SourceFileLoader, self).get_data(path)

    SourceFileLoader.get_data = get_data  # type: ignore[method-assign,assignment]
    sys.dont_write_bytecode = True
    lines = {path: linecache.cache.get(path) for path in (*real, *texts)}
    for path, text in (*real.items(), *texts.items()):
        linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    try:
        yield
    finally:
        sys.dont_write_bytecode = wrote
        if ordinary is None:
            del SourceFileLoader.get_data
        else:
            SourceFileLoader.get_data = ordinary  # type: ignore[method-assign]
        for path, entry in lines.items():
            if entry is None:
                linecache.cache.pop(path, None)
            else:
                linecache.cache[path] = entry
