"""A rollout to store: its bundle, its events in order, one of each kind, and evidence with logarithms at their ends."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from orchestrator.bundle import Bundle
from orchestrator.events import (
    Adopted,
    Approved,
    Begun,
    Body,
    Commanded,
    Driven,
    Ended,
    Event,
    Extended,
    Finished,
    Intended,
    Leaving,
    LogsSaved,
    Measured,
    MeasureFailed,
    Notified,
    Parked,
    Paused,
    Reached,
    Released,
    Resumed,
    Retried,
    RollbackBegan,
    StageEnded,
    StageEntered,
    Started,
    TaskEnded,
    TaskTried,
    Waited,
)
from orchestrator.gates.bets import Purse
from orchestrator.gates.judge import Figures, Judgement, Verdict
from orchestrator.gates.spec import Gate
from orchestrator.gates.state import GateState
from orchestrator.gates.track import Start, Tally
from orchestrator.rollout import Rollout, apply
from orchestrator.standing import Command, Intent, Roles, Snapshot, Split, Waiting
from orchestrator.store.base import Commit, Evidence, Worker
from plans.model import Plan
from providers.actions import DeleteDeployment, PutDeployment, PutEndpoint, Scale, SetTraffic
from providers.base import Operation
from providers.measurement import Cursor, Histogram, Leg, Measurement, Pairs
from providers.specs import Content, DeploymentSpec, EndpointSpec, ResolvedDeployment

T0 = datetime(2026, 11, 22, 10, 0, 0, 123457, tzinfo=UTC)
PLAN = {
    "version": "1",
    "name": "diabetes",
    "provider": {"name": "memory", "speed": "3"},
    "endpoint": {"file": "endpoint.yml"},
    "deployments": {"blue": {"file": "blue.yml"}, "green": {"file": "green.yml"}},
    "gates": {
        "errors": {"metric": "error_rate", "max": "2%", "max_ratio": "1.5", "max_increase": "0.5%"},
        "latency": {"metric": "latency", "quantile": "p95", "max": "500ms", "max_ratio": "1.10"},
    },
    "steps": [
        {"deploy": "green"},
        {"test": "green", "request": {"body": "{}"}, "expect": {"json": {"a.0": "1"}, "max_latency": "1s"}},
        {"shadow": "10%", "gates": ["errors", "latency"], "hold": "10m", "deadline": "1h"},
        {"canary": ["10%", "50%"], "gates": "errors"},
        {"wait": {"until": "09:00", "tz": "Asia/Tokyo"}},
        {"approve": "go?"},
        {"webhook": "https://example.org/x", "headers": {"authorization": "${env:HOOK}"}},
        {"load": "200/s", "request": {"body": "{}"}, "for": "30s"},
        {"load": "200", "request": {"body": "{}"}},
        {"promote": "100%"},
        {"scale": {"green": "2"}},
        {"delete": "blue"},
    ],
    "load": {"request": {"body": "{}"}, "rate": "30/m"},
}


def resolved(name: str) -> ResolvedDeployment:
    """A deployment with a bit of everything."""
    spec = DeploymentSpec.model_validate(
        {
            "$schema": "https://example.org/schema.json",
            "name": name,
            "model": {"path": "model"},
            "code_configuration": {"code": "src", "scoring_script": "score.py"},
            "environment": {"image": "base:1", "build": {"path": "."}},
            "environment_variables": {"TOKEN": "${env:TOKEN}"},
            "instance_count": "2",
            "request_settings": {"request_timeout_ms": "300"},
            "local": {"command": ["serve"], "health_path": "/"},
        }
    )
    content = Content("/abs/model", "m" * 64)
    return ResolvedDeployment(spec, "/abs", "d" * 64, content, content, {"a@latest": "a:7"}, ("model_mount_path",))


def bundle(sha256: str = "b" * 64) -> Bundle:
    """A pinned plan of every step kind."""
    return Bundle(
        plan=Plan.model_validate(PLAN),
        path="/abs/plan.yml",
        name="diabetes",
        endpoint_name="diabetes",
        endpoint=EndpointSpec.model_validate({"name": "diabetes", "traffic": {"blue": "100"}}),
        deployments={"blue": resolved("blue"), "green": resolved("green")},
        files={"": "name: diabetes\n", "blue.yml": "naïve ✓\n"},
        sha256=sha256,
    )


def worker(name: str = "w1", pid: int = 4711) -> Worker:
    """A process on a host that is not this one."""
    return Worker(name, "alpha", "m/boot/ns", pid, "99")


def command(name: str, rollout: str = "r1", **changes: Any) -> Command:
    """Someone's wish."""
    return replace(Command(name, rollout, "pause", "ann", T0, {"reason": "lunch", "n": [1, None, 0.5]}), **changes)


