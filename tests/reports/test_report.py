"""The audit report: what stands in it, for whom, and that nothing from a model becomes markup. No torch, no browser
but for the tests that say so, which measure the page in Chromium where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree
from setups import HOUSE, SOURCE, decoder, write_rules

from lrlint.config.settings import Settings, Suppression
from lrlint.errors import UsageError
from lrlint.facts import Group, GroupSchedule, Optimizer, Parameter, Schedule, Setup, Trace
from lrlint.lint.run import Failure, Run, conclude, examine
from lrlint.lint.selection import select
from lrlint.reports import audit_markdown, html
from lrlint.reports.views import audit, card, identity
from lrlint.reports.views.audit import Context
from lrlint.reports.views.group_map import FROZEN, UNCOVERED, group_map
from lrlint.reports.views.identity import Identity
from lrlint.reports.views.ladders import group_rows
from lrlint.reports.views.map_text import map_lines
from lrlint.reports.views.verdict import verdict
from lrlint.text.wording import times

WHO = Identity((("lrlint", "1"), ("torch", "2")), "2030-01-02 03:04 UTC", "0123456789abcdef", False, "lrlint report")


def ladder(layers: int = 40, *, target: str = "vit") -> Setup:
    """Layer-wise decay of the rate: two groups per layer, as BEiT and MAE make them, under a warm-up and a cosine."""
    parameters: list[Parameter] = []
    groups = []
    for layer in range(layers):
        own = []
        for part, role, shape in (
            ("norm.weight", "norm", (64,)),
            ("attention.qkv.weight", "matrix", (192, 64)),
            ("attention.qkv.bias", "bias", (192,)),
            ("attention.proj.weight", "matrix", (64, 64)),
            ("mlp.fc1.weight", "matrix", (256, 64)),
            ("mlp.fc2.weight", "matrix", (64, 256)),
        ):
            name = f"blocks.{layer}.{part}"
            own.append(Parameter(len(parameters), name, (name,), "model", role, shape, "torch.float32", "cpu"))
            parameters.append(own[-1])
        for kind, decay in (("decay", 0.05), ("no_decay", 0.0)):
            options = {"lr": 1e-3 * 0.9 ** (layers - 1 - layer), "weight_decay": decay, "betas": [0.9, 0.999]}
            held = tuple(p for p in own if (p.role == "matrix") == (kind == "decay"))
            options["name"] = f"layer_{layer}_{kind}"
            groups.append(Group(0, len(groups), options, held, "adam", True))
    optimizer = Optimizer(0, "", "AdamW", "torch.optim", "adam", tuple(groups))
    courses = tuple(GroupSchedule(g.index, Trace((0, 500, 10000), (0.0, g.lr or 0.0, 1e-9))) for g in optimizer.groups)
    schedule = Schedule(
        0, "LambdaLR", "torch.optim.lr_scheduler.LambdaLR", 0, 10000, courses, horizon_from="total_steps"
    )
    return Setup(target=target, parameters=tuple(parameters), optimizers=(optimizer,), schedules=(schedule,))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A target with errors, one whose error was accepted, one that failed."""
    (tmp_path / "train.py").write_text(SOURCE)
    aside = Suppression(("HOUSE001",), "<agreed>", targets=("other",))
    settings = Settings(select=HOUSE, extra_rules=(str(write_rules(tmp_path)),), root=tmp_path, suppress=(aside,))
    parts = [examine(setup, select(settings)) for setup in (decoder(), decoder(12, target="other"))]
    return conclude(parts, settings, [Failure("broken", "broken raised", 3, "it needs data", "Traceback <x>")])


def parsed(page: str) -> etree._Element:
    return etree.fromstring(page, etree.HTMLParser())


def text_of(element: etree._Element) -> str:
    return " ".join("".join(element.itertext()).split())


def rows(element: etree._Element) -> str:
    return " ".join(" ".join(text_of(cell) for cell in row) for row in element.iter("tr"))


