"""A plan with every file that it names, read once and pinned under one sha256.

What was agreed to is what runs: `run` pins the bundle, `resume` uses the pinned one, and files that were edited since
are noticed by their sha256. Secrets stay references; code and models stay where they are, known by their digests.
Reading collects what is wrong with the plan and with all its files, so that a person mends everything in one go.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter

from plans import expand, source
from plans.errors import PlanError, Problem
from plans.model import FileRef, Plan
from plans.steps import InlineRequest, LoadStep, TestStep
from providers import registry
from providers.base import Provider
from providers.errors import Permanent
from providers.specs import DeploymentSpec, EndpointSpec, ResolvedDeployment

M = TypeVar("M", bound=BaseModel)
Place = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A pinned plan.

    Attributes:
        plan: the plan. path: absolute path that it was read from.
        name: the plan's name, else its file's.
        endpoint_name: of the endpoint. endpoint: its file, or None when the plan only names it.
        deployments: by the names that they have on the endpoint, resolved by the provider.
        files: file as the plan names it -> its text (the plan itself under "").
        sha256: of all that, without absolute paths.
        slots: `candidate` and `stable` -> the names that they were given, in a plan with roles.
        vars: values that were given for its variables, over those in its file.
    """

    plan: Plan
    path: str
    name: str
    endpoint_name: str
    endpoint: EndpointSpec | None
    deployments: Mapping[str, ResolvedDeployment]
    files: Mapping[str, str]
    sha256: str
    slots: Mapping[str, str] = field(default_factory=dict)
    vars: Mapping[str, str] = field(default_factory=dict)

    def request_body(self, request: str | InlineRequest | None) -> bytes:
        """The body of a request that a step names: a file's text, the inline text, or nothing."""
        if request is None:
            return b""
        return (request.body if isinstance(request, InlineRequest) else self.files[request]).encode()


BUNDLE: TypeAdapter[Bundle] = TypeAdapter(Bundle)


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan and its files as they stand on disk, before a provider resolved them; made offline.

    Attributes:
        plan, name, endpoint_name, endpoint, files, vars: as in Bundle.
        path: absolute. shown: as the user named it.
        deployments: by the plan's names; `candidate` and `stable` in a plan with roles.
        bases: for each of them the absolute folder that its relative paths start from.
        places: for each of them where the plan has it.
        called: for each of them that is a file the name in it.
    """

    plan: Plan
    path: Path
    shown: str
    name: str
    endpoint_name: str
    endpoint: EndpointSpec | None
    deployments: Mapping[str, DeploymentSpec]
    bases: Mapping[str, str]
    places: Mapping[str, Place]
    called: Mapping[str, str]
    files: Mapping[str, str]
    vars: Mapping[str, str]

    def problem(self, at: Place, message: str) -> Problem:
        """Something wrong at a place of the plan."""
        return source.problem_at(self.files[""], at, message, name=self.shown)


class _Outline(BaseModel):
    """As much of a plan as is needed to find its files, however wrong the rest of it is."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    provider: Any = None
    endpoint: Any = None
    deployments: Any = None
    candidate: Any = None
    stable: Any = None
    steps: Any = None
    load: Any = None


def read(path: Path, overrides: Mapping[str, str] | None = None) -> Draft:
    """Read a plan and every file that it names.

    `overrides`: values for its variables. Raises PlanError with all that is wrong with the plan and its files.
    """
    reader = _Reader(path, overrides or {})
    return reader.read()


