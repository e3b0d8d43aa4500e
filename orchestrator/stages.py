"""A plan, its roles and what the provider can do, compiled into stages: the only place where a plan becomes
instructions.

Pure and deterministic: the same bundle and roles always give the same stages, so that a resumed rollout finds itself
again by number. A stage either has a *target*, a state of the endpoint to be reached and verified, or is a one-shot
task. All invariants that can be known beforehand are checked here: whoever gets stages back may run them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from orchestrator.bundle import Bundle
from orchestrator.errors import Refused
from orchestrator.gates.spec import Gate
from orchestrator.standing import Roles
from plans.model import (
    ApproveStep,
    CanaryStep,
    Consequence,
    DeleteStep,
    DeployStep,
    ErrorRateGate,
    LatencyGate,
    LoadStep,
    PromoteStep,
    ScaleStep,
    ShadowStep,
    TestStep,
    WaitStep,
    WebhookStep,
)
from plans.units import show_duration, show_share
from providers.base import Capabilities
from providers.specs import EndpointSpec, ResolvedDeployment

Task = TestStep | WaitStep | ApproveStep | WebhookStep | LoadStep
Kind = Literal[
    "bootstrap",
    "deploy",
    "scale",
    "test",
    "shadow",
    "canary",
    "promote",
    "wait",
    "approve",
    "webhook",
    "load",
    "delete",
]
AN_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Target:
    """What the endpoint shall be. Deployments that are not named are left as they are.

    Attributes:
        traffic, mirror: the exact split.
        endpoint: the endpoint's file, when it is to be created.
        deployments: those that must exist with this digest; they are created with `instances`.
        instances: desired counts, full and healthy.
        absent: deployments that must not exist.
        gone: the endpoint must not exist.
    """

    traffic: Mapping[str, int]
    mirror: Mapping[str, int] = field(default_factory=dict)
    endpoint: EndpointSpec | None = None
    deployments: Mapping[str, ResolvedDeployment] = field(default_factory=dict)
    instances: Mapping[str, int] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """One thing to do, and what must be true before the next.

    Attributes:
        index: from 0. name: shown to people. kind: of the step. step: index in the plan, None for the bootstrap.
        work: Target or Task. standing: of a task, the split that it begins with.
        after: what is restored once it has passed (the mirror cleared), or None.
        gates: that must pass. guards: that are only watched for FAIL, where candidate exposure outlives its own step.
        gated: how many gated stages come before it; None for an ungated one.
        hold: seconds that must pass at the target. deadline: seconds until it is given up, None for never.
        interval: seconds between measurements.
        on_fail, on_no_data, on_undecided, on_error: what then happens.
        exposure, mirrored: the candidate's share of live traffic, and of the mirror, during it; tenths of a percent.
        irreversible: it deletes what a rollback would need.
    """

    index: int
    name: str
    kind: Kind
    step: int | None
    work: Target | Task
    standing: Target | None = None
    after: Target | None = None
    gates: tuple[Gate, ...] = ()
    guards: tuple[Gate, ...] = ()
    gated: int | None = None
    hold: float = 0.0
    deadline: float | None = None
    interval: float = 10.0
    on_fail: Consequence = "rollback"
    on_no_data: Consequence = "pause"
    on_undecided: Consequence = "pause"
    on_error: Consequence = "pause"
    exposure: int = 0
    mirrored: int = 0
    irreversible: bool = False


def compile_stages(bundle: Bundle, roles: Roles, capabilities: Capabilities) -> tuple[Stage, ...]:
    """The stages of the plan for these roles. Raises Refused, naming the step, when one cannot be carried out."""
    compiler = _Compiler(bundle, roles, capabilities)
    stages = tuple(replace(stage, index=index) for index, stage in enumerate(compiler.stages()))
    gated = [stage.index for stage in stages if stage.gates]
    return tuple(replace(stage, gated=gated.index(stage.index) if stage.gates else None) for stage in stages)


def gated_count(stages: tuple[Stage, ...]) -> int:
    """How many stages have gates: the J over which evidence of failure is spread."""
    return sum(1 for stage in stages if stage.gates)


class _Compiler:
    """Walks the steps with the split that stands before each."""

    def __init__(self, bundle: Bundle, roles: Roles, capabilities: Capabilities) -> None:
        self.bundle, self.plan, self.roles, self.capabilities = bundle, bundle.plan, roles, capabilities
        self.traffic: dict[str, int] = dict(roles.baseline.traffic)
        self.guards: tuple[Gate, ...] = ()
        self.interval = capabilities.interval
        self.deployed: set[str] = set(roles.counts) | (
            {roles.candidate} if roles.existed and roles.candidate else set()
        )
        self.deleted: set[str] = set()
        self.gone = False

    def stages(self) -> list[Stage]:
        compiled = [self._bootstrap()] if self.roles.bootstrap else []
        for number, step in enumerate(self.plan.steps):
            self.where = f"step {number + 1}"
            made = self._step(number, step)
            if step.name:
                made = [
                    replace(stage, name=step.name if len(made) == 1 else f"{step.name} ({stage.name})")
                    for stage in made
                ]
            compiled += made
        return compiled

    def _refuse(self, message: str) -> Refused:
        return Refused(f"{self.where}: {message}")

    def _bootstrap(self) -> Stage:
        stable = self.roles.stable
        assert stable is not None, "a bootstrap always has a stable deployment"
        resolved = self.bundle.deployments.get(stable)
        if resolved is None:
            raise Refused(
                f"`stable: {stable}` is not among the plan's deployments, so it cannot be brought into service"
            )
        self.deployed.add(stable)
        target = Target(
            traffic=self.traffic,
            endpoint=self.bundle.endpoint,
            deployments={stable: resolved},
            instances={stable: resolved.spec.instance_count},
        )
        return Stage(0, f"bootstrap {stable}", "bootstrap", None, target, deadline=1800.0)

    def _step(self, number: int, step: object) -> list[Stage]:
        if self.gone and not isinstance(step, WaitStep | ApproveStep | WebhookStep):
            raise self._refuse(
                "the endpoint is deleted by then; make `delete: endpoint` the last of the steps that need it"
            )
        match step:
            case DeployStep():
                return [self._deploy(number, step)]
            case ScaleStep():
                return [self._scale(number, step)]
            case ShadowStep():
                return self._shadow(number, step)
            case CanaryStep():
                return [self._shift(number, step, share, "canary") for share in step.canary]
            case PromoteStep():
                return [self._shift(number, step, step.promote, "promote")]
            case DeleteStep():
                return [self._delete(number, step)]
            case TestStep() | WaitStep() | ApproveStep() | WebhookStep() | LoadStep():
                return [self._task(number, step)]
        raise TypeError(f"not a step: {step!r}")

    def _stage(self, number: int, name: str, kind: Kind, work: Target | Task, **extra: object) -> Stage:
        step = self.plan.steps[number]
        return Stage(
            0,
            name,
            kind,
            number,
            work,
            on_fail=step.on_fail or self.plan.on_fail,
            on_no_data=step.on_no_data or self.plan.on_no_data,
            on_undecided=step.on_undecided or self.plan.on_undecided,
            on_error=step.on_error or self.plan.on_error,
            exposure=self.traffic.get(self.roles.candidate or "", 0),
            standing=None if isinstance(work, Target) else Target(self.traffic, gone=self.gone),
            **{"interval": self.interval, "guards": self._guarding(), **extra},  # type: ignore[arg-type]
        )

    def _guarding(self) -> tuple[Gate, ...]:
        return self.guards if self.traffic.get(self.roles.candidate or "", 0) else ()

    def _deploy(self, number: int, step: DeployStep) -> Stage:
        resolved = self.bundle.deployments[step.deploy]
        self.deployed.add(step.deploy)
        self.deleted.discard(step.deploy)
        target = Target(
            self.traffic, deployments={step.deploy: resolved}, instances={step.deploy: resolved.spec.instance_count}
        )
        return self._stage(number, f"deploy {step.deploy}", "deploy", target, deadline=step.deadline)

    def _scale(self, number: int, step: ScaleStep) -> Stage:
        if not self.capabilities.scale:
            raise self._refuse("this provider cannot change instance counts")
        for name in step.scale:
            if name not in self.deployed or name in self.deleted:
                raise self._refuse(f"scale: {name} does not exist at that point of the plan")
        counts = ", ".join(f"{name} to {count}" for name, count in step.scale.items())
        return self._stage(
            number, f"scale {counts}", "scale", Target(self.traffic, instances=dict(step.scale)), deadline=step.deadline
        )

    def _shadow(self, number: int, step: ShadowStep) -> list[Stage]:
        candidate, limit = self._candidate("shadow"), self.capabilities.mirror_limit
        if limit == 0:
            raise self._refuse("this provider cannot mirror traffic; take the shadow step out")
        if self.capabilities.live_xor_mirror and self.traffic.get(candidate):
            raise self._refuse(
                f"{candidate} has live traffic there, and a deployment cannot have live and mirrored traffic together: "
                "shadow before the canary"
            )
        if not any(self.traffic.values()):
            raise self._refuse("no deployment has live traffic there, so there is nothing to mirror")
        stages = []
        for share in step.shadow:
            if share > limit:
                raise self._refuse(
                    f"shadow {show_share(share)} is more than this provider can mirror ({show_share(limit)} at most)"
                )
            if share % self.capabilities.weight_step:
                least = show_share(self.capabilities.weight_step)
                raise self._refuse(f"shadow {show_share(share)}: this provider's weights go in steps of {least}")
            target = Target(self.traffic, {candidate: share})
            stages.append(self._gated(number, step, f"shadow {show_share(share)}", "shadow", target, mirrored=share))
        return [*stages[:-1], replace(stages[-1], after=Target(self.traffic))]

    def _shift(
        self, number: int, step: CanaryStep | PromoteStep, share: int, kind: Literal["canary", "promote"]
    ) -> Stage:
        candidate, stable = self._candidate(kind), self.roles.stable
        weight_step = self.capabilities.weight_step
        if share % weight_step:
            raise self._refuse(
                f"{kind} {show_share(share)}: this provider's weights go in steps of {show_share(weight_step)}"
            )
        if share < self.traffic.get(candidate, 0):
            raise self._refuse(
                f"{kind} {show_share(share)} is less than the {show_share(self.traffic[candidate])} "
                f"that {candidate} has by then: exposure only grows"
            )
        if share == 1000:
            self.traffic = {candidate: 1000}
        else:
            others = {name: part for name, part in self.traffic.items() if name not in (candidate, stable)}
            left = 1000 - share - sum(others.values())
            if stable is None or left < 0:
                have = show_share(1000 - sum(others.values()))
                raise self._refuse(
                    f"{kind} {show_share(share)}: only {stable or 'stable'} gives weight before 100%, "
                    f"and there is {have} to give"
                )
            self.traffic = {name: part for name, part in {**others, stable: left, candidate: share}.items() if part}
        return self._gated(number, step, f"{kind} {show_share(share)}", kind, Target(self.traffic))

    def _candidate(self, kind: str) -> str:
        candidate = self.roles.candidate
        if candidate is None or candidate not in self.deployed:
            raise self._refuse(f"{kind} before any `deploy`: deploy the candidate first")
        if candidate in self.deleted:
            raise self._refuse(f"{kind}: {candidate} was deleted before")
        return candidate

    def _gated(
        self,
        number: int,
        step: ShadowStep | CanaryStep | PromoteStep,
        name: str,
        kind: Kind,
        target: Target,
        mirrored: int = 0,
    ) -> Stage:
        gates = tuple(self._gate(gate, step) for gate in step.gates)
        chosen = [self.plan.gates[gate].interval for gate in step.gates]
        if step.interval or gates:
            given = min((interval for interval in chosen if interval), default=self.capabilities.interval)
            self.interval = step.interval or given
        if gates and not mirrored:
            # What was proven on copies cannot guard live traffic: its evidence comes from the mirror.
            self.guards = gates
        return self._stage(
            number,
            name,
            kind,
            target,
            gates=gates,
            guards=() if gates or mirrored else self._guarding(),
            hold=step.hold,
            deadline=step.deadline if step.deadline is not None else step.hold + AN_HOUR,
            mirrored=mirrored,
        )

    def _gate(self, name: str, step: ShadowStep | CanaryStep | PromoteStep) -> Gate:
        gate, plan = self.plan.gates[name], self.plan
        stable = self.roles.stable
        if gate.max is None and not (stable and self.traffic.get(stable)):
            raise self._refuse(
                f"gate {name} only compares with stable, and stable has no live traffic there: give it a `max`"
            )
        settle = gate.settle if gate.settle is not None else self.capabilities.settle
        common = {
            "name": name,
            "max_ratio": gate.max_ratio,
            "blame": gate.blame if gate.blame is not None else stable is not None,
            "source": gate.source,
            "min_requests": gate.min_requests,
            "warm_up": gate.warm_up,
            "settle": settle,
            "alpha": gate.alpha if gate.alpha is not None else plan.alpha,
            "beta": gate.beta if gate.beta is not None else plan.beta,
            "on_fail": gate.on_fail or step.on_fail or plan.on_fail,
            "on_no_data": gate.on_no_data or step.on_no_data or plan.on_no_data,
            "on_undecided": gate.on_undecided or step.on_undecided or plan.on_undecided,
            "on_error": gate.on_error or step.on_error or plan.on_error,
            "dispersion": gate.dispersion,
        }
        try:
            match gate:
                case ErrorRateGate():
                    rates = {"max": gate.max, "max_increase": gate.max_increase, "codes": gate.codes}
                    return Gate(metric="error_rate", **rates, **common)  # type: ignore[arg-type]
                case LatencyGate():
                    return Gate(metric="latency", quantile=gate.quantile, max=gate.max, **common)  # type: ignore[arg-type]
        except ValueError as error:
            raise self._refuse(str(error)) from None

    def _delete(self, number: int, step: DeleteStep) -> Stage:
        if step.delete == "endpoint":
            self.traffic, self.gone = {}, True
            return self._stage(
                number,
                "delete endpoint",
                "delete",
                Target({}, gone=True),
                irreversible=True,
                guards=(),
                deadline=1800.0,
            )
        name = self.roles.stable if step.delete == "stable" else step.delete
        if name is None or name not in self.deployed:
            raise self._refuse(f"delete {step.delete}: it does not exist at that point of the plan")
        if self.traffic.get(name):
            have = show_share(self.traffic[name])
            raise self._refuse(
                f"delete {name}: it still has {have} of the traffic there; promote the candidate to 100% first"
            )
        self.deleted.add(name)
        return self._stage(
            number,
            f"delete {name}",
            "delete",
            Target(self.traffic, absent=(name,)),
            irreversible=name == self.roles.stable or name in self.roles.baseline.traffic,
            guards=(),
            deadline=1800.0,
        )

    def _task(self, number: int, step: Task) -> Stage:
        match step:
            case TestStep():
                if step.test not in self.deployed or step.test in self.deleted:
                    raise self._refuse(
                        f"test {step.test}: it does not exist at that point of the plan; deploy it first"
                    )
                if not self.capabilities.direct:
                    raise self._refuse(
                        "this provider cannot address a deployment without traffic; take the test step out"
                    )
                return self._stage(number, f"test {step.test}", "test", step)
            case WaitStep():
                what = (
                    show_duration(step.wait)
                    if isinstance(step.wait, float | int)
                    else f"until {step.wait.until} {step.wait.tz}"
                )
                return self._stage(number, f"wait {what}", "wait", step)
            case ApproveStep():
                return self._stage(number, f"approve: {step.approve}", "approve", step)
            case WebhookStep():
                return self._stage(number, "webhook", "webhook", step)
            case LoadStep():
                what = (
                    f"{step.load} requests"
                    if isinstance(step.load, int)
                    else f"{step.load:g}/s for {show_duration(step.for_ or 0)}"
                )
                return self._stage(number, f"load {what}", "load", step)
