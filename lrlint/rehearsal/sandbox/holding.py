"""Keep what a rehearsed script does to this process and to memory: files, processes, trackers, the network if asked for.

Held is every file on a mounted file system. Not held, in any mode, is what reaches beyond this machine's files and
processes: uploads to buckets and model hubs, rows of databases on servers, jobs given to a queue, containers started
through a daemon's socket, and memory of a GPU or of devices.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lrlint.rehearsal.sandbox import landlock, namespaces, processes, scratch, trackers
from lrlint.rehearsal.sandbox.namespaces import Request
from lrlint.rehearsal.sandbox.python_writes import redirect
from lrlint.rehearsal.sandbox.redirect import Redirection
from lrlint.rehearsal.sandbox.renaming import rename_across_layers
from lrlint.rehearsal.sandbox.written import HeldFile, held_files

Mode = Literal["held", "redirected", "first step"]


@dataclass
class Hold:
    """What is held from here on.

    ``mode``: "held" (every file), "redirected" (what Python code writes; the rest is refused where the kernel can) or
    "first step" (nothing: stop before the script has trained). ``reason``: why it is not "held", in words. ``network``:
    whether the script reaches it. ``notes``: what the user should know besides.
    """

    mode: Mode
    root: Path
    reason: str = ""
    network: bool = True
    notes: list[str] = field(default_factory=list)
    _read_back: Callable[[], list[HeldFile]] = list
    _storage: str = ""

    @property
    def files(self) -> list[HeldFile]:
        """What the script has written and removed so far, the project's files first; none in mode "first step".

        Each use reads the layers anew. Without it, `files` can be told only while the script's process lives.
        """
        try:
            return self._read_back()
        except OSError:
            self.notes.append("which files were held is not known: the script closed what lrlint keeps open")
            return []

    @property
    def full(self) -> bool:
        """Whether what the script wrote filled the memory set aside for it: "no space left" is then lrlint's doing."""
        if not self._storage:
            return False
        try:
            state = os.statvfs(self._storage)
        except OSError:
            return False
        return state.f_bavail * 50 < state.f_blocks


def hold(root: Path, *, network: bool = True, mode: str = "auto") -> Hold:
    """Hold what this process and its children do from here on.

    It must be called first thing in a process that may be thrown away, before timers and threads are started: on Linux
    **it returns in a new child process**, while the calling process waits, ends whatever the child has started, and
    then ends as the child did, by its exit code or signal.

    ``root`` is the project's folder. ``network=False`` cuts the network but for loopback, where namespaces exist.
    ``mode`` is "auto" ("held", else "first step"), or the mode to have: "redirected" and "first step" are given as
    asked for; "held" becomes "first step" where it cannot be had. Raises ValueError for another mode.
    """
    if mode not in ("auto", "held", "redirected", "first step"):
        raise ValueError(f"mode must be auto, held, redirected or first step, not {mode!r}")
    root = Path(os.path.realpath(root))
    if not sys.platform.startswith("linux"):
        return _without_namespaces(root, mode, f"{sys.platform} has no mount namespaces")
    if mode in ("redirected", "first step"):
        return _without_namespaces(root, mode, "asked for")
    with scratch.reserved() as folders:
        request = _request(root, folders)
        spaces, reason = namespaces.choose(request, not network)
        if spaces is not None and spaces.on_disk:
            folders.keep()
    if spaces is None:
        return _without_namespaces(root, mode, reason)
    if spaces.processes:
        processes.go_on_in_namespace(lambda: namespaces.enter(spaces), folders.remove)
    else:
        processes.go_on_in_child(folders.remove)
        namespaces.enter(spaces)
    view = namespaces.take_over(spaces, request)
    rename_across_layers()
    trackers.switch_off(not spaces.network, local_files_are_held=True)
    upper = view.layers[0].upper
    return Hold("held", root, "", not spaces.network, view.notes, lambda: held_files(view.layers, str(root)), upper)


def _without_namespaces(root: Path, mode: str, reason: str) -> Hold:
    folder = tempfile.mkdtemp(prefix="rehearsal-") if mode == "redirected" else ""
    if sys.platform.startswith("linux"):
        processes.go_on_in_child(lambda: shutil.rmtree(folder, ignore_errors=True) if folder else None)
    elif folder:
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if folder:
        return _redirected(root, reason, folder)
    trackers.switch_off(network=True, local_files_are_held=False)
    return Hold("first step", root, reason)


def _redirected(root: Path, reason: str, folder: str) -> Hold:
    """Python's writes go to a scratch folder; the kernel refuses others where it can."""
    redirection = Redirection(folder)
    trackers.switch_off(network=True, local_files_are_held=True)
    enforced = sys.platform.startswith("linux") and landlock.refuse_writes((folder, "/dev/shm"))
    redirect(redirection)
    note = "writes of native code and of other programs are " + ("refused" if enforced else "not held: they are made")
    return Hold("redirected", root, reason, True, [note], lambda: redirection.written(str(root)))


def _request(root: Path, folders: scratch.Folders) -> Request:
    """What must be writable, and what else the script is known to use: its arguments and variables name folders."""
    writable = [str(root), os.path.expanduser("~"), tempfile.gettempdir()]
    with suppress(OSError):  # it may have been removed
        writable.append(os.getcwd())
    needed = tuple(
        dict.fromkeys(os.path.realpath(path) for path in writable if os.path.isdir(path) and os.access(path, os.W_OK))
    )
    words = (word.rpartition("=")[2] for word in (*sys.argv, *os.environ.values()))
    used = (os.path.realpath(word) for word in words if word.startswith("/") and ":" not in word)
    return Request(needed, tuple(dict.fromkeys((*needed, *used))), scratch.memory_bytes(), folders.paths)
