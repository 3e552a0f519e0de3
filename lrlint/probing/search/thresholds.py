"""Limits of the search for rates that are too low and of the headroom map, each with its unit and where it comes from.

"Swept" means 26 problems of 9 kinds (MLPs, convolutional, recurrent and GPT models, regression, fine-tuning, LoRA,
embeddings; 9 optimizers), whose rates were swept in half decades to the run's real end (300 to 1,500 steps): 135 setups
too low (a rate 30 times higher does at least twice as well) and 109 sound ones.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LowRateThresholds:
    """When rates count as too low for the run.

    Swept, in the reference implementation: 0.83 of the setups too low were found (0.91 where any rate learns in the
    probe's steps), 0 of 109 sound ones flagged, and the verified factor did better at the real end in 114 of 114.
    """

    #: Share of the opening loss that a run has to gain before it says anything: below this all runs are alike.
    least_gain: float = 0.02
    #: Share of the opening loss that the run at higher rates has to gain to be held against the configured ones.
    clear_gain: float = 0.1
    #: Higher rates have to gain so many times what the configured ones reach by the end of the run, in the first runs and
    #: in the confirming ones twice as long.
    ratio: float = 2.0
    #: A reference that gains less than this share of the opening loss counts as this much, so that ratios stay finite.
    reference_floor: float = 0.005
    #: Standard errors (over the batches that are held back) that a gain is taken down by.
    errors: float = 2.0
    #: The run at the rates that stand for the whole training may be worse than the short one by this share of the opening
    #: loss; where it is more, higher rates already break.
    overshoot: float = 0.05
    #: Decades between the rates that stand for the whole training and the first ones held against them.
    gap: float = 0.5
    #: Highest exponent of ten on the rates.
    top: float = 6.0
    #: Runs at higher rates before confirmation.
    attempts: int = 4
    #: The length of an update may change during the first steps (RMSprop's and Adagrad's do) by so many times at most.
    pace: float = 10.0
    #: Optimizer steps that a run of unknown length is taken for. Too long a guess only finds less (swept: recall falls,
    #: no sound setup is flagged), too short a one accuses sound rates.
    unknown_total: int = 100_000


@dataclass(frozen=True)
class SingleLowThresholds:
    """When the rate of one group alone counts as too low, in the order in which they are asked.

    Swept, in the reference implementation: 45 of 61 such groups found, 0 of 181 groups of sound setups flagged.
    """

    #: Its update-to-weight ratio lies below the largest other group's by so many times …
    behind: float = 10.0
    #: … or, where its first step is longer than the group itself (weights that start at zero), its elements move by so many
    #: times less than the furthest moving group's.
    from_zero: float = 1.0
    #: Losses along its first update stay harmless up to so many times its rate, at least.
    harmless: float = 30.0
    #: Steps of the two runs, as a multiple of a run's: at twice the steps (54) sound groups were flagged, at three (81) none.
    lengths: int = 3
    #: What raising it gains, as a share of what the run gains without: at least this much, less two standard errors.
    gains: float = 0.3


@dataclass(frozen=True)
class HeadroomThresholds:
    """How far one group's rate can rise.

    Swept, in the reference implementation: within half a decade of the truth in 0.88 of groups, too bold by more than
    that in 0.06 to 0.15; 55 steps a group.
    """

    #: A run holds where it lacks no more than this share of the best gain …
    share: float = 0.1
    #: … and this share of the opening loss; a loss along the first update may rise by this share as well.
    floor: float = 0.02
    #: Runs of a group of its own (the reference implementation made up to three: 80 steps a group in setups whose rates
    #: are too high, where two take 55).
    attempts: int = 2
    #: Highest exponent of ten that is tried.
    top: float = 3.0
    #: A factor is better than the configured rate where it gains more by this share of the gain; else the rate is left.
    better: float = 0.1
    #: Groups that get runs of their own; where there are more, all have losses along their first updates alone.
    verified: int = 4
    #: Groups that are looked at at all.
    most: int = 40
    #: The rate below which a group learns nothing takes less than this share of the opening loss off in the whole run, if
    #: each step does what the first promises.
    nothing: float = 0.02


LOW = LowRateThresholds()
SINGLE = SingleLowThresholds()
ROOM = HeadroomThresholds()
