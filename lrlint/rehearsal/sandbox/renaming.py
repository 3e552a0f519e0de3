"""`os.rename` across the layers of an overlay, where the disk underneath is one file system."""

from __future__ import annotations

import errno
import functools
import os
import shutil
from collections.abc import Callable
from typing import Any


def rename_across_layers() -> None:
    """Let `os.rename` and `os.replace` copy and remove where the kernel cannot rename.

    An overlay in a user namespace cannot rename a folder that lies below it, and two folders that are one file system on
    the disk may be two overlays; both are refused with EXDEV. Affects Python code in this process.
    """
    for name in ("rename", "replace"):
        setattr(os, name, _copying(getattr(os, name)))


def _copying(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def rename(src: Any, dst: Any, **folders: Any) -> None:
        try:
            original(src, dst, **folders)
        except OSError as error:
            if error.errno != errno.EXDEV or any(folder is not None for folder in folders.values()):
                raise
            _move(src, dst, original)

    return rename


def _move(src: Any, dst: Any, rename: Callable[..., None]) -> None:
    """Copy beside the destination, put in place at once, remove the source."""
    copy = os.fsdecode(dst) + ".moving"
    if os.path.isdir(src) and not os.path.islink(src):
        if os.path.isdir(dst):
            os.rmdir(dst)  # as rename does: only an empty one is replaced
        shutil.copytree(src, copy, symlinks=True)
        rename(copy, dst)
        shutil.rmtree(src)
    else:
        shutil.copy2(src, copy, follow_symlinks=False)
        rename(copy, dst)
        os.unlink(src)