def measurement(number: int = 1) -> Measurement:
    """A poll of one leg."""
    start = T0 + timedelta(seconds=number)
    latency = Histogram(((0, 1000, 3), (1000, 2500, 4)), 1)
    leg = Leg("green", "mirror", 8, {"200": 7, "timeout": 1}, latency)
    end = start + timedelta(seconds=1)
    raw = {"counters": {"green": [8, 1]}, "offset": 2**40}
    classes = (("200", "200", 6), ("timeout", "200", 1))
    pairs = Pairs(classes, ((1230, 1100, 6), (None, 980, 1)), {"dropped": 2, "twin": 1}, digits=2)
    return Measurement(start, end, (leg,), Cursor("envoy-1", end, raw), pairs, lost=number == 3)


def gates(logs: float = -math.inf) -> GateState:
    """Evidence as it may stand, with the worst of logarithms."""
    gate = Gate("errors", "error_rate", max=0.02, max_ratio=1.5, max_increase=0.005)
    began = GateState.begin((gate, Gate("slow", "latency", max=250_000)), 3)
    entered = began.enter(0, (gate,), "green", "blue", "mirror")
    track = entered.tracks[0]
    starts = (Start(0, True, {bet: Purse((logs, *own.logs[1:]), logs) for bet, own in track.starts[0].wealth.items()}),)
    spoiled = replace(track, starts=starts, candidate=Tally(8, 1), seen=8)
    return replace(
        entered, tracks=(spoiled, *entered.tracks[1:]), warmed=0.1 + 0.2, baseline=(Histogram(((0, 7, 2),)),)
    )


def evidence(number: int = 1, logs: float = -math.inf) -> Evidence:
    """What was learnt with this measurement."""
    return Evidence(number, measurement(number).cursor, gates(logs))


def judgement() -> Judgement:
    """A verdict with evidence at both ends."""
    figures = Figures(1840, 39, 39 / 1840, 7000)
    verdict = Verdict(
        "errors", "FAIL", "green 2.1% against blue 0.4%", figures, None, math.inf, -math.inf, ("t",), ("n",), 2
    )
    return Judgement("failed", (verdict,), "errors", "rollback", "green 2.1% against blue 0.4%")


SNAPSHOT = Snapshot(True, {"blue": 1000}, {"green": 100}, {"blue": "d" * 64}, {"blue": 2})


def intent(key: str = "r1.1", **changes: Any) -> Intent:
    """To set the mirror."""
    action = SetTraffic("diabetes", {"blue": 1000}, {"green": 100})
    return replace(Intent(key, 2, 1, action, SNAPSHOT, SNAPSHOT, deadline=T0 + timedelta(hours=1)), **changes)


def operation(key: str = "r1.1", action: Any = None) -> Operation:
    """A provider's handle."""
    return Operation(
        key, action or intent().action, {"url": "x", "generation": 7, "deep": {"a": [1, None]}}, "moving", 0.5
    )


