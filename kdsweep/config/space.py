"""A search space: what it draws, what it shows before anything starts, and how it is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

from kdsweep.config.architectures import NO_TEACHER, Architecture, architectures_of
from kdsweep.config.checking import FindingsError, check
from kdsweep.config.corners import corner_errors, cover, points, taking
from kdsweep.config.document import Document
from kdsweep.config.job import SCOPES, Job, all_labels_of
from kdsweep.config.loading import (
    SPACE_KEYS,
    Source,
    SweepSections,
    located,
    open_document,
    section_with_defaults,
)
from kdsweep.config.ranges import Given, Option, Range, Scalar, Suggest
from kdsweep.config.searchable import check_search, must_be_finite
from kdsweep.config.settings import compile_settings
from kdsweep.config.sharing import pinned, shared_ranges
from kdsweep.config.sweep import ALL_LABELS, SELF, ResourcesConfig, SweepConfig
from kdsweep.config.template import (
    Branch,
    Compiler,
    Node,
    Pick,
    combinations,
    find_ranges,
    num_combinations,
    places_of,
    ranges,
    resolve,
)
from kdsweep.config.tracking import TrackingConfig
from kdsweep.errors import ConfigError

_SECTIONS = tuple(SweepSections.model_fields)


@dataclass(frozen=True)
class Draw:
    """One point of a space.

    Attributes:
        params: The sampler's parameters. Drawing these again gives the same job, and equal jobs
            of one space have equal parameters.
        values: What the ranges came to, for people to read: it has the label of a choice where
            ``params`` has a quantile.
        shared: Those of ``params`` that all students of a cohort have in common.
        first: Number, from 1, of the setting to try first that it follows, if it does.
    """

    params: dict[str, Scalar]
    values: dict[str, Scalar]
    job: Job
    shared: dict[str, Scalar] = field(default_factory=dict)
    first: int | None = None


@dataclass(frozen=True)
class Space:
    """A job with ranges in place of some values, and how to search it.

    Made by :func:`load_space`, which checks it.

    Attributes:
        tree: The job with its ranges, as plain mappings, overrides applied and defaults filled in.
        labels: Labels of choices between sub-trees, by the name of the range.
        text: The file as it was given; ``None`` if the space came from Python.
        document: Where everything was written, if that is known.
        root: ``tree``, compiled.
        first: Of each setting to try first the sampler's parameters.
    """

    # What is searched for is chosen on validation frames; the test split is for what is chosen.
    score_test: ClassVar[bool] = False
    until_settled: ClassVar[bool] = False

    tree: dict[str, Any]
    sweep: SweepConfig
    resources: ResourcesConfig
    tracking: TrackingConfig
    labels: dict[str, list[Scalar]]
    text: str | None = field(default=None, compare=False, repr=False)
    document: Document | None = field(default=None, compare=False, repr=False)
    root: Branch = field(kw_only=True, compare=False, repr=False)
    first: tuple[dict[str, Scalar], ...] = field(default=(), kw_only=True)

    @cached_property
    def _shared(self) -> frozenset[str]:
        return frozenset(shared_ranges(self.root))

    @property
    def name(self) -> str:
        """Name of the sweep."""
        return str(self.tree["name"])

    def draw(self, suggest: Suggest) -> Draw:
        """Draw one job.

        Args:
            suggest: Draws the values, for example an Optuna trial. Ranges inside choices that are
                not taken are not asked for.
        """
        params: dict[str, Scalar] = {}
        values: dict[str, Scalar] = {}
        shared: dict[str, Scalar] = {}

        def pick(range_: Range) -> Option:
            option = range_.draw(suggest)
            param = range_.param(option)
            params.update([param])
            if range_.name in self._shared:
                shared.update([param])
            values[range_.name] = range_.show(option)
            return option

        return Draw(params, values, self._job(pick), shared)

    def num_points(self) -> int | None:
        """Return how many different jobs can be drawn; ``None`` if infinitely many."""
        return self.num_points_with({})

    def grid(self) -> Iterator[dict[str, Scalar]]:
        """``params`` of every point, the first range of the file changing slowest.

        Raises:
            ConfigError: There are infinitely many.
        """
        must_be_finite(self.root)
        yield from self.points_with({})

    def ranges(self) -> Iterator[tuple[Range, bool]]:
        """Every range, and whether it is drawn once for all students of a cohort."""
        for range_, _ in ranges(self.root):
            yield range_, range_.name in self._shared

    @property
    def is_conditional(self) -> bool:
        """Whether there are ranges that only some of the trials have."""
        return any(given for _, given in ranges(self.root))

    def num_points_with(self, params: Mapping[str, Scalar]) -> int | None:
        """Return how many different jobs have these parameters; ``None`` if infinitely many."""
        return num_combinations(self._pinned(params), lambda range_: range_.num_options())

    def points_with(self, params: Mapping[str, Scalar]) -> Iterator[dict[str, Scalar]]:
        """``params`` of every job that has these among its own; they must be finitely many."""
        root = self._pinned(params)
        for options in combinations(root, lambda range_: range_.options()):
            own = (r.param(options[r.name]) for r, _ in ranges(root) if r.name in options)
            yield {**params, **dict(own)}

    def num_siblings(self, draw: Draw) -> int | None:
        """Return how many different students a draw's cohort can have; ``None`` if without end."""
        return self.num_points_with(draw.shared)

    def siblings(self, draw: Draw) -> Iterator[dict[str, Scalar]]:
        """``params`` of every student that a draw's cohort can have; they must be finitely many."""
        return self.points_with(draw.shared)

    def trying_first(self, settings: Sequence[Mapping[str, Scalar]]) -> Space:
        """The same space with these settings to try first, in front of its own."""
        known = self.document.is_changed if self.document is not None else lambda name: False
        found = compile_settings(self.root, (*settings, *self.sweep.try_first), known)
        first = tuple(setting for setting, _ in found)
        return replace(
            self,
            sweep=self.sweep.model_copy(update={"try_first": first}),
            first=tuple(params for _, params in found),
        )

    def corners(self) -> Iterator[Job]:
        """The jobs on which the space was checked: every choice, both ends of every range."""
        return (self._job(pick) for pick in points(self.root, SCOPES))

    def jobs_to_check(self) -> list[Job]:
        """Few jobs that show every choice, for checks that need to build networks."""
        jobs = [self._job(pick) for pick in cover(self.root)]
        return [*jobs, *all_labels_of(jobs, self.sweep.further_controls)]

    def controls(self) -> list[Job]:
        """One job without a teacher for each student architecture in the space, further ones after.

        All else stands at the middle of its range: the geometric middle of logarithmic ranges, the
        median of numbers to choose from, the most probable or else the first of other choices.

        Raises:
            ConfigError: There are infinitely many student architectures.
        """
        student = self._student()
        must_be_finite(
            student,
            "infinitely many student architectures, each of which needs a control",
            "use `values`, or set sweep.controls to none",
        )
        jobs: dict[str, Job] = {}
        further: dict[str, Job] = {}
        for options in combinations(student, lambda range_: range_.options()):
            pick = taking(options, lambda range_: range_.middle())
            job = self._job(pick, NO_TEACHER)
            jobs.setdefault(control_key(job), job)
            if SELF in self.sweep.further_controls:
                own = self._job(pick).as_self_taught()
                further.setdefault(f"{SELF} {control_key(own)}", own)
            if ALL_LABELS in self.sweep.further_controls and job.data.leaves_labels_out:
                own = job.as_all_labels()
                further.setdefault(f"{ALL_LABELS} {control_key(own)}", own)
        return [*jobs.values(), *further.values()]

    def num_students(self) -> int | None:
        """Return how many different students the space has; ``None`` if infinitely many."""
        return num_combinations(self._student(), lambda range_: range_.num_options())

    def _student(self) -> Branch:
        return Branch((), {"student": self.root.children["student"]})

    def architectures(self) -> list[Architecture]:
        """Every student architecture at every image size of the space.

        Raises:
            ConfigError: There are infinitely many.
        """
        return list(architectures_of(self.root, lambda pick: self._job(pick, NO_TEACHER)))

    def resolved(self) -> dict[str, Any]:
        """The whole space, defaults filled in, as :meth:`from_resolved` takes it; JSON-able."""
        sections = {key: getattr(self, key).model_dump(mode="json") for key in _SECTIONS}
        return {**self.tree, **sections, "labels": self.labels}

    @classmethod
    def from_resolved(cls, resolved: Mapping[str, Any], text: str | None = None) -> Space:
        """The space that :meth:`resolved` wrote.

        Args:
            resolved: What it wrote.
            text: The file that the space first came from.

        Raises:
            ConfigError: It is not valid (any more).
        """
        tree = {key: value for key, value in resolved.items() if key != "labels"}
        return _build(Document(tree), text=text, labels=resolved.get("labels"))

    def locate(self, error: ConfigError) -> ConfigError:
        """Give an error about a job of this space, raised by a later check, its file and line.

        Where the value may come from several choices, it is the one with the error's value.
        """
        if self.document is None or error.file is not None:
            return error
        error.others = tuple(self.locate(other) for other in error.others)
        places = list(places_of(self.root, error.path))
        fitting = [path for path, value in places if error.has_value and value == error.value]
        deepest = max((path for path, _ in places), key=len, default=error.path)
        return self.document.locate(error, fitting[0] if fitting else deepest)

    def _job(self, pick: Pick, update: Mapping[str, Any] | None = None) -> Job:
        tree = {**resolve(self.root, pick), **(update or {})}
        try:
            return check(Job, tree)
        except FindingsError as found:  # the corners missed it; never train what is not valid
            raise located(self.document or Document({}), found.errors) from None

    def _pinned(self, params: Mapping[str, Scalar]) -> Node:
        known = (r.name for r, _ in ranges(self.root) if r.param(r.corners()[0])[0] in params)
        return pinned(self.root, frozenset(known), lambda range_: range_.draw(Given(params)))


