"""Which points of a search space show all there is to check in it.

Two questions, two answers. :func:`corner_picks` is for checks that cost nothing (the schema): it
makes sure that a space which validates cannot draw an invalid job. :func:`cover` is for checks that
build networks: few points that show every choice, and structural choices in pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

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

MAX_PRODUCT = 1000


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
