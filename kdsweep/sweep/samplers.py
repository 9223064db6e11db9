"""The samplers that a space can ask for: Optuna's, and what is ours of them."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Collection, Sequence
from statistics import median
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial, TrialState

from kdsweep.config import JobList, Space
from kdsweep.config.sampling import sampler_of
from kdsweep.errors import ConfigError

_STARTUP = 10  # trials before tpe and gp begin to learn; also Optuna's default
# The note on a pruned trial that tells the values of its chosen epoch.
REACHED = "kdsweep:reached"


def make_sampler(
    space: Space | JobList, seed: int, num_rejected: int = 0, number: int = 0
) -> BaseSampler:
    """A new sampler of the kind that the space asks for.

    Args:
        space: The search space.
        seed: Of its random numbers.
        num_rejected: Draws in its study that were never trained. TPE counts them as trials, though
            they tell nothing of a score, and would begin to learn that much earlier.
        number: Of the trial that it is to draw.

    Raises:
        ConfigError: It needs a package that is not installed.
    """
    samplers = optuna.samplers
    name = sampler_of(space, number)
    check_sampler(name)
    with warnings.catch_warnings():
        # Optuna calls the options below experimental; each has been in place for years.
        warnings.simplefilter("ignore", ExperimentalWarning)
        if name == "tpe":
            # Grouping samples the parameters of each branch of a conditional space jointly. For
            # several metrics Optuna itself draws each parameter on its own.
            jointly = len(space.sweep.objectives) == 1
            return samplers.TPESampler(
                seed=seed,
                n_startup_trials=_STARTUP + num_rejected,
                multivariate=jointly,
                group=jointly,
                constant_liar=True,
            )
        if name == "cmaes":
            return _CmaEs(
                seed=seed,
                warn_independent_sampling=False,
                # Halving leaves few complete trials, too few to learn from alone.
                consider_pruned_trials=space.sweep.stops_early,
            )
        if name == "gp":
            return _Gp(seed=seed, n_startup_trials=_STARTUP, warn_independent_sampling=False)
        if name == "nsga2":
            # About four generations; Optuna's own 50 would leave short sweeps at random draws.
            size = max(8, min(50, space.sweep.trials // 4))
            return samplers.NSGAIISampler(seed=seed, population_size=size)
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

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Do nothing; Optuna's own warns after each trial that it learns no bounds."""


class _Gp(optuna.samplers.GPSampler):
    """A Gaussian process that can learn from pruned trials.

    Optuna's own knows complete trials only, of which halving leaves too few to begin. Here a pruned
    trial counts with what it has :data:`REACHED` and, of a single metric, what complete trials have
    gained from that epoch on: their median. Without that, how early a trial was stopped would
    count for more than how good it was. As it was behind the others there, it looks no better than
    the middle of them.
    """

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """What all trials have, the pruned ones too."""
        return super().infer_relative_search_space(_with_pruned(study), trial)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Draw what all trials have."""
        import torch

        whole = _with_pruned(study)
        trial = whole.get_trials(deepcopy=False)[trial.number]
        # The other cores train; and a resumed sweep draws the same only with as many threads.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return super().sample_relative(whole, trial, search_space)
        finally:
            torch.set_num_threads(threads)


def _with_pruned(study: optuna.Study) -> optuna.Study:
    """Return a copy of a study in which pruned trials are complete."""
    whole = optuna.create_study(directions=study.directions)
    trials = study.get_trials()
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    for trial in trials:
        if trial.state == TrialState.PRUNED and REACHED in trial.system_attrs:
            values = trial.system_attrs[REACHED]
            if len(values) == 1:
                values = [values[0] + _gain_from(max(trial.intermediate_values), complete)]
            trial.state, trial.values = TrialState.COMPLETE, values
        whole.add_trial(trial)
    return whole


def _gain_from(epoch: int, complete: Sequence[FrozenTrial]) -> float:
    """Return by how much complete trials rose from an epoch to their value: the median, or 0."""
    gains = [
        trial.values[0] - trial.intermediate_values[epoch]
        for trial in complete
        if epoch in trial.intermediate_values
    ]
    return median(gains) if gains else 0.0


def drawn_at_random(study: optuna.Study, trial: optuna.Trial, given: Collection[str]) -> list[str]:
    """Return the parameters of a draw that the sampler did not learn, and so drew at random.

    Nothing is said of its first trials, which are drawn so by design, and of TPE, which learns
    all that it has seen.

    Args:
        study: The study, with the sampler that has drawn.
        trial: What it has drawn.
        given: Parameters that it was not asked for.
    """
    sampler = study.sampler
    if isinstance(sampler, _Gp):
        num_first = _STARTUP
    elif isinstance(sampler, _CmaEs):
        num_first = 1
    elif isinstance(sampler, optuna.samplers.NSGAIISampler):
        num_first = sampler.population_size or 0
    else:
        return []
    trials = study.get_trials(deepcopy=False)
    told = sum(t.state == TrialState.COMPLETE or REACHED in t.system_attrs for t in trials)
    drawn = [n for n, d in trial.distributions.items() if n not in given and not d.single()]
    if told < num_first or not drawn:
        return []
    learned: Collection[str] = trial.relative_params
    if isinstance(sampler, optuna.samplers.NSGAIISampler):
        # What a child does not have of its parents was left out by chance, as a mutation.
        frozen = trials[trial.number]
        is_child = sampler.get_trial_generation(study, frozen) > 0
        learned = (trial.relative_search_space or {}) if is_child else ()
    return [name for name in drawn if name not in learned]


def check_sampler(name: str) -> None:
    """Refuse a sampler whose package is not installed.

    Raises:
        ConfigError: With the command that installs it.
    """
    if name == "cmaes" and importlib.util.find_spec("cmaes") is None:
        raise ConfigError(
            "this sampler needs the package cmaes, which is not installed",
            path=("sweep", "sampler"),
            value=name,
            hint="pip install 'kdsweep[samplers]', or another sampler (tpe, gp, random, grid)",
        )
