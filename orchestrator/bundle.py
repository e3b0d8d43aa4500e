"""A plan with every file that it names, read once and pinned under one sha256.

What was agreed to is what runs: `run` pins the bundle, `resume` uses the pinned one, and files that were edited since
are noticed by their sha256. Secrets stay references; code and models stay where they are, known by their digests.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from plans import source
from plans.model import FileRef, InlineRequest, LoadStep, Plan, TestStep
from providers.base import Provider
from providers.specs import DeploymentSpec, EndpointSpec, ResolvedDeployment


@dataclass(frozen=True, slots=True)
class Bundle:
    """A pinned plan.

    Attributes:
        plan: the plan. path: absolute path that it was read from.
        name: the plan's name, else its file's.
        endpoint_name: of the endpoint. endpoint: its file, or None when the plan only names it.
        deployments: by the plan's names, resolved by the provider.
        files: file as the plan names it -> its text (the plan itself under "").
        sha256: of all that, without absolute paths.
    """

    plan: Plan
    path: str
    name: str
    endpoint_name: str
    endpoint: EndpointSpec | None
    deployments: Mapping[str, ResolvedDeployment]
    files: Mapping[str, str]
    sha256: str

    def request_body(self, request: str | InlineRequest | None) -> bytes:
        """The body of a request that a step names: a file's text, the inline text, or nothing."""
        if request is None:
            return b""
        return (request.body if isinstance(request, InlineRequest) else self.files[request]).encode()


BUNDLE: TypeAdapter[Bundle] = TypeAdapter(Bundle)


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan and its files as they stand on disk, before a provider resolved them; made offline."""

    plan: Plan
    path: Path
    name: str
    endpoint_name: str
    endpoint: EndpointSpec | None
    deployments: Mapping[str, DeploymentSpec]
    bases: Mapping[str, str]
    files: Mapping[str, str]


def read(path: Path) -> Draft:
    """Read a plan and every file that it names. Raises PlanError with all that is wrong with the first file that is."""
    path = path.absolute()
    text = source.read(path)
    plan = source.loads(text, Plan, name=str(path))
    files = {"": text}
    endpoint = None
    if isinstance(plan.endpoint, FileRef):
        where = path.parent / plan.endpoint.file
        files[plan.endpoint.file] = source.read(where)
        # What is pinned and what is understood are one reading: a file may change between two.
        endpoint = source.loads(files[plan.endpoint.file], EndpointSpec, name=str(where))
    specs, bases = {}, {}
    for name, ref in plan.deployments.items():
        where = path.parent / ref.file
        files[ref.file] = source.read(where)
        # The plan's name wins over the file's, so that one file can be deployed under another name.
        spec = source.loads(files[ref.file], DeploymentSpec, name=str(where))
        specs[name] = spec.model_copy(update={"name": name})
        bases[name] = str(where.parent.resolve())
    for request in _requests(plan):
        files[request] = source.read(path.parent / request)
    return Draft(
        plan=plan,
        path=path,
        name=plan.name or _slug(path.stem),
        endpoint_name=endpoint.name if endpoint is not None else str(plan.endpoint),
        endpoint=endpoint,
        deployments=specs,
        bases=bases,
        files=files,
    )


async def pin(draft: Draft, provider: Provider) -> Bundle:
    """Resolve versions and digests through the provider, and seal. Raises ProviderError."""
    deployments = {}
    for name, spec in draft.deployments.items():
        deployments[name] = await provider.resolve(spec, base=draft.bases[name])
    bundle = Bundle(
        plan=draft.plan,
        path=str(draft.path),
        name=draft.name,
        endpoint_name=draft.endpoint_name,
        endpoint=draft.endpoint,
        deployments=deployments,
        files=draft.files,
        sha256="",
    )
    return replace(bundle, sha256=_sha256(bundle))


def _slug(stem: str) -> str:
    """A file's name as the plan's name: it becomes part of ids, paths and command lines."""
    return re.sub(r"[^a-z0-9]+", "-", stem.lower())[:63].strip("-") or "plan"


def _requests(plan: Plan) -> list[str]:
    named = [step.request for step in plan.steps if isinstance(step, TestStep | LoadStep)]
    named += [plan.load.request] if plan.load is not None else []
    return [request for request in named if isinstance(request, str)]


def _sha256(bundle: Bundle) -> str:
    body = {
        "files": dict(bundle.files),
        "deployments": {name: [spec.digest, dict(spec.versions)] for name, spec in bundle.deployments.items()},
        "name": bundle.name,
    }
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
