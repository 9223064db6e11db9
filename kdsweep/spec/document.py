"""YAML in and out, with the place in the file of everything that was read.

YAML 1.2: ``1e-4`` is a number, ``yes`` and ``off`` are texts, a key that stands twice is an error.
"""

from __future__ import annotations

import difflib
import io
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from kdsweep.errors import ConfigPath, SpecError

if TYPE_CHECKING:
    from ruamel.yaml.nodes import Node

_TAG = "tag:yaml.org,2002:"


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


@dataclass
class Document:
    """A mapping that was read, and where each part of it was written.

    Attributes:
        tree: Plain mappings, lists and scalars.
        file: The file it came from; ``None`` if it came from Python.
        text: The file as it was, comments and all.
        marks: Place of each key and list item.
        blanks: Paths of keys with nothing behind them.
    """

    tree: dict[str, Any]
    file: str | None = None
    text: str | None = None
    marks: dict[ConfigPath, Mark] = field(default_factory=dict)
    blanks: set[ConfigPath] = field(default_factory=set)

    def mark(self, path: ConfigPath) -> Mark | None:
        """Where ``path`` was written, or the nearest thing around it.

        Where an override has changed a part of what stands at ``path``, it is the override.
        """
        if path and _stands_in(self.tree, path):
            for part, mark in self.marks.items():
                if mark.line is None and part[: len(path)] == path:
                    return mark
        for length in range(len(path), 0, -1):
            if path[:length] in self.marks:
                return self.marks[path[:length]]
        return Mark(self.file) if self.file else None

    def locate(self, error: SpecError, path: ConfigPath | None = None) -> SpecError:
        """``error`` with its file and line, unless it has them.

        Args:
            error: The error; changed in place.
            path: Where in this document it happened, if that is not the error's own path.
        """
        mark = self.mark(error.path if path is None else path)
        if error.file is None and mark is not None:
            error.located(mark.file, mark.line)
        return error


def read_document(source: str | Path | Mapping[str, Any]) -> Document:
    """Read a YAML file, or take a mapping from Python.

    Raises:
        SpecError: There is no such file, it is not valid YAML, or it holds no mapping.
    """
    if isinstance(source, Mapping):
        return Document(_plain_tree(source, ()))
    path = Path(source).expanduser()
    text = _read_text(path)
    return parse_document(text, str(path))


def parse_document(text: str, file: str) -> Document:
    """The mapping in a YAML text.

    Args:
        text: The text.
        file: Name of its file for messages.
    """
    document = Document({}, file=file, text=text)
    tree = _Reader(file, document.marks, document.blanks).read(text)
    if tree is None:
        raise SpecError(
            "the file is empty",
            allowed="a mapping with keys such as data, student, train",
            file=file,
        )
    if not isinstance(tree, dict):
        raise SpecError(
            "the file holds no mapping",
            value=tree,
            allowed="a mapping with keys such as data, student, train",
            file=file,
            line=1,
        )
    document.tree = tree
    return document


def parse_value(text: str, origin: str) -> Any:
    """The value in a piece of YAML, such as the right side of ``--set path=value``.

    Args:
        text: The YAML text.
        origin: What to call its place in messages.
    """
    return _Reader(origin, {}, set()).read(text)


