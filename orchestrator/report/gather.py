"""Everything that is known about a rollout, read from its store: the only part of a report that is not pure.

The plan is compiled again from what was pinned, without a look at the endpoint and without the environment: a report
needs the tolerances and the splits, never the value of a secret. Where it cannot be compiled here (the provider is not
installed any more), the report says so and does without.
"""

from dataclasses import replace
from pathlib import Path

from orchestrator.app import App, as_it_stands, find, provider_for
from orchestrator.bundle import Bundle
from orchestrator.compiler import compile_stages
from orchestrator.errors import OrchestratorError
from orchestrator.events import Event
from orchestrator.ready import capabilities_of
from orchestrator.report.story import Material
from orchestrator.rollout import Rollout
from orchestrator.stages import Stage
from plans.errors import PlanError
from providers.errors import ProviderError

PAGE = 10_000
"""Events that are read at a time."""


async def gather(app: App, ref: str | None) -> Material:
    """Read it all. `ref`: as everywhere, the newest without it. Raises UnknownRollout, StoreError."""
    rollout = await as_it_stands(app, await find(app, ref))
    bundle = await app.store.bundle(rollout.bundle)
    stages, why_not = await compiled_again(app, rollout, bundle)
    events: list[Event] = []
    while page := await app.store.events(rollout.id, after=events[-1].seq if events else 0, limit=PAGE):
        events += page
    # What happened between the two reads is not told, so that the row and the journal say the same.
    told = [event for event in events if event.seq <= rollout.last_seq]
    return Material(rollout, bundle, stages, why_not, told, await app.store.measurements(rollout.id))


async def compiled_again(app: App, rollout: Rollout, bundle: Bundle) -> tuple[tuple[Stage, ...], str]:
    """The stages of the pinned plan, and ""; or none, and why not."""
    blind = replace(app, settings=replace(app.settings, environment={}))
    try:
        provider = provider_for(blind, bundle.plan, Path(bundle.path).parent)
    except ProviderError as error:
        return (), str(error)
    try:
        stages = compile_stages(bundle, rollout.roles, capabilities_of(provider, bundle, None))
    except (OrchestratorError, PlanError, ProviderError) as error:
        return (), str(error)
    finally:
        await provider.aclose()
    if [stage.name for stage in stages] != [record.name for record in rollout.stages]:
        return (), "its steps compile to others here than those it was carried out with"
    return stages, ""
