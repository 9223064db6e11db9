"""What a space asks for when it draws given parameters, as Optuna's trials have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalChoiceType,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial


class Recorder:
    """Answers a space's questions with given parameters, and notes the ranges it was asked for."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._given = params
        self.distributions: dict[str, BaseDistribution] = {}

    def running(self, user: dict[str, Any], system: dict[str, Any]) -> FrozenTrial:
        """A trial with the parameters that were asked for; notes for people, and for samplers."""
        return create_trial(
            state=TrialState.RUNNING,
            params={name: self._given[name] for name in self.distributions},
            distributions=self.distributions,
            user_attrs=user,
            system_attrs=system,
        )

    def suggest_categorical(
        self, name: str, choices: Sequence[CategoricalChoiceType]
    ) -> CategoricalChoiceType:
        """The given choice."""
        return self._answer(name, CategoricalDistribution(choices))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """The given number."""
        return self._answer(name, FloatDistribution(low, high, log=log, step=step))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """The given number."""
        return self._answer(name, IntDistribution(low, high, log=log, step=step))

    def _answer(self, name: str, distribution: BaseDistribution) -> Any:
        self.distributions[name] = distribution
        return self._given[name]
