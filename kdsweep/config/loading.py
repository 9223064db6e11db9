"""From a file or mapping to a checked job: reading, overrides, validation, located errors."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from kdsweep.config.base import Config, broken_rule
from kdsweep.config.checking import FindingsError, check
from kdsweep.config.document import Document, read_document
from kdsweep.config.grammar import is_range
from kdsweep.config.job import Job, folder_name
from kdsweep.config.model import PACKAGE, WEIGHTS_SUFFIXES
from kdsweep.config.overrides import place_at, set_data, set_value
from kdsweep.config.schema_node import SchemaNode
from kdsweep.config.sweep import EQUAL_TIME, SELF, ResourcesConfig, SweepConfig
from kdsweep.config.template import find_ranges
from kdsweep.config.tracking import TrackingConfig
from kdsweep.errors import ConfigError, ConfigPath, dotted

Source = str | Path | Mapping[str, Any]


class SweepSections(Config):
    """The sections that a search space has besides those of a job.

    Attributes:
        sweep: What is searched, with what, for how long.
        resources: What one trial gets.
        tracking: Where epoch reports are sent besides the ledger.
    """

    sweep: SweepConfig = Field(default_factory=SweepConfig)
    resources: ResourcesConfig = Field(default_factory=ResourcesConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)

    @model_validator(mode="after")
    def _measures_no_time(self) -> SweepSections:
        if EQUAL_TIME in self.sweep.further_controls:
            raise broken_rule(
                "controls that train as long as their pair, in a search",
                at=("sweep", "further_controls"),
                allowed=SELF,
                hint="kdsweep confirm --equal-time trains them beside the best jobs",
            )
        return self


JOB_KEYS = SchemaNode(Job).keys({})
SPACE_KEYS = {**JOB_KEYS, **SchemaNode(SweepSections).keys({})}


@dataclass(frozen=True)
class JobFile:
    """A job with its document (a file or a mapping), overrides included."""

    job: Job
    document: Document

    def locate(self, error: ConfigError) -> ConfigError:
        """Give an error about this job, raised by a later check, its file and line."""
        return self.document.locate(error)


def load_job(source: Source, overrides: Sequence[str] = (), data: Sequence[str] = ()) -> Job:
    """Read a job.

    Args:
        source: A YAML file, or a mapping of the same form.
        overrides: Changes as ``path=value``, where ``value`` is YAML.
        data: Data sets as ``SOURCE=PATH``.

    Raises:
        ConfigError: Anything wrong with the job or the changes, with file and line.
    """
    return read_job(source, overrides, data).job


def read_job(source: Source, overrides: Sequence[str] = (), data: Sequence[str] = ()) -> JobFile:
    """Do what :func:`load_job` does, but keep the places in the file for errors to come."""
    document = open_document(source, overrides, data, JOB_KEYS, default_name="job")
    file = document.file or "FILE"
    for key in SweepSections.model_fields:
        if key in document.tree:
            error = ConfigError("this is a search space, not a job", path=(key,))
            error.hint = f"run it as a sweep with `kdsweep run {file}`"
            raise located(document, [error])
    for path in find_ranges(document.tree):
        error = ConfigError("a range, where a job needs one value", path=path)
        error.value = value_at(document.tree, path)
        error.hint = (
            f"choose a value with --set {dotted(path)}=VALUE, or run all of them as a sweep with "
            f"`kdsweep run {file}`"
        )
        raise located(document, [error])
    try:
        return JobFile(check(Job, document.tree), document)
    except FindingsError as found:
        raise located(document, found.errors) from None


def open_document(
    source: Source,
    overrides: Sequence[str],
    data: Sequence[str],
    keys: Mapping[str, SchemaNode],
    default_name: str,
) -> Document:
    """Read a document and apply the changes from the command line.

    Args:
        source: A YAML file, or a mapping.
        overrides: Changes as ``path=value``.
        data: Data sets as ``SOURCE=PATH``.
        keys: The places at the top of such documents.
        default_name: The ``name`` of a nameless mapping; a file lends its own name.
    """
    document = read_document(source)
    for text in data:
        set_data(document, text, keys["data"])
    for text in overrides:
        set_value(document, text, keys)
    if "name" not in document.tree:
        name = folder_name(Path(document.file).stem) if document.file else default_name
        document.tree = {"name": name, **document.tree}
    for section in ("data", "teacher", "student", "distill"):
        if section in document.tree:
            document.tree[section] = _complete(document, document.tree[section], (section,))
    _refuse_blanks(document, keys)
    return document


def located(document: Document, errors: Sequence[ConfigError]) -> ConfigError:
    """One error that tells all of ``errors``, each with its place, in the order of the file."""
    distinct: dict[tuple[ConfigPath, str], ConfigError] = {}
    for error in errors:
        distinct.setdefault((error.path, error.problem), document.locate(error))
    ranked = sorted(distinct.values(), key=lambda error: error.line or 0)
    ranked[0].others = tuple(ranked[1:])
    return ranked[0]


_PATHS = (
    *(["data", key] for key in ("path", "cache", "pairs", "unlabelled")),
    ["distill", "checkpoint"],
)
_WEIGHTS = (["teacher", "encoder_weights"], ["student", "encoder_weights"])
_PIPELINE_SUFFIXES = (".yaml", ".yml", ".json")


def _complete(document: Document, value: Any, path: ConfigPath) -> Any:
    """``value`` with its folders absolute and its files read.

    Trials run elsewhere, and jobs are run again from there, perhaps after a file has changed.
    """
    if isinstance(value, list):
        items = enumerate(value)
        return [_complete(document, item, (*path, index)) for index, item in items]
    if isinstance(value, Mapping):
        return {key: _complete(document, item, (*path, key)) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    keys = [part for part in path if part not in ("values", "value") and isinstance(part, str)]
    if keys == ["data", "augment"] and value.endswith(_PIPELINE_SUFFIXES):
        return _read_pipeline(document, value, path)
    is_file = keys in _PATHS or (
        keys in _WEIGHTS and value.endswith(WEIGHTS_SUFFIXES) and not value.startswith(PACKAGE)
    )
    return _path_in(document, value, path) if is_file else value


def _path_in(document: Document, value: str, path: ConfigPath) -> str:
    """Return ``value`` absolute.

    What a file names is relative to that file, all else to the working directory.
    """
    mark = document.mark(path)
    folder = os.path.dirname(mark.file) if mark is not None and mark.line is not None else ""
    return os.path.abspath(os.path.join(folder, os.path.expanduser(value)))


def _read_pipeline(document: Document, value: str, path: ConfigPath) -> dict[str, Any]:
    """Return what stands in the file, and the file's name; its places become those of ``path``."""
    try:
        found = read_document(_path_in(document, value, path))
    except ConfigError as error:
        if error.line is None:  # about the file as a whole, so about the key that names it
            error.file, error.value = None, value
            error.problem = f"{error.problem}, looked for as {_path_in(document, value, path)}"
        error.path = path
        error.allowed = error.allowed and "a pipeline that albumentations.save wrote"
        raise located(document, [error]) from None
    document.marks |= {(*path, *inner): mark for inner, mark in found.marks.items()}
    return {"file": value, **found.tree}


