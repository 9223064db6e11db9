"""YAML text to plain values, noting where in the text each was written.

YAML 1.2: ``1e-4`` is a number, ``yes`` and ``off`` are texts, a key that stands twice is an error.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdsweep.errors import ConfigError, ConfigPath

if TYPE_CHECKING:
    from ruamel.yaml.nodes import MappingNode, Node

TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Mark:
    """Where something was written.

    Attributes:
        file: The file, or the override as it was given (``--set train.epochs=4``).
        line: 1-based line; ``None`` for overrides.
        column: 1-based column; ``None`` for overrides.
    """

    file: str
    line: int | None = None
    column: int | None = None


class Reader:
    """Turns YAML text into plain values and notes where each was written.

    Args:
        file: Name of the text for messages.
        marks: Filled with the place of each key and list item.
        blanks: Filled with the paths of keys with nothing behind them.
    """

    def __init__(self, file: str, marks: dict[ConfigPath, Mark], blanks: set[ConfigPath]) -> None:
        self.file, self.marks, self.blanks = file, marks, blanks
        self._open: list[Node] = []

    def read(self, text: str) -> Any:
        """The value in ``text``; ``None`` if it has none."""
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError

        from kdsweep.config.yaml_bounds import BoundedComposer

        yaml = YAML(typ="safe", pure=True)
        yaml.Composer = BoundedComposer
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ReusedAnchorWarning)
                root = yaml.compose(io.StringIO(text))
        except MarkedYAMLError as error:
            raise self._syntax_error(error, text) from None
        except ConfigError as error:
            raise error.located(self.file, error.line) from None
        except YAMLError as error:
            raise self._error(f"not valid YAML: {str(error).splitlines()[0]}", None) from None
        self._construct = yaml.constructor.construct_object
        return None if root is None else self._value(root, ())

    def _value(self, node: Node, path: ConfigPath) -> Any:
        from ruamel.yaml.nodes import MappingNode, SequenceNode

        if node in self._open:
            raise self._error("an alias inside of what it stands for", node, path)
        self._open.append(node)
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, path)
            if isinstance(node, SequenceNode):
                return self._sequence(node, path)
            return self._scalar(node, path)
        finally:
            self._open.pop()

    def _mapping(self, node: MappingNode, path: ConfigPath) -> dict[str, Any]:
        self._must_be(node, path, "map")
        lines: dict[str, int] = {}
        entries: dict[str, tuple[Node, Node]] = {}
        for key_node, value_node in node.value:
            if str(key_node.tag) == TAG + "merge":
                continue
            # What is behind the comma in {lr: 0,001} is the next key, with nothing behind it.
            is_lone = node.flow_style is True and value_node.value == ""
            key = self._key(key_node, path, is_lone=is_lone)
            if key in lines:
                raise self._error(
                    f"this key stands twice; it is in line {lines[key]} already",
                    key_node,
                    (*path, key),
                    hint="take one of the two out",
                )
            lines[key] = key_node.start_mark.line + 1
            entries[key] = (key_node, value_node)
        for key, pair in self._merged(node, path):
            entries.setdefault(key, pair)
        tree = {}
        for key, (key_node, value_node) in entries.items():
            inner = (*path, key)
            self.marks[inner] = self._mark(key_node)
            tree[key] = self._value(value_node, inner)
            if tree[key] is None and value_node.value == "":
                self.blanks.add(inner)
        return tree

    def _merged(self, node: Node, path: ConfigPath) -> Iterator[tuple[str, tuple[Node, Node]]]:
        """Entries that ``<<: *alias`` brings in."""
        from ruamel.yaml.nodes import MappingNode, SequenceNode

        for key_node, value_node in node.value:
            if str(key_node.tag) != TAG + "merge":
                continue
            sources = value_node.value if isinstance(value_node, SequenceNode) else [value_node]
            for source in sources:
                if not isinstance(source, MappingNode):
                    raise self._error("`<<` merges mappings only", key_node, path)
                for inner_key, inner_value in source.value:
                    if str(inner_key.tag) != TAG + "merge":
                        yield self._key(inner_key, path), (inner_key, inner_value)
                yield from self._merged(source, path)

    def _key(self, node: Node, path: ConfigPath, *, is_lone: bool = False) -> str:
        from ruamel.yaml.nodes import ScalarNode

        if not isinstance(node, ScalarNode) or str(node.tag) != TAG + "str":
            shown_key = node.value if isinstance(node, ScalarNode) else "a mapping or list"
            hint = f"write decimals with a point: 0.{shown_key}"
            raise self._error(
                f"a key must be a text, not {shown_key}",
                node,
                path,
                hint=hint if is_lone and shown_key.isdigit() else None,
            )
        return str(node.value)

    def _sequence(self, node: Node, path: ConfigPath) -> list[Any]:
        self._must_be(node, path, "seq")
        items = []
        for index, item in enumerate(node.value):
            self.marks[*path, index] = self._mark(item)
            items.append(self._value(item, (*path, index)))
        return items

    def _scalar(self, node: Node, path: ConfigPath) -> Any:
        # A date is a text here: YAML 1.2 knows no dates, and no config wants one.
        if str(node.tag) == TAG + "timestamp":
            return str(node.value)
        self._must_be(node, path, "str", "int", "float", "bool", "null")
        try:
            value = self._construct(node)
        except ValueError:
            raise self._error("not a number that can be read", node, path) from None
        return math.nan if value != value else value

    def _must_be(self, node: Node, path: ConfigPath, *tags: str) -> None:
        if str(node.tag) not in {TAG + tag for tag in tags}:
            raise self._error(
                f"the YAML tag {str(node.tag).replace(TAG, '!!')} is not allowed here",
                node,
                path,
                hint="take the tag out",
            )

    def _mark(self, node: Node) -> Mark:
        return Mark(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def _error(
        self, problem: str, node: Node | None, path: ConfigPath = (), hint: str | None = None
    ) -> ConfigError:
        line = None if node is None else node.start_mark.line + 1
        return ConfigError(problem, path=path, hint=hint, file=self.file, line=line)

    def _syntax_error(self, error: Any, text: str) -> ConfigError:
        mark = error.problem_mark or error.context_mark
        opened = error.context_mark.line + 1 if error.context_mark else None
        if "end of stream" in str(error.problem) and error.context_mark:
            mark = error.context_mark  # where it began tells more than the end of the file
        lines = text.splitlines()
        line = min(mark.line, max(len(lines) - 1, 0)) if mark else 0
        problem = str(error.problem or error.context).replace("'<stream end>'", "the end")
        hint = None
        if "'\\t'" in problem:
            hint = "indent with spaces, not with tabs"
        elif "mapping values are not allowed" in problem:
            hint = "a text with a colon needs quotes; keys of one mapping need the same indentation"
        elif "undefined alias" in problem:
            hint = "a text that begins with * needs quotes"
        elif "expected ',' or" in problem:
            hint = f"close the bracket opened in line {opened}, or add the missing comma"
        elif "end of stream" in problem:
            hint = "close the quote"
        elif "another document" in problem:
            problem = "a second document begins here"
            hint = "one file holds one document: take out the line ---"
        found = ConfigError(f"not valid YAML: {problem}", hint=hint, file=self.file, line=line + 1)
        if lines and lines[line].strip():
            found.value = lines[line].strip()
        return found
