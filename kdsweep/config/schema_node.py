"""The job schema seen as a tree of places: which keys a place has and what may stand there.

A *place* is a type annotation with its constraints. Error messages, overrides, defaults, the JSON
Schema and the tables of the user's guide all read the schema through this module, so that none of
them repeats it.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from kdsweep.config.base import Config

_BOUNDS: tuple[tuple[type, str, str], ...] = (
    (annotated_types.Gt, "gt", ">"),
    (annotated_types.Ge, "ge", "≥"),
    (annotated_types.Lt, "lt", "<"),
    (annotated_types.Le, "le", "≤"),
)
_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


@dataclass(frozen=True)
class SchemaNode:
    """What may stand at one place of a document.

    Args:
        annotation: The type, as in the config's source.
        constraints: Bounds that pydantic checks besides the type.
        required: Whether something must stand here, for want of a default.
    """

    annotation: Any
    constraints: tuple[Any, ...] = ()
    required: bool = True

    @classmethod
    def of_field(cls, field: FieldInfo) -> SchemaNode:
        """The place that a field of a config is."""
        return cls(field.annotation, tuple(field.metadata), field.is_required())

    @cached_property
    def kinds(self) -> tuple[SchemaNode, ...]:
        """The types that may stand here, one by one; ``null`` is not among them."""
        origin = get_origin(self.annotation)
        if origin is Annotated:
            inner, *metadata = get_args(self.annotation)
            flat = [m for item in metadata for m in getattr(item, "metadata", [item])]
            return SchemaNode(inner, (*self.constraints, *flat), self.required).kinds
        if origin in (Union, types.UnionType):
            members = (replace(self, annotation=member) for member in get_args(self.annotation))
            return tuple(kind for member in members for kind in member.kinds)
        return () if self.annotation is type(None) else (self,)

    @cached_property
    def nullable(self) -> bool:
        """Whether ``null`` may stand here."""
        if get_origin(self.annotation) is Annotated:
            return SchemaNode(get_args(self.annotation)[0]).nullable
        return type(None) in get_args(self.annotation) or self.annotation is Any

    @cached_property
    def sections(self) -> tuple[type[Config], ...]:
        """The configs that may stand here."""
        return tuple(kind.annotation for kind in self.kinds if _is_config(kind.annotation))

    @cached_property
    def items(self) -> SchemaNode | None:
        """The place of one item, where lists may stand here."""
        for kind in self.kinds:
            if get_origin(kind.annotation) is tuple:
                return SchemaNode(get_args(kind.annotation)[0])
        return None

    @cached_property
    def least_items(self) -> int:
        """How many items a list has at least that may stand here; 1 where that is left open."""
        lists = [k for k in self.kinds if get_origin(k.annotation) is tuple]
        return len([i for i in get_args(lists[0].annotation) if i is not Ellipsis]) if lists else 1

    @cached_property
    def is_open(self) -> bool:
        """Whether any mapping may stand here."""
        return any(k.annotation is Any or get_origin(k.annotation) is dict for k in self.kinds)

    @cached_property
    def tag(self) -> str | None:
        """The key that tells several sections apart by its one allowed value, if there is one."""
        if len(self.sections) < 2:
            return None
        for name in self.sections[0].model_fields:
            tags = [_tags(section, name) for section in self.sections]
            if all(len(tag) == 1 for tag in tags) and len(set(tags)) == len(tags):
                return name
        return None

    def tags(self) -> dict[str, type[Config]]:
        """Sections by the value of their tag."""
        assert self.tag is not None
        return {tag: s for s in self.sections for tag in _tags(s, self.tag)}

    def section(self, value: object) -> type[Config] | None:
        """The config that ``value`` is meant to be, or ``None`` where that cannot be told."""
        if not self.sections or not isinstance(value, Mapping):
            return None
        if len(self.sections) == 1:
            return self.sections[0]
        if self.tag is not None:
            tag = value.get(self.tag)
            return self.tags().get(tag) if isinstance(tag, str) else None
        return min(self.sections, key=lambda section: _misfit(section, value))

    def keys(self, value: object) -> dict[str, SchemaNode]:
        """The keys that a mapping here may have, all that are possible if its config is unknown."""
        known = self.section(value)
        sections = self.sections if known is None else (known,)
        return {n: SchemaNode.of_field(f) for s in sections for n, f in s.model_fields.items()}

    def describe(self) -> str:
        """Return what may stand here, in words: ``a number > 0``."""
        texts = [] if self.tag else [_describe(kind) for kind in self.kinds]
        if self.tag:
            texts = [f"a mapping with `{self.tag}`, one of {', '.join(self.tags())}"]
        if self.nullable:
            texts.append("null")
        return " or ".join(texts)

    def names(self) -> list[str] | None:
        """The allowed names, where only names may stand here."""
        names: list[str] = []
        for kind in self.kinds:
            if get_origin(kind.annotation) is not Literal:
                return None
            names += [str(name) for name in get_args(kind.annotation)]
        return names + (["null"] if self.nullable else [])


def _is_config(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Config)


def _tags(section: type[Config], name: str) -> tuple[Any, ...]:
    field = section.model_fields.get(name)
    literal = field is not None and get_origin(field.annotation) is Literal
    return get_args(field.annotation) if field is not None and literal else ()


def _misfit(section: type[Config], value: Mapping[str, object]) -> tuple[int, int]:
    unknown = sum(key not in section.model_fields for key in value)
    try:
        section.model_validate(dict(value))
    except ValidationError as error:
        return unknown, error.error_count()
    return unknown, 0


def _describe(kind: SchemaNode) -> str:
    annotation, origin = kind.annotation, get_origin(kind.annotation)
    for note in kind.constraints:
        if isinstance(note, annotated_types.DocInfo):
            return note.documentation
    if origin is Literal:
        names = ", ".join(map(str, get_args(annotation)))
        return f"one of {names}" if len(get_args(annotation)) > 1 else f"the name {names}"
    if origin is tuple:
        return _describe_list(kind)
    if _is_config(annotation):
        return f"a mapping with the keys {', '.join(annotation.model_fields)}"
    if origin is dict:
        return "a mapping"
    if annotation is Any:
        return "anything"
    bounds = " and ".join(_bounds(kind.constraints))
    return f"{_NAMES[annotation]} {bounds}".strip()


def _describe_list(kind: SchemaNode) -> str:
    items = get_args(kind.annotation)
    item = SchemaNode(items[0]).describe()
    if items[-1] is not Ellipsis:
        return f"a list of {len(items)}, each {item}"
    least = [c.min_length for c in kind.constraints if isinstance(c, annotated_types.MinLen)]
    return (f"a list of {least[0]} or more, each " if least else "a list, each ") + item


def _bounds(constraints: Sequence[Any]) -> Iterator[str]:
    for constraint in constraints:
        for kind, attribute, sign in _BOUNDS:
            if isinstance(constraint, kind):
                yield f"{sign} {getattr(constraint, attribute)}"


def homes_of(key: str, root: Mapping[str, SchemaNode]) -> list[str]:
    """Dotted paths of the places called ``key``, the shortest first."""
    found: list[str] = []

    def walk(keys: Mapping[str, SchemaNode], prefix: str) -> None:
        for name, place in keys.items():
            if name == key:
                found.append(prefix + name)
            walk(place.keys(None), f"{prefix}{name}.")

    walk(root, "")
    return sorted(dict.fromkeys(found), key=lambda path: (path.count("."), found.index(path)))
