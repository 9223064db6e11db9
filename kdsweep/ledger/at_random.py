"""What is said of parameters that a sampler cannot learn, and so draws at random."""

from __future__ import annotations

from collections.abc import Iterable

from kdsweep.ledger.trials import Trial

_REASONS = {
    "gp": "it learns what all trials have, with the same range",
    "cmaes": "it learns numbers that all trials have, with the same range",
    "nsga2": "it learns from trials that complete, and what all of these have",
}


def names_at_random(trials: Iterable[Trial]) -> list[str]:
    """Return the parameters that were drawn at random though the sampler had begun to learn."""
    return list(dict.fromkeys(name for trial in trials for name in trial.at_random))


def random_note(sampler: str | None, names: Iterable[str]) -> str:
    """Say which of some parameters, by dotted path, a sampler draws at random, and why."""
    reason = _REASONS.get(sampler or "", "it does not know them")
    return (
        f"sampler {sampler} draws these at random, because {reason}: {', '.join(names)}; "
        "tpe learns them"
    )
