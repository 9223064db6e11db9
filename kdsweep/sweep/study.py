"""The sampler's side of a sweep: an Optuna study in memory, rebuilt from the ledger.

The study is never saved. A resumed sweep feeds the ledger's events to a new one, and both the live
and the replayed study go through :meth:`Study.apply`, so that they cannot differ. What a sampler
draws depends only on the study and on ``(seed, trial number)``: each draw gets a new sampler object
with a seed of its own, because a random stream that runs on would start over after a resume.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import random
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from kdsweep.errors import SpecError
from kdsweep.spec import Draw, Space
from kdsweep.store import Event

# Spaces up to this many points are remembered point by point, so that none is trained twice.
MAX_LISTED_POINTS = 10_000


class Study:
    """What the sampler knows of a sweep.

    Args:
        space: The search space.
    """

    def __init__(self, space: Space) -> None:
        logging.getLogger("optuna").setLevel(logging.ERROR)
        self.space = space
        self._storage = InMemoryStorage()
        self._study = optuna.create_study(
            storage=self._storage,
            direction="maximize",
            sampler=optuna.samplers.RandomSampler(seed=0),
        )
        self._study_id = self._storage.get_study_id_from_name(self._study.study_name)
        self._ids: dict[int, int] = {}
        self._values: dict[int, dict[int, float]] = {}
        self._drawn: set[tuple[tuple[str, Any], ...]] = set()
        # The sampler's notes on the trial that was asked for last.
        self._asked: tuple[int, dict[str, Any]] | None = None
        num_points = space.num_points()
        self._points: list[dict[str, Any]] | None = None
        if num_points is not None and num_points <= MAX_LISTED_POINTS:
            self._points = list(space.grid())

    def ask(self, number: int) -> Draw:
        """Draw the trial ``number``.

        In a finite space a point that was drawn before is not drawn again while there are others:
        training is deterministic, so the same job again could only repeat its result.
        """
        draw, notes = self._sample(number)
        self._asked = number, notes
        if self.space.sweep.sampler == "grid":
            points = self._points if self._points is not None else self.space.grid()
            return self._draw(next(p for p in points if _key(p) not in self._drawn))
        if self._points is not None and _key(draw.params) in self._drawn:
            untried = [point for point in self._points if _key(point) not in self._drawn]
            if untried:
                return self._draw(random.Random(self._seed(number)).choice(untried))
        return draw

    def apply(self, event: Event) -> None:
        """Take one event of the ledger; those that do not concern the sampler are ignored."""
        if event["event"] == "trial" and event["kind"] == "search":
            self._add(event["trial"], event["params"])
        elif event.get("trial") not in self._ids:
            return
        elif event["event"] == "epoch":
            self._report(event["trial"], event["epoch"], event["value"], event["stop"])
        elif event["event"] == "fail" and not event["retry"]:
            self._tell(event["trial"], TrialState.FAIL)

    def trial(self, number: int) -> FrozenTrial:
        """The Optuna trial of one search trial of the sweep."""
        return self._storage.get_trial(self._ids[number])

    def trials(self) -> dict[int, FrozenTrial]:
        """The Optuna trials of all search trials of the sweep, by the sweep's number."""
        return {number: self.trial(number) for number in self._ids}

    # -- drawing ---------------------------------------------------------------------------------

    def _sample(self, number: int) -> tuple[Draw, dict[str, Any]]:
        """A draw by the sampler, and the notes that it left on the Optuna trial.

        That trial is thrown away (as failed, which no sampler looks at): the one that stays is
        made from the ledger's event, like in a resumed sweep.
        """
        self._study.sampler = make_sampler(self.space, self._seed(number))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scratch = self._study.ask()
            draw = self.space.draw(scratch)
            self._study.tell(scratch, state=TrialState.FAIL)
        return draw, dict(self._storage.get_trial(self._id(scratch.number)).system_attrs)

    def _draw(self, params: dict[str, Any]) -> Draw:
        return self.space.draw(_Recorder(params))

    def _seed(self, number: int) -> int:
        text = f"{self.space.sweep.seed}/{number}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")

    # -- remembering -----------------------------------------------------------------------------

    def _add(self, number: int, params: dict[str, Any]) -> None:
        recorder = _Recorder(params)
        self.space.draw(recorder)
        keeps_notes = self.space.sweep.sampler == "cmaes"
        if self._asked is not None and self._asked[0] == number:
            notes = self._asked[1]
        elif keeps_notes:
            # CMA-ES keeps its state in notes on its trials. They are pickles, which have no place
            # in a ledger; asking again at the same point of the history gives the same notes.
            notes = self._sample(number)[1]
        else:
            # Takes the place of the trial that was thrown away, because samplers may count.
            notes = {}
            self._study.add_trial(create_trial(state=TrialState.FAIL))
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params={name: params[name] for name in recorder.distributions},
                distributions=recorder.distributions,
                user_attrs={"trial": number},
                system_attrs=notes if keeps_notes else {},
            )
        )
        self._ids[number] = self._id(self._storage.get_n_trials(self._study_id) - 1)
        self._values[number] = {}
        self._drawn.add(_key(params))

    def _report(self, number: int, epoch: int, value: float, stop: str | None) -> None:
        self._values[number][epoch] = value
        self._storage.set_trial_intermediate_value(self._ids[number], epoch, value)
        if stop == "complete":
            # The best epoch's student is the one that is kept, so its value is the trial's.
            self._tell(number, TrialState.COMPLETE, max(self._values[number].values()))
        elif stop is not None:
            self._tell(number, TrialState.PRUNED)

    def _tell(self, number: int, state: TrialState, value: float | None = None) -> None:
        trial = self.trial(number)
        self._study.tell(trial.number, value, state=state)

    def _id(self, optuna_number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, optuna_number)


