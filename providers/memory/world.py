"""The simulated cloud: endpoints, operations and claims, shared by every provider object opened on it, as by so many
processes.

Nothing runs in the background. The world is brought up to date when somebody looks at it: `advance(now)` takes what is
due in order of time, counts the requests between, and leaves. So it works under a virtual clock, in any number of event
loops, and the same calls at the same times give the same world. It is as strict as the strictest real provider
(`rules`), so a mistake of the orchestrator's shows here first.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from providers.actions import Action, DeleteDeployment, DeleteEndpoint, PutDeployment, PutEndpoint, Scale, SetTraffic
from providers.base import Capabilities, Claim, Done, EndpointState, Failed, Fence, Keys, Operation, Token
from providers.errors import NotFound, Permanent, Unsupported
from providers.measurement import Cursor, Measurement, MeasureQuery
from providers.memory import rules
from providers.memory.answered import samples
from providers.memory.faults import KINDS, Faults
from providers.memory.state import Deployment, Effect, Endpoint, Line, Running, phrase, subject
from providers.memory.traffic import Behaviour, Counters, Load, Route, Stream, count

DURATIONS: Mapping[str, float] = dict(zip(KINDS, (1.0, 3.0, 1.0, 0.2, 0.5, 0.5), strict=True))
"""Seconds that each kind of operation takes unless the world says otherwise; what is already as asked takes none."""

TOKEN_LIFE = timedelta(hours=1)
"""How long a token is good."""

_KEPT_STATES = 500


class World(Faults):
    """A cloud of one's own.

    Args:
        name: part of every identity in it.
        seed: decides every request's fate.
        durations: seconds that kinds of operations take, over `DURATIONS`. Raises ValueError for an unknown kind.
        capabilities: what its endpoints can do.

    Attributes:
        default_rate: live requests a second to endpoints that `traffic` was never ordered for.
        effects: everything that really changed, in order.
        operations: every operation, by key.
    """

    def __init__(
        self,
        name: str = "world",
        *,
        seed: int = 0,
        durations: Mapping[str, float] | None = None,
        capabilities: Capabilities | None = None,
    ) -> None:
        super().__init__()
        if unknown := sorted(set(durations or {}) - set(DURATIONS)):
            raise ValueError(f"durations: {unknown[0]} is no kind of operation; there are {', '.join(DURATIONS)}.")
        self.name = name
        self.capabilities = capabilities or Capabilities(predictions=True)
        self.default_rate = 0.0
        self.effects: list[Effect] = []
        self.operations: dict[str, Running] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self._seed = seed
        self._durations = {**DURATIONS, **(durations or {})}
        self._clock: Callable[[], datetime] | None = None
        self._now: datetime | None = None
        self._due: list[tuple[datetime, int, Callable[[], None]]] = []
        self._tickets = 0
        self._incarnations = 0
        self._epochs: dict[tuple[str, str], int] = {}
        self._keys: dict[str, Keys] = {}
        self._tokens: dict[str, Token] = {}
        self._renewals: set[str] = set()
        self._saved: dict[tuple[str, str], list[Line]] = {}
        self._behaviours: dict[tuple[str, str], Behaviour] = {}
        self._rates: dict[str, float] = {}
        self._loads: dict[str, Load] = {}
        self._streams: dict[str, Stream] = {}

    # Time

    def join(self, clock: Callable[[], datetime]) -> None:
        """Tell the time by this clock from here on; called by each provider that is opened."""
        self._clock = clock

    def now(self) -> datetime:
        """Bring the world up to the clock's time, which never goes back here. Raises Permanent while no provider was
        opened.
        """
        if self._clock is None:
            raise Permanent(f"World {self.name} has no clock yet: open a provider in it first.")
        return self._advance(self._clock())

    def later(self, seconds: float, change: Callable[[], None]) -> None:
        """Call `change` when that many seconds have passed; it may order anything of this world."""
        self._at(self.now() + timedelta(seconds=seconds), change)

    def _advance(self, now: datetime) -> datetime:
        while self._due and self._due[0][0] <= now:
            at, _, change = heapq.heappop(self._due)
            self._count(at)
            self._now = at
            change()
            self._record()
        self._count(now)
        self._now = now if self._now is None else max(now, self._now)
        return self._now

    def _at(self, when: datetime, change: Callable[[], None]) -> None:
        self._tickets += 1
        heapq.heappush(self._due, (when, self._tickets, change))

    def _count(self, until: datetime) -> None:
        for endpoint in self.endpoints.values():
            if not endpoint.ready:
                continue
            rate = self._rates.get(endpoint.name, self.default_rate)
            load = self._loads.get(endpoint.name)
            if load is None or load.rate != rate:
                # What came before the change was counted up to the last look.
                load = self._loads[endpoint.name] = Load(rate, self._now or until)
            route = self.route(endpoint)
            for draws in self.stream(endpoint.name).take(load.due(until)):
                count(endpoint.counters, draws, route)

    # What a test orders (and see Faults)

    def traffic(self, endpoint: str, *, rate: float) -> None:
        """Clients send `rate` live requests a second from now on, or from the endpoint's creation; 0 stops them."""
        if self._clock is not None:
            self.now()
        self._rates[endpoint] = rate

    def behave(self, endpoint: str, deployment: str, behaviour: Behaviour) -> None:
        """The deployment acts so from now on, also when it is created later."""
        if self._clock is not None:
            self.now()
        self._behaviours[endpoint, deployment] = behaviour

    def meddle(
        self,
        endpoint: str,
        *,
        traffic: Mapping[str, int] | None = None,
        mirror: Mapping[str, int] | None = None,
        instances: Mapping[str, int] | None = None,
        healthy: Mapping[str, int] | None = None,
        digests: Mapping[str, str] | None = None,
        remove: Iterable[str] = (),
        claim: Claim | None = None,
    ) -> None:
        """Somebody else changes the endpoint by hand, at once, past every rule and claim. Raises NotFound.

        Args:
            endpoint: its name.
            traffic, mirror: the new shares, tenths of a percent.
            instances: deployment -> the count that it has and shall have.
            healthy: deployment -> how many of its instances answer.
            digests: deployment -> the digest that it has now.
            remove: deployments that are gone.
            claim: who drives it now.
        """
        self.now()
        target = self.endpoint(endpoint)
        remove = tuple(remove)
        there = {
            n: rules.deployment(target, n) for n in (*(instances or ()), *(healthy or ()), *(digests or ()), *remove)
        }
        for name, number in (instances or {}).items():
            there[name].desired = there[name].healthy = number
        for name, number in (healthy or {}).items():
            there[name].healthy = number
        for name, digest in (digests or {}).items():
            there[name].digest = digest
        for name in remove:
            del target.deployments[name]
        target.traffic = target.traffic if traffic is None else rules.shares(traffic)
        target.mirror = target.mirror if mirror is None else rules.shares(mirror)
        target.claim = claim or target.claim
        self._record()

    def restart_data_plane(self, endpoint: str) -> None:
        """The proxy starts anew and has counted nothing, so the next measurement says that it lost what was before.
        Raises NotFound.
        """
        self.now()
        target = self.endpoint(endpoint)
        target.counters = self._counters()
        for name in target.deployments:
            target.counters.appear(name)

    # What a provider asks

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint. Raises NotFound."""
        if name not in self.endpoints:
            raise NotFound(f"Endpoint {name} does not exist in world {self.name}.")
        return self.endpoints[name]

    def behaviour(self, endpoint: str, deployment: str) -> Behaviour:
        """How the deployment acts."""
        return self._behaviours.get((endpoint, deployment), Behaviour())

    def route(self, endpoint: Endpoint) -> Route:
        """Where its requests go now."""
        behaviours = {
            name: self.behaviour(endpoint.name, name)
            if name in endpoint.deployments and endpoint.deployments[name].healthy
            else None
            for name in {*endpoint.traffic, *endpoint.mirror, *endpoint.deployments}
        }
        return Route(endpoint.traffic, endpoint.mirror, behaviours)

    def stream(self, name: str) -> Stream:
        """The requests of this name, in order: an endpoint's own, or those that somebody sends there one by one."""
        return self._streams.setdefault(name, Stream(self._seed, name))

    def observe(self, name: str) -> EndpointState | None:
        """The endpoint as it stands, or stood `staleness` seconds ago."""
        now = self.now()
        endpoint = self.endpoints.get(name)
        if endpoint is None:
            return None
        if not self.staleness:
            return endpoint.state(self._busy(name))
        seen = [state for at, state in endpoint.history if at <= now - timedelta(seconds=self.staleness)]
        return seen[-1] if seen else None

    def begin(self, action: Action, key: str, fence: Fence, token: Callable[[], str]) -> Operation:
        """Start the action, unless the key was used already; `token` makes a new endpoint's keys.

        Raises Fenced, NotFound, Permanent, Unsupported, Conflict.
        """
        now = self.now()
        name = action.endpoint
        there = self.endpoints.get(name)
        rules.check_fence(name, fence, there.claim if there else None, self._epochs.get((name, fence.store), 0))
        if (known := self.operations.get(key)) is None:
            going = self._going_on(name)
            for old in rules.check(action, there, going, self.capabilities):
                old.outcome = Failed(old.key, f"It was put to an end by {phrase(action)}.", permanent=False)
            known = self.operations[key] = Running(key, action, now)
            if rules.satisfied(action, there):
                known.outcome = Done(key)
            else:
                self._start(known, now, fence, token)
        elif known.action != action:
            raise Permanent(f"Key {key} stands for {phrase(known.action)}: use another one for {phrase(action)}.")
        if (there := self.endpoints.get(name)) is not None:
            there.claim = Claim(fence.store, fence.rollout, fence.epoch)
            self._epochs[name, fence.store] = fence.epoch
        self._advance(now)
        self._record()
        return self._operation(known)

    def poll(self, operation: Operation) -> Operation | Done | Failed:
        """How far the operation is. Raises NotFound for one that was never begun here."""
        self.now()
        if (running := self.operations.get(operation.key)) is not None:
            return running.outcome or self._operation(running)
        there = self.endpoints.get(operation.action.endpoint)
        if isinstance(operation.action, DeleteDeployment | DeleteEndpoint) and rules.satisfied(operation.action, there):
            return Done(operation.key)
        raise NotFound(f"No operation with key {operation.key} was begun in world {self.name}.")

    def release(self, name: str, fence: Fence) -> None:
        """Drop the claim of this store, unless a newer driver holds it."""
        self.now()
        there = self.endpoints.get(name)
        if (
            there is not None
            and there.claim is not None
            and there.claim.store == fence.store
            and there.claim.epoch <= fence.epoch
        ):
            there.claim = None
            self._record()

    def measure(self, query: MeasureQuery, cursor: Cursor | None) -> Measurement:
        """What was counted since the cursor. Raises NotFound."""
        now = self.now()
        counters = self.endpoint(query.endpoint).counters
        fresh = Cursor(counters.incarnation, now, counters.raw())
        started = cursor is not None and cursor.incarnation == counters.incarnation
        before = cursor.raw.get("answers", {}) if cursor is not None and started else None
        found = samples(counters.answers, before, query.deployments, query.comparisons)
        if cursor is None:
            return Measurement(now, now, (), fresh, samples=found)
        if not started:
            return Measurement(cursor.at, now, (), fresh, lost=True, samples=found)
        legs, pairs = counters.since(cursor.raw, query.deployments)
        return Measurement(cursor.at, now, legs, fresh, pairs if self.capabilities.paired else None, samples=found)

    def keys(self, name: str) -> Keys:
        """The endpoint's keys. Raises NotFound."""
        self.now()
        self.endpoint(name)
        return self._keys[name]

    def renew(self, name: str, which: str, key: str, token: Callable[[], str]) -> Keys:
        """Replace one key, unless this was done under the same idempotency key. Raises NotFound."""
        now = self.now()
        old = self.keys(name)
        if key not in self._renewals:
            self._renewals.add(key)
            self._keys[name] = Keys(token(), old.secondary) if which == "primary" else Keys(old.primary, token())
            self.effects.append(Effect(now, key, "regenerate", name))
        return self._keys[name]

    def token(self, name: str, make: Callable[[], str]) -> Token:
        """What opens an endpoint that has no keys; `make` makes the next one. Raises NotFound, Unsupported."""
        now = self.now()
        mode = self.endpoint(name).spec.auth_mode
        if mode != "aml_token":
            raise Unsupported(f"Endpoint {name} has no tokens (auth_mode: {mode}).")
        old = self._tokens.get(name)
        if old is None or old.expires is None or old.expires <= now:
            old = self._tokens[name] = Token(make(), now + TOKEN_LIFE)
        return old

    def lines(self, name: str, deployment: str) -> list[Line]:
        """What the deployment printed, or what was saved of it. Raises NotFound."""
        self.now()
        there = self.endpoints.get(name)
        if there is not None and deployment in there.deployments:
            return there.deployments[deployment].lines
        if (name, deployment) in self._saved:
            return self._saved[name, deployment]
        raise NotFound(f"Deployment {deployment} does not exist on endpoint {name}, and none of its logs were saved.")

    def save(self, name: str, deployment: str) -> None:
        """Keep what the deployment printed. Raises NotFound."""
        self._saved[name, deployment] = list(self.lines(name, deployment))

    # Operations

    def _going_on(self, name: str) -> list[Running]:
        return [r for r in self.operations.values() if r.outcome is None and r.action.endpoint == name]

    def _busy(self, name: str) -> str | None:
        blocking = [
            r.action
            for r in self._going_on(name)
            if not self.capabilities.concurrent or isinstance(r.action, PutEndpoint | DeleteEndpoint)
        ]
        return phrase(blocking[0]) if blocking else None

    def _operation(self, running: Running) -> Operation:
        left = (running.ends - (self._now or running.ends)).total_seconds()
        return Operation(running.key, running.action, {"key": running.key}, phrase(running.action), max(left, 0.0))

    def _counters(self) -> Counters:
        self._incarnations += 1
        return Counters(f"{self.name}-{self._incarnations}")

    def _start(self, running: Running, now: datetime, fence: Fence, token: Callable[[], str]) -> None:
        action = running.action
        seconds = self._durations[action.kind]
        there = self.endpoints.get(action.endpoint)
        if isinstance(action, PutEndpoint):
            if there is None:
                url = f"memory://{self.name}/{action.endpoint}"
                self.endpoints[action.endpoint] = Endpoint(action.endpoint, action.spec, self._counters(), url)
                self._keys[action.endpoint] = Keys(token(), token())
            else:
                there.spec = action.spec
        elif isinstance(action, PutDeployment) and there is not None:
            behaviour = self.behaviour(there.name, action.deployment.name)
            seconds = seconds if behaviour.start_seconds is None else behaviour.start_seconds
            self._launch(there, action, now)
        elif isinstance(action, Scale) and there is not None:
            deployment = rules.deployment(there, action.deployment)
            deployment.desired = action.instances
            self._print(there.name, deployment)
        self.effects.append(Effect(now, running.key, action.kind, action.endpoint, action, fence))
        running.spoiled = self.take_spoil(action.kind)
        running.ends = now + timedelta(seconds=seconds)
        self._at(running.ends, lambda: self._end(running))

    def _launch(self, endpoint: Endpoint, action: PutDeployment, now: datetime) -> None:
        name, number, digest = action.deployment.name, action.deployment.spec.instance_count, action.deployment.digest
        old = endpoint.deployments.get(name)
        new = old if old is not None and old.digest == digest else Deployment(name, digest, now, number)
        new.desired, new.problem = number, None
        self._print(endpoint.name, new)
        endpoint.deployments[name] = new
        endpoint.counters.appear(name)

    def _print(self, endpoint: str, deployment: Deployment) -> None:
        for instance in range(deployment.healthy, deployment.desired):
            texts = self.behaviour(endpoint, deployment.name).prints
            deployment.lines += [
                (instance, text.format(deployment=deployment.name, instance=instance)) for text in texts
            ]

    def _end(self, running: Running) -> None:
        if running.outcome is not None:
            return
        action = running.action
        endpoint, name = self.endpoints.get(action.endpoint), subject(action)
        deployment = endpoint and name and endpoint.deployments.get(name)
        if running.spoiled is not None:
            reason, permanent = running.spoiled
            running.outcome = Failed(running.key, reason, permanent)
            if isinstance(action, PutDeployment) and isinstance(deployment, Deployment):
                deployment.problem = reason
            return
        running.outcome = Done(running.key)
        match action:
            case _ if endpoint is None:
                running.outcome = Failed(running.key, f"Endpoint {action.endpoint} was deleted meanwhile.")
            case PutEndpoint():
                endpoint.ready = True
            case SetTraffic():
                endpoint.traffic, endpoint.mirror = rules.shares(action.traffic), rules.shares(action.mirror)
            case DeleteDeployment():
                endpoint.deployments.pop(action.deployment, None)
            case DeleteEndpoint():
                del self.endpoints[action.endpoint]
                self._tokens.pop(action.endpoint, None)
                self._loads.pop(action.endpoint, None)
            case _ if not isinstance(deployment, Deployment):
                running.outcome = Failed(running.key, f"Deployment {name} was deleted meanwhile.")
            case _:
                running.outcome = self._come_up(running, deployment)

    def _come_up(self, running: Running, deployment: Deployment) -> Done | Failed:
        behaviour = self.behaviour(running.action.endpoint, deployment.name)
        if behaviour.starts or deployment.healthy >= deployment.desired:
            deployment.healthy, deployment.problem = deployment.desired, None
            return Done(running.key)
        deployment.problem = behaviour.exit_reason
        deployment.lines.append((0, behaviour.exit_reason))
        return Failed(running.key, f"Deployment {deployment.name} cannot start: {behaviour.exit_reason}.")

    def _record(self) -> None:
        for name, endpoint in self.endpoints.items():
            state = endpoint.state(self._busy(name))
            if self._now is not None and (not endpoint.history or endpoint.history[-1][1] != state):
                endpoint.history.append((self._now, state))
                del endpoint.history[:-_KEPT_STATES]
