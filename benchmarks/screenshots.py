"""The pictures of the documentation: the report of the bundled example as Chromium shows it. `make screenshots`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
TARGET = "examples/gpt2_finetune.py:setup"
#: Name of the picture → (width and height in CSS pixels, dark).
PICTURES = {"report": (1400, 1000, False), "report-dark": (1400, 1000, True), "report-phone": (390, 1000, False)}


def photograph(browser: str, page: Path, picture: Path, width: int, height: int, *, dark: bool) -> None:
    """The top of a page, as a PNG file. Headless windows are at least 500 px wide: a narrow page stands in a frame."""
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder) / "frame.html"
        frame.write_text(
            f'<meta name="color-scheme" content="light dark"><body style="margin:0">'
            f'<iframe src="{page.as_uri()}" style="border:0;width:{width}px;height:{height}px"></iframe>'
        )
        scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        size = f"--window-size={width},{height}"
        command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", size, scheme]
        subprocess.run(
            [*command, f"--screenshot={picture}", frame.as_uri()], check=True, capture_output=True, timeout=120
        )


def main() -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("needs Chromium")
    IMAGES.mkdir(exist_ok=True)
    page = ROOT / "audit.html"  # beside the example, as the command on the page says
    try:
        command = [sys.executable, "-m", "lrlint", "report", TARGET, "-o", page.name]
        done = subprocess.run(command, cwd=ROOT, check=False)
        if done.returncode not in (0, 1):  # 1: the example has faults
            sys.exit(done.returncode)
        for name, (width, height, dark) in PICTURES.items():
            photograph(browser, page, IMAGES / f"{name}.png", width, height, dark=dark)
            print(f"wrote {(IMAGES / name).relative_to(ROOT)}.png")
    finally:
        page.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
