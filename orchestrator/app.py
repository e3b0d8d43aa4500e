"""The use cases, one function each, called by every face alike; and the composition root, where the parts are put
together.

Here the environment, the clock and the store become one `App`; here a plan becomes a rollout, and a rollout gets a
driver. What is decided while it runs is not here: see `decide`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from orchestrator import adoption, ids, lease
from orchestrator import bundle as bundles
from orchestrator import events as ev
from orchestrator.bundle import Bundle
from orchestrator.compiler import compile_stages
from orchestrator.driver import Driver
from orchestrator.errors import LeaseLost, Refused, UnknownRollout, UsageError
from orchestrator.flags import Flags
from orchestrator.journal import Watcher
from orchestrator.lifecycle import TERMINAL
from orchestrator.notify import Notifier
from orchestrator.ready import capabilities_of, first_version, made_ready, options
from orchestrator.rollout import Rollout, apply
from orchestrator.secrets import Resolver
from orchestrator.settings import Settings, from_environment, utc_now
from orchestrator.sources import Metrics
from orchestrator.stages import Stage
from orchestrator.standing import Command, CommandKind, Snapshot
from orchestrator.store.base import Store, Worker
from orchestrator.store.memory import MemoryStore
from orchestrator.store.sql import SqlStore
from orchestrator.tasks.load import LoadProcess, Stream
from orchestrator.tasks.runner import runner
from plans.model import Plan
from providers.actions import Action
from providers.base import Context, Done, EndpointState, Failed, Fence, Provider
from providers.errors import Permanent, ProviderError, Temporary
from providers.registry import open_metric, open_provider

COMMAND_TICK = 0.1
"""Seconds between looks at whether a live driver has acted on a command."""


@dataclass(frozen=True, slots=True)
class App:
    """An open store, the settings and the clock; what a use case needs of the world."""

    store: Store
    settings: Settings
    clock: Callable[[], datetime] = utc_now

    @property
    def actor(self) -> str:
        """Who acts."""
        return self.settings.actor


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of a command: whether it was accepted, in words, and whether this process drove because nobody else
    did.
    """

    rollout: Rollout
    accepted: bool
    outcome: str
    drove: bool


@contextlib.asynccontextmanager
async def opened(settings: Settings | None = None) -> AsyncIterator[App]:
    """The application, with its store open. Raises UsageError, StoreError."""
    settings = settings or from_environment()
    store = await SqlStore.open(settings.store, token=ids.token)
    try:
        yield App(store, settings)
    finally:
        await store.aclose()


def offline(settings: Settings | None = None) -> App:
    """An application that forgets: for looking at files only, without touching this machine. Raises UsageError."""
    return App(MemoryStore(), settings or from_environment())


# --- providers ------------------------------------------------------------------------------------


def provider_for(app: App, plan: Plan, base: Path) -> Provider:
    """The plan's provider.

    `base`: the plan's folder. Raises ProviderError when it is unknown, or its options are wrong.
    """
    return provider_of(app, name=plan.provider.name, options=plan.provider.options, base=base)


def provider_of(
    app: App, *, name: str = "local", options: Mapping[str, Any] | None = None, base: Path | None = None
) -> Provider:
    """A provider by name. Raises ProviderError when it is unknown, or its options are wrong."""
    return open_provider(name, dict(options or {}), _context(app, base or Path.cwd()))


def _context(app: App, base: Path) -> Context:
    resolver = Resolver(app.settings.environment, base)
    return Context(app.settings.home, app.clock, ids.token, resolver, app.settings.runtime)


async def owner_of(app: App, identity: str) -> Rollout | None:
    """The rollout that may change the endpoint now; one that only advises owns nothing."""
    active = await app.store.rollouts(active=True, endpoint=identity, limit=1)
    return next((rollout for rollout in active if not rollout.advisory), None)


