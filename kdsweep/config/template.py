"""A job with ranges in it, compiled: where the ranges are, and what comes out for given options."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdsweep.config.grammar import (
    check_distribution,
    choices_of,
    interval_of,
    is_range,
    kind_of,
    refuse_equal_choices,
)
from kdsweep.config.ranges import Choice, Interval, Option, Range, Scalar
from kdsweep.errors import ConfigError, ConfigPath, shown

Pick = Callable[[Range], Option]
Options = dict[str, Option]
"""Options by the name of their range."""


@dataclass(frozen=True)
class Leaf:
    """A value. ``path`` is where it stands in the document, here and below."""

    path: ConfigPath
    value: Any


@dataclass(frozen=True)
class Branch:
    """A mapping."""

    path: ConfigPath
    children: dict[str, Node]


@dataclass(frozen=True)
class Items:
    """A list."""

    path: ConfigPath
    children: tuple[Node, ...]


@dataclass(frozen=True)
class Hole:
    """A range."""

    path: ConfigPath
    range: Range


Node = Leaf | Branch | Items | Hole


class Compiler:
    """Finds the ranges in a tree.

    Args:
        labels: Labels of choices by the name of their range, where they are known from before;
            else they are made from the choices.

    Attributes:
        labels: Labels of all choices between sub-trees that were found.
        errors: What is wrong with ranges that are none; each stands as ``null`` in the result.
    """

    def __init__(self, labels: Mapping[str, Sequence[Scalar]] | None = None) -> None:
        self._known = labels or {}
        self.labels: dict[str, list[Scalar]] = {}
        self.errors: list[ConfigError] = []

    def branch(self, tree: Mapping[str, Any], written: Mapping[str, Any] | None = None) -> Branch:
        """Compile a whole job.

        Args:
            tree: The job, its defaults filled in.
            written: The job as its user wrote it, which names its choices; ``tree`` if left out.
        """
        written = tree if written is None else written
        children = {
            key: self._node(value, written.get(key, value), (key,), key)
            for key, value in tree.items()
        }
        return Branch((), children)

    def _node(self, value: Any, written: Any, path: ConfigPath, name: str) -> Node:
        """Compile ``value``, which stands at ``path``; ``name`` is for the range that it may be."""
        if isinstance(value, Mapping):
            if is_range(value):
                return self._hole(value, written, path, name)
            given = written if isinstance(written, Mapping) else {}
            children = {
                key: self._node(item, given.get(key, item), (*path, key), f"{name}.{key}")
                for key, item in value.items()
            }
            return Branch(path, children)
        if isinstance(value, list):
            pairs = enumerate(zip(value, written, strict=True))
            items = (self._node(v, w, (*path, i), f"{name}[{i}]") for i, (v, w) in pairs)
            return Items(path, tuple(items))
        return Leaf(path, value)

    def _hole(self, value: Mapping[str, Any], written: Any, path: ConfigPath, name: str) -> Node:
        try:
            kind = kind_of(value, path)
            if kind == "value":
                check_distribution(value, path, ("constant",))
                return self._node(value["value"], written["value"], (*path, "value"), name)
            if kind == "min":
                return Hole(path, interval_of(value, path, name))
            probabilities = choices_of(written, path)
            refuse_equal_choices(
                value["values"], path, "with its defaults filled in, this choice equals another one"
            )
        except ConfigError as error:
            self.errors.append(error)
            return Leaf(path, None)
        choices = enumerate(zip(value["values"], written["values"], strict=True))
        nodes = tuple(
            self._node(choice, given, (*path, "values", index), f"{name}[{index}]")
            for index, (choice, given) in choices
        )
        labels = self._labels(name, written["values"])
        return Hole(path, Choice(name, path, nodes, labels, probabilities))

    def _labels(self, name: str, choices: Sequence[Any]) -> tuple[Scalar, ...]:
        if not any(isinstance(choice, dict | list) for choice in choices):
            return tuple(choices)
        known = self._known.get(name)
        self.labels[name] = list(known) if known else make_labels(choices)
        return tuple(self.labels[name])


def make_labels(choices: Sequence[Any], limit: int = 60) -> list[Scalar]:
    """One scalar for each choice: itself, or a sub-tree's file or text, numbered at need."""
    labels: list[Scalar] = []
    for index, choice in enumerate(choices):
        label = shown(choice, limit) if isinstance(choice, dict | list) else choice
        if isinstance(choice, dict) and isinstance(choice.get("file"), str):
            label = choice["file"]
        if label in labels or (label != choice and label in choices):
            label = f"#{index} {label}"
        labels.append(label)
    return labels


