"""The grammar of ranges: what may stand in a search space in place of a value.

It is the grammar of W&B sweeps: ``values`` (with ``probabilities``), ``value``, or ``min`` and
``max`` with a ``distribution``. Distributions without both ends (``normal``, ``beta``, …) are left
out: a space is checked at the ends of all its ranges before anything starts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from kdsweep.config.checking import unknown_key
from kdsweep.config.ranges import Interval, is_number
from kdsweep.errors import ConfigError, ConfigPath, shown

RANGE_KEYS = ("values", "probabilities", "value", "min", "max", "distribution", "q")
# Keys that make a mapping a range; no config has a field of such a name. `q` alone does not.
_TELLING = frozenset(RANGE_KEYS) - {"q"}
_NUMERIC = ("uniform", "int_uniform", "q_uniform", "log_uniform_values", "q_log_uniform_values")
_CHOICES = ("categorical", "categorical_w_probabilities")
DISTRIBUTIONS = (*_NUMERIC, *_CHOICES, "constant")


def is_range(value: object) -> bool:
    """Return whether ``value`` is a mapping in the grammar of ranges."""
    return isinstance(value, Mapping) and not _TELLING.isdisjoint(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def kind_of(mapping: Mapping[str, Any], path: ConfigPath) -> str:
    """``values``, ``value`` or ``min``: the key that says which kind of range this is.

    Raises:
        ConfigError: The keys do not make a range.
    """
    check_distribution(mapping, path, DISTRIBUTIONS)
    for key in mapping:
        if key not in RANGE_KEYS:
            error = unknown_key((*path, key), RANGE_KEYS)
            telling = next(name for name in mapping if name in _TELLING)
            error.hint = error.hint or (
                f"`{telling}` makes this a range; other keys go into its choices"
            )
            raise error
    for kind, partners in _PARTNERS.items():
        if kind not in mapping:
            continue
        for key in mapping:
            if key != kind and key not in partners:
                raise ConfigError(
                    f"{key} does not go with {kind}",
                    path=(*path, key),
                    value=mapping[key],
                    allowed=f"with {kind}: {', '.join(partners)}",
                )
        return kind
    if "max" not in mapping:
        raise ConfigError(
            "a range without values, value, or min and max",
            path=path,
            value=dict(mapping),
            allowed="{values: [a, b]} or {min: a, max: b}",
        )
    return "min"


_PARTNERS = {
    "values": ("probabilities", "distribution"),
    "value": ("distribution",),
    "min": ("max", "distribution", "q"),
}


def check_distribution(
    mapping: Mapping[str, Any], path: ConfigPath, allowed: Sequence[str]
) -> None:
    """Raise a ConfigError unless the distribution, if given, is one of ``allowed``."""
    name = mapping.get("distribution")
    if "distribution" not in mapping or name in allowed:
        return
    problem, hint = "unknown distribution", None
    if name in DISTRIBUTIONS:
        problem = "this distribution does not go with these keys"
    elif name in ("log_uniform", "q_log_uniform"):
        problem = "a distribution that takes exponents, which kdsweep does not support"
        hint = f"use {name}_values, whose min and max are the values themselves"
    elif isinstance(name, str) and name in _OTHER_NAMES:
        hint = f"use {_OTHER_NAMES[name]}"
    elif name in _ENDLESS:
        problem = "a distribution that kdsweep does not support"
        hint = "a space is checked at the ends of its ranges: use one with min and max"
    raise ConfigError(
        problem, path=(*path, "distribution"), value=name, allowed=list(allowed), hint=hint
    )


# What Optuna, Ray Tune and others call them.
_OTHER_NAMES = {
    "loguniform": "log_uniform_values",
    "qloguniform": "q_log_uniform_values",
    "quniform": "q_uniform",
    "int": "int_uniform",
    "randint": "int_uniform",
    "float": "uniform",
    "choice": "{values: [a, b]}",
}
_ENDLESS = ("normal", "q_normal", "log_normal", "q_log_normal", "beta", "q_beta")


def choices_of(mapping: Mapping[str, Any], path: ConfigPath) -> tuple[float, ...] | None:
    """Check a ``values`` range; its probabilities, if it has any.

    Raises:
        ConfigError: It has no values, one twice, or probabilities that do not fit.
    """
    values = mapping["values"]
    check_distribution(mapping, path, _CHOICES)
    if not isinstance(values, list) or not values:
        raise ConfigError(
            "no values to choose from" if values in ([], None) else "not a list",
            path=(*path, "values"),
            value=values,
            allowed="a list of one or more values",
        )
    refuse_equal_choices(values, path, "this choice stands in the list already")
    if mapping.get("distribution") == "categorical_w_probabilities":
        _need(mapping, path, "probabilities")
    if "probabilities" not in mapping:
        return None
    return _probabilities(mapping["probabilities"], (*path, "probabilities"), len(values))


def refuse_equal_choices(values: Sequence[Any], path: ConfigPath, problem: str) -> None:
    """Raise a ConfigError where a choice of a range is equal to one before it."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ConfigError(
                problem,
                path=(*path, "values", index),
                value=value,
                hint="to make a choice more likely, add `probabilities`",
            )