def test_each_target_has_its_verdict_what_was_set_aside_and_what_was_not_checked(run: Run) -> None:
    tree = parsed(html.render(run, Context(WHO)))
    verdicts = [text_of(p) for p in tree.iterfind(".//p[@class]") if p.get("class").startswith("verdict")]
    assert verdicts[0].startswith("demo: 1 error and 1 warning: do not start")
    assert verdicts[1].startswith("other: 1 warning: look at it before you start; 1 error set aside")
    assert verdicts[2].startswith("broken: could not be read")
    demo, other, broken = tree.xpath("//section[starts-with(@id,'target-') and not(contains(@id,'title'))]")
    assert "Set aside" not in text_of(demo)
    assert "error HOUSE001 fast-group configuration <agreed> – group 0 has a rate of 3" in rows(other)
    assert "no graph 1: HOUSE004 let the factory return example_inputs" in rows(demo)
    assert "it needs data" in text_of(broken)
    for link in tree.iterfind(".//a[@href]"):
        if link.get("href").startswith("#"):
            assert len(tree.xpath(f"//*[@id='{link.get('href')[1:]}']")) == 1


def test_a_finding_has_the_terminals_frame_and_the_reason_of_its_rule(run: Run) -> None:
    page = parsed(html.render(run))
    fast = page.xpath("//article[@class='finding error']")[0]
    frame = text_of(fast.find(".//pre"))
    assert "--> train.py:8:13" in frame
    assert "^^^" in frame
    assert "slower: 3 parameters" in frame, "the other side of a comparison is shown as code too"
    assert "Rates above 1 make most optimizers diverge" in text_of(fast)
    assert fast.find(".//h4/span/a").get("href") == "https://example.org/rates"


def test_a_report_says_who_made_it_only_when_it_is_told(run: Run) -> None:
    page, bare = html.render(run, Context(WHO)), html.render(run)
    for said in ("2030-01-02 03:04 UTC", "0123456789ab, with uncommitted changes", "Signature"):
        assert said in page
        assert said not in bare
    assert html.render(run, Context(WHO)) == page
    assert re.search(r"20\d\d-\d\d-\d\d", bare) is None


def test_markdown_has_the_content_of_the_page(run: Run) -> None:
    markdown = audit_markdown.render(run, Context(WHO))
    tree = parsed(html.render(run, Context(WHO)))
    for heading in tree.iterfind(".//h3"):
        assert f"### {text_of(heading).split(' train.py')[0]}" in markdown
    assert "| error | HOUSE001 fast-group | configuration | \\<agreed\\> |" in markdown
    assert "Signature: ____" in markdown
    assert "    --> train.py:8:13" in markdown.replace("      -->", "    -->")


def test_eighty_groups_are_one_row_and_fit_the_page() -> None:
    setup = ladder()
    (row,) = group_rows(setup, setup.optimizers[0])
    assert (row.label, row.rates, row.decay) == ("layer_{0..39}_{decay, no_decay}", "1.64e-05 → 1e-03", "0.05 / 0")
    assert row.note == "×1/0.9 per rung, 40 rungs, none missing"
    page = html.render(conclude([examine(setup, select(Settings()))], Settings()))
    assert len(page) < 300_000
    table = parsed(page).xpath("//section[contains(@aria-label,'by pattern')]//tbody/tr")
    assert len(table) == 5, "a row per kind of parameter"


def test_a_missing_rung_is_told_and_what_is_no_ladder_stays_apart() -> None:
    setup = ladder(6)
    groups = setup.optimizers[0].groups
    short = replace(setup.optimizers[0], groups=tuple(g for g in groups if g.name != "layer_3_decay"))
    notes = [row.note for row in group_rows(setup, short)]
    assert notes == ["×1/0.9 per rung, 5 rungs, 1 missing", "×1/0.9 per rung, 6 rungs, none missing"]
    plain = decoder()
    assert [row.label for row in group_rows(plain, plain.optimizers[0])] == ["0", "1 (spared)"]