def resolve(
    node: Node, pick: Pick, at: ConfigPath = (), origins: dict[ConfigPath, ConfigPath] | None = None
) -> Any:
    """The plain tree that comes out when ``pick`` chooses an option of each range.

    Args:
        node: What to resolve.
        pick: Called once for each range met; ranges inside choices not taken are never met.
        at: Path of ``node`` in the result.
        origins: Filled with the document's path for each path of the result.
    """
    if isinstance(node, Hole):
        option = pick(node.range)
        if isinstance(node.range, Choice):
            return resolve(node.range.nodes[option], pick, at, origins)
        assert isinstance(node.range, Interval)
        if origins is not None:
            ends = {node.range.low: ("min",), node.range.high: ("max",)}
            origins[at] = (*node.path, *ends.get(option, ()))
        return option
    if origins is not None:
        origins[at] = node.path
    if isinstance(node, Branch):
        children = node.children.items()
        return {key: resolve(child, pick, (*at, key), origins) for key, child in children}
    if isinstance(node, Items):
        items = enumerate(node.children)
        return [resolve(child, pick, (*at, index), origins) for index, child in items]
    return node.value


def _children(node: Branch | Items) -> list[Node]:
    return list(node.children.values() if isinstance(node, Branch) else node.children)


def ranges(node: Node, given: Options | None = None) -> Iterator[tuple[Range, Options]]:
    """All ranges, each with the choices that must be taken for it to count."""
    given = given or {}
    if isinstance(node, Hole):
        yield node.range, given
        if isinstance(node.range, Choice):
            for index, choice in enumerate(node.range.nodes):
                yield from ranges(choice, {**given, node.range.name: index})
    elif not isinstance(node, Leaf):
        for child in _children(node):
            yield from ranges(child, given)


def combinations(
    node: Node, options: Callable[[Range], Sequence[Option] | Iterator[Option]]
) -> Iterator[Options]:
    """Every combination of the options of all ranges, the first range changing slowest."""
    if isinstance(node, Hole):
        for option in options(node.range):
            if isinstance(node.range, Choice):
                for inner in combinations(node.range.nodes[option], options):
                    yield {node.range.name: option, **inner}
            else:
                yield {node.range.name: option}
    elif isinstance(node, Leaf):
        yield {}
    else:
        yield from _product(_children(node), options)


def _product(nodes: Sequence[Node], options: Callable[[Range], Any]) -> Iterator[Options]:
    if not nodes:
        yield {}
        return
    for first in combinations(nodes[0], options):
        for rest in _product(nodes[1:], options):
            yield {**first, **rest}


def num_combinations(node: Node, num_options: Callable[[Range], int | None]) -> int | None:
    """Return how many combinations there are; ``None`` if a range has infinitely many options."""
    if isinstance(node, Leaf):
        return 1
    if isinstance(node, Hole) and isinstance(node.range, Interval):
        return num_options(node.range)
    if isinstance(node, Hole):
        assert isinstance(node.range, Choice)
        counts = [num_combinations(child, num_options) for child in node.range.nodes]
        return None if None in counts else sum(c for c in counts if c is not None)
    total = 1
    for child in _children(node):
        count = num_combinations(child, num_options)
        if count is None:
            return None
        total *= count
    return total


def places_of(node: Node, path: ConfigPath) -> Iterator[tuple[ConfigPath, Any]]:
    """Where in the document the value at ``path`` of a drawn job may have come from.

    Yields:
        The document's path and the value there, for each choice that has such a place; where the
        tree ends before the path does, the place where it ends.
    """
    if isinstance(node, Hole):
        if isinstance(node.range, Choice):
            for choice in node.range.nodes:
                yield from places_of(choice, path)
        else:
            yield node.path, None
        return
    if path and isinstance(node, Branch) and path[0] in node.children:
        yield from places_of(node.children[str(path[0])], path[1:])
    elif path and isinstance(node, Items) and path[0] in range(len(node.children)):
        yield from places_of(node.children[int(path[0])], path[1:])
    else:
        yield node.path, node.value if isinstance(node, Leaf) and not path else None


def find_ranges(value: Any, path: ConfigPath = ()) -> Iterator[ConfigPath]:
    """Paths of the outermost ranges in a plain tree."""
    if is_range(value):
        yield path
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from find_ranges(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from find_ranges(item, (*path, index))
