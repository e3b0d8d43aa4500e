"""What the local provider says as far as no process is needed: an endpoint's directory written by hand, without Envoy.

What needs one is in tests/acceptance/test_messages.py. And what is said of providers that are installed, or are not.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from providers.actions import Action, DeleteDeployment, PutDeployment, Scale, SetTraffic
from providers.base import Claim, Context, Fence, Operation
from providers.local import operations, rules, state
from providers.local.envoy import Members
from providers.local.processes import Processes
from providers.local.provider import LocalProvider, Options
from providers.local.state import Deployment, Generation, Instance, Layout, Record, State
from providers.specs import DeploymentSpec, EndpointSpec, LocalRuntime, ResolvedDeployment
from tests.engine.conftest import EPOCH
from tests.messages.bench import Bench, direct, shop
from tests.messages.entry import FOR_AUTHORS, RETRIED, Message

TRY_AGAIN = 3
OURS = Fence("store-1", "shop-1", 1)
SERVER = LocalRuntime(command=["server"])
WELL = {"blue": Members(2, 2, 0, 0), "green": Members(2, 2, 0, 0)}


def resolved(name: str, digest: str = "a" * 64, **more: Any) -> ResolvedDeployment:
    """A deployment that any server can be."""
    return ResolvedDeployment(DeploymentSpec(name=name, instance_count=2, local=SERVER), "/", digest, **more)


def deployment(name: str, *, digest: str = "a" * 64, instances: int = 0, **more: Any) -> Deployment:
    """One that is there."""
    generation = Generation("1", resolved(name, digest), EPOCH)
    made = tuple(Instance(number, 20_000 + number, "1", "starting", EPOCH) for number in range(instances))
    return Deployment(name, 2, (generation,), made, **more)


def standing(**more: Any) -> State:
    """blue serves, and green stands beside it."""
    there = {"blue": deployment("blue", served=True), "green": deployment("green")}
    fields: dict[str, Any] = {"deployments": there, "traffic": {"blue": 1000}, **more}
    return State("shop", EndpointSpec(name="shop"), EPOCH, 20_000, operations.boot(), **fields)


class Here:
    """The provider with the endpoint's directory as it was written by hand."""

    def __init__(self, bench: Bench, stands: State | None = None) -> None:
        self.bench, self.home = bench, bench.folder / "there"
        # Paths of sockets are short, and a test's folder may not be.
        runtime = bench.cleanup.enter_context(tempfile.TemporaryDirectory(prefix="m-"))
        context = Context(self.home, lambda: EPOCH, lambda: "token", self._resolve, Path(runtime))
        self.provider = LocalProvider(Options(), context)
        self.operations = self.provider._operations
        self.layout = Layout(self.home / "local" / "shop")
        if stands is not None:
            self.layout.directory.mkdir(mode=0o700, parents=True)
            state.save(self.layout, stands)
            state.save_keys(self.layout, state.KeyFile("one", "two"))

    @staticmethod
    def _resolve(text: str) -> str:
        return text

    def begin(self, action: Action, *, key: str = "k1", fence: Fence = OURS) -> Any:
        return self.operations.begin(action, key, fence)

    def without_keeper(self) -> None:
        """Nothing is started."""
        self.bench.patch(Processes, "ensure_keeper", lambda self: None)

    def hasty(self) -> None:
        """The time that something may take is over at the second look."""
        ticks = iter(range(0, 10_000, 100))
        clock = SimpleNamespace(monotonic=lambda: next(ticks), sleep=lambda seconds: None)
        self.bench.patch(operations, "time", clock)


def at(play: Callable[[Here], Any], **stands: Any) -> Callable[..., Any]:
    """Played where the endpoint stands so."""
    return direct(lambda bench: play(Here(bench, standing(**stands))))


def nowhere(play: Callable[[Here], Any]) -> Callable[..., Any]:
    """Played where no endpoint is."""
    return direct(lambda bench: play(Here(bench)))


def refused(action: Action, *, members: Mapping[str, Members] = WELL, **stands: Any) -> Callable[..., Any]:
    """Asked of the endpoint as it stands."""
    return direct(lambda: rules.check(action, standing(**stands), members))


def rule(function: str, when: str, cause: Callable[..., Any], marked: str, **more: Any) -> Message:
    """Said by the provider: exit code 3, unless a rollout makes something else of it."""
    code = more.pop("code", TRY_AGAIN)
    return Message(" ".join(f"local.{each}" for each in function.split()), when, cause, marked, code, **more)