async def carry_out(app: App, provider: Provider, action: Action, *, timeout: float = 120.0) -> None:
    """Begin an action outside of any rollout, and see it through.

    Raises UsageError when a rollout owns the endpoint, ProviderError, Temporary when it took too long.
    """
    identity = provider.identity(action.endpoint)
    owner = await owner_of(app, identity)
    if owner is not None:
        raise UsageError(
            f"rollout {owner.id} owns endpoint {action.endpoint}: end it first, or say `rollout abort {owner.id}`"
        )
    observed = await provider.observe(action.endpoint)
    claim = observed.claim if observed is not None else None
    # The provider remembers the highest epoch that our store ever used there, also when nobody claims the endpoint now.
    newest = await app.store.rollouts(endpoint=identity, limit=1)
    epoch = max([0, *(rollout.epoch for rollout in newest), *([claim.epoch] if claim is not None else [])])
    fence = Fence(app.store.id, f"cli-{ids.token()}", epoch)
    key = f"{fence.rollout}.1"
    operation = await provider.begin(action, key=key, fence=fence)
    try:
        async with asyncio.timeout(timeout):
            while True:
                found = await provider.poll(operation)
                if isinstance(found, Done):
                    return
                if isinstance(found, Failed):
                    raise Permanent(found.reason)
                operation = found
                await asyncio.sleep(operation.retry_after or 0.05)
    except TimeoutError:
        raise Temporary(
            f"{action.kind.replace('_', ' ')} on {action.endpoint} is not done after {timeout:g} s; "
            "it goes on by itself"
        ) from None
    finally:
        with contextlib.suppress(ProviderError):
            await provider.release(action.endpoint, fence)


# --- looking --------------------------------------------------------------------------------------


async def find(app: App, ref: str | None, *, active: bool | None = None) -> Rollout:
    """The rollout that is meant: by id, by the beginning of one, by name (the newest); without `ref` the newest.

    Raises UnknownRollout, saying what there is.
    """
    known = await app.store.rollouts(limit=1000)
    if ref is None:
        chosen = next((rollout for rollout in known if active is None or rollout.active is active), None) or next(
            iter(known), None
        )
        if chosen is None:
            raise UnknownRollout("there is no rollout yet: `rollout run plan.yml` begins one")
        return chosen
    exact = [rollout for rollout in known if rollout.id == ref]
    named = [rollout for rollout in known if rollout.name == ref]
    begun = [rollout for rollout in known if rollout.id.startswith(ref)]
    for found in (exact, named, begun if len(begun) == 1 else []):
        if found:
            return found[0]
    if begun:
        raise UnknownRollout(
            f"{ref} is the beginning of several: {', '.join(rollout.id for rollout in begun[:5])}; write more of it"
        )
    there = ", ".join(rollout.id for rollout in known[:5]) or "there is none yet"
    raise UnknownRollout(f"there is no rollout {ref}; the newest are: {there}")


async def as_it_stands(app: App, rollout: Rollout) -> Rollout:
    """The rollout as people see it: driven by nobody when the process that the row names is provably gone."""
    holder = await app.store.worker(rollout.worker) if rollout.worker is not None else None
    gone = holder is not None and lease.provably_dead(holder, lease.this_worker(ids.token))
    return replace(rollout, worker=None) if gone else rollout


# --- driving --------------------------------------------------------------------------------------


async def run(app: App, path: Path, flags: Flags, *, watcher: Watcher, stop: asyncio.Event) -> Rollout:
    """Begin a rollout and drive it until it ends, or is left paused.

    Raises PlanError, Refused, UsageError before anything was changed; ProviderError, StoreError, LeaseLost.
    """
    draft = bundles.read(path, flags.vars)
    provider = provider_for(app, draft.plan, draft.path.parent)
    try:
        identity = provider.identity(draft.endpoint_name)
        owners = await app.store.rollouts(active=True, endpoint=identity, limit=1)
        if owners:
            raise UsageError(
                f"rollout {owners[0].id} is {owners[0].phase} on endpoint {draft.endpoint_name}: "
                "resume it, or abort it, before another begins"
            )
        ready = await made_ready(app.store, provider, draft, flags)
        pinned, observed, stages = ready.bundle, ready.observed, ready.stages
        if not flags.advisory:
            _respect_claim(app, observed, flags)
        now = app.clock()
        rollout_id = ids.rollout_id(pinned.name, now)
        started = ev.Started(
            name=pinned.name,
            plan_path=pinned.path,
            provider=pinned.plan.provider.name,
            endpoint=identity,
            endpoint_name=pinned.endpoint_name,
            bundle=pinned.sha256,
            roles=ready.roles,
            stages=tuple(stage.name for stage in stages),
            expected=Snapshot.of(observed),
            options=options(pinned, flags),
            notes=first_version(ready),
        )
        event = ev.Event(rollout_id, 1, ids.event_id(), now, app.actor, 0, started)
        worker = lease.this_worker(ids.token)
        await app.store.put_worker(worker)
        claimed = observed.claim.epoch if observed is not None and observed.claim is not None else 0
        rollout = await app.store.create(
            apply(None, event), pinned, [event], worker=worker, provider=pinned.plan.provider.name, at_least=claimed
        )
        watcher(rollout, [event])
        return await _drive(app, provider, rollout, pinned, stages, flags, worker, watcher=watcher, stop=stop)
    finally:
        await provider.aclose()


