"""The schema for people and editors: tables of all keys, and a JSON Schema of search spaces.

Both are made from the configs and their docstrings, so that neither can go stale. To bring the
tables up to date::

    python -m kdsweep.config.reference docs/reference.md
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from kdsweep.config.base import Config
from kdsweep.config.data import BaseDataConfig
from kdsweep.config.grammar import DISTRIBUTIONS
from kdsweep.config.job import Job
from kdsweep.config.loading import SweepSections
from kdsweep.config.losses import LossConfig
from kdsweep.config.schema_node import SchemaNode
from kdsweep.errors import shown

REQUIRED = "required"
_TABLE = re.compile(r"(<!-- keys of (\w+)(?: beyond (\w+))? -->\n).*?(<!-- end -->)", re.DOTALL)
_ATTRIBUTE = re.compile(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", re.MULTILINE)


def all_sections() -> dict[str, type[Config]]:
    """Every section that a search space may hold, by its class name, in the order of the file."""
    return {
        section.__name__: section
        for section in dict.fromkeys([*_sections_of(Job), *_sections_of(SweepSections)])
    }


def _sections_of(section: type[Config]) -> list[type[Config]]:
    """A section and all that may stand in it, each once."""
    found = [section]
    for field in section.model_fields.values():
        for inner in SchemaNode.of_field(field).sections:
            found += _sections_of(inner)
    return list(dict.fromkeys(found))


def meanings(section: type[Config]) -> dict[str, str]:
    """Return what each key means: its description, or else ``Attributes:`` of a docstring."""
    texts: dict[str, str] = {}
    for base in reversed(section.__mro__):
        if issubclass(base, Config) and base.__doc__:
            attributes = inspect.cleandoc(base.__doc__).partition("Attributes:\n")[2]
            for names, text in _ATTRIBUTE.findall(attributes):
                words = " ".join(text.split())
                texts.update(dict.fromkeys(names.split(", "), words))
    fields = section.model_fields.items()
    return {name: field.description or texts.get(name, "") for name, field in fields}


class Key(NamedTuple):
    """A key of a section, in words.

    Attributes:
        default: Its default as it would stand in a file, or ``required``.
        allowed: What may stand there.
        meaning: What it does.
    """

    name: str
    default: str
    allowed: str
    meaning: str


def keys_of(section: type[Config]) -> list[Key]:
    """The keys of a section, in its order."""
    texts = meanings(section)
    return [
        Key(name, _default(field), _allowed(SchemaNode.of_field(field)), texts[name])
        for name, field in section.model_fields.items()
    ]


def table(section: type[Config], beyond: type[Config] | None = None) -> str:
    """The keys of a section as a Markdown table.

    Args:
        section: The section.
        beyond: Leave out the keys that it shares with this one; a key to which the section gives
            another default stays.
    """
    known = beyond.model_fields if beyond else {}
    known = {n: f for n, f in known.items() if not _differs(section.model_fields[n], f)}
    lines = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    for key in keys_of(section):
        if key.name not in known:
            default = key.default if key.default == REQUIRED else f"`{key.default}`"
            cells = (f"`{key.name}`", default, key.allowed, key.meaning)
            lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def with_tables(text: str) -> str:
    """A Markdown text with the tables between its markers made anew."""
    bases = (BaseDataConfig, LossConfig)
    sections: dict[str, type[Config]] = {
        **all_sections(),
        **{base.__name__: base for base in bases},
    }

    def renew(match: re.Match[str]) -> str:
        head, name, beyond, end = match.groups()
        return head + table(sections[name], sections.get(beyond)) + end

    return _TABLE.sub(renew, text)


def _differs(field: FieldInfo, base: FieldInfo) -> bool:
    """Return whether a key is of the same kind as in the base, but with a default of its own."""
    return field.annotation == base.annotation and field.default != base.default


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return REQUIRED
    default = field.get_default(call_default_factory=True)
    if isinstance(default, Config):
        chosen = to_jsonable_python(default.model_dump(exclude_defaults=True))
        return shown(chosen)
    return shown([default])[1:-1]


def _allowed(place: SchemaNode) -> str:
    if place.sections:
        return "a mapping" + (" or null" if place.nullable else "")
    return place.describe()


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", r"\|")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a search space, for completion and checks while typing in an editor."""

    class SearchSpace(Job, SweepSections):
        """A kdsweep search space."""

    schema = SearchSpace.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    definitions = schema["$defs"]
    _describe(schema, SearchSpace)
    for name, section in all_sections().items():
        if name in definitions:
            _describe(definitions[name], section)
    fixed = {config.__name__ for config in _sections_of(SweepSections)}
    for name, definition in definitions.items():
        if name not in fixed:
            _open_to_ranges(definition["properties"], definition["properties"])
    _open_to_ranges(schema["properties"], Job.model_fields.keys() - {"name"})
    definitions["Range"] = _range({})
    definitions["Interval"] = _INTERVAL
    definitions["Probabilities"] = {
        "type": "array",
        "items": {"type": "number", "exclusiveMinimum": 0},
    }
    definitions["Distribution"] = {"enum": list(DISTRIBUTIONS)}
    return schema