def _refuse_blanks(document: Document, keys: Mapping[str, SchemaNode]) -> None:
    """A section with nothing behind its key could mean "off" or "with its defaults"."""
    errors = []
    for path in sorted(document.blanks, key=str):
        try:
            place = place_at(document.tree, path, keys)
        except ConfigError:
            continue  # an unknown key; validation says so
        if place.sections:
            hint = "write {} for its defaults" + (", or null to do without" * place.nullable)
            errors.append(ConfigError("nothing behind this key", path=path, hint=hint))
    if errors:
        raise located(document, errors)


def value_at(tree: Any, path: ConfigPath) -> Any:
    """Return what stands at ``path`` of a plain tree."""
    for part in path:
        tree = tree[part]
    return tree


def with_defaults(place: SchemaNode, value: Any) -> Any:
    """``value`` with the defaults of all keys that it leaves out, down to the last section.

    Where a range decides which section stands somewhere, that section is left as it is.
    """
    if is_range(value):
        filled = dict(value)
        if isinstance(value.get("values"), list):
            filled["values"] = [with_defaults(place, choice) for choice in value["values"]]
        if "value" in value:
            filled["value"] = with_defaults(place, value["value"])
        return filled
    section = place.section(value)
    return value if section is None else section_with_defaults(section, value)


def section_with_defaults(section: type[Config], value: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``value``, which is to be a ``section``, with its defaults; unknown keys are kept."""
    from pydantic_core import to_jsonable_python

    filled: dict[str, Any] = {}
    dependent = section.dependent_defaults(value)
    for key, field in section.model_fields.items():
        if key in value:
            filled[key] = with_defaults(SchemaNode.of_field(field), value[key])
        elif key in dependent:
            # What is left out here is filled in when a job is made.
            filled |= {key: dependent[key]} if dependent[key] is not None else {}
        elif not field.is_required():
            filled[key] = to_jsonable_python(field.get_default(call_default_factory=True))
    unknown = {key: item for key, item in value.items() if key not in section.model_fields}
    return filled | unknown