async def resume(app: App, ref: str | None, flags: Flags, *, watcher: Watcher, stop: asyncio.Event) -> Rollout:
    """Take up a rollout that nobody drives, or tell the one who drives it to go on.

    Raises UsageError when there is nothing to resume, or a live driver is at work; PlanError and Refused about an
    edited plan.
    """
    rollout = await find(app, ref, active=True)
    _not_ended(rollout, "resume")
    plain = not (flags.take_back or flags.keep_theirs or flags.extend)
    if plain and (await as_it_stands(app, rollout)).worker is None:
        pending = await app.store.commands(rollout.id)
        if any(command.kind == "resume" for command in pending):
            # Somebody asked for it and did not live to see it: asked once more, it would be refused as done.
            return await _take_up(app, rollout, flags, watcher=watcher, stop=stop)
    if rollout.phase == "paused" or flags.extend:
        args: dict[str, Any] = {"take_back": flags.take_back, "keep_theirs": flags.keep_theirs}
        args |= {"extend": flags.extend} if flags.extend else {}
        asked = await _ask(app, "resume", rollout, args, flags, watcher=watcher, stop=stop)
        if not asked.accepted:
            raise UsageError(f"{rollout.id}: {asked.outcome}")
        return asked.rollout
    return await _take_up(app, rollout, flags, watcher=watcher, stop=stop)


async def ask(
    app: App,
    kind: Literal["abort", "pause", "approve"],
    ref: str | None,
    *,
    reason: str | None,
    flags: Flags,
    watcher: Watcher,
    stop: asyncio.Event,
    despite: str | None = None,
) -> Asked:
    """Ask something of a rollout: of its driver, when one lives; else by driving it. `despite`: the gate that an
    approval sets aside.

    Raises UnknownRollout, UsageError when it has ended.
    """
    rollout = await find(app, ref, active=True)
    _not_ended(rollout, kind)
    if kind == "pause":
        flags = replace(flags, exit_on_pause=True)
    args = {"reason": reason} if reason else {}
    args |= {"despite": despite} if despite else {}
    return await _ask(app, kind, rollout, args, flags, watcher=watcher, stop=stop)


async def post(app: App, kind: CommandKind, rollout: Rollout, args: Mapping[str, Any] | None = None) -> Command:
    """Record what is asked of a rollout, for whoever drives it."""
    return await app.store.post(Command(ids.event_id(), rollout.id, kind, app.actor, app.clock(), args or {}))


def _not_ended(rollout: Rollout, wanted: str) -> None:
    if rollout.phase in TERMINAL:
        how = f"{rollout.phase.replace('_', ' ')} ({rollout.reason})" if rollout.reason else rollout.phase
        raise UsageError(f"rollout {rollout.id} has ended: {how}; there is nothing to {wanted}")


async def _ask(
    app: App,
    kind: Literal["abort", "pause", "approve", "resume"],
    rollout: Rollout,
    args: Mapping[str, Any],
    flags: Flags,
    *,
    watcher: Watcher,
    stop: asyncio.Event,
) -> Asked:
    command = await post(app, kind, rollout, args)
    me = lease.this_worker(ids.token)
    patience = lease.Patience()
    drove = False
    while True:
        posted = next(found for found in await app.store.commands(rollout.id, pending=False) if found.id == command.id)
        rollout = await app.store.rollout(rollout.id)
        if posted.outcome is not None:
            return Asked(rollout, posted.outcome == "accepted", posted.outcome.removeprefix("refused: "), drove)
        if not rollout.active:
            return Asked(rollout, False, f"it ended before that: {rollout.phase.replace('_', ' ')}", drove)
        if stop.is_set():
            return Asked(rollout, True, "it is recorded, and will be carried out by whoever drives next", drove)
        holder = await app.store.worker(rollout.worker) if rollout.worker is not None else None
        if holder is not None and not lease.provably_dead(holder, me) and not patience.over(holder):
            await asyncio.sleep(COMMAND_TICK)
            continue
        with contextlib.suppress(LeaseLost):
            drove = True
            await _take_up(app, rollout, flags, watcher=watcher, stop=stop, check_edits=kind == "resume")


