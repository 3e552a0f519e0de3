"""Loops with a known answer, each rehearsed in a process of its own: the fault is named, and what is sound is not."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.rehearsal.running import rehearsed, serious, write

CASES = Path(__file__).parent / "cases"

#: What is found at warning or above, by case: (code, line).
BUGS = {
    "05_pinn_inverse_coefficient": {("LR101", 31)},
    "26_gnn_step_lr_every_batch": {("LR403", 25)},
    "36_ppo_scheduler_never_stepped": {("LR714", 13)},
    "38_optimizer_rebuilt_every_epoch": {("LR713", 12)},
    "39_gnn_clip_after_step_method": {("LR704", 27)},
    "41_tabular_clip_before_backward": {("LR704", 21)},
    "43_voice_gan_scaler_and_plain_step": {("LR711", 28), ("LR709", 29)},
    "45_accumulation_cleared_every_micro_batch": {("LR709", 14)},
    "47_vqgan_discriminator_never_cleared": {("LR709", 29)},
    "48_codec_gan_generator_gradients_left_in_d": {("LR712", 21)},
    "50_schedule_free_saved_in_train_mode": {("LR717", 21)},
}
SCRIPTS = {
    "r01_module_in_no_optimizer": {("LR101", 11)},
    "r03_onecycle_stepped_per_epoch": {("LR403", 9)},
    "r05_zero_grad_in_micro_loop": {("LR709", 8)},
    "r07_rate_annealed_in_a_variable": {("LR720", 10)},
    "r09_two_schedulers_in_turn": set(),
    "r11_leaves_through_os_exit": set(),
    "r13_finally_saves_checkpoint": set(),
    "r15_forward_was_seen": set(),
    "r17_bn_tracking_switched_off": set(),
    "train_undoes_freeze": {("LR504", 13)},
}
SOUND = sorted(path.stem for path in (CASES / "sound").glob("*.py"))


@pytest.mark.parametrize("name", BUGS)
def test_the_bug_is_found_and_its_cure_is_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert serious(rehearsed(CASES / "bugs" / f"{name}_bad.py", monkeypatch)) == BUGS[name]
    assert serious(rehearsed(CASES / "bugs" / f"{name}_good.py", monkeypatch)) == set()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert serious(rehearsed(CASES / "scripts" / f"{name}.py", monkeypatch, graph=True)) == SCRIPTS[name]


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_loop_that_looks_odd(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = rehearsed(CASES / "sound" / f"{name}.py", monkeypatch)
    assert run.setup is not None
    assert run.setup.loop is not None
    assert run.setup.loop.judged
    assert serious(run) == set()


def test_a_compiled_module_has_the_names_that_it_has_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
    model = torch.compile(nn.Sequential(OrderedDict(backbone=nn.Linear(4, 4), head=nn.Linear(4, 1))))
    slow = [p for n, p in model.named_parameters() if n.startswith("backbone.")]
    fast = [p for n, p in model.named_parameters() if not n.startswith("backbone.")]
    optimizer = torch.optim.AdamW([{"params": slow, "lr": 1e-4}, {"params": fast, "lr": 1e-3}])
    for _ in range(3):
        loss = model(torch.randn(4, 4)).square().mean()
        optimizer.zero_grad(); loss.backward(); optimizer.step()
    """
    imports = "from collections import OrderedDict\nimport torch\nfrom torch import nn\n"
    run = rehearsed(write(tmp_path, imports + textwrap.dedent(text)), monkeypatch)
    assert ("LR705", 6) in serious(run)
