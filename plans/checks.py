"""What must hold between the steps and the rest of a plan, and among the steps.

Pure, and separate from the models because it sees many of them at once: it takes what is right in itself, also where
other parts are wrong, so that a person gets all mistakes in one go.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic_core import InitErrorDetails

from plans.errors import either, listed, problem, quoted
from plans.gates import gate_kind
from plans.steps import (
    CanaryStep,
    DeleteStep,
    DeployStep,
    GatedStep,
    PromoteStep,
    ScaleStep,
    ShadowStep,
    TestStep,
    step_kind,
)
from plans.units import show_share

ROLES = ("candidate", "stable")
_OF_PAIRS = ("slowdown", "missing_pairs", "prediction")
"""Metrics that look at mirrored requests and their live twins."""


def wrong_form(plan: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    """What is wrong with how a plan, as it was written, speaks of deployments: by their names, or by roles in slots."""
    names, candidate, slots = (plan.get(key) is not None for key in ("deployments", "candidate", "slots"))
    if names and (candidate or slots):
        message = "a plan has `deployments` by name, or `candidate` with `slots`, not both; remove one"
        yield problem("two_forms", message, "candidate" if candidate else "slots", at_key=True)
    elif candidate and not slots:
        message = "`candidate` needs `slots` to take turns in; add them, such as `slots: [blue, green]`"
        yield problem("no_slots", message, "candidate", at_key=True)
    elif slots and not candidate:
        message = "`slots` are for a `candidate`; add it, such as `candidate: {file: deployment.yml}`"
        yield problem("no_candidate", message, "slots", at_key=True)
    elif not names and not candidate:
        message = "`deployments` is missing; add it, or `candidate` and `slots` for a plan that is run again and again"
        yield problem("no_deployments", message)


def unknown(name: str, known: Iterable[str], *loc: int | str) -> Iterator[InitErrorDetails]:
    """The problem of a name that is not among the deployments."""
    names = list(known)
    if name not in names:
        message = f"{quoted(name)} is not among the deployments ({listed(names)})"
        yield problem("unknown_deployment", message, *loc, found=name, near=names)


def misfits(steps: Mapping[int, Any], plan: Mapping[str, Any], *, complete: bool) -> Iterator[InitErrorDetails]:
    """What is wrong between the steps and the rest of the plan, and among the steps.

    `plan` holds those fields before `steps` that are right; `complete`: no step is missing from `steps`.
    """
    candidate: str | None = None
    share, largest = 0, ""
    for i, step in steps.items():
        kind = str(step_kind(step))
        yield from _unknown_names(step, (i, kind, kind), plan)
        if isinstance(step, DeployStep):
            if plan.get("deployments") and step.deploy == plan.get("stable"):
                message = f"`{step.deploy}` is `stable` already; deploy another one as the candidate"
                yield problem("stable_candidate", message, i, kind, kind)
            if not plan.get("slots") and candidate not in (None, step.deploy):
                message = f"a rollout has one candidate, and `{candidate}` is deployed already; make a plan for each"
                yield problem("two_candidates", message, i, kind, kind)
            candidate = candidate or step.deploy
        if isinstance(step, DeleteStep):
            yield from _serving(step, candidate, share, (i, kind, kind), complete=complete)
        if not isinstance(step, GatedStep):
            continue
        yield from _unknown_gates(step, (i, kind, "gates"), plan.get("gates"))
        if not isinstance(step, ShadowStep):
            yield from _blind_gates(step, (i, kind, "gates"), plan.get("gates") or {})
        if candidate is None and complete:
            name = "candidate" if plan.get("slots") else "NAME"
            message = f"`{kind}` has no candidate; put a step `deploy: {name}` before it"
            yield problem("no_candidate", message, i, kind, kind, at_key=True)
        if isinstance(step, CanaryStep | PromoteStep):
            first, last = (step.canary[0], step.canary[-1]) if isinstance(step, CanaryStep) else (step.promote,) * 2
            if first < share:
                message = f"{show_share(first)} is less than the {show_share(share)} of {largest}: exposure only grows"
                yield problem("shrinks", f"{message}; write more, or remove this step", i, kind, kind)
            if last >= share:
                share, largest = last, f"steps[{i}]"
        elif share == 1000:
            message = "the candidate has all traffic by then, so there is nothing to mirror; move this step up"
            yield problem("late_shadow", message, i, kind, kind, at_key=True)


def _serving(
    step: DeleteStep, candidate: str | None, share: int, loc: tuple[int | str, ...], *, complete: bool
) -> Iterator[InitErrorDetails]:
    """The problem of deleting what has traffic, as far as the plan alone knows who has."""
    if share and step.delete in (candidate, "candidate"):
        message = f"the candidate has {show_share(share)} of the traffic by then; remove this step, or delete `stable`"
        yield problem("serving", message, *loc)
    elif step.delete == "stable" and not share and complete:
        message = "stable has all the traffic that there is; put `promote: 100%` before this step, or remove it"
        yield problem("serving", message, *loc)


def _unknown_names(step: Any, loc: tuple[int | str, ...], plan: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    named, slots = plan.get("deployments"), plan.get("slots")
    if named and not slots and not plan.get("candidate"):
        allowed: tuple[str, ...] = tuple(named)
    elif slots and not named:
        allowed = ()
    else:
        return
    match step:
        case DeployStep(deploy=name) if named and name in ROLES:
            message = f"`{name}` is a word for plans with `slots`; write one of the deployments ({listed(named)})"
            yield problem("role", message, *loc)
        case DeployStep(deploy=name) if named:
            yield from unknown(name, allowed, *loc)
        case DeployStep(deploy=name) if name != "candidate":
            message = f"a plan with `slots` deploys its candidate, not {quoted(name)}; write `deploy: candidate`"
            yield problem("not_candidate", message, *loc)
        case TestStep(test=name):
            yield from _unknown_role(name, (*allowed, *ROLES), slots, *loc)
        case DeleteStep(delete=name):
            yield from _unknown_role(name, (*allowed, *ROLES, "endpoint"), slots, *loc)
        case ScaleStep(scale=counts):
            for name in counts:
                yield from _unknown_role(name, (*allowed, *ROLES), slots, *loc, name, "[key]")


def _unknown_role(
    name: str, known: tuple[str, ...], slots: tuple[str, ...] | None, *loc: int | str
) -> Iterator[InitErrorDetails]:
    if not slots:
        yield from unknown(name, known, *loc)
    elif name not in known:
        what = "is a slot, and its role changes with every run" if name in slots else "is no role"
        message = f"{quoted(name)} {what}; write {either(known)}"
        yield problem("unknown_role", message, *loc, found=name, near=() if name in slots else known)


def _unknown_gates(step: GatedStep, loc: tuple[int | str, ...], known: Any) -> Iterator[InitErrorDetails]:
    for at, gate in enumerate(step.gates):
        if gate in step.gates[:at]:
            yield problem("twice", f"{quoted(gate)} is listed twice; once is enough", *loc, at)
        elif known is not None and gate not in known:
            message = f"{quoted(gate)} is not among the gates of this plan ({listed(known)})"
            yield problem("unknown_gate", message, *loc, at, found=gate, near=known)


def _blind_gates(step: GatedStep, loc: tuple[int | str, ...], gates: Mapping[str, Any]) -> Iterator[InitErrorDetails]:
    """The problems of gates that need mirrored requests, in a step that mirrors none."""
    for at, name in enumerate(step.gates):
        gate = gates.get(name)
        metric = gate_kind(gate)
        if metric in _OF_PAIRS:
            what = f"{quoted(name)} judges mirrored requests joined with their live twins"
            yield problem("no_mirror", f"{what}; use it in a shadow step", *loc, at)
        elif getattr(gate, "guard", None) is not None:
            what = f"{quoted(name)} has `guard: stable`: it tells whether mirroring hurts stable"
            yield problem("no_mirror", f"{what}; use it in a shadow step", *loc, at)
