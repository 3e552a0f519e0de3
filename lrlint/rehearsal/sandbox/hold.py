"""Keep what a rehearsed script does to this process and to memory: files, processes, trackers, the network if asked for.

Held is every file on a mounted file system. Not held, in any mode, is what reaches beyond this machine's files and
processes: uploads to buckets and model hubs, rows of databases on servers, jobs given to a queue, containers started
through a daemon's socket, and memory of a GPU or of devices.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lrlint.rehearsal.sandbox import memory, namespaces, processes, trackers
from lrlint.rehearsal.sandbox.mounts import Layer
from lrlint.rehearsal.sandbox.namespaces import Request
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
    _layers: list[Layer] = field(default_factory=list)

    @property
    def files(self) -> list[HeldFile]:
        """What the script has written and removed so far, the project's files first; none in mode "first step"."""
        try:
            return held_files(self._layers, str(self.root))
        except OSError:
            self.notes.append("the list of held files is not complete: the script closed what lrlint keeps open")
            return []


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
        return _without_namespaces(Hold("first step", root, f"{sys.platform} has no mount namespaces"), mode)
    spaces, reason = None, "it was asked for"
    request = _request(root)
    if mode in ("auto", "held") or not network:
        spaces, reason = namespaces.choose(request, not network)
    if spaces is None or mode not in ("auto", "held"):
        processes.go_on_in_child()
        return _without_namespaces(Hold("first step", root, reason), mode)
    if spaces.processes:
        processes.go_on_in_namespace(lambda: namespaces.enter(spaces))
    else:
        processes.go_on_in_child()
        namespaces.enter(spaces)
    view = namespaces.take_over(spaces, request)
    rename_across_layers()
    trackers.switch_off(not spaces.network, local_files_are_held=True)
    return Hold("held", root, "", not spaces.network, view.notes, view.layers)


def _without_namespaces(found: Hold, mode: str) -> Hold:
    trackers.switch_off(network=True, local_files_are_held=False)
    return found


def _request(root: Path) -> Request:
    """What must be writable, and what else the script is known to use: its arguments and variables name folders."""
    places = [str(root), os.getcwd(), os.path.expanduser("~"), tempfile.gettempdir()]
    needed = tuple(
        dict.fromkeys(os.path.realpath(place) for place in places if os.path.isdir(place) and os.access(place, os.W_OK))
    )
    words = (word.rpartition("=")[2] for word in (*sys.argv, *os.environ.values()))
    used = (os.path.realpath(word) for word in words if word.startswith("/") and ":" not in word)
    return Request(needed, tuple(dict.fromkeys((*needed, *used))), memory.scratch_bytes())
