"""Build the wheel, install it into a fresh environment and use it from outside the checkout.

The environment borrows torch and the other dependencies of the one that runs this, but not its editable install of
lrlint: a plain path in a ``.pth`` file adds a folder and does not follow the ``.pth`` files in there.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FACTORY = """\
import torch


def build():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))
    return model, torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=0.1)
"""


def run(*command: str | Path, cwd: Path, expect: int = 0) -> str:
    """The command's standard output. Exits with what it said where its exit code is not the expected one."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != expect:
        sys.exit(
            f"{' '.join(map(str, command))}: exit code {done.returncode}, not {expect}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", home, ROOT, cwd=home)
        (wheel,) = home.glob("*.whl")
        venv.create(home / "env", with_pip=True)
        python = home / "env" / "bin" / "python"
        site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip())
        (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
        run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=home)
        installed = Path(run(python, "-c", "import lrlint; print(lrlint.__file__)", cwd=home).strip())
        assert installed.is_relative_to(home), f"lrlint comes from {installed}"

        lrlint = home / "env" / "bin" / "lrlint"
        page = run(lrlint, "rule", "LR310", cwd=home)
        missing = [part for part in ("adam-l2-decay", "def bad") if part not in page]
        assert not missing, f"the rule's page lacks its tested example: {missing}"
        (home / "train.py").write_text(FACTORY)
        report = run(lrlint, "check", "train.py:build", "--format", "concise", cwd=home, expect=1)
        assert "LR310" in report, report
        count = run(lrlint, "rule", cwd=home).count("  LR")
        shipped = len(list((ROOT / "rules").rglob("[!_]*.py")))
        assert count >= shipped, f"the wheel knows {count} rules, the checkout has {shipped}"
        print(f"{wheel.name}: installed, {count} rules, one check")


if __name__ == "__main__":
    main()
