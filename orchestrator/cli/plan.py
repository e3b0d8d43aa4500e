"""`rollout validate` and `rollout plan`: what a plan says, and what it would do; both change nothing."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.app import App
    from orchestrator.stages import Stage


@click.command(
    "validate", epilog=options.example("rollout validate plan.yml", "rollout validate plan.yml --output json")
)
@options.plan_file
@options.output()
def validate_command(plan: Path, output: str) -> int:
    """Check PLAN and every file that it names, without looking at any endpoint.

    All that is wrong is told at once, with file, line and column (exit code 2).
    """
    import asyncio

    from orchestrator import preview as previews
    from orchestrator.app import offline
    from orchestrator.cli.main import SUCCEEDED
    from orchestrator.cli.session import show_json

    checked = asyncio.run(previews.check(offline(), plan))
    draft = checked.draft
    if output == "json":
        show_json(
            {
                "valid": True,
                "plan": str(draft.path),
                "name": draft.name,
                "endpoint": draft.endpoint_name,
                "provider": draft.plan.provider.name,
                "stages": [_as_json(stage) for stage in checked.stages],
                "notes": checked.notes,
            }
        )
        return SUCCEEDED
    click.echo(f"{plan} is valid: {draft.name}, endpoint {draft.endpoint_name} ({draft.plan.provider.name})\n")
    _show(checked.stages, checked.notes)
    return SUCCEEDED


@click.command("plan", epilog=options.example("rollout plan plan.yml", "rollout plan plan.yml --bootstrap"))
@options.plan_file
@click.option("--replace", is_flag=True, help="As in run: replace a deployment of the candidate's name.")
@click.option("--bootstrap", is_flag=True, help="As in run: bring an endpoint into service that gets no traffic.")
@options.output()
def plan_command(plan: Path, replace: bool, bootstrap: bool, output: str) -> int:
    """Show what PLAN would do to its endpoint as it stands now: who is who, every step, and what goes where.

    Exit code 2 says that `rollout run` would refuse it, and why.
    """
    from orchestrator import preview as previews
    from orchestrator.app import Flags
    from orchestrator.cli.session import show_json, within
    from orchestrator.views import percents
    from plans.units import show_split

    async def work(app: "App") -> None:
        found = await previews.preview(app, plan, Flags(replace=replace, bootstrap=bootstrap))
        bundle, roles, observed = found.bundle, found.roles, found.observed
        if output == "json":
            show_json(
                {
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
                    "stages": [_as_json(stage) for stage in found.stages],
                    "notes": found.notes,
                }
            )
            return
        stands = "does not exist yet" if observed is None else f"traffic {show_split(observed.traffic)}"
        click.echo(f"{bundle.name} on endpoint {bundle.endpoint_name} ({bundle.plan.provider.name})")
        click.echo(f"  now        {stands}")
        click.echo(f"  candidate  {roles.candidate or 'none'}{' (is there already)' if roles.existed else ''}")
        click.echo(f"  stable     {roles.stable or 'none'}{' (is created first)' if roles.bootstrap else ''}")
        click.echo(f"  bundle     {bundle.sha256[:12]}\n")
        _show(found.stages, found.notes)
        click.echo(f"\nrollout run {plan}")

    return within(work)


def _show(stages: "Sequence[Stage]", notes: "Sequence[str]") -> None:
    rows = [("", "STEP", "TRAFFIC", "MIRROR", "GATES", "HOLD", "DEADLINE"), *(_row(stage) for stage in stages)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    shown = [column for column in range(len(rows[0])) if column < 2 or any(row[column] for row in rows[1:])]
    for row in rows:
        click.echo("  " + "  ".join(f"{row[column]:<{widths[column]}}" for column in shown).rstrip())
    for stage in stages:
        if stage.irreversible:
            click.echo(f"\nFrom step {stage.index + 1}, {stage.name}, there is no way back.")
            break
    for note in notes:
        click.echo(f"note: {note}")


def _row(stage: "Stage") -> tuple[str, ...]:
    from orchestrator.stages import Target
    from plans.units import show_duration, show_split

    target = stage.work if isinstance(stage.work, Target) else None
    gates = ", ".join(gate.name for gate in stage.gates)
    guards = f"guarded by {', '.join(gate.name for gate in stage.guards)}" if stage.guards else ""
    return (
        str(stage.index + 1),
        stage.name,
        show_split(target.traffic) if target is not None and stage.kind in ("bootstrap", "canary", "promote") else "",
        show_split(target.mirror) if target is not None and target.mirror else "",
        gates or guards,
        show_duration(stage.hold) if stage.hold else "",
        show_duration(stage.deadline) if stage.deadline else "",
    )


def _as_json(stage: "Stage") -> dict[str, Any]:
    from orchestrator.stages import Target
    from orchestrator.views import percents

    target = stage.work if isinstance(stage.work, Target) else None
    return {
        "index": stage.index + 1,
        "name": stage.name,
        "kind": stage.kind,
        "traffic": percents(target.traffic) if target is not None else None,
        "mirror": percents(target.mirror) if target is not None else None,
        "gates": [gate.name for gate in stage.gates],
        "guards": [gate.name for gate in stage.guards],
        "hold": stage.hold,
        "deadline": stage.deadline,
        "interval": stage.interval,
        "on_fail": stage.on_fail,
        "on_no_data": stage.on_no_data,
        "on_undecided": stage.on_undecided,
        "on_error": stage.on_error,
        "irreversible": stage.irreversible,
    }