class _Reader:
    """Reads on after a mistake, and remembers all."""

    def __init__(self, path: Path, overrides: Mapping[str, str]) -> None:
        self.shown, self.path, self.overrides = str(path), path.absolute(), overrides
        self.text = source.read(path)
        self.files: dict[str, str] = {"": self.text}
        self.problems: list[Problem] = []
        self.variables: dict[str, str] = {}

    def read(self) -> Draft:
        plan = self._try(self._plan)
        try:
            self.variables = expand.variables(self.text, self.shown, self.overrides)
        except PlanError:
            pass  # told with the plan
        written = self._outline()
        outline: Plan | _Outline | None = plan or written
        endpoint, specs, bases, places, called = None, {}, {}, {}, {}
        for place, name, value in _sources(outline):
            inline = not _file(value)
            spec = self._inline(place, name) if inline else self._file(place, _file(value), DeploymentSpec)
            if spec is None:
                continue
            if not inline:
                called[name] = spec.name
            # The plan's name wins over the file's, so that one file can be deployed under another name.
            specs[name] = spec.model_copy(update={"name": name if name not in ("candidate", "stable") else spec.name})
            base = self.path.parent if inline else (self.path.parent / _file(value)).parent
            bases[name], places[name] = str(base.resolve()), place
        if outline is not None and _file(outline.endpoint):
            endpoint = self._file(("endpoint",), _file(outline.endpoint), EndpointSpec)
        for place, request in _requests(outline):
            self._text(place, request)
        if written is not None:
            self._options(written.provider)
        if self.problems or plan is None:
            raise PlanError(self.problems)
        return Draft(
            plan=plan,
            path=self.path,
            shown=self.shown,
            name=plan.name or _slug(self.path.stem),
            endpoint_name=endpoint.name if endpoint is not None else str(plan.endpoint),
            endpoint=endpoint,
            deployments=specs,
            bases=bases,
            places=places,
            called=called,
            files=self.files,
            vars=dict(self.overrides),
        )

    def _try(self, read: Any) -> Any:
        try:
            return read()
        except PlanError as error:
            self.problems += error.problems
            return None

    def _plan(self) -> Plan:
        return source.loads(self.text, Plan, name=self.shown, rewrite=expand.rewriter(self.overrides))

    def _outline(self) -> _Outline | None:
        for rewrite in (expand.substitution(self.variables), None):
            try:
                return source.loads(self.text, _Outline, name=self.shown, rewrite=rewrite)
            except PlanError:
                pass  # told with the plan
        return None

    def _text(self, place: Place, file: str) -> str | None:
        """A companion's text; what is wrong with it as a whole is told where the plan names it."""
        try:
            self.files[file] = source.read(self.path.parent / file)
        except PlanError as error:
            for found in error.problems:
                if found.line:
                    self.problems.append(replace(found, file=self._beside(file)))
                else:
                    at = source.problem_at(self.text, place, f"{file}: {found.message}", name=self.shown)
                    self.problems.append(replace(at, suggestion=found.suggestion))
            return None
        return self.files[file]

    def _beside(self, file: str) -> str:
        return str(Path(self.shown).parent / file)

    def _file(self, place: Place, file: str, model: type[M]) -> M | None:
        if "${var:" in file:
            return None  # told with the plan, which is wrong then
        # What is pinned and what is understood are one reading: a file may change between two.
        text = self._text((*place, "file"), file)
        if text is None:
            return None
        rewrite = expand.substitution(self.variables)
        found: M | None = self._try(lambda: source.loads(text, model, name=self._beside(file), rewrite=rewrite))
        return found

    def _inline(self, place: Place, name: str) -> DeploymentSpec | None:
        called = {"candidate": "candidate-0", "stable": "stable-0"}.get(name, name)
        rewrite = expand.rewriter(self.overrides)
        found: DeploymentSpec | None = self._try(
            lambda: source.loads(
                self.text, DeploymentSpec, name=self.shown, rewrite=rewrite, at=place, adding={"name": called}
            )
        )
        return found

    def _options(self, provider: Any) -> None:
        """A provider that is not known, or options that it does not have, are mistakes of the plan."""
        named = isinstance(provider, dict)
        name = provider.get("name") if named else provider
        if not isinstance(name, str) or "${var:" in name:
            return  # the default, or told with the plan
        try:
            options = registry.find(name).Options
        except registry.UnknownProvider as error:
            at = ("provider", "name") if named else ("provider",)
            self.problems.append(source.problem_at(self.text, at, str(error).rstrip("."), name=self.shown))
            return
        rewrite = expand.rewriter(self.overrides)
        self._try(
            lambda: source.loads(
                self.text, options, name=self.shown, rewrite=rewrite, at=("provider",), without=frozenset({"name"})
            )
        )


