"""ReduceLROnPlateau watches a metric in the wrong direction.

`mode="min"` is the default: with a monitored accuracy the rate is cut whenever the accuracy improves, since that is no
new minimum. A loss watched with `mode="max"` is the same slip.

What to do: `mode="max"` for metrics that should grow.

The metric is the `monitor` of a Lightning configuration (or `metric_for_best_model` of transformers). Silent for names
that contain words of both kinds.

Sources: https://github.com/md-mohaiminul/ViS4mer/issues/4 (accuracy with mode min),
https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ReduceLROnPlateau.html
"""

import re

from lrlint import Finding, rule

GROWS = re.compile(
    r"(?<![a-z])(acc|accuracy|auc|auroc|f1|iou|miou|map|bleu|rouge|dice|r2|psnr|ssim|precision|recall|ndcg)(?![a-z])"
)
FALLS = re.compile(r"(?<![a-z])(loss|error|err|mse|mae|rmse|ppl|perplexity|fid|wer|cer|nll|bce|ce)(?![a-z])|loss$")


@rule("LR415", severity="warning", confidence="medium")
def plateau_metric_mode(setup):
    for schedule in setup.schedules:
        mode = schedule.plateau.mode if schedule.plateau else ""
        monitor = schedule.config.monitor if schedule.config else None
        if monitor is None or mode not in ("min", "max"):
            continue
        grows, falls = bool(GROWS.search(monitor.lower())), bool(FALLS.search(monitor.lower()))
        if grows == falls or (mode == "max") == grows:
            continue
        wanted = "max" if grows else "min"
        effect = "improves" if grows else "falls"
        yield Finding(
            schedule,
            f'{schedule.class_name} watches `{monitor}` with mode="{mode}": the rate is cut while it {effect}',
            data={"monitor": monitor, "mode": mode},
            help=f'mode="{wanted}"',
        )