def make_sampler(space: Space, seed: int) -> BaseSampler:
    """A new sampler of the kind that the space asks for.

    Raises:
        SpecError: It needs a package that is not installed.
    """
    samplers = optuna.samplers
    name = space.sweep.sampler
    check_sampler(name)
    with warnings.catch_warnings():
        # Optuna calls the options below experimental; each has been in place for years.
        warnings.simplefilter("ignore")
        if name == "tpe":
            # Grouping samples the parameters of each branch of a conditional space jointly.
            return samplers.TPESampler(
                seed=seed,
                multivariate=True,
                group=True,
                constant_liar=True,
                warn_independent_sampling=False,
            )
        if name == "cmaes":
            return _CmaEs(
                seed=seed,
                warn_independent_sampling=False,
                # Halving leaves few complete trials, too few to learn from alone.
                consider_pruned_trials=space.sweep.scheduler == "asha",
            )
        if name == "gp":
            return samplers.GPSampler(seed=seed, warn_independent_sampling=False)
        return samplers.RandomSampler(seed=seed)


class _CmaEs(optuna.samplers.CmaEsSampler):
    """CMA-ES that can learn from pruned trials in conditional spaces.

    Optuna's own looks for the parameters that all complete trials have, and then fails on a pruned
    trial that lacks one of them.
    """

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The numbers that all trials have, the pruned ones too."""
        shared = IntersectionSearchSpace(include_pruned=True).calculate(study)
        return {
            name: distribution
            for name, distribution in shared.items()
            if isinstance(distribution, FloatDistribution | IntDistribution)
            and not distribution.single()
        }


def check_sampler(name: str) -> None:
    """Refuse a sampler whose package is not installed.

    Raises:
        SpecError: With the command that installs it.
    """
    if name == "cmaes" and importlib.util.find_spec("cmaes") is None:
        raise SpecError(
            "this sampler needs the package cmaes, which is not installed",
            path=("sweep", "sampler"),
            value=name,
            hint="pip install 'kdsweep[samplers]', or another sampler (tpe, random, grid, gp)",
        )


class _Recorder:
    """Answers a space's questions with given parameters, and notes the ranges it was asked for."""

    def __init__(self, params: dict[str, Any]) -> None:
        self._params = params
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_categorical(
        self, name: str, choices: Sequence[CategoricalChoiceType]
    ) -> CategoricalChoiceType:
        return self._answer(name, CategoricalDistribution(choices))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self._answer(name, FloatDistribution(low, high, log=log, step=step))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        return self._answer(name, IntDistribution(low, high, log=log, step=step))

    def _answer(self, name: str, distribution: BaseDistribution) -> Any:
        self.distributions[name] = distribution
        return self._params[name]


def _key(params: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((name, repr(value)) for name, value in params.items()))