def _describe(definition: dict[str, Any], section: type[Config]) -> None:
    texts = meanings(section)
    for key, value in definition["properties"].items():
        value["description"] = _cell(texts[key])
        value.pop("title", None)


_SHARES = {"$ref": "#/$defs/Probabilities"}
_DISTRIBUTION = {"$ref": "#/$defs/Distribution"}
_INTERVAL = {
    "type": "object",
    "properties": {
        "min": {"type": "number"},
        "max": {"type": "number"},
        "q": {"type": "number", "exclusiveMinimum": 0},
        "distribution": _DISTRIBUTION,
    },
    "required": ["min", "max"],
    "additionalProperties": False,
}


def _open_to_ranges(properties: dict[str, Any], keys: Any) -> None:
    """Let ranges stand in place of the values of ``keys``."""
    for key in keys:
        value = properties[key]
        outside = {k: value.pop(k) for k in ("description", "default") if k in value}
        if "oneOf" in value:  # several may fit once a range can stand where the tag does
            value["anyOf"] = value.pop("oneOf")
            value.pop("discriminator", None)
        for part in ("items", "prefixItems"):
            if isinstance(value.get(part), list):
                value[part] = [_or_range(item) for item in value[part]]
            elif part in value:
                value[part] = _or_range(value[part])
        properties[key] = {**_or_range(value), **outside}


def _or_range(value: dict[str, Any]) -> dict[str, Any]:
    # A tag may range over the names of its sisters, whose schemas stand elsewhere.
    choices = [{"$ref": "#/$defs/Range"}] if "const" in value else _range(value)["anyOf"]
    return {"anyOf": [value, *choices]}


def _range(value: dict[str, Any]) -> dict[str, Any]:
    choice = {"anyOf": [value, {"$ref": "#/$defs/Range"}]} if value else {}
    choices = {
        "type": "object",
        "properties": {
            "values": {"type": "array", "items": choice, "minItems": 1},
            "probabilities": _SHARES,
            "distribution": _DISTRIBUTION,
        },
        "required": ["values"],
        "additionalProperties": False,
    }
    constant = {
        "type": "object",
        "properties": {"value": choice, "distribution": _DISTRIBUTION},
        "required": ["value"],
        "additionalProperties": False,
    }
    interval = [{"$ref": "#/$defs/Interval"}] if not value or "number" in set(_types(value)) else []
    return {"anyOf": [choices, constant, *interval]}


def _types(value: dict[str, Any]) -> Iterator[str]:
    kind = value.get("type")
    yield "number" if kind == "integer" else str(kind)
    for member in value.get("anyOf", ()):
        yield from _types(member)


if __name__ == "__main__":
    guide = Path(sys.argv[1])
    guide.write_text(with_tables(guide.read_text(encoding="utf-8")), encoding="utf-8")
