"""A search space as the configuration of a W&B sweep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdsweep.errors import ConfigPath, SpecError
from kdsweep.spec.grammar import is_range
from kdsweep.spec.space import Space
from kdsweep.spec.template import find_ranges


def to_wandb(space: Space) -> dict[str, Any]:
    """The space in the words of a W&B sweep; its ranges go there as they stand.

    Raises:
        SpecError: The space has ranges where W&B knows none: inside of choices or lists.
    """
    sweep = space.sweep
    config = {
        "name": space.name,
        "method": {"grid": "grid", "random": "random"}.get(sweep.sampler, "bayes"),
        "metric": {"name": sweep.metric, "goal": "maximize"},
        "run_cap": sweep.trials,
        "parameters": _parameters({k: v for k, v in space.tree.items() if k != "name"}, ()),
    }
    if sweep.scheduler == "asha":
        config["early_terminate"] = {
            "type": "hyperband",
            "min_iter": sweep.grace_period,
            "eta": sweep.reduction_factor,
        }
    return config


def _parameters(tree: Mapping[str, Any], path: ConfigPath) -> dict[str, Any]:
    return {key: _parameter(value, (*path, key)) for key, value in tree.items()}


def _parameter(value: Any, path: ConfigPath) -> dict[str, Any]:
    inner = value.get("values", value.get("value")) if is_range(value) else value
    if is_range(value) or not isinstance(value, Mapping) or not value:
        for nested in find_ranges(inner, path):
            raise SpecError(
                "W&B sweeps have no ranges inside of choices or lists",
                path=nested,
                hint="run this space with kdsweep, which has",
            )
        return dict(value) if is_range(value) else {"value": value}
    return {"parameters": _parameters(value, path)}
