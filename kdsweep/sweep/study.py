"""The sampler's side of a sweep: an Optuna study in memory, rebuilt from the ledger.

The study is never saved. A resumed sweep feeds the ledger's events to a new one, and both the live
and the replayed study go through :meth:`Study.apply`, so that they cannot differ. What a sampler
draws depends only on the study and on ``(seed, trial number)``: each draw gets a new sampler object
with a seed of its own, because a random stream that runs on would start over after a resume.
"""

from __future__ import annotations

import hashlib
import logging
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from kdsweep.config import Draw, JobList, Space
from kdsweep.config.job_list import JOB
from kdsweep.config.metrics import Direction, chosen_epoch
from kdsweep.config.objectives import excess
from kdsweep.config.ranges import Given
from kdsweep.ledger import Event
from kdsweep.ledger.events import (
    EpochEvent,
    EpochProgress,
    FailEvent,
    HoursEvent,
    Kind,
    PartEvent,
    PriorEvent,
    RejectedEvent,
    RetryEvent,
    SettledEvent,
    Stop,
    SweepEvent,
    TrialEvent,
    trial_of,
)
from kdsweep.sweep import history
from kdsweep.sweep.feasibility import Feasibility
from kdsweep.sweep.first import MAX_LISTED_POINTS, TriedFirst
from kdsweep.sweep.recorder import Recorder
from kdsweep.sweep.samplers import REACHED, drawn_at_random, make_sampler

# Samplers that keep notes on their trials: the state of CMA-ES, generations.
_KEEPING_NOTES = ("cmaes", "nsga2")