def dump_yaml(value: BaseModel | Mapping[str, Any]) -> str:
    """``value`` as YAML that reads back as an equal value; short lists stay on one line."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    def dressed(item: Any) -> Any:
        if isinstance(item, Mapping):
            mapping = CommentedMap({key: dressed(inner) for key, inner in item.items()})
            if not mapping or set(mapping) <= _RANGE_LIKE:
                mapping.fa.set_flow_style()
            return mapping
        if isinstance(item, list | tuple):
            sequence = CommentedSeq([dressed(inner) for inner in item])
            if not any(isinstance(inner, dict | list) for inner in item):
                sequence.fa.set_flow_style()
            return sequence
        return item

    tree = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 4096  # a folded line is hard to compare between two files
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda r, _: r.represent_scalar(_TAG + "null", "null")
    )
    out = io.StringIO()
    yaml.dump(dressed(tree), out)
    return out.getvalue()


_RANGE_LIKE = {"values", "value", "min", "max", "distribution", "q", "probabilities"}


def _read_text(path: Path) -> str:
    if path.is_dir():
        found = ", ".join(p.name for p in sorted(path.glob("*.y*ml"))[:8])
        hint = f"one of the files in it: {found}" if found else None
        raise SpecError("this is a folder, not a file", file=path, hint=hint)
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = _nearest_files(path)
        raise SpecError(
            "there is no such file",
            file=path,
            hint=f"did you mean {' or '.join(near)}?" if near else "check the path",
        ) from None
    except UnicodeDecodeError:
        raise SpecError("the file is not UTF-8 text", file=path) from None
    except OSError as error:
        raise SpecError(f"the file cannot be read: {error.strerror}", file=path) from None


def _nearest_files(path: Path) -> list[str]:
    folders = dict.fromkeys((path.parent, Path("search_spaces")))
    there = [file for folder in folders for file in sorted(folder.glob("*.y*ml"))]
    stems = difflib.get_close_matches(path.stem, {file.stem for file in there}, n=2, cutoff=0.6)
    return [str(file) for stem in stems for file in there if file.stem == stem]


def _stands_in(tree: Any, path: ConfigPath) -> bool:
    for part in path:
        inside = part in tree if isinstance(tree, dict) else isinstance(tree, list)
        if not inside or (isinstance(tree, list) and part not in range(len(tree))):
            return False
        tree = tree[part]
    return True


def _plain_tree(value: Any, path: ConfigPath) -> Any:
    """A deep copy of a mapping from Python, as YAML would have given it."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise SpecError("a key must be a text", path=path, value=key)
        return {key: _plain_tree(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_tree(item, (*path, index)) for index, item in enumerate(value)]
    return str(value) if isinstance(value, Path) else value


class _Reader:
    """Turns YAML text into plain values and notes where each was written."""

    def __init__(self, file: str, marks: dict[ConfigPath, Mark], blanks: set[ConfigPath]) -> None:
        self.file, self.marks, self.blanks = file, marks, blanks
        self._open: list[Node] = []

    def read(self, text: str) -> Any:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError

        yaml = YAML(typ="safe", pure=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ReusedAnchorWarning)
                root = yaml.compose(io.StringIO(text))
        except MarkedYAMLError as error:
            raise self._syntax_error(error, text) from None
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

    def _mapping(self, node: Node, path: ConfigPath) -> dict[str, Any]:
        self._must_be(node, path, "map")
        lines: dict[str, int] = {}
        entries: dict[str, tuple[Node, Node]] = {}
        for key_node, value_node in node.value:
            if str(key_node.tag) == _TAG + "merge":
                continue
            key = self._key(key_node, path)
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
            if str(key_node.tag) != _TAG + "merge":
                continue
            sources = value_node.value if isinstance(value_node, SequenceNode) else [value_node]
            for source in sources:
                if not isinstance(source, MappingNode):
                    raise self._error("`<<` merges mappings only", key_node, path)
                for inner_key, inner_value in source.value:
                    if str(inner_key.tag) != _TAG + "merge":
                        yield self._key(inner_key, path), (inner_key, inner_value)
                yield from self._merged(source, path)

    def _key(self, node: Node, path: ConfigPath) -> str:
        from ruamel.yaml.nodes import ScalarNode

        if not isinstance(node, ScalarNode) or str(node.tag) != _TAG + "str":
            shown_key = node.value if isinstance(node, ScalarNode) else "a mapping or list"
            raise self._error(f"a key must be a text, not {shown_key}", node, path)
        return str(node.value)

    def _sequence(self, node: Node, path: ConfigPath) -> list[Any]:
        self._must_be(node, path, "seq")
        items = []
        for index, item in enumerate(node.value):
            self.marks[*path, index] = self._mark(item)
            items.append(self._value(item, (*path, index)))
        return items

    def _scalar(self, node: Node, path: ConfigPath) -> Any:
        # A date is a text here: YAML 1.2 knows no dates, and no spec wants one.
        if str(node.tag) == _TAG + "timestamp":
            return str(node.value)
        self._must_be(node, path, "str", "int", "float", "bool", "null")
        try:
            value = self._construct(node)
        except ValueError:
            raise self._error("not a number that can be read", node, path) from None
        return math.nan if value != value else value

    def _must_be(self, node: Node, path: ConfigPath, *tags: str) -> None:
        if str(node.tag) not in {_TAG + tag for tag in tags}:
            raise self._error(
                f"the YAML tag {str(node.tag).replace(_TAG, '!!')} is not allowed here",
                node,
                path,
                hint="take the tag out",
            )

    def _mark(self, node: Node) -> Mark:
        return Mark(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def _error(
        self, problem: str, node: Node | None, path: ConfigPath = (), hint: str | None = None
    ) -> SpecError:
        line = None if node is None else node.start_mark.line + 1
        return SpecError(problem, path=path, hint=hint, file=self.file, line=line)

    def _syntax_error(self, error: Any, text: str) -> SpecError:
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
        found = SpecError(f"not valid YAML: {problem}", hint=hint, file=self.file, line=line + 1)
        if lines and lines[line].strip():
            found.value = lines[line].strip()
        return found
