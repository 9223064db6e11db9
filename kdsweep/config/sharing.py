"""Which ranges of a space are drawn once for a whole cohort, and which for each of its students.

A teacher trains once for all students of its cohort, on the same batches; so they have in common
all that the teacher's training depends on, and the batches. What is a student's own is its network
(``student``), its distillation (``distill``, but for what becomes of the teacher) and its optimiser
(``train.student``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kdsweep.config.distill import TEACHER_KEYS
from kdsweep.config.ranges import Choice
from kdsweep.config.template import Branch, Hole, Items, Leaf, Node, Pick
from kdsweep.errors import ConfigPath


def shared_ranges(root: Node) -> Iterator[str]:
    """Names of the ranges that are drawn once for a cohort.

    A choice between sub-trees is shared if these differ in something shared; the ranges inside of
    it are looked at one by one.
    """
    yield from _shared(root, ())


def pinned(node: Node, names: frozenset[str], pick: Pick) -> Node:
    """The tree in which the ranges of some names stand at what ``pick`` takes for each met."""
    if isinstance(node, Hole):
        if node.range.name not in names:
            return node
        option = pick(node.range)
        # What is pinned here is known; only ranges below it are left to count.
        return (
            pinned(node.range.nodes[option], names, pick)
            if isinstance(node.range, Choice)
            else Branch(node.path, {})
        )
    if isinstance(node, Branch):
        children = {key: pinned(child, names, pick) for key, child in node.children.items()}
        return Branch(node.path, children)
    if isinstance(node, Items):
        return Items(node.path, tuple(pinned(child, names, pick) for child in node.children))
    return node


def _shared(node: Node, at: ConfigPath) -> Iterator[str]:
    if isinstance(node, Hole):
        if not isinstance(node.range, Choice):
            if not _is_students(at):
                yield node.range.name
            return
        parts = [_shared_part(choice, at) for choice in node.range.nodes]
        if any(part != parts[0] for part in parts):
            yield node.range.name
        for choice in node.range.nodes:
            yield from _shared(choice, at)
    else:
        for place, child in _children(node, at):
            yield from _shared(child, place)


def _shared_part(node: Node, at: ConfigPath) -> dict[ConfigPath, Any]:
    """Return what a node puts where all students of a cohort must agree: values, or ranges."""
    if isinstance(node, Leaf | Hole):
        value = node.value if isinstance(node, Leaf) else node.range.name
        places = [at] if isinstance(node, Leaf) else list(_places(node, at))
        return {place: value for place in places if not _is_students(place)}
    found: dict[ConfigPath, Any] = {}
    for place, child in _children(node, at):
        found |= _shared_part(child, place)
    return found


def _places(node: Node, at: ConfigPath) -> Iterator[ConfigPath]:
    """Where in a job a node may put a value."""
    if isinstance(node, Hole) and isinstance(node.range, Choice):
        for choice in node.range.nodes:
            yield from _places(choice, at)
    elif isinstance(node, Branch | Items):
        for place, child in _children(node, at):
            yield from _places(child, place)
    else:
        yield at


def _children(node: Node, at: ConfigPath) -> Iterator[tuple[ConfigPath, Node]]:
    if isinstance(node, Branch):
        yield from (((*at, key), child) for key, child in node.children.items())
    elif isinstance(node, Items):
        yield from (((*at, index), child) for index, child in enumerate(node.children))


def _is_students(at: ConfigPath) -> bool:
    if at[:1] == ("distill",):
        return len(at) > 1 and at[1] not in TEACHER_KEYS
    return at[:1] == ("student",) or at[:2] == ("train", "student")
