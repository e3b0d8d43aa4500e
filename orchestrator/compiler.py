"""A plan, its roles and what the provider can do, compiled into stages: the only place where a plan becomes
instructions.

Pure and deterministic: the same bundle and roles always give the same stages, so that a resumed rollout finds itself
again by number. All invariants that can be known beforehand are checked here, all of them at once and each at its place
in the plan: whoever gets stages back may run them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from orchestrator.bundle import Bundle
from orchestrator.errors import Refused, Unfit
from orchestrator.gates.spec import Gate
from orchestrator.gating import Place, Undecidable, engine_gate
from orchestrator.stages import Kind, Stage, Target, Task
from orchestrator.standing import Roles
from plans import edit, expand, source
from plans.edit import Change
from plans.errors import PlanError
from plans.model import Plan
from plans.steps import (
    ApproveStep,
    CanaryStep,
    DeleteStep,
    DeployStep,
    GatedStep,
    LoadStep,
    PromoteStep,
    ScaleStep,
    ShadowStep,
    Step,
    TestStep,
    WaitStep,
    WebhookStep,
    step_kind,
)
from plans.units import show_duration, show_frequency, show_share
from providers.base import Capabilities

AN_HOUR = 3600.0
HALF_AN_HOUR = 1800.0
FEWEST_POLLS = 10
"""Polls of stable before a step that guards it, at least."""


def compile_stages(
    bundle: Bundle, roles: Roles, capabilities: Capabilities, *, name: str | None = None
) -> tuple[Stage, ...]:
    """The stages of the plan for these roles.

    Args:
        bundle: pinned. roles: who is who. capabilities: of the endpoint.
        name: what the plan's file is called in messages; its absolute path without it.

    Raises:
        Unfit: with every step that cannot be carried out, at its place; where only the provider stands in the way,
            with the plan that it could run.
    """
    compiler = _Compiler(bundle, roles, capabilities)
    stages = tuple(replace(stage, index=index) for index, stage in enumerate(compiler.stages()))
    if compiler.misfits:
        text = bundle.files[""]
        problems = [
            source.problem_at(text, misfit.at, str(misfit), name=name or bundle.path) for misfit in compiler.misfits
        ]
        raise Unfit(problems, _alternative(bundle, [misfit.change for misfit in compiler.misfits]))
    gated = [stage.index for stage in stages if stage.gates]
    return tuple(replace(stage, gated=gated.index(stage.index) if stage.gates else None) for stage in stages)


def _alternative(bundle: Bundle, changes: Sequence[Change | None]) -> str | None:
    """The text of the plan that the provider could run, or None where its author has to think."""
    wanted = [change for change in changes if change is not None]
    if len(wanted) < len(changes):
        return None
    text = edit.changed(bundle.files[""], wanted)
    try:
        source.loads(text, Plan, name=bundle.path, rewrite=expand.rewriter(bundle.vars))
    except PlanError:
        return None
    return text


class _Misfit(Exception):
    """A step that cannot be carried out; `change`: what would make it so, where only the provider stands in the way."""

    def __init__(self, message: str, at: tuple[int | str, ...], change: Change | None) -> None:
        super().__init__(message)
        self.at, self.change = at, change


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
        self.misfits: list[_Misfit] = []
        self.number = 0

    def stages(self) -> list[Stage]:
        compiled = [self._bootstrap()] if self.roles.bootstrap else []
        for number, step in enumerate(self.plan.steps):
            self.number = number
            made: list[Stage] = []
            try:
                made += self._step(step)
            except _Misfit as misfit:
                self.misfits.append(misfit)
            if step.name:
                made = [
                    replace(stage, name=step.name if len(made) == 1 else f"{step.name} ({stage.name})")
                    for stage in made
                ]
            compiled += made
        if self.roles.first and not any(stage.exposure for stage in compiled):
            compiled.append(self._first_traffic())
        return compiled

    def _refuse(self, message: str, *below: int | str, change: Change | None = None) -> _Misfit:
        kind = str(step_kind(self.plan.steps[self.number]))
        return _Misfit(f"{message}", ("steps", self.number, kind, *below), change)

    def _remove(self) -> Change:
        return Change(("steps", self.number))

    def _named(self, name: str) -> str:
        """The deployment that a word of the plan stands for."""
        meant = {"candidate": self.roles.candidate, "stable": self.roles.stable}.get(name, name)
        if meant is None:
            raise self._refuse(f"there is no {name} deployment there")
        return meant

    def _bootstrap(self) -> Stage:
        stable = self.roles.stable
        if stable is None:
            endpoint = self.bundle.endpoint_name
            target = Target({}, endpoint=self.bundle.endpoint)
            return Stage(0, f"bootstrap {endpoint}", "bootstrap", None, target, deadline=HALF_AN_HOUR)
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
        return Stage(0, f"bootstrap {stable}", "bootstrap", None, target, deadline=HALF_AN_HOUR)

    def _first_traffic(self) -> Stage:
        """A first version is given everything also by a plan that has no step for it."""
        candidate = self.roles.candidate or ""
        return Stage(0, "promote 100%", "promote", None, Target({candidate: 1000}), exposure=1000, on_fail="rollback")

    def _step(self, step: Step) -> Iterator[Stage]:
        if self.gone and not isinstance(step, WaitStep | ApproveStep | WebhookStep):
            raise self._refuse(
                "the endpoint is deleted by then; make `delete: endpoint` the last of the steps that need it"
            )
        if self.roles.first and pointless(step):
            return
        match step:
            case DeployStep():
                yield self._deploy(step)
            case ScaleStep():
                yield self._scale(step)
            case ShadowStep():
                yield from self._shadow(step)
            case CanaryStep(canary=shares):
                for at, share in enumerate(shares):
                    yield self._shift(step, share, "canary", *([at] if len(shares) > 1 else []))
            case PromoteStep(promote=share):
                yield self._shift(step, share, "promote")
            case DeleteStep():
                yield self._delete(step)
            case _:
                yield self._task(step)

    def _stage(self, name: str, kind: Kind, work: Target | Task, **extra: object) -> Stage:
        step, exposure = self.plan.steps[self.number], self.traffic.get(self.roles.candidate or "", 0)
        guards = tuple(self._guard(gate, step) for gate in self.guards) if exposure else ()
        budget = self.plan.budget.bad_responses if self.plan.budget is not None and exposure else None
        fields = {"interval": self.interval, "guards": guards, "budget": budget, **extra}
        return Stage(
            0,
            name,
            kind,
            self.number,
            work,
            on_fail=step.on_fail or self.plan.on_fail,
            on_no_data=step.on_no_data or self.plan.on_no_data,
            on_undecided=step.on_undecided or self.plan.on_undecided,
            on_error=step.on_error or self.plan.on_error,
            exposure=exposure,
            standing=None if isinstance(work, Target) else Target(self.traffic, gone=self.gone),
            **fields,  # type: ignore[arg-type]
        )

    def _guard(self, gate: Gate, step: Step) -> Gate:
        """A gate of an earlier step as it guards this one: its own word, else this step's, else the plan's."""
        own = self.plan.gates[gate.name]
        return replace(
            gate,
            on_fail=own.on_fail or step.on_fail or self.plan.on_fail,
            on_error=own.on_error or step.on_error or self.plan.on_error,
        )

    def _deploy(self, step: DeployStep) -> Stage:
        name = self._named(step.deploy)
        resolved = self.bundle.deployments[name]
        self.deployed.add(name)
        self.deleted.discard(name)
        target = Target(self.traffic, deployments={name: resolved}, instances={name: resolved.spec.instance_count})
        return self._stage(f"deploy {name}", "deploy", target, deadline=step.deadline)

    def _scale(self, step: ScaleStep) -> Stage:
        if not self.capabilities.scale:
            raise self._refuse("this provider cannot change instance counts", change=self._remove())
        wanted = {name: count for name, count in step.scale.items() if not (self.roles.first and name == "stable")}
        counts = {self._named(name): count for name, count in wanted.items()}
        for name in counts:
            if name not in self.deployed or name in self.deleted:
                raise self._refuse(f"{name} does not exist at that point of the plan; deploy it first")
        words = ", ".join(f"{name} to {count}" for name, count in counts.items())
        return self._stage(f"scale {words}", "scale", Target(self.traffic, instances=counts), deadline=step.deadline)

    def _shadow(self, step: ShadowStep) -> Iterator[Stage]:
        candidate, limit = self._candidate("shadow"), self.capabilities.mirror_limit
        if limit == 0:
            raise self._refuse("this provider cannot mirror traffic; take this step out", change=self._remove())
        if self.capabilities.live_xor_mirror and self.traffic.get(candidate):
            raise self._refuse(
                f"{candidate} has live traffic there, and a deployment cannot have live and mirrored traffic together; "
                "shadow before the canary"
            )
        if not any(self.traffic.values()):
            raise self._refuse("no deployment has live traffic there, so there is nothing to mirror")
        for at, share in enumerate(step.shadow):
            below = [at] if len(step.shadow) > 1 else []
            if share > limit:
                raise self._refuse(
                    f"{show_share(share)} is more than this provider can mirror; write {show_share(limit)} or less",
                    *below,
                    change=Change(("steps", self.number, "shadow", *below), show_share(limit)),
                )
            self._check_step_of_weight(share, *below)
            mirrored = Target(self.traffic, {candidate: share})
            stage = self._gated(step, f"shadow {show_share(share)}", "shadow", mirrored, mirrored=share)
            if at == 0 and any(gate.guards_stable for gate in stage.gates):
                yield self._before(step)
            yield replace(stage, after=Target(self.traffic)) if at == len(step.shadow) - 1 else stage

    def _before(self, step: GatedStep) -> Stage:
        """Stable is measured for as long as it will be guarded, because each poll is compared with one from before."""
        long = max(step.hold, FEWEST_POLLS * self.interval)
        name = f"measure {self.roles.stable}"
        return self._stage(name, "measure", Target(self.traffic), hold=long, remembers=True, deadline=None)

    def _asked(self, target: Target, mirrored: int) -> float | None:
        """The share of requests that can be checked: of a mirror, where stable serves them all."""
        stable = target.traffic.get(self.roles.stable or "", 0)
        if mirrored:
            return mirrored / 1000 if stable == 1000 else None
        candidate = target.traffic.get(self.roles.candidate or "", 0)
        return candidate / (candidate + stable) if candidate and stable else None

    def _check_step_of_weight(self, share: int, *below: int) -> None:
        least = self.capabilities.weight_step
        if share % least:
            nearest = max(least, round(share / least) * least)
            kind = str(step_kind(self.plan.steps[self.number]))
            raise self._refuse(
                f"{show_share(share)}: this provider's weights go in steps of {show_share(least)}",
                *below,
                change=Change(("steps", self.number, kind, *below), show_share(nearest)),
            )

    def _shift(
        self, step: CanaryStep | PromoteStep, share: int, kind: Literal["canary", "promote"], *below: int
    ) -> Stage:
        candidate, stable = self._candidate(kind), self.roles.stable
        self._check_step_of_weight(share, *below)
        if share < self.traffic.get(candidate, 0):
            raise self._refuse(
                f"{show_share(share)} is less than the {show_share(self.traffic[candidate])} that {candidate} has by "
                "then: exposure only grows",
                *below,
            )
        if self.roles.first:
            share = 1000
        if share == 1000:
            self.traffic = {candidate: 1000}
        else:
            others = {name: part for name, part in self.traffic.items() if name not in (candidate, stable)}
            left = 1000 - share - sum(others.values())
            if stable is None or left < 0:
                have = show_share(1000 - sum(others.values()))
                raise self._refuse(
                    f"{show_share(share)}: only {stable or 'stable'} gives weight before 100%, and there is {have} "
                    "to give",
                    *below,
                )
            self.traffic = {name: part for name, part in {**others, stable: left, candidate: share}.items() if part}
        return self._gated(step, f"{kind} {show_share(share)}", kind, Target(self.traffic))

    def _candidate(self, kind: str) -> str:
        candidate = self.roles.candidate
        if candidate is None or candidate not in self.deployed:
            raise self._refuse(f"{kind} before any `deploy`: deploy the candidate first")
        if candidate in self.deleted:
            raise self._refuse(f"{candidate} was deleted before")
        return candidate

    def _gated(self, step: GatedStep, name: str, kind: Kind, target: Target, mirrored: int = 0) -> Stage:
        chosen = [self.plan.gates[gate] for gate in step.gates]
        served = self.roles.stable is not None and bool(self.traffic.get(self.roles.stable))
        if self.roles.first:
            # The first version has nothing to be compared with: what only compares says nothing.
            chosen = [gate for gate in chosen if getattr(gate, "max", None) is not None]
        gates = self._gates(step, [name for name in step.gates if self.plan.gates[name] in chosen], served)
        if step.interval or gates:
            given = min((gate.interval for gate in chosen if gate.interval), default=self.capabilities.interval)
            self.interval = step.interval or given
        if gates and not mirrored:
            # What was proven on copies cannot guard live traffic: its evidence comes from the mirror.
            self.guards = gates
        extra = {} if not (gates or mirrored) else {"guards": ()}
        return self._stage(
            name,
            kind,
            target,
            gates=gates,
            hold=step.hold,
            deadline=step.deadline if step.deadline is not None else step.hold + AN_HOUR,
            settle=max((gate.settle for gate in gates), default=0.0),
            decide=step.decide,
            mirrored=mirrored,
            paired=bool(mirrored) and self.capabilities.paired,
            asked=self._asked(target, mirrored),
            **extra,
        )

    def _gates(self, step: GatedStep, names: Sequence[str], served: bool) -> tuple[Gate, ...]:
        """The gates of a step; every one that does not fit is told."""
        gates, misfits = [], []
        for name in names:
            try:
                gates.append(self._gate(name, step, served))
            except _Misfit as misfit:
                misfits.append(misfit)
        if misfits:
            self.misfits += misfits[1:]
            raise misfits[0]
        return tuple(gates)

    def _gate(self, name: str, step: GatedStep, served: bool) -> Gate:
        place = Place(self.plan, step, self.roles.stable is not None, served, self.capabilities)
        try:
            return engine_gate(name, self.plan.gates[name], place)
        except Undecidable as reason:
            raise self._gate_misfit(name, str(reason)) from None

    def _gate_misfit(self, name: str, message: str) -> _Misfit:
        step = self.plan.steps[self.number]
        listed = getattr(step, "gates", ())
        below = (listed.index(name),) if len(listed) > 1 else ()
        return _Misfit(message, ("steps", self.number, "gates", *below), None)

    def _delete(self, step: DeleteStep) -> Stage:
        final = {"guards": (), "budget": None, "deadline": HALF_AN_HOUR}
        if step.delete == "endpoint":
            self.traffic, self.gone = {}, True
            return self._stage("delete endpoint", "delete", Target({}, gone=True), irreversible=True, **final)
        name = self._named(step.delete)
        if name not in self.deployed or name in self.deleted:
            raise self._refuse(f"{name} does not exist at that point of the plan; remove this step")
        if self.traffic.get(name):
            have = show_share(self.traffic[name])
            raise self._refuse(
                f"{name} still has {have} of the traffic there, so it is not deleted; "
                "promote the candidate to 100% first"
            )
        self.deleted.add(name)
        needed = name == self.roles.stable or name in self.roles.baseline.traffic
        target = Target(self.traffic, absent=(name,))
        return self._stage(f"delete {name}", "delete", target, irreversible=needed, **final)

    def _task(self, step: Task) -> Stage:
        match step:
            case TestStep():
                name = self._named(step.test)
                if name not in self.deployed or name in self.deleted:
                    raise self._refuse(f"{name} does not exist at that point of the plan; deploy it first")
                if not self.capabilities.direct:
                    raise self._refuse(
                        "this provider cannot address a deployment without traffic; take this step out",
                        change=self._remove(),
                    )
                return self._stage(f"test {name}", "test", step.model_copy(update={"test": name}))
            case WaitStep(wait=wait):
                what = show_duration(wait) if isinstance(wait, float | int) else f"until {wait.until} {wait.tz}"
                return self._stage(f"wait {what}", "wait", step)
            case ApproveStep():
                return self._stage(f"approve: {step.approve}", "approve", step)
            case WebhookStep():
                return self._stage("webhook", "webhook", step)
            case LoadStep(load=load):
                long = show_duration(step.for_ or 0)
                count = f"{load} requests" + (f" in {long}" if step.for_ else "")
                what = count if isinstance(load, int) else f"{show_frequency(load)} for {long}"
                return self._stage(f"load {what}", "load", step)


def pointless(step: Step) -> bool:
    """Whether a step has no meaning while the candidate is the first version of all."""
    match step:
        case ShadowStep() | CanaryStep() | DeleteStep(delete="stable") | TestStep(test="stable"):
            return True
        case ScaleStep(scale=counts):
            return set(counts) == {"stable"}
    return False
