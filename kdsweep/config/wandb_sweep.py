"""A search space as the configuration of a W&B sweep."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from kdsweep.config.grammar import is_range
from kdsweep.config.halving import grace_period
from kdsweep.config.space import Space
from kdsweep.config.sweep import ASHA, PER_STUDENT
from kdsweep.config.template import find_ranges
from kdsweep.errors import ConfigError, ConfigPath

# Keys by which W&B itself would act on a sweep: end it, or stop runs.
_ACTING = ("run_cap", "early_terminate")


def has_ranges(space: Space) -> bool:
    """Return whether there is anything to search; a plain job is a space too."""
    return any(True for _ in find_ranges(space.tree))


def to_wandb(space: Space) -> dict[str, Any]:
    """The space in the words of a W&B sweep; its ranges go there as they stand.

    Raises:
        ConfigError: The space has ranges where W&B knows none: inside of choices or lists.
    """
    sweep = space.sweep
    config = {
        "name": space.name,
        "method": {"grid": "grid", "random": "random"}.get(sweep.sampler, "bayes"),
        "metric": {"name": sweep.score, "goal": "maximize"},
        "run_cap": sweep.trials,
        "parameters": _parameters({k: v for k, v in space.tree.items() if k != "name"}, ()),
    }
    if sweep.scheduler in (ASHA, PER_STUDENT):
        config["early_terminate"] = {
            "type": "hyperband",
            "min_iter": grace_period(space),
            "eta": sweep.reduction_factor,
        }
    return config


def to_wandb_shown(space: Space) -> dict[str, Any]:
    """The W&B sweep of a space that kdsweep itself runs: W&B shows it and decides nothing.

    Raises:
        ConfigError: As :func:`to_wandb`.
    """
    config = {key: value for key, value in to_wandb(space).items() if key not in _ACTING}
    return {**config, "controller": {"type": "local"}}


def to_wandb_agents(space: Space) -> dict[str, Any]:
    """The W&B sweep of a space that ``wandb agent`` runs: each run is a ``kdsweep train``.

    The agent writes what W&B drew as a JSON file, which is a job.

    Raises:
        ConfigError: As :func:`to_wandb`.
    """
    wandb = space.tracking.wandb
    place = {"project": wandb.project} | ({"entity": wandb.entity} if wandb.entity else {})
    name = f"name={json.dumps(space.name)}"
    # A file and not flags, which would flatten nested parameters into Python's notation.
    command = ["kdsweep", "train", "${args_json_file}", "--set", name, "--wandb"]
    return {**place, "program": "kdsweep", "command": command, **to_wandb(space)}


def _parameters(tree: Mapping[str, Any], path: ConfigPath) -> dict[str, Any]:
    return {key: _parameter(value, (*path, key)) for key, value in tree.items()}


def _parameter(value: Any, path: ConfigPath) -> dict[str, Any]:
    if is_range(value) or not isinstance(value, Mapping) or not value:
        for nested in _ranges_in(value, path):
            raise ConfigError(
                "W&B sweeps have no ranges inside of choices or lists",
                path=nested,
                hint="run this space with kdsweep, which has",
            )
        return _with_distribution(value) if is_range(value) else {"value": value}
    return {"parameters": _parameters(value, path)}


def _ranges_in(value: Any, path: ConfigPath) -> Iterator[ConfigPath]:
    """Ranges inside of a range, or of what is none."""
    if not is_range(value):
        yield from find_ranges(value, path)
        return
    for key in ("values", "value"):
        yield from find_ranges(value.get(key), (*path, key))


def _with_distribution(range_: Mapping[str, Any]) -> dict[str, Any]:
    """The range, with the distribution that W&B would have to guess where its ends are mixed."""
    if "min" not in range_ or "distribution" in range_:
        return dict(range_)
    whole = isinstance(range_["min"], int) and isinstance(range_["max"], int)
    return {**range_, "distribution": "int_uniform" if whole else "uniform"}