def test_the_map_shows_what_no_optimizer_holds_and_what_is_frozen() -> None:
    setup = decoder(8)
    frozen = replace(setup.parameters[0], requires_grad=False)
    optimizer = setup.optimizers[0]
    groups = [
        replace(g, parameters=tuple(frozen if p.index == 0 else p for p in g.parameters if p.name != "head.weight"))
        for g in optimizer.groups
    ]
    setup = replace(
        setup, parameters=(frozen, *setup.parameters[1:]), optimizers=(replace(optimizer, groups=tuple(groups)),)
    )
    found = group_map(setup)
    assert found is not None
    assert {slot.name: slot.state for slot in found.slots if slot.state} == {
        "h.0.attn.weight": FROZEN,
        "head.weight": UNCOVERED,
    }
    assert found.treatments == ("decay 0.1", "decay 0")
    lines = map_lines(found, 78)
    assert all(len(line) <= 78 for line in lines)
    assert lines[0].endswith("╳" * 4), "the hole is at the end, where the head is"
    assert any("╳ in no optimizer" in line for line in lines)
    assert all(line.isascii() for line in map_lines(found, 78, ascii=True))
    page = html.render(Run(checked=(examine(setup, select(Settings())),)))
    legend = [text_of(item) for item in parsed(page).iterfind(".//ul[@class='legend']/li")]
    assert legend == ["decay 0.1", "decay 0", "in no optimizer", "frozen"], "in words, not by colour alone"


def test_what_changed_since_a_snapshot(run: Run) -> None:
    part = run.checked[0]
    (optimizer,) = part.setup.optimizers
    options = {**optimizer.groups[0].options, "weight_decay": 0.2}
    groups = (replace(optimizer.groups[0], options=options), *optimizer.groups[1:])
    before = replace(part.setup, optimizers=(replace(optimizer, groups=groups),))
    context = Context(against=audit.matched(before, run), against_name="old.json")
    for text in (html.render(run, context), audit_markdown.render(run, context)):
        assert "Changes since" in text
        assert "0.2 → 0.1" in text
    with pytest.raises(UsageError, match="which is none of demo, other"):
        audit.matched(replace(before, target="third"), run)


def test_targets_stand_side_by_side_with_differences_in_bold(run: Run) -> None:
    tree = parsed(html.render(run))
    rows = {
        text_of(row.find("th")): [(text_of(cell), cell.get("class")) for cell in row.iterfind("td")]
        for row in tree.xpath("//section[@aria-label='targets side by side']//tbody/tr")
    }
    assert rows["parameters"][0][1] == "differs"
    assert rows["peak rates"] == [("1e-04 … 3 (×30,000)", None)] * 2


def test_names_of_a_model_stay_text() -> None:
    hostile = "</script><script>alert(1)</script>&<b>`|\x1b[31m\u202e"
    setup = decoder(target=hostile, head=f"{hostile}.weight")
    run = conclude([examine(setup, select(Settings()))], Settings())
    page = html.render(run, Context(replace(WHO, command=hostile)))
    tree = parsed(page)
    assert len(tree.findall(".//script")) == 1
    assert not tree.findall(".//main//b[.='']")
    assert "\x1b" not in page
    assert "\u202e" not in page
    markdown = audit_markdown.render(run)
    assert "\x1b" not in markdown
    outside = re.sub(r"(`+).*?\1", "", "\n".join(x for x in markdown.splitlines() if not x.startswith("    ")))
    assert "<script>" not in outside


def test_the_page_loads_nothing_and_has_a_name_for_everything(run: Run) -> None:
    page = html.render(run, Context(WHO))
    tree = parsed(page)
    assert tree.get("lang") == "en"
    assert not tree.xpath("//img|//link|//iframe|//script[@src]")
    assert not re.search(r"@import|url\((?!#)", page)
    ids = tree.xpath("//@id")
    assert len(ids) == len(set(ids))
    for picture in tree.xpath("//*[local-name()='svg' and not(@aria-hidden)]"):
        assert picture.get("role") == "img"
        assert picture.get("aria-label")
    scrollers = tree.xpath("//*[contains(concat(' ', @class, ' '), ' wide ')]")
    assert all(s.get("tabindex") == "0" and s.get("aria-label") for s in scrollers)
    labels = [s.get("aria-label") for s in scrollers]
    assert len(labels) == len(set(labels))
    assert all(table.findall("./thead/tr/th[@scope='col']") for table in tree.findall(".//table"))