async def pin(draft: Draft, provider: Provider, slots: Mapping[str, str] | None = None) -> Bundle:
    """Resolve versions and digests through the provider, and seal.

    `slots`: the names that candidate and stable are given, in a plan with roles. Raises PlanError about what a
    deployment names and is not there, ProviderError.
    """
    slots = dict(slots or {})
    deployments, problems = {}, []
    for name, spec in draft.deployments.items():
        called = slots.get(name) if draft.plan.by_roles else name
        if called is None:
            continue  # a stable that serves already is what it is
        try:
            renamed = spec.model_copy(update={"name": called})
            deployments[called] = await provider.resolve(renamed, base=draft.bases[name])
        except Permanent as error:
            problems.append(draft.problem(draft.places[name], str(error)))
    if problems:
        raise PlanError(problems)
    bundle = Bundle(
        plan=draft.plan,
        path=str(draft.path),
        name=draft.name,
        endpoint_name=draft.endpoint_name,
        endpoint=draft.endpoint,
        deployments=deployments,
        files=draft.files,
        sha256="",
        slots=slots,
        vars=draft.vars,
    )
    return replace(bundle, sha256=_sha256(bundle))


def _slug(stem: str) -> str:
    """A file's name as the plan's name: it becomes part of ids, paths and command lines."""
    return re.sub(r"[^a-z0-9]+", "-", stem.lower())[:63].strip("-") or "plan"


def _file(value: Any) -> str:
    """The file that a part of a plan names, or ""."""
    if isinstance(value, FileRef):
        return value.file
    named = value.get("file") if isinstance(value, dict) else None
    return named if isinstance(named, str) else ""


def _sources(plan: Plan | _Outline | None) -> Iterator[tuple[Place, str, Any]]:
    """(place, name, file or inline spec) of every deployment."""
    if plan is None:
        return
    for name, value in plan.deployments.items() if isinstance(plan.deployments, dict) else ():
        if isinstance(plan, Plan) or (isinstance(value, dict) and value):
            yield ("deployments", name), name, value
    for name, value in (("candidate", plan.candidate), ("stable", plan.stable)):
        told = isinstance(value, str) or not value or (isinstance(value, dict) and "file" in value and not _file(value))
        if not told:
            yield (name,), name, value


def _requests(plan: Plan | _Outline | None) -> Iterator[tuple[Place, str]]:
    """(place, file) of every request's body."""
    if isinstance(plan, Plan):
        for i, step in enumerate(plan.steps):
            if isinstance(step, TestStep | LoadStep) and isinstance(step.request, str):
                yield ("steps", i, "request"), step.request
        if plan.load is not None and isinstance(plan.load.request, str):
            yield ("load", "request"), plan.load.request
    elif plan is not None:
        listed = plan.steps if isinstance(plan.steps, list) else []
        given: list[tuple[Place, Any]] = [(("steps", i, "request"), step) for i, step in enumerate(listed)]
        for place, part in (*given, (("load", "request"), plan.load)):
            request = part.get("request") if isinstance(part, dict) else None
            if isinstance(request, str) and request:
                yield place, request


def _sha256(bundle: Bundle) -> str:
    body: dict[str, Any] = {
        "files": dict(bundle.files),
        "deployments": {name: [spec.digest, dict(spec.versions)] for name, spec in bundle.deployments.items()},
        "name": bundle.name,
    }
    # Only where there are any, so that bundles that were pinned before there were such keep their sha256.
    body |= {name: dict(value) for name, value in (("slots", bundle.slots), ("vars", bundle.vars)) if value}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
