"""Ways to search, for ``search.py``: each says what is trained next, and what goes on."""

from __future__ import annotations

import copy
import logging
import random
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from search_families import (
    EPOCHS,
    LR,
    SPACE,
    STUDENT,
    STUDENTS,
    TEACHER,
    TEACHERS,
    TEMPERATURE,
    TEMPERATURES,
    WEIGHT,
)

REDUCTION = 3
EPOCHS_A_TRIAL = 9  # of 27, on average: ASHA's first rung is at epoch 3


class Way(ABC):
    """A search. It is asked whenever a worker is free, and told each epoch of each trial."""

    @abstractmethod
    def draw(self, number: int) -> Mapping[str, Any]:
        """Return the parameters of the trial ``number``."""

    @abstractmethod
    def goes_on(self, number: int, epoch: int, score: float) -> bool:
        """Take a trial's score after an epoch, and return whether it trains another one."""

    def resumed(self) -> int | None:
        """Return a stopped trial to go on with in place of a new one, if there is one."""
        return None


class Kdsweep(Way):
    """kdsweep's own study and scheduler, fed with the events of a ledger.

    Args:
        seed: Of the sweep.
        budget: Epochs in all; whoever has so many asks for as many trials as they are enough for.
        sweep: Keys of the space's ``sweep:`` section.
    """

    def __init__(self, seed: int, budget: int, **sweep: Any) -> None:
        from kdsweep.config import load_space
        from kdsweep.config.halving import grace_period, num_spared
        from kdsweep.ledger.rungs import Rungs
        from kdsweep.sweep.schedulers import make_scheduler
        from kdsweep.sweep.study import Study

        tree = copy.deepcopy(SPACE)
        tree["sweep"] = {"trials": 10_000, "seed": seed, **sweep}
        space = load_space(tree)
        self._rungs = Rungs(grace_period(space), space.sweep.reduction_factor)
        self._students: dict[int, str] = {}
        # As in the driver, but that here the number of trials has no end.
        spares = num_spared(space, budget // EPOCHS_A_TRIAL) > 0
        student_of = self._students.__getitem__ if spares else None
        self._scheduler = make_scheduler(space.sweep.scheduler, self._rungs, student_of=student_of)
        self._study = Study(space)

    def draw(self, number: int) -> Mapping[str, Any]:
        """Ask the study, and record the draw as the ledger would."""
        from kdsweep.ledger.events import Kind, TrialEvent

        draw = self._study.ask(number)
        params = draw.params
        self._students[number] = str(params[STUDENT])
        self._study.apply(
            TrialEvent(
                trial=number,
                kind=Kind.SEARCH,
                label="",
                student="",
                params=dict(params),
                first=draw.first,
            )
        )
        return params

    def goes_on(self, number: int, epoch: int, score: float) -> bool:
        """Decide, tell and record, in the driver's order."""
        from kdsweep.ledger.events import EpochEvent, Stop

        stop = None
        if epoch == EPOCHS:
            stop = Stop.COMPLETE
        elif self._scheduler.should_stop(number, epoch, score):
            stop = Stop.EARLY
        self._rungs.record(number, epoch, (score,))
        self._study.apply(EpochEvent(trial=number, epoch=epoch, value=score, stop=stop))
        return stop is None


class RayTune(Way):
    """Ray's own ``OptunaSearch`` and ``ASHAScheduler``, called as its controller would."""

    def __init__(self, seed: int) -> None:
        from ray import tune
        from ray.tune.schedulers import ASHAScheduler, TrialScheduler
        from ray.tune.search.optuna import OptunaSearch

        space = {
            TEACHER: tune.choice(list(TEACHERS)),
            STUDENT: tune.choice(list(STUDENTS)),
            WEIGHT: tune.loguniform(0.1, 10.0),
            TEMPERATURE: tune.choice(list(TEMPERATURES)),
            LR: tune.loguniform(1e-4, 1e-1),
        }
        self._stop = TrialScheduler.STOP
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._search = OptunaSearch(space, metric="score", mode="max", seed=seed)
        self._asha = ASHAScheduler(
            time_attr="epoch",
            metric="score",
            mode="max",
            max_t=EPOCHS,
            grace_period=1,
            reduction_factor=REDUCTION,
        )
        self._trials: dict[int, SimpleNamespace] = {}

    def draw(self, number: int) -> Mapping[str, Any]:
        """Ask the searcher."""
        self._trials[number] = SimpleNamespace(trial_id=str(number), run_metadata=None)
        self._asha.on_trial_add(None, self._trials[number])
        found: dict[str, Any] = self._search.suggest(str(number))
        return found

    def goes_on(self, number: int, epoch: int, score: float) -> bool:
        """Tell both, in the controller's order."""
        result = {"score": score, "epoch": epoch, "training_iteration": epoch}
        decision = self._asha.on_trial_result(None, self._trials[number], result)
        if decision == self._stop:
            self._search.on_trial_complete(str(number), result)
            return False
        self._search.on_trial_result(str(number), result)
        return True


class OptunaHyperband(Way):
    """Optuna's own TPE and Hyperband pruner, each with its defaults."""

    def __init__(self, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study(
            direction="maximize",
            study_name=f"search-{seed}",  # the pruner's brackets follow from it
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=optuna.pruners.HyperbandPruner(1, EPOCHS, REDUCTION),
        )
        self._trials: dict[int, optuna.Trial] = {}

    def draw(self, number: int) -> Mapping[str, Any]:
        """Ask the study."""
        trial = self._trials[number] = self._study.ask()
        return {
            TEACHER: trial.suggest_categorical(TEACHER, TEACHERS),
            STUDENT: trial.suggest_categorical(STUDENT, STUDENTS),
            WEIGHT: trial.suggest_float(WEIGHT, 0.1, 10.0, log=True),
            TEMPERATURE: trial.suggest_categorical(TEMPERATURE, TEMPERATURES),
            LR: trial.suggest_float(LR, 1e-4, 1e-1, log=True),
        }

    def goes_on(self, number: int, epoch: int, score: float) -> bool:
        """Report, and ask the pruner."""
        import optuna

        trial = self._trials[number]
        trial.report(score, epoch)
        if epoch == EPOCHS:
            self._study.tell(trial, score)
            return False
        if trial.should_prune():
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return False
        return True


class Random(Way):
    """Random draws, each trained to the end."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def draw(self, number: int) -> Mapping[str, Any]:
        """Draw at random."""
        return {
            TEACHER: self._random.choice(TEACHERS),
            STUDENT: self._random.choice(STUDENTS),
            WEIGHT: 10 ** self._random.uniform(-1, 1),
            TEMPERATURE: self._random.choice(TEMPERATURES),
            LR: 10 ** self._random.uniform(-4, -1),
        }

    def goes_on(self, number: int, epoch: int, score: float) -> bool:
        """Return whether epochs are left."""
        return epoch < EPOCHS


class OneEpoch(Random):
    """Half of the epochs on as many random draws, the rest on the best of them.

    Egele et al., "Is One Epoch All You Need For Multi-Fidelity Hyperparameter Optimization?"
    (arXiv 2307.15422).

    Args:
        seed: Of the draws.
        budget: Epochs in all.
    """

    def __init__(self, seed: int, budget: int) -> None:
        super().__init__(seed)
        self._num_draws = budget // 2
        self._first: dict[int, float] = {}
        self._resumed: set[int] = set()

    def goes_on(self, number: int, epoch: int, score: float) -> bool:
        """Stop after the first epoch, until a trial is resumed."""
        if epoch == 1:
            self._first[number] = score
            return False
        return epoch < EPOCHS

    def resumed(self) -> int | None:
        """Return the best of the stopped trials once all are drawn."""
        if len(self._first) < self._num_draws:
            return None
        left = [number for number in self._first if number not in self._resumed]
        best = max(left, key=lambda number: self._first[number])
        self._resumed.add(best)
        return best


def quiet() -> None:
    """Let no library print while ways run."""
    logging.getLogger("optuna").setLevel(logging.ERROR)
    np.seterr(all="ignore")