def test_a_verdict_is_one_sentence() -> None:
    assert verdict([], decoder()).text == "ready: no error, no warning; the probe was not run"


@pytest.mark.parametrize(("factor", "told"), [(1.5, "1.5"), (61.2, "61.2"), (16_667, "17,000"), (1234, "1,200")])
def test_factors_are_written_as_people_read_them(factor: float, told: str) -> None:
    assert times(factor) == told


def test_the_half_life_of_decay_is_told_beside_the_run() -> None:
    found = dict(card.card(ladder()))
    assert found["decay half-life"] == "13,863 … 844,107 steps"  # ln 2 / (1e-3 · 0.05) and at 0.9**39 of the rate


def test_the_identity_is_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    found = identity.current(Settings(root=tmp_path), ["report", "a b"])
    assert (found.date, found.commit, found.clean) == ("1970-01-01 00:00 UTC", "", None)
    assert found.command == "lrlint report 'a b'"
    for arguments in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x", "--allow-empty"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    committed = identity.current(Settings(root=tmp_path), [])
    assert (len(committed.commit), committed.clean) == (40, True)
    changed = Settings(root=tmp_path, ignore=("LR101",))
    assert identity.current(changed, []).configuration != committed.configuration
    assert identity.digest(replace(changed, root=None)) == identity.digest(changed), "no path enters the hash"


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_MEASURE = """<script>addEventListener("load", () => {
  const root = document.documentElement, table = document.querySelector(".parameters")
  const above = Math.round(table.getBoundingClientRect().top + scrollY)
  root.dataset.measured = [root.scrollWidth, root.scrollHeight, above].join(" ")
})</script></body>"""


def chromium(page: Path, *arguments: str) -> str:
    base = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", *arguments, page.as_uri()]
    return subprocess.run(base, capture_output=True, text=True, check=True, timeout=240).stdout


def printed_pages(page: Path) -> int:
    """Of A4."""
    chromium(page, f"--print-to-pdf={page.with_suffix('.pdf')}")
    return len(re.findall(rb"/Type\s*/Page[^s]", page.with_suffix(".pdf").read_bytes()))


def four_targets() -> Run:
    setups = {"tiny": ladder(12), "vit": ladder(), "small": decoder(8), "large": decoder(32)}
    selection = select(Settings())
    return conclude([examine(replace(setup, target=name), selection) for name, setup in setups.items()], Settings())


@pytest.mark.long
@pytest.mark.skipif(BROWSER is None, reason="no Chromium to measure the page with")
def test_eighty_groups_in_a_browser(tmp_path: Path) -> None:
    run = conclude([examine(ladder(), select(Settings(select=("LR201", "LR9"))))], Settings())
    page = tmp_path / "audit.html"
    page.write_text(html.render(run, Context(WHO)).replace("</body>", _MEASURE), encoding="utf-8")
    found = re.search(r'data-measured="(\d+) (\d+) (\d+)"', chromium(page, "--dump-dom", "--window-size=1400,900"))
    assert found is not None
    width, _, above = map(int, found.groups())
    assert width <= 1400
    assert above <= 2 * 900, "two screens above the table of parameters"
    assert 1 <= printed_pages(page) <= 4


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium to print the page with")
def test_four_targets_are_four_pages_on_paper(tmp_path: Path) -> None:
    page = tmp_path / "audit.html"
    page.write_text(html.render(four_targets(), Context(WHO)), encoding="utf-8")
    assert 1 <= printed_pages(page) <= 4


def test_four_targets_are_told_why_once() -> None:
    page = html.render(four_targets(), Context(WHO))
    assert len(page) < 300_000
    reasons = re.findall(r'<p class="why">(.*?)</p>', page, re.DOTALL)
    assert reasons
    assert len(reasons) == len(set(reasons)) < page.count('<article class="finding')
