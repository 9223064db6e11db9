"""Every error kdsweep raises on purpose.

The tree, with the exit code the command line gives each branch::

    KdsweepError                    1
    ├── ConfigError                 2   a job or search space says something that is not allowed
    ├── DataError                   2   data are missing, damaged, changed or laid out differently
    ├── WeightsError                2   pretrained weights cannot be had
    ├── ModelFileError              2   a file to predict with is damaged, or none of kdsweep's
    ├── ResourceError               2   a trial can never fit on the machines there are
    ├── MachineError                2   this machine or a cluster lacks what a sweep needs
    ├── ExperimentError             2   an experiment folder is missing, locked or not one
    ├── LedgerError                 1   the ledger is damaged other than in its last line
    ├── CheckpointError             1   a checkpoint cannot be read or belongs to another job
    └── TrainingError               1   a network cannot go on training
        ├── NonFiniteLossError      1   it diverged: a loss became NaN or infinite
        └── StepError               1   a student's step raised an error

A message says what was wrong, the value, where, what is allowed and the next step.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

ConfigPath = tuple[str | int, ...]
Checked = TypeVar("Checked")


class KdsweepError(Exception):
    """Root of all errors that kdsweep raises on purpose."""

    exit_code = 1


class ConfigError(KdsweepError):
    """A job or search space says something that is not allowed.

    Args:
        problem: What is wrong, as a sentence without its place.
        path: Where in the document, for example ``("distill", "pixel_kl", "weight")``.
        value: The offending value, shown as the user wrote it; leave out where there is none.
        allowed: What is allowed, in words, or the allowed names (the nearest match is put first).
        hint: What to do next; without it, the allowed name that ``value`` is a slip of, if there
            is one.
        file: The file the document came from, filled in by whoever read it.
        line: 1-based line in that file.
        others: Further errors of the same document, so that all can be put right at once.
    """

    exit_code = 2
    _MISSING = ...  # survives pickling, which a bare object() does not
    _MAX_OTHERS = 5
    _MAX_NAMES = 24

    def __init__(
        self,
        problem: str,
        *,
        path: Sequence[str | int] = (),
        value: object = _MISSING,
        allowed: str | Iterable[str] | None = None,
        hint: str | None = None,
        file: str | Path | None = None,
        line: int | None = None,
        others: Sequence[ConfigError] = (),
    ) -> None:
        self.problem = problem
        self.path: ConfigPath = tuple(path)
        self.value = value
        self.allowed = allowed if allowed is None or isinstance(allowed, str) else list(allowed)
        self.hint = hint
        self.file = file
        self.line = line
        self.others = tuple(others)
        super().__init__(problem)

    @property
    def has_value(self) -> bool:
        """Whether the error is about one value that can be shown."""
        return self.value is not self._MISSING

    def located(self, file: str | Path | None, line: int | None) -> ConfigError:
        """The same error with its place in a file."""
        self.file, self.line = file, line
        return self

    def __str__(self) -> str:
        place = dotted(self.path)
        if self.file is not None:
            where = f"{self.file}:{self.line}" if self.line else str(self.file)
            place = f"{where}: {place}" if place else where
        lines = [f"{place}: {self.problem}" if place else self.problem]
        if self.has_value:
            lines.append(f"  value:   {shown(self.value)}")
        if self.allowed is not None:
            lines.append(f"  allowed: {self._allowed_text()}")
        hint = self._guess() if self.hint is None else self.hint
        if hint is not None:
            lines.append(f"  try:     {hint}")
        if self.others:
            lines.append(f"and {len(self.others)} more:")
            lines += [str(other) for other in self.others[: self._MAX_OTHERS]]
            left_out = len(self.others) - self._MAX_OTHERS
            if left_out > 0:
                lines.append(f"… {left_out} not shown")
        return "\n".join(lines)

    def _guess(self) -> str | None:
        if self.allowed is None or isinstance(self.allowed, str) or not isinstance(self.value, str):
            return None
        return did_you_mean(self.value, self.allowed)

    def _allowed_text(self) -> str:
        if isinstance(self.allowed, str):
            return self.allowed
        assert self.allowed is not None
        names = nearest_first(str(self.value), self.allowed) if self.has_value else self.allowed
        if len(names) <= self._MAX_NAMES:
            return ", ".join(names)
        return f"{', '.join(names[: self._MAX_NAMES // 2])}, … ({len(names)} in all)"


def check_all(check: Callable[[Checked], object], things: Iterable[Checked]) -> None:
    """Check several things, and tell all that is wrong at once, each error once.

    Raises:
        ConfigError: The first, with the others in it.
    """
    errors: dict[str, ConfigError] = {}
    for thing in things:
        try:
            check(thing)
        except ConfigError as error:
            found, error.others = (error, *error.others), ()
            for one in found:
                errors.setdefault(str(one), one)
    if errors:
        first, *others = errors.values()
        first.others = tuple(others)
        raise first


class DataError(KdsweepError):
    """A data set is missing, damaged or laid out differently than its source says."""

    exit_code = 2


class WeightsError(KdsweepError):
    """Pretrained weights cannot be had."""

    exit_code = 2


class ModelFileError(KdsweepError):
    """A file to predict with is damaged, hostile, or no model of kdsweep's."""

    exit_code = 2


