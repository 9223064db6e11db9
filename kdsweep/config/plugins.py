"""Sections that other packages may add to: losses, data sources, trackers.

A member of such a family is a class of keys. It names its implementation as ``module:name``, which
is imported when it is used: reading a file loads nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import create_model, model_validator

from kdsweep.config.base import Config, broken_rule
from kdsweep.config.schema_node import SchemaNode
from kdsweep.errors import ConfigError
from kdsweep.registry import Registry, named


class PluggedConfig(Config):
    """The keys of a member of a family that is open to other packages."""

    implementation: ClassVar[str]
    """Where the member itself is, as ``module:name``."""

    @classmethod
    def load_implementation(cls, path: Sequence[str | int] = ()) -> Any:
        """Return the object that :attr:`implementation` names.

        Args:
            path: Where in a job the member was asked for.

        Raises:
            ConfigError: It cannot be imported.
        """
        try:
            return named(cls.implementation)
        except Exception as error:  # whatever a stranger's code raises
            if cls.implementation.startswith("kdsweep."):
                raise
            raise ConfigError(
                f"{cls.implementation} cannot be loaded: {type(error).__name__}: {error}",
                path=path,
                hint="mend or uninstall the package that it belongs to",
            ) from error


M = TypeVar("M", bound=PluggedConfig)


def family(name: str, group: str, base: type[M], reserved: Callable[[str], bool]) -> Registry[Any]:
    """Return the registry of a family whose members are classes of keys.

    Args:
        name: What the members are, in words.
        group: Entry points by which other packages add members.
        base: What every member inherits from.
        reserved: Whether a name means something else already.
    """

    def check(member_name: str, member: Any) -> None:
        if not member_name.isidentifier() or hasattr(Config, member_name) or reserved(member_name):
            raise ValueError("this name cannot be used here")
        if not (isinstance(member, type) and issubclass(member, base)):
            raise TypeError(f"{member!r} does not inherit from {base.__module__}.{base.__name__}")
        if not isinstance(getattr(member, "implementation", None), str):
            raise TypeError(f"{member.__name__} has no `implementation`")
        for field in member.model_fields.values():
            SchemaNode.of_field(field).describe()
        member.model_json_schema()
        if "source" in base.model_fields and SchemaNode.of_field(
            member.model_fields["source"]
        ).names() != [member_name]:
            raise TypeError(f'{member.__name__}.source is not Literal["{member_name}"]')

    return Registry(name, group, check, lambda key, problem: _stand_in(base, key, problem))


class _Refused(Config):
    """Keys that say what is wrong with their package as soon as they are used."""

    problem: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, given: Any) -> Any:
        raise broken_rule(cls.problem, hint="mend or uninstall the package, or do without")


def _stand_in(base: type[M], name: str, problem: str) -> Any:
    fields: dict[str, Any] = {}
    if "source" in base.model_fields:
        fields["source"] = (Literal[name], ...)
    title = f"Broken{name.title().replace('_', '')}"
    made: Any = create_model(title, __base__=(_Refused, base), __doc__=f"{problem}.", **fields)
    made.problem = problem
    return made
