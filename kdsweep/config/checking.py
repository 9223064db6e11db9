"""Validation of plain trees, with pydantic's findings put into words.

Each finding becomes one :class:`~kdsweep.errors.ConfigError` that names the place, the value and
what is allowed there. The errors carry no file or line yet: whoever read the tree adds those.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

from kdsweep.config.base import RULE, Config
from kdsweep.config.document import parse_value
from kdsweep.config.schema_node import SchemaNode, homes_of
from kdsweep.errors import ConfigError, ConfigPath, did_you_mean, shown

S = TypeVar("S", bound=Config)
_NOTHING = object()
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)

# Pydantic's kinds of findings, in words. Those that need more than a word have a function below.
UNKNOWN_KEY, NOT_WHOLE = "unknown key", "not a whole number"
_PROBLEMS = {
    "int_type": NOT_WHOLE,
    "int_from_float": NOT_WHOLE,
    "int_parsing_size": "too large",
    "float_type": "not a number",
    "finite_number": "not a finite number",
    "bool_type": "neither true nor false",
    "string_type": "not a text",
    "tuple_type": "not a list",
    "dict_type": "not a mapping",
    "model_type": "not a mapping",
    "model_attributes_type": "not a mapping",
    "greater_than": "too small",
    "greater_than_equal": "too small",
    "less_than": "too large",
    "less_than_equal": "too large",
    "too_short": "too few items",
    "too_long": "too many items",
    "literal_error": "not one of the allowed names",
}


def check(
    model: type[S], tree: Mapping[str, Any], more_keys: Mapping[str, SchemaNode] | None = None
) -> S:
    """``tree`` as a ``model``.

    Args:
        model: The config to build.
        tree: Plain mappings, lists and scalars.
        more_keys: Keys that the document may have beside those of ``model``, for messages only.

    Raises:
        FindingsError: What is wrong, one error for each finding.
    """
    try:
        return model.model_validate(dict(tree))
    except ValidationError as error:
        raise FindingsError(
            list(_findings(error, SchemaNode(model), tree, more_keys or {}))
        ) from None


class FindingsError(Exception):
    """Several errors of one document, not yet put in their places.

    Never leaves ``kdsweep.config``: loading turns it into one :class:`~kdsweep.errors.ConfigError`.
    """

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.errors = list(errors)


def unknown_key(
    path: ConfigPath,
    known: Sequence[str],
    *,
    root: Mapping[str, SchemaNode] | None = None,
    tagged: SchemaNode | None = None,
) -> ConfigError:
    """The error about a key that its mapping does not have.

    Args:
        path: The key's path.
        known: The keys that the mapping may have.
        root: The places at the top of the document, searched for the key's right home.
        tagged: The place of several sections, one of which the mapping is.
    """
    key = str(path[-1])
    hint = did_you_mean(key, known)
    homes = homes_of(key, root or {})
    owners = [t for t, s in tagged.tags().items() if key in s.model_fields] if tagged else []
    if owners:
        assert tagged is not None
        hint = f"only with {tagged.tag}: {' or '.join(owners)}"
    elif hint is None and homes:
        hint = f"`{key}` belongs at {' or '.join(homes[:3])}"
    return ConfigError(UNKNOWN_KEY, path=path, value=key, allowed=known, hint=hint)


def _findings(
    error: ValidationError, root: SchemaNode, tree: Any, more_keys: Mapping[str, SchemaNode]
) -> Iterator[ConfigError]:
    top = {**root.keys(tree), **more_keys} if root.sections else {}
    judged: set[ConfigPath] = set()
    for finding in error.errors(include_url=False):
        spot = _Spot(root, tree)
        for part in finding["loc"]:
            if not spot.step(part):
                break
        if len(spot.place.kinds) > 1 and spot.place.tag is None and not spot.unknown:
            # Pydantic lists what is wrong with the value as each of the types it might be.
            if spot.path not in judged:
                judged.add(spot.path)
                yield from _as_most_likely(spot)
        elif not _is_echo(finding, spot.value):
            yield _in_words(finding, spot, top)


def _is_echo(finding: Mapping[str, Any], value: Any) -> bool:
    """Return whether a list is called too short only as pydantic does not count its bad items."""
    return finding["type"] == "too_short" and len(value) >= finding["ctx"]["min_length"]


class _Spot:
    """A walk through the schema and the tree at once, along the location of a finding."""

    def __init__(self, place: SchemaNode, value: Any) -> None:
        self.place, self.value = place, value
        self.path: ConfigPath = ()
        self.parent, self.parent_value = place, value
        self.tagged: SchemaNode | None = None
        self.unknown = False

    def step(self, part: str | int) -> bool:
        """Follow one part of the location; ``False`` where the walk cannot go on."""
        place = self.place
        if place.tag is not None:
            if not isinstance(part, str) or part not in place.tags():
                return False
            self.tagged = place
            self.place = SchemaNode(place.tags()[part])  # pydantic names the member; users do not
            return True
        if len(place.kinds) != 1:
            return False
        kind = place.kinds[0]
        if kind.sections:
            keys = kind.keys(self.value)
            self.unknown = part not in keys
            self.place = SchemaNode(Any) if self.unknown else keys[str(part)]
        elif isinstance(part, int) and kind.items is not None:
            self.place = kind.items
        elif kind.is_open and part != "[key]":
            self.place = SchemaNode(Any)
        else:
            return False
        self.path = (*self.path, part)
        self.parent, self.parent_value = place, self.value
        self.value = _item(self.value, part)
        return True


def _item(value: Any, part: str | int) -> Any:
    try:
        return value[part]
    except (KeyError, IndexError, TypeError):
        return _NOTHING


def _in_words(
    finding: Mapping[str, Any], spot: _Spot, top: Mapping[str, SchemaNode]
) -> ConfigError:
    kind, path, value, place = finding["type"], spot.path, spot.value, spot.place
    if kind == RULE:
        rule = finding["ctx"]
        inner: ConfigPath = tuple(rule["at"])
        for part in inner:
            value = _item(value, part)
        error = ConfigError(
            rule["problem"], path=(*path, *inner), allowed=rule["allowed"], hint=rule["hint"]
        )
        if value is not _NOTHING and not isinstance(value, dict):
            error.value = value
        return error
    if kind == "extra_forbidden":
        known = top if len(path) == 1 and top else spot.parent.keys(spot.parent_value)
        return unknown_key(path, list(known), root=top, tagged=spot.tagged)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        assert place.tag is not None
        path, value = (*path, place.tag), _item(value, place.tag)
        names = list(place.tags())
        if value is _NOTHING:
            return ConfigError("missing", path=path, allowed=names)
        return ConfigError(f"unknown {place.tag}", path=path, value=value, allowed=names)
    if kind == "missing" and spot.parent.items is not None:
        path, value, place, kind = path[:-1], spot.parent_value, spot.parent, "too_short"
    if kind == "missing" or value is _NOTHING:
        return ConfigError("missing", path=path, allowed=place.describe())
    if value is None:
        return _null_not_allowed(path, place)
    allowed = place.names() or place.describe()
    problem = _PROBLEMS.get(kind, finding["msg"])
    return ConfigError(problem, path=path, value=value, allowed=allowed, hint=_hint(place, value))


def _null_not_allowed(path: ConfigPath, place: SchemaNode) -> ConfigError:
    return ConfigError(
        "null is not allowed here",
        path=path,
        allowed=place.describe(),
        hint=None if place.required else "leave the key out for its default",
    )


def _as_most_likely(spot: _Spot) -> Iterator[ConfigError]:
    """Return what is wrong with a value that fits none of several types, as the nearest one."""
    section = spot.place.section(spot.value)
    likely = (
        SchemaNode(section)
        if section
        else next((kind for kind in spot.place.kinds if _alike(kind, spot.value)), None)
    )
    if spot.value is None:
        yield _null_not_allowed(spot.path, spot.place)
        return
    if likely is None:
        yield ConfigError(
            "not allowed here",
            path=spot.path,
            value=spot.value,
            allowed=spot.place.describe(),
        )
        return
    typed: Any = likely.annotation
    if likely.constraints:
        typed = Annotated[likely.annotation, *likely.constraints]
    try:
        TypeAdapter(typed, config=None if section else _STRICT).validate_python(spot.value)
    except ValidationError as error:
        for inner in _findings(error, likely, spot.value, {}):
            if not inner.path and section is None:
                if isinstance(inner.value, str) and isinstance(inner.allowed, list):
                    # The description is a text, in which no near name can be found.
                    inner.hint = inner.hint or did_you_mean(inner.value, inner.allowed)
                inner.allowed = spot.place.describe()
            inner.path = (*spot.path, *inner.path)
            yield inner


def _alike(kind: SchemaNode, value: object) -> bool:
    """Return whether ``value`` is at least of the sort that ``kind`` wants."""
    origin = get_origin(kind.annotation)
    if kind.annotation is bool:
        return isinstance(value, int) or (isinstance(value, str) and value.lower() in _SWITCHES)
    if isinstance(value, str):
        return origin is Literal or kind.annotation is str
    if isinstance(value, list | tuple):
        return origin is tuple
    return isinstance(value, int | float) and kind.annotation in (int, float)


def _hint(place: SchemaNode, value: object) -> str | None:
    """Return what to write instead, where that can be guessed from the value."""
    wanted = place.kinds[0].annotation
    if place.sections:
        return _section_hint(place, value)
    if place.items is not None and isinstance(value, str | int | float):
        return f"write a list: {shown([value] * place.least_items)}"
    if isinstance(value, list) and place.items is None and not place.is_open:
        return f"to try each of them: {{values: {shown(value)}}}"
    if isinstance(value, dict) and not place.is_open:
        return "a range is written {values: [a, b]} or {min: a, max: b}"
    if wanted in (int, float) and isinstance(value, str) and _is_number(value):
        number = value.strip() if _reads_as_number(value.strip()) else shown(float(value))
        return f"write it without quotes: {number}"
    if wanted is int and isinstance(value, float) and value.is_integer():
        return f"write {int(value)}"
    if wanted is str and isinstance(value, int | float):
        return f'put it in quotes: "{shown(value)}"'
    if wanted is bool and isinstance(value, str) and value.lower() in _SWITCHES:
        return f"write {shown(_SWITCHES[value.lower()])}"
    return None


_SWITCHES = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
# The key that a lone scalar in place of a whole section most likely stands for.
_MAIN_KEYS = {str: ("source", "encoder"), float: ("weight",), int: ("weight", "trials", "epochs")}


def _section_hint(place: SchemaNode, value: object) -> str | None:
    if isinstance(value, bool):
        return "write {} for its defaults" if value else "write null to leave it out"
    for key in _MAIN_KEYS.get(type(value), ()):
        if key in place.keys(None):
            return f"did you mean {shown({key: value})}?"
    return None


def _reads_as_number(text: str) -> bool:
    return isinstance(parse_value(text, text), int | float)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
