"""What earlier sweeps know: settings to try first, and trials that the sampler can learn from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kdsweep.config import Space
from kdsweep.config.metrics import LABELLED
from kdsweep.config.ranges import Scalar
from kdsweep.config.settings import params_of, setting_of
from kdsweep.errors import ConfigError, shown
from kdsweep.ledger import Experiment, iter_ledger
from kdsweep.ledger.atomic import write_text
from kdsweep.ledger.events import PriorEvent, decode_progress, to_json
from kdsweep.ledger.state import Sweep
from kdsweep.ledger.trials import State, Trial, best_first
from kdsweep.plain_text import counted
from kdsweep.sweep.sweep_data import SweepData, shorts

NUM_BEST = 3

Setting = dict[str, Scalar]


@dataclass(frozen=True)
class _Source:
    """An earlier sweep, looked at with a new space in mind.

    Attributes:
        best: Its best trials with what the new space's ranges take of each.
        observations: Those of its trials that the new space can draw.
        differs: Why none of them counts as an observation, whatever the data are.
    """

    experiment: Experiment
    sweep: Sweep
    best: list[tuple[Trial, Setting]]
    observations: list[PriorEvent]
    differs: str = ""

    def differs_with(self, data: SweepData) -> str:
        """Why none of its trials counts as an observation on these data; empty if they do."""
        now = {identity.fingerprint for identity in data.identities.values()}
        before = {name["fingerprint"] for name in self.sweep.data}
        if self.differs:
            return self.differs
        if not now or not before:
            return "it was not written down which data it was trained on"
        if now.isdisjoint(before) or data.differences(self.sweep.data, self.experiment):
            return f"its data are {'; '.join(shorts(self.sweep.data))}"
        return ""


class Earlier:
    """What a new sweep takes from earlier ones.

    Args:
        space: The new sweep's space.
        best_of: Folders of experiments whose best trials are settings to try first.
        priors: Folders of experiments whose trials are observations, where they can be.

    Attributes:
        space: The space, with settings to try first as soon as they are decided upon.
        observations: What the sampler is told before the first trial; likewise.

    Raises:
        ExperimentError: There is no such experiment.
        ConfigError: Nothing can be taken from one.
    """

    def __init__(self, space: Space, best_of: Sequence[Path], priors: Sequence[Path]) -> None:
        self.space = space
        self.observations: list[PriorEvent] = []
        self._best_of = [_look(space, path) for path in best_of]
        self._priors = [_look(space, path) for path in priors]

    def decide(self, data: SweepData, note: Callable[[str], None]) -> Space:
        """Return the space with its settings to try first; says what is taken from where."""
        sources = list(self._best_of)
        for prior in self._priors:
            name, why = prior.experiment.name, prior.differs_with(data)
            if why:
                note(f"prior:      {name} gives settings to try first, and no more: {why}")
                sources.append(prior)
            else:
                trials = counted(len(prior.observations), "trial")
                note(f"prior:      the sampler begins with {trials} of {name}")
                self.observations += prior.observations
        taken = [(source, *best) for source in sources for best in source.best]
        for source, trial, setting in taken:
            words = ", ".join(f"{name}: {shown(value, 60)}" for name, value in setting.items())
            where = f"{source.experiment.name} trial {trial.number:04d} ({trial.best:.4f})"
            note(f"tried first: {words}, of {where}")
        self.space = self.space.trying_first([setting for _, _, setting in taken])
        return self.space

    def keep(self, experiment: Experiment) -> None:
        """Write the observations down, for a session that is killed before they are in its ledger.

        Args:
            experiment: The new sweep's folder.
        """
        lines = (json.dumps(to_json(event)) + "\n" for event in self.observations)
        write_text(experiment.priors, "".join(lines))


def kept_observations(experiment: Experiment) -> list[PriorEvent]:
    """Return what :meth:`Earlier.keep` wrote."""
    if not experiment.priors.is_file():
        return []
    lines = experiment.priors.read_bytes().splitlines()
    return [msgspec.json.decode(line, type=PriorEvent) for line in lines]


def _look(space: Space, path: Path) -> _Source:
    experiment = Experiment.open(path)
    sweep = Sweep(iter_ledger(experiment.ledger, decode_progress))
    ended = [
        trial
        for trial in sweep.trials.values()
        if trial.state in (State.COMPLETE, State.STOPPED)
        and trial.best is not None
        and not (trial.is_control or trial.is_outdated)
    ]
    best = _best(space, sweep, ended)
    differs = _differs(space, sweep)
    observations: list[PriorEvent] = []
    if not differs:
        observations = list(_observations(space, experiment, sweep, ended))
        differs = "" if observations else _why_none(space, ended)
    if not best and not observations:
        raise ConfigError(
            f"{experiment.path}: nothing of it can be taken: "
            + ("no trial has ended" if not ended else "no value of its trials lies in a range here")
        )
    return _Source(experiment, sweep, best, observations, differs)


def _best(space: Space, sweep: Sweep, ended: Iterable[Trial]) -> list[tuple[Trial, Setting]]:
    found: list[tuple[Trial, Setting]] = []
    for trial in best_first(trial for trial in ended if not trial.breaks_bound):
        setting = setting_of(space, sweep.job_to_run(trial.number))
        if setting and all(setting != known for _, known in found):
            found.append((trial, setting))
        if len(found) == NUM_BEST:
            break
    return found


def _differs(space: Space, sweep: Sweep) -> str:
    """Why no trial of a sweep can be compared with trials of this space."""
    metrics = [objective.key for objective in space.sweep.objectives]
    if list(sweep.metrics) != metrics:
        return f"it searched by {', '.join(sweep.metrics)}, not by {', '.join(metrics)}"
    if sweep.miou_over != LABELLED:
        return "its mIoU counts other classes"
    return ""


def _why_none(space: Space, ended: Sequence[Trial]) -> str:
    epochs = {trial.epochs for trial in ended}
    own = {job.train.epochs for job in space.corners()}
    if (epochs and max(epochs) < min(own)) or min(epochs, default=0) > max(own):
        return f"it trained for {min(epochs)} epochs, not for {min(own)}"
    return "this space can draw none of its jobs"


def _observations(
    space: Space, experiment: Experiment, sweep: Sweep, ended: Iterable[Trial]
) -> Iterable[PriorEvent]:
    needed = [objective.key for objective in space.sweep.objectives[1:]] + list(space.sweep.bounds)
    for trial in ended:
        params = params_of(space, sweep.job_to_run(trial.number))
        if params is None or not all(metric in trial.costs for metric in needed):
            continue
        assert trial.best is not None, trial
        assert trial.last is not None, trial
        assert trial.stop is not None, trial
        yield PriorEvent(
            experiment=experiment.name,
            number=trial.number,
            params=dict(params),
            epoch=trial.epoch,
            value=trial.best,
            last=trial.last,
            costs={metric: trial.costs[metric] for metric in needed},
            stop=trial.stop,
        )