def split(*pairs: tuple[str, int], mirror: tuple[tuple[str, int], ...] = ()) -> SetTraffic:
    """Shares in tenths of a percent."""
    return SetTraffic("shop", dict(pairs), dict(mirror))


def put(name: str, digest: str = "b" * 64, **more: Any) -> PutDeployment:
    """To deploy it."""
    return PutDeployment("shop", resolved(name, digest), **more)


LEAVING = {"blue": deployment("blue", served=True), "green": deployment("green", leaving=EPOCH)}


async def deleted_meanwhile(here: Here) -> Any:
    """state.json goes between two looks."""
    looks = iter([standing(), None])
    here.bench.patch(operations, "load", lambda layout: next(looks))
    return here.begin(Scale("shop", "blue", 1))


def unstated(here: Here) -> Any:
    """Somebody removed it."""
    here.layout.state.unlink()
    return here.operations.regenerate("shop", "primary", "k1")


async def started_and_deleted(here: Here) -> Any:
    """It comes up, and is gone."""
    here.bench.patch(here.operations, "start", lambda endpoint: None)
    return await here.provider.start("shop")


def locked_twice(here: Here) -> None:
    """One inside of the other."""
    with state.locked(here.layout), state.locked(here.layout, patience=0.0):
        raise AssertionError


async def no_such_instance(here: Here) -> Any:
    """There are logs of instance 0."""
    folder = here.layout.log_folder("green", standing().deployments["green"].wanted)
    folder.mkdir(parents=True)
    (folder / "instance-0.log").write_text("started\n")
    return await here.provider.logs("shop", "green", instance=7, tail=9)


RULES = [
    rule(
        "rules.check_fence",
        "an older driver of the same store",
        direct(lambda: rules.check_fence("shop", OURS, None, {"store-1": 5})),
        "Endpoint shop is driven with epoch 5, so epoch 1 may not change it any more.",
        do=FOR_AUTHORS,
    ),
    rule(
        "rules.check_fence",
        "another store's rollout holds the endpoint",
        direct(lambda: rules.check_fence("shop", OURS, Claim("store-2", "shop-9", 1), {})),
        "Endpoint shop is claimed by rollout shop-9 of another store (store-2): «let it end there, or take it over "
        "with --steal».",
    ),
    rule(
        "rules.check_endpoint",
        "an endpoint with tokens",
        shop("endpoint create endpoint.yml", lambda b: b.write("endpoint.yml", "name: shop\nauth_mode: aml_token\n")),
        "endpoint.yml: auth_mode: aml_token is not available on the local provider: «use key».",
        code=2,
    ),
    rule(
        "rules.check_deployment",
        "a deployment that nothing can run",
        direct(lambda: rules.check_deployment(ResolvedDeployment(DeploymentSpec(name="green"), "/", "d"))),
        "Deployment green says neither code_configuration nor local.command: «one of them is needed to run it here».",
    ),
    rule(
        "rules.check_deployment",
        "a health path that is none",
        direct(
            lambda: rules.check_deployment(
                ResolvedDeployment(
                    DeploymentSpec(name="green", local=SERVER.model_copy(update={"health_path": "up"})), "/", "d"
                )
            )
        ),
        "Deployment green: local.health_path 'up' «must begin with '/'».",
    ),
    rule(
        "rules.check",
        "a change while the endpoint is being deleted",
        refused(Scale("shop", "blue", 3), leaving=True),
        "Endpoint shop is being deleted: «wait until that has ended».",
    ),
    rule(
        "rules.check",
        "no instances at all",
        refused(Scale("shop", "blue", 0)),
        "Deployment blue cannot have 0 instances: «at least 1 is needed».",
    ),
    rule(
        "rules._staying",
        "a change of a deployment that is not there",
        refused(Scale("shop", "grey", 3)),
        "Deployment grey does not exist on endpoint shop.",
        do=FOR_AUTHORS,
    ),
    rule(
        "rules._staying",
        "a change of a deployment that is being deleted",
        refused(Scale("shop", "green", 3), deployments=LEAVING),
        "Deployment green is being deleted: «wait until that has ended».",
    ),
    rule(
        "rules._put",
        "another deployment of that name is there",
        refused(put("green")),
        "Deployment green exists with other content (aaaaaaaaaaaa, asked for bbbbbbbbbbbb): «choose another name, or "
        "replace it with --replace».",
    ),
    rule(
        "rules._put",
        "a deployment that serves is to be replaced",
        refused(put("blue", replace=True)),
        "Deployment blue has traffic, so it cannot be replaced: «move its traffic first».",
    ),
    rule(
        "rules._delete",
        "a deployment that serves is to be deleted",
        refused(DeleteDeployment("shop", "blue")),
        "Deployment blue has 100% of the live traffic: «take it away before deleting it».",
    ),
    rule(
        "rules._set_traffic",
        "a share of more than everything",
        refused(split(("blue", 1001))),
        "Share 100.1% for blue is not between 0% and 100%.",
        do=FOR_AUTHORS,
    ),
    rule(
        "rules._set_traffic",
        "shares that are not everything",
        refused(split(("blue", 900))),
        "Live traffic sums to 90%: «it must be 0% or 100%».",
    ),
    rule(
        "rules._set_traffic",
        "a mirror to two",
        refused(split(("blue", 1000), mirror=(("green", 100), ("grey", 100)))),
        "Traffic cannot be mirrored to 2 deployments: «at most 1 is allowed».",
    ),
    rule(
        "rules._set_traffic",
        "live and mirrored traffic for one",
        refused(split(("blue", 500), ("green", 500), mirror=(("green", 100),))),
        "Deployment green cannot have live and mirrored traffic together.",
        do=FOR_AUTHORS,
    ),
    rule(
        "rules._set_traffic",
        "traffic for what is not healthy",
        refused(split(("green", 1000)), members={"green": Members(2, 1, 0, 0)}),
        "Deployment green has 1 healthy instances of 2, so it cannot get traffic yet.",
        do=RETRIED,
    ),
]

