"""A previewed plan on the screen, and as JSON: a table of its stages, the way back, and what its author should know."""

import sys
from collections.abc import Mapping
from shutil import get_terminal_size
from typing import Any

import click

from orchestrator.gates.advice import StageAdvice
from orchestrator.preview import Preview
from orchestrator.stages import Stage, Target
from orchestrator.views import percents
from plans.units import show_duration, show_frequency, show_rate, show_split

BAD = 0.10
"""Error rate of the bad candidate that the table tells the price of."""


def heading(found: Preview) -> str:
    """Who is who on the endpoint as it stands."""
    bundle, roles, observed = found.bundle, found.roles, found.observed
    stands = "does not exist yet" if observed is None else f"traffic {show_split(observed.traffic)}"
    first = " (the first version)" if roles.first else ""
    lines = [
        f"{bundle.name} on endpoint {bundle.endpoint_name} ({bundle.plan.provider.name})",
        f"  now        {stands}",
        f"  candidate  {roles.candidate or 'none'}{' (is there already)' if roles.existed else first}",
        f"  stable     {roles.stable or 'none'}{' (is created first)' if roles.bootstrap and roles.stable else ''}",
        f"  bundle     {bundle.sha256[:12]}",
    ]
    if found.traffic.rate is not None:
        how = {"given": "as given", "load": "the plan's own load", "measured": "counted just now"}
        lines.append(f"  requests   {show_frequency(found.traffic.rate)} ({how[found.traffic.source or 'given']})")
    return "\n".join(lines) + "\n"


def show(found: Preview) -> None:
    """The table of stages, the way back, and the notes."""
    titles = ("", "STEP", "TRAFFIC BEFORE", "AFTER", "MIRROR", "GATES", "HOLD", "DEADLINE", f"BAD AT {show_rate(BAD)}")
    before = dict(found.roles.baseline.traffic) if not found.roles.bootstrap else {}
    rows: list[tuple[str, ...]] = [titles]
    for stage in found.stages:
        after = _after(stage, before)
        rows.append(_row(stage, before, after, found.advice.get(stage.index)))
        before = after
    widths = [max(len(row[column]) for row in rows) for column in range(len(titles))]
    shown = [column for column in range(len(titles)) if column < 2 or any(row[column] for row in rows[1:])]
    for row in rows:
        click.echo("  " + "  ".join(f"{row[column]:<{widths[column]}}" for column in shown).rstrip())
    if any(row[-1] for row in rows[1:]):
        click.echo(
            f"\nBAD AT {show_rate(BAD)}: bad answers that clients would see in that step until it is stopped or ends,\n"
            "if the candidate failed every tenth request."
        )
    click.echo(f"\n{_way_back(found)}")
    for stage in found.stages:
        if stage.irreversible:
            click.echo(f"From step {stage.index + 1}, {stage.name}, there is no way back.")
            break
    for note in found.notes:
        click.echo(_wrapped(f"note: {note}"))


def shown_json(found: Preview) -> dict[str, Any]:
    """The same, for programs: shares are percent, rates 0 to 1, durations seconds."""
    bundle, roles, observed = found.bundle, found.roles, found.observed
    stages, before = [], dict(roles.baseline.traffic) if not roles.bootstrap else {}
    final = next((stage.index for stage in found.stages if stage.irreversible), None)
    for stage in found.stages:
        after = _after(stage, before)
        reversible = final is None or stage.index < final
        stages.append(_stage(stage, before, after, found, reversible=reversible))
        before = after
    return {
        "plan": bundle.path,
        "name": bundle.name,
        "bundle_sha256": bundle.sha256,
        "provider": bundle.plan.provider.name,
        "endpoint": bundle.endpoint_name,
        "exists": observed is not None,
        "traffic": percents(observed.traffic) if observed is not None else {},
        "candidate": roles.candidate,
        "stable": roles.stable,
        "bootstrap": roles.bootstrap,
        "first_version": roles.first,
        "requests_per_second": found.traffic.rate,
        "requests_source": found.traffic.source,
        "stages": stages,
        "point_of_no_return": final + 1 if final is not None else None,
        "notes": list(found.notes),
    }


