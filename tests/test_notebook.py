"""A notebook that is really executed: results show themselves as HTML, and the probe as a bar."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

CELLS = (
    "import torch, lrlint\n"
    "model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))\n"
    "optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)",
    "lrlint.check(model, optimizer)",
    "lrlint.inspect(model, optimizer)",
    "lrlint.probe(model, optimizer, steps=10, progress=True)",
)


def test_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(__file__).parent.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    run, setup, probe = [
        next(output.data for output in cell.outputs if output.output_type == "execute_result")
        for cell in notebook.cells[1:]
    ]
    assert "LR101" in run["text/html"]
    assert "1 error" in run["text/plain"]
    assert "<h3>SGD" in setup["text/html"], "its groups stand under their optimizer"
    assert '<th scope="col">group</th>' in setup["text/html"]
    assert setup["text/plain"] == "<Setup: Sequential (4 parameters), SGD in 1 group>"
    assert probe["text/plain"].startswith("<ProbeResult: ")
    assert "<" in probe["text/html"]
