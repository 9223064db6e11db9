"""YAML in and out, with the place in the file of everything that was read."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from kdsweep.config.shipped import file_meant, shipped_files
from kdsweep.config.yaml_reader import TAG, Mark, Reader
from kdsweep.errors import ConfigError, ConfigPath, close_names, dotted


@dataclass
class Document:
    """A mapping that was read, and where each part of it was written.

    Attributes:
        tree: Plain mappings, lists and scalars.
        file: The file it came from; ``None`` if it came from Python.
        text: The file as it was, comments and all.
        marks: SchemaNode of each key and list item.
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

    def is_changed(self, name: str) -> bool:
        """Return whether an override has changed a range, what is in it, or what it stands in."""
        for path, mark in self.marks.items():
            changed = dotted([part for part in path if part not in ("values", "value")])
            within = name.startswith((f"{changed}.", f"{changed}["))
            around = changed.startswith((f"{name}.", f"{name}["))
            if mark.line is None and (within or around or changed == name):
                return True
        return False

    def locate(self, error: ConfigError, path: ConfigPath | None = None) -> ConfigError:
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
    """Read a YAML file or a space that comes with kdsweep, or take a mapping from Python.

    Raises:
        ConfigError: There is no such file, it is not valid YAML, or it holds no mapping.
    """
    if isinstance(source, Mapping):
        return Document(_plain_tree(source, ()))
    path = file_meant(Path(source).expanduser())
    text = _read_text(path)
    return parse_document(text, str(path))


def parse_document(text: str, file: str) -> Document:
    """The mapping in a YAML text; messages name its ``file``."""
    document = Document({}, file=file, text=text)
    tree = Reader(file, document.marks, document.blanks).read(text)
    if tree is None:
        raise ConfigError(
            "the file is empty",
            allowed="a mapping with keys such as data, student, train",
            file=file,
        )
    if not isinstance(tree, dict):
        raise ConfigError(
            "the file holds no mapping",
            value=tree,
            allowed="a mapping with keys such as data, student, train",
            file=file,
            line=1,
        )
    document.tree = tree
    return document


def parse_value(text: str, origin: str) -> Any:
    """The value in a piece of YAML, as of ``--set path=value``; messages name its ``origin``."""
    return Reader(origin, {}, set()).read(text)


def dump_yaml(value: BaseModel | Mapping[str, Any]) -> str:
    """``value`` as YAML that reads back as an equal value; short lists stay on one line."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    def dressed(item: Any) -> Any:
        if isinstance(item, Mapping):
            pairs = {dressed(key): dressed(inner) for key, inner in item.items()}
            mapping = CommentedMap(pairs)
            if not mapping or set(mapping) <= _RANGE_LIKE:
                mapping.fa.set_flow_style()
            return mapping
        if isinstance(item, list | tuple):
            sequence = CommentedSeq([dressed(inner) for inner in item])
            if not any(isinstance(inner, dict | list) for inner in item):
                sequence.fa.set_flow_style()
            return sequence
        if isinstance(item, str) and item.startswith(("?", ":")):
            # The writer leaves ?; and : < bare, and the reader takes their first for a mark.
            return DoubleQuotedScalarString(item)
        return item

    tree = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 4096  # a folded line is hard to compare between two files
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda r, _: r.represent_scalar(TAG + "null", "null")
    )
    yaml.representer.add_representer(
        float, lambda r, number: r.represent_scalar(TAG + "float", _float_text(number))
    )
    out = io.StringIO()
    yaml.dump(dressed(tree), out)
    return out.getvalue()


def _float_text(number: float) -> str:
    """A float that readers of YAML 1.1, such as PyYAML, do not take for a text: 1.0e-05."""
    text = repr(number)
    if not math.isfinite(number):
        return {"inf": ".inf", "-inf": "-.inf"}.get(text, ".nan")
    return text if "." in text or "e" not in text else text.replace("e", ".0e")


_RANGE_LIKE = {"values", "value", "min", "max", "distribution", "q", "probabilities"}


def _read_text(path: Path) -> str:
    try:
        if path.is_dir():
            found = ", ".join(p.name for p in sorted(path.glob("*.y*ml"))[:8])
            hint = f"one of the files in it: {found}" if found else None
            raise ConfigError("this is a folder, not a file", file=path, hint=hint)
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = _nearest_files(path)
        hint = f"did you mean {' or '.join(near)}?" if near else "check the path"
        if not near and str(path) == path.stem:
            hint = f"a file, or a space that comes with kdsweep: {', '.join(shipped_files())}"
        raise ConfigError("there is no such file", file=path, hint=hint) from None
    except UnicodeDecodeError:
        raise ConfigError("the file is not UTF-8 text", file=path) from None
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror}", file=path) from None


def _nearest_files(path: Path) -> list[str]:
    folders = dict.fromkeys((path.parent, Path("search_spaces")))
    there = [file for folder in folders for file in sorted(folder.glob("*.y*ml"))]
    stems = close_names(path.stem, dict.fromkeys(file.stem for file in there), num=2)
    near = [str(file) for stem in stems for file in there if file.stem == stem]
    return near or close_names(path.stem, shipped_files(), num=2)


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
                raise ConfigError("a key must be a text", path=path, value=key)
        return {key: _plain_tree(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_tree(item, (*path, index)) for index, item in enumerate(value)]
    return str(value) if isinstance(value, Path) else value