def _after(stage: Stage, before: Mapping[str, int]) -> dict[str, int]:
    return dict(stage.work.traffic) if isinstance(stage.work, Target) else dict(before)


def _row(
    stage: Stage, before: Mapping[str, int], after: Mapping[str, int], advice: StageAdvice | None
) -> tuple[str, ...]:
    target = stage.work if isinstance(stage.work, Target) else None
    moved = dict(before) != dict(after)
    gates = ", ".join(gate.name for gate in stage.gates)
    guards = f"guarded by {', '.join(gate.name for gate in stage.guards)}" if stage.guards else ""
    return (
        str(stage.index + 1),
        stage.name,
        show_split(before) if moved else "",
        show_split(after) if moved else "",
        show_split(target.mirror) if target is not None and target.mirror else "",
        gates or guards,
        show_duration(stage.hold) if stage.hold else "",
        show_duration(stage.deadline) if stage.deadline else "",
        _risk(advice),
    )


def _risk(advice: StageAdvice | None) -> str:
    if advice is None:
        return ""
    bad = dict(advice.risk).get(BAD)
    return f"about {bad:,.0f}" if bad else "0" if bad == 0 else "no limit"


def _wrapped(note: str) -> str:
    """For people at a terminal; what goes into a file or a pipe stays on its line."""
    if not sys.stdout.isatty():
        return note
    return click.wrap_text(note, width=min(110, get_terminal_size().columns), subsequent_indent="      ")


def _way_back(found: Preview) -> str:
    roles, plan = found.roles, found.bundle.plan
    if roles.candidate is None:
        return "It brings no candidate, so a rollback only takes back what it changed."
    restores = f"gives {show_split(roles.baseline.traffic)}" if roles.baseline.traffic else "takes all traffic away"
    if roles.existed:
        kept = f"{roles.candidate} stays, because it was there before"
    elif plan.on_rollback.candidate == "keep":
        kept = f"{roles.candidate} stays without traffic"
    else:
        kept = f"{roles.candidate} is deleted, its logs are kept"
    return f"A rollback {restores}, clears the mirror; {kept}."


def _stage(
    stage: Stage, before: Mapping[str, int], after: Mapping[str, int], found: Preview, *, reversible: bool
) -> dict[str, Any]:
    target = stage.work if isinstance(stage.work, Target) else None
    advice = found.advice.get(stage.index)
    return {
        "index": stage.index + 1,
        "name": stage.name,
        "kind": stage.kind,
        "step": stage.step + 1 if stage.step is not None else None,
        "traffic_before": percents(before),
        "traffic": percents(after),
        "mirror": percents(target.mirror) if target is not None else {},
        "gates": [gate.name for gate in stage.gates],
        "guards": [gate.name for gate in stage.guards],
        "decide": stage.decide,
        "hold": stage.hold,
        "deadline": stage.deadline,
        "interval": stage.interval,
        "on_fail": stage.on_fail,
        "on_no_data": stage.on_no_data,
        "on_undecided": stage.on_undecided,
        "on_error": stage.on_error,
        "budget": stage.budget,
        "irreversible": stage.irreversible,
        "rollback": {"traffic": percents(found.roles.baseline.traffic), "mirror": {}} if reversible else None,
        "needs": {name: _need(outlook) for name, outlook in advice.needs.items()} if advice is not None else {},
        "risk": [{"errors": rate, "bad_responses": bad} for rate, bad in advice.risk] if advice is not None else [],
        "price": advice.price if advice is not None else None,
    }


def _need(outlook: Any) -> dict[str, Any]:
    def told(need: Any) -> dict[str, Any]:
        return {"errors": need.rate, "requests": need.requests, "seconds": need.seconds}

    return {
        "clean": told(outlook.clean),
        "usual": told(outlook.usual),
        "available": outlook.available,
        "in_time": outlook.in_time,
    }