class ResourceError(KdsweepError):
    """A trial can never fit on the machines there are."""

    exit_code = 2


class MachineError(KdsweepError):
    """This machine, or a cluster, lacks something that a sweep needs before it can start."""

    exit_code = 2


class ExperimentError(KdsweepError):
    """An experiment folder is missing, locked by another driver, or not an experiment."""

    exit_code = 2


class LedgerError(KdsweepError):
    """The ledger is damaged other than in its last line."""


class CheckpointError(KdsweepError):
    """A checkpoint cannot be read, or belongs to another job."""


class TrainingError(KdsweepError):
    """A network cannot go on training; the others of its cohort may."""

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class NonFiniteLossError(TrainingError):
    """Training diverged: a loss became NaN or infinite."""


class StepError(TrainingError):
    """A student's step raised an error that is its own affair."""


def dotted(path: Sequence[str | int]) -> str:
    """A configuration path as users write it: ``distill.pixel_kl.taps[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def shown(value: object, limit: int = 100) -> str:
    """A value as it would stand in a YAML file, on one line and cut to ``limit`` characters."""
    text = repr(value) if isinstance(value, str) else _flow(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _flow(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, str):
        # A text that YAML would read as something else is told apart by its quotes.
        return value if _PLAIN_TEXT.fullmatch(value) and value not in _NOT_TEXT else repr(value)
    return repr(value)


_PLAIN_TEXT = re.compile(r"[A-Za-z_/~][\w./+-]*")
_NOT_TEXT = frozenset(("null", "Null", "NULL", "~", "true", "True", "false", "False"))


def nearest_first(value: str, allowed: Iterable[str]) -> list[str]:
    """The allowed names, the ones closest to ``value`` in front."""
    names = list(allowed)
    near = close_names(value, names, num=len(names), likeness=0.5)
    return near + [name for name in names if name not in near]


def did_you_mean(value: str, names: Iterable[str]) -> str | None:
    """The question after the name that ``value`` is most likely a slip of.

    ``None`` where no name is near, or several are equally near (``encoder.9``).
    """
    near = close_names(value, names, num=2)
    if not near or len({_likeness(value.lower(), name.lower()) for name in near}) < len(near):
        return None
    return f"did you mean `{near[0]}`?"


def _likeness(value: str, name: str) -> float:
    # `miou` is short for `student/miou`.
    meant = name if "/" in value else name.rpartition("/")[2]
    return difflib.SequenceMatcher(None, meant, value).ratio()


def close_names(value: str, names: Iterable[str], *, num: int, likeness: float = 0.6) -> list[str]:
    """The names that resemble ``value``, upper and lower case alike, the closest first.

    Args:
        value: What was written.
        names: What could have been meant.
        num: At most so many, names that differ only in case counting once.
        likeness: How much two names must resemble each other, from 0 to 1 (the same).
    """
    by_lower: dict[str, list[str]] = {}
    for name in names:
        by_lower.setdefault(name.lower(), []).append(name)
    ratios = {name: _likeness(value.lower(), name) for name in by_lower}
    # Names that are equally near keep their order.
    near = sorted((n for n in by_lower if ratios[n] >= likeness), key=lambda n: -ratios[n])
    return [name for close in near[:num] for name in by_lower[close]]
