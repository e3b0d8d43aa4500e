"""What a plan would do, before it does anything: `validate` offline, `plan` with a look at the endpoint.

Both compile the very stages that `run` would go through, and say of each what it costs and what it can prove: a plan
that can only end undecided is better found out here than after an hour.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from orchestrator import bundle as bundles
from orchestrator import roles
from orchestrator.app import App, provider_for
from orchestrator.bundle import Bundle, Draft
from orchestrator.compiler import compile_stages
from orchestrator.flags import Flags
from orchestrator.gates.advice import Conditions, StageAdvice, advice_for_stage
from orchestrator.gates.histogram import quantile_bound
from orchestrator.gates.resolution import Buckets
from orchestrator.gates.spec import is_error
from orchestrator.ready import Ready, capabilities_of, first_version, made_ready
from orchestrator.stages import Stage, Target, gated_count
from orchestrator.standing import Roles, Split
from providers.base import Capabilities, EndpointState, Measures, Provider
from providers.errors import ProviderError
from providers.measurement import Leg, MeasureQuery

A_LOOK = 2.0
"""Seconds for which the endpoint's traffic is counted."""
FEWEST = 20
"""Requests in them from which its rates can be told."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is known of an endpoint's traffic.

    Attributes:
        rate: requests a second, or None. errors: stable's rate of bad answers, 0..1, or None.
        quantiles: quantile -> where stable's stands, microseconds.
        source: how it is known: `given`, `load` (the plan's own), `measured`; or None.
    """

    rate: float | None = None
    errors: float | None = None
    quantiles: Mapping[float, int] | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a plan would do.

    Attributes:
        draft: as it was read. bundle: pinned. roles, stages: as they would be, or most likely will be.
        observed: the endpoint, None where there is none or nobody looked.
        traffic: what was assumed of it. advice: stage index -> what the gates can do there.
        notes: what its author should know, one thing each.
    """

    draft: Draft
    bundle: Bundle
    roles: Roles
    stages: tuple[Stage, ...]
    observed: EndpointState | None
    traffic: Traffic
    advice: Mapping[int, StageAdvice]
    notes: tuple[str, ...]
    capabilities: Capabilities


async def check(app: App, path: Path, flags: Flags, *, rate: float | None = None) -> Preview:
    """Validate a plan without looking at any endpoint. `rate`: its requests a second, where the author knows them.

    Raises PlanError, ProviderError, Refused.
    """
    draft = bundles.read(path, flags.vars)
    provider = provider_for(app, draft.plan, draft.path.parent)
    try:
        pinned = await bundles.pin(draft, provider, _assumed_slots(draft))
        capabilities = capabilities_of(provider, pinned, None)
        cast = _assumed_roles(pinned)
        stages = compile_stages(pinned, cast, capabilities, name=draft.shown)
    finally:
        await provider.aclose()
    ready = Ready(pinned, cast, stages, None)
    return _preview(draft, ready, _expected(draft, rate), capabilities)


async def preview(app: App, path: Path, flags: Flags, *, rate: float | None = None) -> Preview:
    """What the plan would do now. Where the traffic is not given, it is counted for two seconds.

    Raises PlanError, ProviderError, Refused.
    """
    draft = bundles.read(path, flags.vars)
    provider = provider_for(app, draft.plan, draft.path.parent)
    try:
        ready = await made_ready(app.store, provider, draft, flags)
        capabilities = capabilities_of(provider, ready.bundle, ready.observed)
        traffic = _expected(draft, rate)
        if traffic.rate is None and ready.observed is not None and any(ready.observed.traffic.values()):
            traffic = await _looked_at(provider, ready)
    finally:
        await provider.aclose()
    return _preview(draft, ready, traffic, capabilities)


# --- what is assumed ------------------------------------------------------------------------------


def _assumed_slots(draft: Draft) -> dict[str, str]:
    """The names of a run on an endpoint that serves: the first slot is stable's."""
    plan = draft.plan
    if plan.slots is None or (plan.stable is not None and not isinstance(plan.stable, str)):
        return roles.assign(plan, draft.endpoint_name, None)
    return {"candidate": next(slot for slot in (plan.slots[1], plan.slots[0]) if slot != plan.stable)}


def _assumed_roles(bundle: Bundle) -> Roles:
    """Roles as they most likely will be: validated plans are run on an endpoint where stable serves everything."""
    plan, candidate = bundle.plan, roles.candidate_of(bundle)
    if bundle.endpoint is not None and (not plan.by_roles or "stable" in bundle.slots):
        return roles.cast(bundle, None, bootstrap=False, replace=False)
    stable = plan.stable if isinstance(plan.stable, str) else None
    others = (*(plan.slots or ()), *bundle.deployments)
    stable = stable or next((name for name in others if name != candidate), None)
    if stable is None:
        return Roles(candidate, None, Split())
    counts = {stable: bundle.deployments[stable].spec.instance_count} if stable in bundle.deployments else {}
    return Roles(candidate, stable, Split({stable: 1000}), {stable: 1} | counts)


