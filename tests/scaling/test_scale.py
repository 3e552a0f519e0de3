"""`lrlint.scale` and `lrlint scale`: the layer that breaks transfer is named, sound setups are left alone."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import lrlint
from lrlint.cli.main import cli
from lrlint.errors import UsageError
from lrlint.facts import Setup

WIDTHS = (32, 64, 128)


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.hidden = nn.Linear(64, width, bias=False), nn.Linear(width, width, bias=False)
        self.readout = nn.Linear(width, 10, bias=False)
        nn.init.normal_(self.first.weight, std=1 / 8)
        nn.init.normal_(self.hidden.weight, std=math.sqrt(2 / width))
        nn.init.normal_(self.readout.weight, std=4 / width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.readout(functional.relu(self.hidden(functional.relu(self.first(x)))))
        return result


def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def net(width: int = 32, hidden: float = -1.0) -> dict[str, object]:
    """In the maximal update parametrisation for Adam, unless ``hidden``, the exponent of that layer's rate, is another."""
    model, wider = Net(width), width / 32
    groups = [
        {"params": model.first.parameters(), "lr": 2e-3},
        {"params": model.hidden.parameters(), "lr": 2e-3 * wider**hidden},
        {"params": model.readout.parameters(), "lr": 2e-3 / wider},
    ]
    generator = torch.Generator().manual_seed(1)
    batch = torch.randn(32, 64, generator=generator), torch.randint(0, 10, (32,), generator=generator)
    return {"model": model, "optimizer": torch.optim.Adam(groups), "batches": [batch], "loss_fn": loss}


def test_a_sound_setup_has_the_exponents_that_are_asked_and_no_finding() -> None:
    result = lrlint.scale(net, WIDTHS)
    assert result.transfers
    assert not result.findings
    assert [layer.kind for layer in result.layers] == ["input", "hidden", "output"]
    hidden = next(p for p in result.parameters if p.name == "hidden.weight")
    assert hidden.shapes == ((32, 32), (64, 64), (128, 128))
    assert hidden.rate_slope == pytest.approx(-1)
    assert hidden.std_slope == pytest.approx(-0.5, abs=0.05)
    assert all(abs(layer.update or 9) < 0.3 for layer in result.layers)


def test_the_layer_with_the_wrong_rate_is_named() -> None:
    result = lrlint.scale(lambda width: net(width, hidden=0.0), WIDTHS)
    (finding,) = result.findings
    assert (finding.rule, finding.parameters, finding.data["fault"]) == ("LR218", ("hidden.weight",), "rate")
    assert finding.data["off"] == pytest.approx(1, abs=0.3)


def test_without_a_promise_there_is_a_table_and_no_finding() -> None:
    def standard(width: int) -> dict[str, object]:
        made = net(width)
        return {**made, "optimizer": torch.optim.Adam(made["model"].parameters(), lr=2e-3)}  # type: ignore[attr-defined]

    result = lrlint.scale(standard, WIDTHS)
    assert result.faults
    assert not result.transfers
    assert not result.findings
    assert max(map(len, str(result).splitlines())) <= 80
    assert lrlint.scale(lambda width: {**standard(width), "transfers": True}, WIDTHS).findings


def test_shapes_of_the_mup_package_are_a_promise() -> None:
    def marked(width: int) -> dict[str, object]:
        made = net(width)
        made["optimizer"] = torch.optim.Adam(made["model"].parameters(), lr=2e-3)  # type: ignore[attr-defined]
        for parameter in made["model"].parameters():  # type: ignore[attr-defined]
            parameter.infshape = parameter.shape
        return made

    result = lrlint.scale(marked, WIDTHS)
    assert "infshape" in result.transfers
    assert result.findings


def test_objects_and_random_states_are_as_they_were() -> None:
    kept = {width: net(width) for width in WIDTHS}
    before = {w: [p.detach().clone() for p in made["model"].parameters()] for w, made in kept.items()}  # type: ignore[attr-defined]
    state = torch.get_rng_state()
    first = lrlint.scale(lambda width: kept[width], WIDTHS)
    assert torch.equal(torch.get_rng_state(), state)
    for width, made in kept.items():
        parameters = list(made["model"].parameters())  # type: ignore[attr-defined]
        assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before[width], parameters, strict=True))
        assert not made["optimizer"].state  # type: ignore[attr-defined]
    assert lrlint.scale(lambda width: kept[width], WIDTHS).to_dict() == first.to_dict()


@pytest.mark.parametrize(
    ("factory", "widths", "says"),
    [
        (net, (32,), "two different widths"),
        (net, (32, "wide"), "positive number"),
        (lambda depth: net(), (32, 64), "no argument 'width'"),
        (lambda width: net(32), (32, 64), "changes no parameter's shape"),
    ],
)
def test_what_cannot_be_compared_is_said(factory: object, widths: tuple[object, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        lrlint.scale(factory, widths)  # type: ignore[arg-type]


def test_the_facts_survive_a_snapshot() -> None:
    setup = lrlint.scale(net, (32, 64), steps=2).setup
    assert Setup.from_dict(json.loads(json.dumps(setup.to_dict()))).scale == setup.scale


def test_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(Path(__file__).read_text().partition("\n\ndef test_")[0])

    def run(*arguments: str) -> tuple[int, str]:
        words = ["scale", "model.py:net", "--jobs", "0", "--no-color", *arguments]
        code = cli.main(words, standalone_mode=False, obj=words)
        return code, capsys.readouterr().out

    code, text = run("--vary", "width=32,64,128")
    assert code == 0
    assert "no layers are off" in text
    code, text = run("--vary", "width=32,64,128", "--arg", "hidden=0", "--format", "json")
    data = json.loads(text)
    assert code == 1
    assert [f["parameters"] for f in data["findings"]] == [["hidden.weight"]]
    assert data["widths"] == [32, 64, 128]
    assert run("--vary", "width=32")[0] == 2
    with pytest.raises(UsageError, match="form NAME"):
        run("--vary", "width")