def every_body() -> list[Body]:
    """One of each kind, and of each action, with every field set."""
    actions = (PutEndpoint("diabetes", bundle().endpoint), PutDeployment("diabetes", resolved("green"), True))  # type: ignore[arg-type]
    more = (Scale("diabetes", "blue", 3), DeleteDeployment("diabetes", "blue"))
    later = T0 + timedelta(minutes=7, microseconds=1)
    bodies: list[Body] = [
        started(),
        Driven("w1", "alpha", 4711, 1),
        Released("asked"),
        StageEntered(0, "deploy", later),
        *(
            Intended(intent(f"r1.{n}", action=action), irreversible=n == 4)
            for n, action in enumerate((*actions, *more), 1)
        ),
        Begun("r1.1", operation(action=actions[1])),
        Retried("r1.1", "busy", 2, later),
        Ended("r1.1", "failed", "no", SNAPSHOT),
        Reached(later, later, 3, SNAPSHOT),
        Measured(3, judgement(), T0, later, lost=True, bad=2),
        MeasureFailed("no answer", 4),
        TaskTried(2, "500", later),
        TaskEnded(False, "no"),
        Approved("ann", "fine", "errors"),
        Extended(7200.0, later),
        Notified(3, 0, "hooks.example.org", False, "given up", 6),
        Leaving("passed"),
        StageEnded(1, "skipped", "first"),
        Waited(Waiting("hold", "holds", later)),
        Waited(None),
        Paused("drift", "someone changed it", later),
        Parked("nobody guards"),
        Resumed(True, SNAPSHOT, later, later, 60.0),
        Commanded("abort", False, "too late"),
        Adopted("a" * 64, "b" * 64, ("deploy", "promote")),
        RollbackBegan("gate", "errors"),
        LogsSaved("green", None, "none"),
        Finished("failed", "blue stands"),
    ]
    kinds = {type(body) for body in bodies}
    assert kinds == set(get_args(get_args(Body)[0])), "a kind of event is missing here"
    return bodies


def started(endpoint: str = "machine:/e") -> Started:
    """A rollout of four stages."""
    roles = Roles("green", "blue", Split({"blue": 1000}, {}), {"blue": 2}, existed=False, bootstrap=False)
    stages = ("deploy", "shadow 10%", "promote", "delete")
    return Started(
        "diabetes", "/abs/plan.yml", "memory", endpoint, "diabetes", "b" * 64, roles, stages, SNAPSHOT, {"steal": True}
    )


class Story:
    """A rollout and what happens to it next; event ids are those of its name.

    Attributes:
        rollout: as it stands after the last commit that was made.
    """

    def __init__(self, name: str = "r1", endpoint: str = "machine:/e", writer: str = "") -> None:
        self.name = name
        self.writer = writer
        self.beginning = Event(name, 1, f"{name}.{writer}.1", T0, "ann", 0, started(endpoint))
        self.rollout: Rollout = apply(None, self.beginning)

    async def begin(self, store: Any, driver: Worker | None = None, at_least: int = 0) -> Rollout:
        """Create it in the store."""
        self.rollout = await store.create(
            self.rollout, bundle(), [self.beginning], worker=driver or worker(), provider="memory", at_least=at_least
        )
        return self.rollout

    def next(self, *bodies: Body, **more: Any) -> Commit:
        """The commit of these events; further ones go on from it."""
        events = []
        for body in bodies:
            seq = self.rollout.last_seq + 1
            at = T0 + timedelta(milliseconds=seq)
            event = Event(self.name, seq, f"{self.name}.{self.writer}.{seq}", at, "engine", self.rollout.epoch, body)
            self.rollout = apply(self.rollout, event)
            events.append(event)
        return Commit(self.rollout, tuple(events), **more)

    def drive(self) -> Commit:
        """It runs."""
        return self.next(Driven(self.rollout.worker or "", "alpha", 4711, self.rollout.epoch))

    def finish(self) -> Commit:
        """It ends well."""
        return self.next(Finished("succeeded", "green serves"))
