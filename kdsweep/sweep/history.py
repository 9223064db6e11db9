"""How much of a long sweep's past its sampler looks at.

TPE and the Gaussian process go through all trials for each draw, so a draw would take ever longer:
with TPE some 30 ms more after each thousand trials. What they learn from is the best trials and a
picture of the rest, and of both there are enough.
"""

from __future__ import annotations

from collections.abc import Sequence

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

# Entries of a study, thrown-away draws among them, above which it is thinned.
LIMIT = 2000
NUM_BEST, NUM_NEWEST = 200, 400
# Those that keep no notes of their own on the trials.
THINNED = ("auto", "tpe", "gp")


def thinned(
    trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]
) -> list[FrozenTrial]:
    """Return the trials that a sampler goes on with, in their order.

    All that run, the best, and the newest of those that tell something. Of several metrics the
    best are those that are best by each.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    told = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    kept = {trial.number for trial in trials if not trial.state.is_finished()}
    kept |= {trial.number for trial in told[-NUM_NEWEST:]}
    for index, direction in enumerate(directions):
        sign = -1 if direction == StudyDirection.MAXIMIZE else 1

        def rank(trial: FrozenTrial, index: int = index, sign: int = sign) -> float:
            return sign * float(trial.values[index])

        best = sorted(complete, key=rank)[: NUM_BEST // len(directions)]
        kept |= {trial.number for trial in best}
    return [trial for trial in trials if trial.number in kept]
