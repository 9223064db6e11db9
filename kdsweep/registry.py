"""The one registry class; each family of components holds one instance of it.

Other packages add members by entry points, in their ``pyproject.toml``::

    [project.entry-points."kdsweep.losses"]
    cosine = "kdsweep_cosine.keys:CosineConfig"

A package that cannot be loaded is one warning, and its members are errors where they are used.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from kdsweep.errors import ConfigError

T = TypeVar("T")


class PluginWarning(UserWarning):
    """A package that adds members to a family cannot be used."""


class Registry(Generic[T]):
    """Names to components of one family, for example distillation losses.

    Args:
        family: What the members are, in words that fit an error message ("distillation loss").
        group: Entry points by which other packages add members; they are loaded when a member is
            first asked for. None are looked for if left out.
        check: Called with the name and the object behind an entry point; raises any error if that
            is no member.
        stand_in: Makes what stands for a member that cannot be loaded, from its name and what is
            wrong with it; it should say so when it is used. Such names are unknown if left out.
    """

    def __init__(
        self,
        family: str,
        group: str | None = None,
        check: Callable[[str, Any], None] | None = None,
        stand_in: Callable[[str, str], T] | None = None,
    ) -> None:
        self.family = family
        self.group = group
        self.broken: dict[str, str] = {}
        self._check = check
        self._stand_in = stand_in
        self._members: dict[str, T] = {}
        self._packages: dict[str, str] = {}
        self._is_complete = group is None

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that adds the decorated object under ``name``."""

        def add(member: T) -> T:
            if name in self._members:
                raise ValueError(f"{self.family} {name!r} is registered twice")
            self._members[name] = member
            return member

        return add

    def get(self, name: str, path: tuple[str | int, ...] = ()) -> T:
        """The member called ``name``.

        Raises:
            ConfigError: No such member; the message lists the known names, nearest first.
        """
        members = self._complete()
        if name not in members:
            raise ConfigError(f"unknown {self.family}", path=path, value=name, allowed=self.names())
        return members[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._complete())

    def members(self) -> dict[str, T]:
        """All members by name: those of kdsweep in their order, then those of other packages."""
        return dict(self._complete())

    def package(self, name: str) -> str | None:
        """Return the package that a member comes from, with its version; ``None`` for kdsweep."""
        self._complete()
        return self._packages.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._complete()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _complete(self) -> dict[str, T]:
        if not self._is_complete:
            self._is_complete = True
            found = entry_points(group=self.group or "")
            for entry in sorted(found, key=lambda entry: (_package(entry), entry.name)):
                self._add(entry)
        return self._members

    def _add(self, entry: EntryPoint) -> None:
        name, package = entry.name, _package(entry)
        if name in self._members:
            owner = self._packages.get(name, "kdsweep")
            if owner != package:  # the same package may be seen twice, through two paths
                warn_of_plugin(f"{package} adds a {self.family} {name}, which {owner} has already")
            return
        try:
            member = entry.load()
            if self._check is not None:
                self._check(name, member)
        except Exception as error:  # whatever a stranger's code raises
            problem = (
                f"the {self.family} {name} of the package {package} cannot be loaded: "
                f"{type(error).__name__}: {error}"
            )
            self.broken[name] = problem
            warn_of_plugin(problem)
            if self._stand_in is None:
                return
            member = self._stand_in(name, problem)
        self._members[name] = member
        self._packages[name] = package


def named(reference: str) -> Any:
    """Return the object that ``module:name`` refers to."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


def _package(entry: EntryPoint) -> str:
    return "?" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def warn_of_plugin(text: str) -> None:
    """Tell the user about a package that adds members; never an error."""
    try:
        warnings.warn(text, PluginWarning, stacklevel=2)
    except PluginWarning:
        # Warnings are errors here, but a package that is not asked for stops nothing.
        print(f"warning: {text}", file=sys.stderr)