async def _take_up(
    app: App, rollout: Rollout, flags: Flags, *, watcher: Watcher, stop: asyncio.Event, check_edits: bool = True
) -> Rollout:
    pinned = await app.store.bundle(rollout.bundle)
    provider = provider_for(app, pinned.plan, Path(pinned.path).parent)
    try:
        observed = await _glimpse(provider, rollout.endpoint_name)
        if not rollout.advisory:
            _respect_claim(app, observed, flags)
        capabilities = capabilities_of(provider, pinned, observed)
        stages = compile_stages(pinned, rollout.roles, capabilities)
        adopted = None
        if check_edits:
            pinned, stages, adopted = await adoption.edits(
                provider, rollout, pinned, stages, capabilities, adopt=flags.adopt
            )
        worker = lease.this_worker(ids.token)
        await app.store.put_worker(worker)
        claimed = observed.claim.epoch if observed is not None and observed.claim is not None else 0
        rollout = await lease.take(app.store, rollout.id, worker, at_least=claimed, wait=False)
        if adopted is not None:
            await app.store.put_bundle(pinned)
        return await _drive(
            app, provider, rollout, pinned, stages, flags, worker, watcher=watcher, stop=stop, adopted=adopted
        )
    finally:
        await provider.aclose()


async def _glimpse(provider: Provider, endpoint: str) -> EndpointState | None:
    """The endpoint, or None when the provider is down as well: what was asked is then recorded, and carried out when it
    can be.
    """
    try:
        return await provider.observe(endpoint)
    except ProviderError:
        return None


def _respect_claim(app: App, observed: EndpointState | None, flags: Flags) -> None:
    claim = observed.claim if observed is not None else None
    if claim is not None and claim.store != app.store.id and not flags.steal:
        raise Refused(
            f"endpoint {observed.name if observed else ''} is claimed by rollout {claim.rollout} of another store: "
            "end it there, or take it over with --steal when that store is gone"
        )


async def _drive(
    app: App,
    provider: Provider,
    rollout: Rollout,
    pinned: Bundle,
    stages: tuple[Stage, ...],
    flags: Flags,
    worker: Worker,
    *,
    watcher: Watcher,
    stop: asyncio.Event,
    adopted: ev.Adopted | None = None,
) -> Rollout:
    context = _context(app, Path(pinned.path).parent)
    opening = partial(open_metric, context=context)
    async with Metrics(opening) as metrics, lease.Heartbeat(app.store, worker) as heartbeat:
        driver = Driver(
            rollout,
            bundle=pinned,
            stages=stages,
            store=app.store,
            provider=provider,
            metrics=metrics,
            capabilities=capabilities_of(provider, pinned, None),
            worker=worker,
            heartbeat=heartbeat,
            clock=app.clock,
            run_task=runner(rollout, pinned, provider, context.resolve),
            flags=flags,
            watcher=watcher,
            stop=stop,
            load=_load(app, pinned, advisory=rollout.advisory),
            notifier=Notifier(pinned.plan.notify, resolve=context.resolve) if pinned.plan.notify else None,
        )
        return await driver.run(adopted=adopted)


def _load(app: App, pinned: Bundle, *, advisory: bool) -> LoadProcess | None:
    load = pinned.plan.load
    if load is None or advisory:
        return None
    stream = Stream(
        provider=pinned.plan.provider.name,
        options=pinned.plan.provider.options,
        home=str(app.settings.home),
        runtime=str(app.settings.runtime) if app.settings.runtime else None,
        base=str(Path(pinned.path).parent),
        endpoint=pinned.endpoint_name,
        body=pinned.request_body(load.request).decode(),
        rate=load.rate,
    )
    return LoadProcess(stream)