def _probabilities(shares: Any, path: ConfigPath, num_choices: int) -> tuple[float, ...]:
    if not isinstance(shares, list) or not all(is_number(s) and s > 0 for s in shares):
        raise ConfigError(
            "probabilities must be numbers > 0",
            path=path,
            value=shares,
            allowed="a list, one number > 0 for each value",
            hint="take a choice that should never be drawn out of `values`",
        )
    if len(shares) != num_choices:
        raise ConfigError(
            f"{len(shares)} probabilities for {num_choices} values",
            path=path,
            value=shares,
            allowed="one probability for each value",
        )
    if abs(sum(shares) - 1) > 1e-6:
        raise ConfigError(
            f"the probabilities sum to {sum(shares):.6g}",
            path=path,
            value=shares,
            allowed="probabilities that sum to 1",
            hint=shown([float(f"{share / sum(shares):.4g}") for share in shares]),
        )
    return tuple(float(share) for share in shares)


def interval_of(mapping: Mapping[str, Any], path: ConfigPath, name: str) -> Interval:
    """The interval that a ``min``/``max`` range is.

    Raises:
        ConfigError: An end is missing or no number, or the ends do not fit the distribution.
    """
    check_distribution(mapping, path, _NUMERIC)
    for key in ("min", "max"):
        _need(mapping, path, key)
        if not is_number(mapping[key]):
            raise ConfigError(
                "not a number", path=(*path, key), value=mapping[key], allowed="a number"
            )
    low, high = mapping["min"], mapping["max"]
    both_whole = _is_whole(low) and _is_whole(high)
    kind = mapping.get("distribution", "int_uniform" if both_whole else "uniform")
    if low >= high:
        raise ConfigError(
            "min must be less than max",
            path=path,
            value={"min": low, "max": high},
            hint="for a fixed value write the value alone" if low == high else "swap the two",
        )
    if "log" in kind and low <= 0:
        raise ConfigError(
            "a logarithmic range must start above 0",
            path=(*path, "min"),
            value=low,
            allowed="a number > 0",
            hint=f"to include 0: {{values: [0, {{min: …, max: {high}, distribution: {kind}}}]}}",
        )
    if kind == "int_uniform" and not both_whole:
        key = "max" if _is_whole(low) else "min"
        raise ConfigError(
            "int_uniform needs whole numbers",
            path=(*path, key),
            value=mapping[key],
            allowed="a whole number",
            hint="use distribution: uniform for fractions",
        )
    if kind.startswith("q_"):
        return _stepped(mapping, path, name, log="log" in kind)
    if "q" in mapping:
        raise ConfigError(
            f"{kind} takes no q",
            path=(*path, "q"),
            value=mapping["q"],
            hint="add distribution: q_uniform or q_log_uniform_values",
        )
    if kind == "int_uniform":
        return Interval(name, path, low, high, step=1, log=False, whole=True)
    return Interval(name, path, float(low), float(high), step=None, log="log" in kind, whole=False)


def _stepped(mapping: Mapping[str, Any], path: ConfigPath, name: str, *, log: bool) -> Interval:
    step = mapping.get("q", 1)
    if not is_number(step) or step <= 0:
        raise ConfigError("not a step", path=(*path, "q"), value=step, allowed="a number > 0")
    exact = Decimal(str(step))
    first = math.ceil(Decimal(str(mapping["min"])) / exact)
    last = math.floor(Decimal(str(mapping["max"])) / exact)
    if first >= last:
        raise ConfigError(
            f"fewer than two multiples of q = {shown(step)} between min and max",
            path=path,
            value=dict(mapping),
            hint="choose a smaller q",
        )
    ends = (exact * first, exact * last)
    if any(Decimal(str(float(end))) != end for end in ends):
        raise ConfigError(
            "q has more digits than its multiples can keep",
            path=(*path, "q"),
            value=step,
            hint=f"round it, for example to {step:.6g}",
        )
    whole = all(_is_whole(value) for value in (mapping["min"], mapping["max"], step))
    low, high = (int(end) if whole else float(end) for end in ends)
    return Interval(name, path, low, high, step=step, log=log, whole=whole)


def _need(mapping: Mapping[str, Any], path: ConfigPath, key: str) -> None:
    if key not in mapping:
        raise ConfigError(
            f"{key} is missing", path=path, value=dict(mapping), hint=f"add {key} to the range"
        )
