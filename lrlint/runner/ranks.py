"""Several processes of one run: started here (``--nproc``), or by torchrun around us. Either way there is one report.

Each process inspects its own setup. Rank 0 judges them all, and its exit code becomes everybody's.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from lrlint.facts import Setup
from lrlint.facts.ranks import view_of
from lrlint.lint.run import Checked

#: Seconds that rank 0 waits for the others (one may be far behind on its way to the first step), and they for it.
PATIENCE = 600.0


def environment(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun would set for this process of a run on one machine."""
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "GROUP_RANK": 0}
    return {**{key: str(value) for key, value in ranks.items()}, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def with_views(setups: Sequence[Setup]) -> Setup:
    """Rank 0's setup with what all ranks see; the setups are in the order of the ranks."""
    return replace(setups[0], ranks=tuple(view_of(setup, rank) for rank, setup in enumerate(setups)))


def with_others(first: Checked, others: Sequence[Checked]) -> Checked:
    """Rank 0's findings, and what only another rank has: its message says which."""
    known = {(finding.rule, finding.message) for finding in first.findings}
    findings = list(first.findings)
    for rank, part in enumerate(others, 1):
        for finding in part.findings:
            if (finding.rule, finding.message) not in known:
                known.add((finding.rule, finding.message))
                findings.append(replace(finding, message=f"on rank {rank}: {finding.message}"))
    return replace(first, findings=tuple(findings))


def agreement(setup: Setup) -> str:
    """``ranks 0–7 agree``, ``ranks 0–7 do not all agree``; "" for a single process."""
    if len(setup.ranks) < 2:
        return ""
    alike = len({str(sorted(view.treatment().items())) for view in setup.ranks}) == 1
    return f"ranks 0–{len(setup.ranks) - 1} {'agree' if alike else 'do not all agree'} about their parameter groups"


@dataclass(frozen=True)
class Peers:
    """The processes that torchrun started, as they talk through its own store (no process group of the script's)."""

    rank: int
    count: int
    store: Any

    def tell(self, results: Mapping[str, Any]) -> None:
        """Hand this rank's results (plain data) to rank 0."""
        self.store.set(f"results/{self.rank}", json.dumps(results))

    def results(self) -> list[dict[str, Any] | None]:
        """What ranks 1 and above found, in order; None where one did not answer in time."""
        return [self._read(f"results/{rank}") for rank in range(1, self.count)]

    def conclude(self, code: int) -> None:
        """Tell all ranks the exit code."""
        self.store.set("code", json.dumps(code))

    def code(self) -> int | None:
        """The exit code that rank 0 decided; None where it did not answer in time."""
        return self._read("code")  # type: ignore[no-any-return]

    def _read(self, key: str) -> Any:
        try:
            self.store.wait([key], timedelta(seconds=PATIENCE))
            return json.loads(self.store.get(key))
        except Exception:  # the store is gone, or nothing came
            return None


def peers() -> Peers | None:
    """The other processes of this run; None where torchrun did not start it, or where it is alone."""
    environ = os.environ
    if environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or int(environ.get("WORLD_SIZE", 1)) < 2:
        return None
    from lrlint.targets.ranks import launcher_store

    prefix = f"lrlint/{environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    store = launcher_store(environ["MASTER_ADDR"], int(environ["MASTER_PORT"]), prefix)
    return Peers(int(environ["RANK"]), int(environ["WORLD_SIZE"]), store)