NAMED = [
    rule(
        "operations.layout",
        "keys of an endpoint whose name cannot be one",
        nowhere(lambda here: here.operations.layout("a_b")),
        "Endpoint a_b does not exist.",
        do=FOR_AUTHORS,
    ),
    rule(
        "operations.begin",
        "a change of an endpoint that is not there",
        nowhere(lambda here: here.begin(Scale("shop", "blue", 1))),
        "Endpoint shop does not exist.",
        do=FOR_AUTHORS,
    ),
    rule(
        "operations._existing",
        "an endpoint's file is gone while its folder is there",
        at(unstated),
        "Endpoint shop does not exist.",
        do=FOR_AUTHORS,
    ),
    rule(
        "operations._accept",
        "an endpoint is deleted in the moment of its change",
        at(deleted_meanwhile),
        "Endpoint shop does not exist.",
        do=FOR_AUTHORS,
    ),
    rule(
        "operations._accept",
        "an idempotency key that stands for something else",
        at(lambda here: here.begin(Scale("shop", "blue", 1)), operations={"k1": Record(Scale("shop", "blue", 3))}),
        "Key k1 stands for another action (scale): «use a new one».",
    ),
    rule(
        "operations._once",
        "an operation that was never begun",
        at(lambda here: here.operations.poll(Operation("k9", Scale("shop", "blue", 1)))),
        "No operation with key k9 was begun on endpoint shop.",
        do=FOR_AUTHORS,
    ),
    rule(
        "provider._existing",
        "logs of an endpoint that is not there",
        nowhere(lambda here: here.provider.logs("shop", "blue", instance=None, tail=9)),
        "Endpoint shop does not exist.",
        do=FOR_AUTHORS,
    ),
    rule(
        "provider.start",
        "an endpoint is deleted while it starts",
        nowhere(started_and_deleted),
        "Endpoint shop does not exist.",
        do=FOR_AUTHORS,
    ),
    rule(
        "state.locked",
        "a change of an endpoint whose folder is gone",
        nowhere(lambda here: here.operations.regenerate("shop", "primary", "k")),
        "Endpoint shop does not exist.",
        do=FOR_AUTHORS,
    ),
    rule(
        "state.locked",
        "another process is changing the endpoint",
        at(locked_twice),
        "Endpoint shop is being changed by another process.",
        do=RETRIED,
    ),
    rule(
        "logs._folder",
        "logs of a deployment that never was",
        at(lambda here: here.provider.logs("shop", "grey", instance=None, tail=9)),
        "Deployment grey does not exist on endpoint shop, and no logs of it were kept.",
        do=FOR_AUTHORS,
    ),
    rule(
        "logs.read",
        "logs of an instance that never was",
        at(no_such_instance),
        "Deployment green has no log of instance 7: «there is 0».",
    ),
]


ENTRIES = [*RULES, *NAMED]