def _expected(draft: Draft, rate: float | None) -> Traffic:
    if rate is not None:
        return Traffic(rate, source="given")
    return Traffic(draft.plan.load.rate, source="load") if draft.plan.load is not None else Traffic()


async def _looked_at(provider: Provider, ready: Ready) -> Traffic:
    """What goes on at the endpoint now; nothing known where it cannot be read."""
    stable = ready.roles.stable
    if not isinstance(provider, Measures) or stable is None:
        return Traffic()
    query = MeasureQuery(ready.bundle.endpoint_name, tuple(sorted(ready.roles.baseline.traffic)))
    try:
        begun = await provider.measure(query, None)
        await asyncio.sleep(A_LOOK)
        found = await provider.measure(query, begun.cursor)
    except ProviderError:
        return Traffic()
    seconds = (found.end - found.start).total_seconds()
    if found.lost or seconds <= 0:
        return Traffic()
    live = [leg for leg in found.legs if leg.source == "live"]
    rate = sum(leg.requests for leg in live) / seconds
    errors, quantiles = _levels(next((leg for leg in live if leg.deployment == stable), None), ready.stages)
    return Traffic(rate, errors, quantiles, "measured")


def _levels(leg: Leg | None, stages: Sequence[Stage]) -> tuple[float | None, dict[float, int]]:
    if leg is None or leg.requests < FEWEST:
        return None, {}
    bad = sum(count for status, count in leg.classes.items() if is_error(status))
    wanted = {gate.quantile for stage in stages for gate in stage.gates if gate.metric == "latency"}
    known = {each: quantile_bound(leg.latency, each) for each in wanted} if leg.latency is not None else {}
    return bad / leg.requests, {each: bound for each, bound in known.items() if bound is not None}


# --- what is said ---------------------------------------------------------------------------------


def _preview(draft: Draft, ready: Ready, traffic: Traffic, capabilities: Capabilities) -> Preview:
    advice = dict(_advice(ready, traffic, capabilities))
    sentences = dict.fromkeys(
        f"{ready.stages[index].name}: {sentence}" for index, found in advice.items() for sentence in found.sentences
    )
    notes = (*_names(draft, ready.bundle), *first_version(ready), *_notes(ready), *sentences)
    return Preview(draft, ready.bundle, ready.roles, ready.stages, ready.observed, traffic, advice, notes, capabilities)


def _advice(ready: Ready, traffic: Traffic, capabilities: Capabilities) -> Iterator[tuple[int, StageAdvice]]:
    stable, stages = ready.roles.stable or "", gated_count(ready.stages)
    warmed = 0.0
    for stage in ready.stages:
        if not isinstance(stage.work, Target) or stage.kind not in ("shadow", "canary", "promote"):
            continue
        known = {
            gate.name: float(traffic.quantiles[gate.quantile])
            for gate in stage.gates
            if traffic.quantiles and gate.metric == "latency" and gate.quantile in traffic.quantiles
        }
        conditions = Conditions(
            exposure=stage.exposure,
            mirrored=stage.mirrored,
            stable=stage.work.traffic.get(stable, 0),
            hold=stage.hold,
            deadline=stage.deadline,
            interval=stage.interval,
            stages=max(1, stages),
            traffic=traffic.rate,
            stable_errors=traffic.errors,
            stable_quantiles=known,
            buckets=Buckets(capabilities.bucket_digits),
            warmed=warmed,
            decide=stage.decide,
            budget=stage.budget,
            candidate=ready.roles.candidate or "the candidate",
        )
        if stage.gates or stage.guards:
            warmed = max([warmed + stage.hold, *(gate.warm_up for gate in stage.gates)])
        yield stage.index, advice_for_stage(stage.gates, conditions, () if stage.gates else stage.guards)


def _names(draft: Draft, bundle: Bundle) -> Iterator[str]:
    for name, called in draft.called.items():
        used = bundle.slots.get(name) if draft.plan.by_roles else name
        if used is not None and called != used:
            yield f"the file of {name} calls it {called}; the plan's name counts: {used}"


def _notes(ready: Ready) -> Iterator[str]:
    bundle, cast, stages = ready.bundle, ready.roles, ready.stages
    for name, resolved in bundle.deployments.items():
        if resolved.ignored:
            yield f"{name}: without meaning here, and ignored: {', '.join(resolved.ignored)}"
    candidate, stable = bundle.deployments.get(cast.candidate or ""), cast.counts.get(cast.stable or "")
    promotes = [stage for stage in stages if stage.kind == "promote" and stage.exposure == 1000]
    if promotes and candidate is not None and stable is not None and candidate.spec.instance_count < stable:
        yield (
            f"{cast.candidate} has {candidate.spec.instance_count} instances, "
            f"and {cast.stable}, which it replaces, has {stable}"
        )
    for stage in stages:
        if stage.exposure and stage.kind in ("canary", "promote") and not (stage.gates or stage.guards):
            yield f"{stage.name} has no gates, and none before it guard live traffic: nobody would notice a regression"
    for before, stage in pairwise(stages):
        if stage.irreversible and before.kind == "promote" and before.hold == 0:
            yield f"{stage.name} comes right after {before.name} without a hold: from then on there is no way back"
