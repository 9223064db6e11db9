"""Bounds on what a YAML text may come to, kept while it is composed.

A few hundred bytes can stand for 10⁹ values (an alias of a list of aliases of …), or be nested too
deeply for whatever walks over them. Both are refused before anything is written out.
"""

from __future__ import annotations

from typing import Any

from ruamel.yaml.composer import Composer
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import MappingNode, Node

from kdsweep.errors import ConfigError

# Far above what people write: a pipeline of albumentations has hundreds, 15 deep.
MAX_VALUES = 100_000
MAX_DEPTH = 64
MAX_ALIASES = 5_000


class BoundedComposer(Composer):
    """Refuses a text as soon as it is seen to come to too much."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader=loader)
        self._open = 0
        self._num_written = 0
        self._num_aliases = 0
        # Of nodes that are complete, with all aliases written out: values and levels below.
        self._extents: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node.

        Raises:
            ConfigError: With its line; the file is for the caller to fill in.
        """
        event = self.parser.peek_event()
        line = event.start_mark.line + 1
        is_alias = isinstance(event, AliasEvent)
        self._num_written += 1
        self._num_aliases += is_alias
        self._open += 1
        _bound(self._num_written, MAX_VALUES, "the file holds more than {} values", line)
        _bound(self._num_aliases, MAX_ALIASES, "the file holds more than {} aliases", line)
        _bound(self._open, MAX_DEPTH, "nested more than {} levels deep", line)
        node = super().compose_node(parent, index)
        if not is_alias:
            self._extents[id(node)] = self._extent(node)
        # An alias inside of what it stands for has none yet; its reader refuses it.
        size, height = self._extents.get(id(node), (1, 1))
        _bound(size, MAX_VALUES, "written out, its aliases come to more than {} values", line)
        deepest = self._open + height - 1
        _bound(deepest, MAX_DEPTH, "written out, its aliases nest more than {} levels deep", line)
        self._open -= 1
        return node

    def _extent(self, node: Node) -> tuple[int, int]:
        inner = node.value if isinstance(node.value, list) else []
        if isinstance(node, MappingNode):
            inner = [each for pair in inner for each in pair]
        extents = [self._extents.get(id(each), (1, 1)) for each in inner]
        sizes, heights = zip(*extents, strict=True) if extents else ((), ())
        return 1 + sum(sizes), 1 + max(heights, default=0)


def _bound(found: int, most: int, problem: str, line: int) -> None:
    if found > most:
        raise ConfigError(
            problem.format(most),
            allowed=f"at most {MAX_VALUES} values with all aliases written out, "
            f"{MAX_ALIASES} aliases, {MAX_DEPTH} levels",
            hint="write a range (min, max) in place of a long list of values, and fewer aliases "
            "of aliases; if you did not write this file yourself, do not use it",
            line=line,
        )
