"""Run `lrlint check` on an example and compare what it found with the `# expect: LR301` comments in the file.

    python examples/verify.py examples/gpt2_finetune.py

Exit code 0 when each expected finding is reported on its line and nothing else at warning or above is.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

EXPECT = re.compile(r"# expect: (LR\d{3}(?:, LR\d{3})*)$")


def expected(path: Path) -> set[tuple[int, str]]:
    """(line, code) of every announced finding."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    return {(number, code) for number, line in lines if (m := EXPECT.search(line)) for code in m[1].split(", ")}


def found(path: Path) -> tuple[set[tuple[int, str]], int]:
    """(line, code) of every finding at warning or above, and lrlint's exit code. Its text goes to the terminal."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        done = subprocess.run(["lrlint", "check", f"{path}:setup", "--output", str(report)], check=False)
        if not report.exists():
            return set(), done.returncode
        findings = json.loads(report.read_text(encoding="utf-8"))["findings"]
    loud = [finding for finding in findings if finding["severity"] != "info"]
    return {(finding["locations"][0]["line"], finding["rule"]) for finding in loud}, done.returncode


def main(path: Path) -> int:
    wanted = expected(path)
    got, code = found(path)
    for line, rule in sorted(wanted - got):
        print(f"{path}:{line}: {rule} was seeded here and not found", file=sys.stderr)
    for line, rule in sorted(got - wanted):
        print(f"{path}:{line}: {rule} was found here and not seeded", file=sys.stderr)
    if not wanted or wanted != got or code != 1:
        return 1
    print(f"\nAll {len(wanted)} seeded faults were found on their lines, and nothing else: the demo passes.")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
