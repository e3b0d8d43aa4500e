"""Which files `rollout init` writes: those of a stock plan, or those for an endpoint that exists."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from orchestrator import ids
from orchestrator.app import App, provider_of
from orchestrator.errors import UsageError
from orchestrator.starter import companions, found, writing
from plans import expand, library, schema, source
from plans.errors import PlanError
from plans.model import FileRef, Plan
from plans.units import Name
from providers import registry
from providers.base import Provider
from providers.specs import EndpointSpec

PLAN = "plan.yml"
SCHEMA = "rollout-plan.schema.json"
ENDPOINT = "endpoint.yml"
DEFAULT = "safe-rollout"
_NAME: TypeAdapter[str] = TypeAdapter(Name)


@dataclass(frozen=True, slots=True)
class Kit:
    """Files to write: path below the folder -> text. `about`: what they are, in one line."""

    about: str
    files: Mapping[str, str]

    def write(self, directory: Path, *, force: bool) -> writing.Written:
        """Write what is not there. Raises UsageError."""
        return writing.put(directory, self.files, plan=PLAN, force=force, fresh=ids.token())


def stock(name: str, directory: Path, *, called: str | None = None, provider: str = "local") -> Kit:
    """A stock plan for a folder, with everything that it names.

    Args:
        name: of the stock plan.
        directory: the folder. An endpoint file that it has is taken as it is.
        called: what the rollout and its endpoint are called; the folder's name unless told otherwise.
        provider: where the endpoint shall live.

    Raises:
        UsageError: there is no such stock plan, no such provider, or the name is none that an endpoint can have.
    """
    try:
        text = library.text(name)
    except KeyError:
        raise UsageError(f"there is no stock plan {name}{_meant(name, library.names())}") from None
    _known(provider)
    called = _name(called) if called is not None else _named_after(directory)
    plan = source.loads(text, Plan, name=name, rewrite=expand.rewriter({}))
    beside = companions.companions(_endpoint_there(directory) or called)
    needed = [ref.file for ref in _refs(plan)]
    files = [*dict.fromkeys(needed), companions.REQUEST, *(path for path in beside if "/" in path)]
    text = re.sub(rf"\b{library.CALLED}\b", called.lower(), text)
    text = re.sub(r"^provider: local\b", f"provider: {provider}", text, count=1, flags=re.MULTILINE)
    return Kit(
        f"{name}: {library.summary(name)}",
        {PLAN: text, SCHEMA: schema.text(), **{path: beside[path] for path in files}},
    )


async def existing(app: App, endpoint: str, *, called: str | None = None, provider: str = "local") -> Kit:
    """A plan for an endpoint as it stands, and the files of a new version to fill in.

    Raises UsageError when there is no such endpoint, saying which there are; ProviderError when it cannot be looked at.
    """
    _known(provider)
    world = provider_of(app, name=provider)
    try:
        state = await world.observe(_name(endpoint))
        if state is None:
            there = await _endpoints(app, world)
            raise UsageError(f"there is no endpoint {endpoint} at {provider}{_meant(endpoint, there)}")
        capabilities = world.capabilities(state)
    finally:
        await world.aclose()
    called = (_name(called) if called is not None else state.name).lower()
    text = found.plan_for(state, called=called, provider=provider, capabilities=capabilities, now=app.clock())
    files = companions.to_fill_in(state.name, name=found.free_name(state), count=found.instances(state))
    return Kit(f"a plan for the endpoint {state.name}", {PLAN: text, SCHEMA: schema.text(), **files})


def _refs(plan: Plan) -> list[FileRef]:
    named: list[Any] = [plan.endpoint, plan.candidate, plan.stable, *(plan.deployments or {}).values()]
    return [each for each in named if isinstance(each, FileRef)]


def _meant(name: str, names: tuple[str, ...]) -> str:
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    there = f"there are {', '.join(names)}" if names else "there is none yet"
    return f": did you mean {near[0]}? ({there})" if near else f"; {there}"


def _known(provider: str) -> None:
    try:
        registry.find(provider)
    except registry.UnknownProvider as error:
        raise UsageError(str(error).rstrip(".")) from None


def _name(given: str) -> str:
    try:
        return _NAME.validate_python(given)
    except ValidationError:
        wanted = "write 3 to 32 letters, digits and dashes, from a letter to a letter or digit"
        raise UsageError(f"{given[:80]!r} cannot be the name of an endpoint: {wanted}") from None


def _named_after(directory: Path) -> str:
    """The folder's name, as far as an endpoint can have it."""
    name = re.sub(r"[^a-z0-9]+", "-", directory.resolve().name.lower()).lstrip("-0123456789")[:32].strip("-")
    return name if len(name) > 2 else library.CALLED


def _endpoint_there(directory: Path) -> str | None:
    """What the folder's own endpoint file calls it, so that the deployment files fit."""
    try:
        return source.load(directory / ENDPOINT, EndpointSpec).name
    except PlanError:
        return None


async def _endpoints(app: App, world: Provider) -> tuple[str, ...]:
    """Endpoints that are there, as far as this machine knows of them: from its rollouts, and from its own folders."""
    rollouts = await app.store.rollouts(limit=1000)
    names = {each.endpoint_name for each in rollouts if each.endpoint == world.identity(each.endpoint_name)}
    names |= {path.parent.name for path in (app.settings.home / world.name).glob("*/state.json")}
    return tuple([name for name in sorted(names) if await world.observe(name) is not None])
