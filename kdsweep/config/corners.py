"""Which points of a search space show all there is to check in it.

Two questions, two answers. :func:`corner_picks` is for checks that cost nothing (the schema): it
makes sure that a space which validates cannot draw an invalid job. :func:`cover` is for checks that
build networks: few points that show every choice, and structural choices in pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from kdsweep.config.checking import NOT_WHOLE, UNKNOWN_KEY, FindingsError, check
from kdsweep.config.document import Document
from kdsweep.config.job import SCOPES, Job
from kdsweep.config.loading import SPACE_KEYS, value_at
from kdsweep.config.ranges import Choice, Option, Range, is_number
from kdsweep.config.template import (
    Branch,
    Options,
    Pick,
    combinations,
    num_combinations,
    ranges,
    resolve,
)
from kdsweep.errors import ConfigError, ConfigPath

MAX_PRODUCT = 1000
_MAX_ERRORS = 20


def taking(options: Options, otherwise: Pick) -> Pick:
    """A pick that takes ``options`` where they name a range, and ``otherwise`` elsewhere."""

    def pick(range_: Range) -> Option:
        return options[range_.name] if range_.name in options else otherwise(range_)

    return pick


def first(range_: Range) -> Option:
    """The first choice, or the lower end."""
    return range_.corners()[0]


def barest(range_: Range) -> Option:
    """``null`` where it is a choice, else the first choice, or the lower end."""
    if isinstance(range_, Choice) and None in range_.labels:
        return range_.labels.index(None)
    return first(range_)


def fullest(range_: Range) -> Option:
    """The greatest of numbers, else the first choice that is not ``null``."""
    if not isinstance(range_, Choice):
        return range_.corners()[-1]
    labels = range_.labels
    if all(is_number(label) for label in labels):
        return labels.index(max(labels))  # type: ignore[type-var]
    return next((index for index, label in enumerate(labels) if label is not None), 0)


def corner_picks(root: Branch, scopes: Sequence[Sequence[str]]) -> Iterator[Pick]:
    """The corners at which the schema is checked: every choice, both ends of every range.

    Checks of single fields hold for a whole range if they hold at both ends, since all bounds of
    the schema are intervals. Checks across fields stay within one scope; for each scope all
    combinations of corners are tried. Where those are more than ``MAX_PRODUCT``, all pairs of
    corners are, twice: with everything else at its first option, and with everything else left out
    as far as the space allows. That finds every breach of a rule about two fields, and of a rule
    that wants at least one of several.

    Args:
        root: The compiled space.
        scopes: Groups of top-level keys that checks across fields stay within.
    """
    yield first
    yield barest
    for scope in scopes:
        part = Branch((), {key: root.children[key] for key in scope if key in root.children})
        count = num_combinations(part, lambda range_: len(range_.corners()))
        assert count is not None, "every range has a finite number of corners"
        if 1 < count <= MAX_PRODUCT:
            for options in combinations(part, lambda range_: range_.corners()):
                yield taking(options, first)
        elif count > MAX_PRODUCT:
            settings = _settings(part, lambda range_: True)
            for base in (first, barest):
                for options in itertools.chain(settings, _pairs(settings)):
                    yield taking(options, base)


def cover(root: Branch) -> list[Pick]:
    """Few points that show every choice, and each pair of structural choices together.

    Structural is whatever may decide whether networks fit together: all of ``data``, ``teacher``
    and ``student``, and what is no number in ``distill``. Numbers stand at their greatest, so that
    no loss is left out for its weight of zero.
    """
    structural = _settings(root, _is_structural)
    rest = _settings(root, lambda range_: not _is_structural(range_))
    points = _greedy(root, [*structural, *_pairs(structural)], [])
    points = _greedy(root, rest, points)
    return [taking(options, fullest) for options in points or [{}]]


def _is_structural(range_: Range) -> bool:
    section = range_.path[0]
    if section == "distill":
        return isinstance(range_, Choice) and not all(is_number(x) for x in range_.labels)
    return section in ("data", "teacher", "student")


def _settings(part: Branch, wanted: Callable[[Range], bool]) -> list[Options]:
    """Each corner of each wanted range, together with the choices that it hangs on."""
    found = ((range_, given) for range_, given in ranges(part) if wanted(range_))
    return [{**given, r.name: option} for r, given in found for option in r.corners()]


def _pairs(settings: Sequence[Options]) -> Iterator[Options]:
    for one, two in itertools.combinations(settings, 2):
        if _compatible(one, two):
            yield {**one, **two}


def _compatible(one: Options, two: Options) -> bool:
    return all(two.get(name, option) == option for name, option in one.items())


def _greedy(root: Branch, targets: Iterable[Options], points: list[Options]) -> list[Options]:
    """``points`` and more of them, until each target is part of one."""
    left = [t for t in targets if not any(t.items() <= point.items() for point in points)]
    points = list(points)
    while left:
        options: Options = {}
        for target in left:
            if _compatible(options, target):
                options = {**options, **target}
        points.append(picked(root, taking(options, fullest)))
        left = [target for target in left if not target.items() <= points[-1].items()]
    return points


def picked(root: Branch, pick: Pick) -> Options:
    """The options that ``pick`` takes, of the ranges that count then."""
    options: Options = {}

    def note(range_: Range) -> Option:
        options[range_.name] = pick(range_)
        return options[range_.name]

    resolve(root, note)
    return options


def points(root: Branch, scopes: Sequence[Sequence[str]]) -> Iterator[Pick]:
    """Yield the picks of :func:`corner_picks`, each point of the space once."""
    seen = set()
    for pick in corner_picks(root, scopes):
        point = frozenset(picked(root, pick).items())
        if point not in seen:
            seen.add(point)
            yield pick


def corner_errors(root: Branch, document: Document) -> list[ConfigError]:
    """Return what is wrong at the corners of a space, each error with its path in the document."""
    errors: dict[tuple[ConfigPath, str], ConfigError] = {}
    for pick in points(root, SCOPES):
        origins: dict[ConfigPath, ConfigPath] = {}
        try:
            check(Job, resolve(root, pick, (), origins), SPACE_KEYS)
        except FindingsError as found:
            for error in found.errors:
                _move(error, origins, document)
                errors.setdefault((error.path, error.problem), error)
        if len(errors) >= _MAX_ERRORS:
            break
    return list(errors.values())


def _move(error: ConfigError, origins: Mapping[ConfigPath, ConfigPath], document: Document) -> None:
    """Turn an error about a drawn job into one about the document it was drawn from."""
    # An unknown key stands where its mapping does, whatever the range behind the key drew.
    end = len(error.path) - (error.problem == UNKNOWN_KEY)
    depth = next(d for d in range(end, -1, -1) if error.path[:d] in origins)
    origin, below = origins[error.path[:depth]], error.path[depth:]
    error.path = (*origin, *below)
    if below or not origin or origin[-1] not in ("min", "max"):
        return
    if error.problem == NOT_WHOLE:
        error.path, error.value = origin[:-1], value_at(document.tree, origin[:-1])
        error.problem = "this range draws fractions"
        error.hint = "add distribution: int_uniform or q_log_uniform_values"
    elif error.value == value_at(document.tree, origin):
        error.value = value_at(document.tree, origin)  # 4 where the range drew 4.0