class Study:
    """What the sampler knows of a sweep.

    Attributes:
        at_random: Parameters of the last draw that the sampler cannot learn.
    """

    def __init__(self, space: Space | JobList) -> None:
        logging.getLogger("optuna").setLevel(logging.ERROR)
        self.space = space
        self.at_random: list[str] = []
        self._select = space.jobs_to_check()[0].train.select
        self._num_rejected: dict[int, int] = {}
        self._feasibility: Feasibility | None = None
        self._first = TriedFirst(space)
        num_points = space.num_points()
        self._points: list[dict[str, Any]] | None = None
        if num_points is not None and num_points <= MAX_LISTED_POINTS:
            self._points = list(space.grid())
        self._forget()

    def _forget(self) -> None:
        """Know of no trial: scores on other data teach nothing, and its points are new again."""
        self._begin_study()
        self._ids: dict[int, int] = {}
        # Ended trials that the sampler looks at no more.
        self._past: dict[int, FrozenTrial] = {}
        self._num_told_rejected = 0
        # By trial and epoch: the score, then what else is optimised.
        self._values: dict[int, dict[int, tuple[float, ...]]] = {}
        self._drawn: set[tuple[tuple[str, Any], ...]] = set()
        self._settled: set[str] = set()
        self._first.forget()
        # The sampler's notes on the trial that was asked for last.
        self._asked: tuple[int, dict[str, Any]] | None = None

    def _begin_study(self) -> None:
        self._storage = InMemoryStorage()
        self._study = optuna.create_study(
            storage=self._storage,
            directions=self.directions,
            sampler=optuna.samplers.RandomSampler(seed=0),
        )
        self._study_id = self._storage.get_study_id_from_name(self._study.study_name)

    @property
    def directions(self) -> list[Direction]:
        """``maximize`` or ``minimize``, for each metric."""
        return [objective.direction for objective in self.space.sweep.objectives]

    def ask(self, number: int, *, feasible: bool = False) -> Draw:
        """Draw the trial ``number``.

        A point that was drawn before is not drawn again while there are others: training is
        deterministic, so the same job again could only repeat its result.

        Args:
            number: Number of the trial.
            feasible: Whether to draw from what keeps to the static bounds only. The sampler does
                not know these; it learns from draws that were rejected.
        """
        if not feasible and (draw := self._follow(number, {})) is not None:
            return draw
        random_state = random.Random(self._seed(number))
        is_grid = self.space.sweep.sampler == "grid"
        fixed: Mapping[str, Any] = {}
        if feasible and self._points is None and not is_grid:
            fixed = random_state.choice(self._allowed(fixed))
        draw, notes = self._sample(number, fixed)
        self._asked = number, notes
        if is_grid:
            points = self._points if self._points is not None else self.space.grid()
            return self._draw(next(p for p in points if self._is_untried(p)))
        if self._points is not None and (feasible or _key(draw.params) in self._drawn):
            untried = [point for point in self._points if self._is_untried(point)]
            if untried:
                return self._draw(random_state.choice(untried))
        return self._fresh(number, draw, fixed)

    def ask_sibling(
        self, number: int, params: Mapping[str, Any], *, feasible: bool = False
    ) -> Draw | None:
        """Draw the trial ``number`` as a further student of a cohort.

        Args:
            number: Number of the trial.
            params: Parameters of the cohort's first trial; what a cohort shares stays as it is.
            feasible: As for :meth:`ask`.

        Returns:
            ``None`` if all students that the cohort could have were drawn before.
        """
        first = self._draw(params)
        if not feasible and (draw := self._follow(number, first.shared)) is not None:
            return draw
        random_state = random.Random(self._seed(number))
        num_siblings = self.space.num_siblings(first)
        untried = None
        if num_siblings is not None and num_siblings <= MAX_LISTED_POINTS:
            points = self.space.siblings(first)
            untried = [point for point in points if self._is_untried(point)]
            if not untried:
                return None
        fixed: Mapping[str, Any] = first.shared
        if feasible and untried is None:
            fixed = {**fixed, **random_state.choice(self._allowed(fixed))}
        draw, notes = self._sample(number, fixed)
        self._asked = number, notes
        if untried is not None and self.space.sweep.sampler == "grid":
            return self._draw(untried[0])
        if untried is not None and (feasible or _key(draw.params) in self._drawn):
            return self._draw(random_state.choice(untried))
        return self._fresh(number, draw, fixed)

    def _follow(self, number: int, shared: Mapping[str, Any]) -> Draw | None:
        """Draw what the next setting to try first leaves open; ``None`` if there is none."""
        setting = self._first.next(shared, self._is_untried)
        if setting is None:
            return None
        random_state = random.Random(self._seed(number))
        fixed, untried = setting.params, setting.untried
        if untried is None and self.space.sweep.static_bounds:
            # Where nothing keeps to the bounds, the draw is rejected, and the report says so.
            fixed = {**fixed, **random_state.choice(self._allowed(fixed) or [{}])}
        draw, notes = self._sample(number, fixed)
        self._asked = number, notes
        if untried is None:
            draw = self._fresh(number, draw, fixed)
        elif self.space.sweep.sampler == "grid":
            draw = self._draw(untried[0])
        elif not self._is_untried(draw.params):
            draw = self._draw(random_state.choice(untried))
        return replace(draw, first=setting.number)

    def _fresh(self, number: int, draw: Draw, fixed: Mapping[str, Any]) -> Draw:
        """The draw, or one at random in its place if it was drawn before.

        Children of NSGA-II are often copies of a parent; newcomers keep its generations diverse.
        """
        if _key(draw.params) not in self._drawn:
            return draw
        # A study of its own: the sampler's must not count this.
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(self._seed(number)))
        if fixed:
            study.enqueue_trial(dict(fixed))
        return self.space.draw(study.ask())

    def _is_untried(self, point: Mapping[str, Any]) -> bool:
        """Return whether a point was not drawn yet, is still wanted and keeps to static bounds."""
        if _key(point) in self._drawn or point.get(JOB) in self._settled:
            return False
        return self._feasibility is None or self._feasibility.is_feasible(point)

    def _allowed(self, fixed: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The draws of an architecture that keep to the static bounds and to what is given."""
        assert self._feasibility is not None
        allowed = [architecture.params for architecture in self._feasibility.architectures]
        return [a for a in allowed if all(fixed.get(name, v) == v for name, v in a.items())]

    def apply(self, event: Event) -> None:
        """Take one event of the ledger; those that do not concern the sampler are ignored."""
        if isinstance(event, SweepEvent):
            self._feasibility = Feasibility(self.space, event.static_costs)
        elif isinstance(event, PartEvent):
            self._forget()
        elif isinstance(event, HoursEvent):
            self._give_up()
        elif isinstance(event, SettledEvent):
            self._settled.add(event.job)
        elif isinstance(event, TrialEvent) and event.kind == Kind.SEARCH:
            self._ids[event.trial] = self._add(event.trial, event)
            self._values[event.trial] = {}
            self._thin()
        elif isinstance(event, RejectedEvent):
            self._reject(event)
        elif isinstance(event, PriorEvent):
            self._observe(event)
        elif isinstance(event, RetryEvent):
            self._retry(event)
        elif trial_of(event) not in self._ids:
            return
        elif isinstance(event, EpochEvent | EpochProgress):
            self._report(event)
        elif isinstance(event, FailEvent) and not event.retry:
            self._tell(self._ids[event.trial], TrialState.FAIL)

    def trial(self, number: int) -> FrozenTrial:
        """The Optuna trial of one search trial of the sweep."""
        past = self._past.get(number)
        return self._storage.get_trial(self._ids[number]) if past is None else past

    def trials(self) -> dict[int, FrozenTrial]:
        """The Optuna trials of all search trials of the sweep, by the sweep's number."""
        return {number: self.trial(number) for number in sorted({*self._past, *self._ids})}

    # -- drawing ---------------------------------------------------------------------------------

    def _sample(self, number: int, fixed: Mapping[str, Any]) -> tuple[Draw, dict[str, Any]]:
        """A draw by the sampler, and the notes that it left on the Optuna trial.

        Parameters in ``fixed`` are given; the sampler draws the others.

        That trial is thrown away (as failed, which no sampler looks at): the one that stays is
        made from the ledger's event, like in a resumed sweep.
        """
        self._study.sampler = make_sampler(
            self.space, self._seed(number), self._num_told_rejected, number
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            if fixed:
                self._study.enqueue_trial(dict(fixed))
            scratch = self._study.ask()
            draw = self.space.draw(scratch)
            self.at_random = drawn_at_random(self._study, scratch, fixed)
            self._study.tell(scratch, state=TrialState.FAIL)
        return draw, dict(self._storage.get_trial(self._id(scratch.number)).system_attrs)

    def _draw(self, params: Mapping[str, Any]) -> Draw:
        return self.space.draw(Given(params))

    def _seed(self, number: int) -> int:
        rejected = self._num_rejected.get(number, 0)
        text = f"{self.space.sweep.seed}/{number}" + (f"/{rejected}" if rejected else "")
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")

    # -- remembering -----------------------------------------------------------------------------

    def _add(self, number: int, event: TrialEvent | RejectedEvent) -> int:
        """Take a draw for the trial ``number`` into the study; gives its id there."""
        recorder = Recorder(event.params)
        shared = self.space.draw(recorder).shared
        fixed = {**({} if event.drawn_with is None else shared), **self._first.params(event.first)}
        keeps_notes = self.space.sweep.sampler in _KEEPING_NOTES
        if self._asked is not None and self._asked[0] == number:
            notes = self._asked[1]
            self._asked = None
        elif keeps_notes:
            # These samplers keep their state in notes on their trials. Some are pickles, which have
            # no place in a ledger; asking again at the same point of the history gives the same.
            notes = self._sample(number, fixed)[1]
        else:
            # Takes the place of the trial that was thrown away, because samplers may count.
            notes = {}
            self._study.add_trial(create_trial(state=TrialState.FAIL))
        self._drawn.add(_key(event.params))
        self._first.follow(event.first)
        return self._begin(recorder, {"trial": number}, notes if keeps_notes else {})

    def _begin(self, drawn: Recorder, user: dict[str, Any], system: dict[str, Any]) -> int:
        return self._append(drawn.running(user, system))

    def _append(self, trial: FrozenTrial) -> int:
        self._study.add_trial(trial)
        return self._id(self._storage.get_n_trials(self._study_id) - 1)

    def _observe(self, event: PriorEvent) -> None:
        """Let the sampler know of another sweep's trial, which may be drawn here nevertheless."""
        recorder = Recorder(event.params)
        self.space.draw(recorder)
        trial_id = self._begin(recorder, {"prior": f"{event.experiment} {event.number}"}, {})
        self._storage.set_trial_intermediate_value(trial_id, event.epoch, event.last)
        further = (event.costs[objective.key] for objective in self.space.sweep.objectives[1:])
        self._end(trial_id, event.stop, (event.value, *further), event.costs)

    def _reject(self, event: RejectedEvent) -> None:
        """Let the sampler know of a draw that breaks a static bound and was never trained."""
        number = event.number
        trial_id = self._add(number, event)
        self._num_rejected[number] = self._num_rejected.get(number, 0) + 1
        self._num_told_rejected += 1
        self._constrain(trial_id, event.excess)
        self._tell(trial_id, TrialState.PRUNED)

    def _report(self, event: EpochEvent | EpochProgress) -> None:
        number, epoch, stop, value = event.trial, event.epoch, event.stop, event.value
        assert value is not None, event
        trial_id, values = self._ids[number], self._values[number]
        further = (event.costs[objective.key] for objective in self.space.sweep.objectives[1:])
        values[epoch] = (value, *further)
        self._storage.set_trial_intermediate_value(trial_id, epoch, value)
        if stop is None:
            return
        # That epoch's student is the one that is kept, so its values are the trial's.
        chosen = chosen_epoch({epoch: found[0] for epoch, found in values.items()}, self._select)
        assert chosen is not None, event
        self._end(trial_id, stop, values[chosen], event.costs)

    def _end(
        self, trial_id: int, stop: str, best: tuple[float, ...], costs: Mapping[str, float]
    ) -> None:
        # Optuna takes a constraint once. At the end, because a trial may break a bound at a later
        # epoch only: costs are medians of what all trials of its network have measured. Told as
        # one that keeps to all bounds, it ends TPE's next draw for several metrics with an error.
        self._constrain(trial_id, excess(costs, self.space.sweep.bounds))
        is_short = stop in (Stop.EARLY, Stop.HOURS)
        if stop == Stop.COMPLETE or (is_short and len(best) > 1):
            # Of several metrics, samplers learn from complete trials only; what a stopped trial has
            # reached is a lower bound of its score, and its costs are what they are.
            self._tell(trial_id, TrialState.COMPLETE, best)
        else:
            self._storage.set_trial_system_attr(trial_id, REACHED, list(best))
            self._tell(trial_id, TrialState.PRUNED)

    def _retry(self, event: RetryEvent) -> None:
        """Begin failed trials once more; Optuna takes nothing of one that has ended."""
        for number in event.trials:
            if number in self._ids or number in self._past:
                failed = self.trial(number)
                self._past.pop(number, None)
                again = create_trial(
                    state=TrialState.RUNNING,
                    params=failed.params,
                    distributions=failed.distributions,
                    user_attrs=failed.user_attrs,
                    system_attrs=failed.system_attrs,
                )
                self._ids[number] = self._append(again)
                self._values[number] = {}

    def _thin(self) -> None:
        """Leave to the sampler what it learns most from, once there is more than enough."""
        if (
            self.space.sweep.sampler not in history.THINNED
            or self._storage.get_n_trials(self._study_id) <= history.LIMIT
        ):
            return
        kept = history.thinned(self._study.get_trials(deepcopy=False), self._study.directions)
        trials = self.trials()
        numbers = {trials[number].number: number for number in self._ids}
        self._begin_study()
        self._ids = {}
        for trial in kept:
            new_id = self._append(trial)
            if trial.number in numbers:
                self._ids[numbers[trial.number]] = new_id
        self._past = {n: trial for n, trial in trials.items() if n not in self._ids}
        # Drawn, but never trained.
        self._num_told_rejected = sum(
            t.state == TrialState.PRUNED and not t.intermediate_values for t in kept
        )

    def _give_up(self) -> None:
        """Nothing that has not ended will say any more."""
        for number in self._ids:
            if not self.trial(number).state.is_finished():
                self._tell(self._ids[number], TrialState.FAIL)

    def _constrain(self, trial_id: int, excess: Mapping[str, float]) -> None:
        trial = optuna.trial.Trial(self._study, trial_id)
        for metric, value in excess.items():
            trial.set_constraint(metric, value)

    def _tell(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> None:
        trial = self._storage.get_trial(trial_id)
        self._study.tell(trial.number, values, state=state)

    def _id(self, optuna_number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, optuna_number)


def _key(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((name, repr(value)) for name, value in params.items()))