def load_space(source: Source, overrides: Sequence[str] = (), data: Sequence[str] = ()) -> Space:
    """Read and check a search space; a plain job is a space of one point.

    Args:
        source: A YAML file, the name of a space that comes with kdsweep, or a mapping of the same
            form.
        overrides: Changes as ``path=value``, where ``value`` is YAML and may be a range.
        data: Data sets as ``SOURCE=PATH``.

    Raises:
        ConfigError: Anything wrong with the space or the changes, with file and line.
    """
    document = open_document(source, overrides, data, SPACE_KEYS, default_name="sweep")
    return _build(document, text=document.text)


def control_key(job: Job) -> str:
    """Return what a job has in common with its control alone: its student architecture."""
    return json.dumps(job.student.model_dump(mode="json"), sort_keys=True)


def _build(
    document: Document, *, text: str | None, labels: Mapping[str, list[Scalar]] | None = None
) -> Space:
    tree = {key: value for key, value in document.tree.items() if key not in _SECTIONS}
    around = {key: value for key, value in document.tree.items() if key in _SECTIONS}
    errors = [
        ConfigError(
            "a range is not allowed here",
            path=path,
            hint="ranges stand in data, teacher, student, distill and train",
        )
        for path in find_ranges({"name": tree.get("name"), **around})
    ]
    sections = SweepSections()
    if not errors:
        try:
            sections = check(SweepSections, around, SPACE_KEYS)
        except FindingsError as found:
            errors += found.errors
    filled = section_with_defaults(Job, tree)
    compiler = Compiler(labels)
    root = compiler.branch(filled, tree)
    errors += compiler.errors or corner_errors(root, document)
    if errors:
        raise located(document, errors)
    space = Space(
        tree=filled,
        sweep=sections.sweep,
        resources=sections.resources,
        tracking=sections.tracking,
        labels=compiler.labels,
        text=text,
        document=document,
        root=root,
    )
    try:
        check_search(space)
        return space.trying_first(())
    except ConfigError as error:
        raise located(document, [error, *error.others]) from None
