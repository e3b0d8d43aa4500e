"""`rollout validate` and `rollout plan`: what a plan says, and what it would do; both change nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import completing, options

if TYPE_CHECKING:
    from orchestrator.app import App
    from orchestrator.preview import Preview

TRAFFIC = click.option(
    "--traffic",
    metavar="RATE",
    help="The endpoint's requests, such as 20/s or 600/m: tells how long gates need. Without it the plan's `load` "
    "counts; `rollout plan` else looks for two seconds.",
)


@click.command(
    "validate",
    epilog=options.example(
        "rollout validate plan.yml",
        "rollout validate plan.yml --traffic 20/s --var VERSION=7",
        "rollout validate plan.yml --output json",
        "rollout validate --schema > rollout-plan.schema.json",
    ),
)
@click.argument(
    "plan",
    metavar="[PLAN]",
    required=False,
    type=click.Path(path_type=Path),
    shell_complete=completing.plans,
)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of plan files, for editors, instead.")
@options.VARS
@TRAFFIC
@options.output()
def validate_command(
    plan: Path | None, schema: bool, variables: dict[str, str], traffic: str | None, output: str
) -> int:
    """Check PLAN and every file that it names, without looking at any endpoint.

    All that is wrong is told at once, with file, line and column (exit code 2); of a plan that is right, every stage
    that it compiles to, and what its gates can prove.
    """
    import asyncio

    from orchestrator import preview as previews
    from orchestrator.app import offline
    from orchestrator.cli.main import SUCCEEDED
    from orchestrator.cli.previewed import show, shown_json
    from orchestrator.cli.session import show_json
    from orchestrator.flags import Flags

    if schema:
        from plans.schema import schema as made

        show_json(made())
        return SUCCEEDED
    if plan is None:
        raise click.UsageError("give a PLAN, or --schema", click.get_current_context())
    rate = _rate(traffic)

    def work() -> int:
        found = asyncio.run(previews.check(offline(), plan, Flags(vars=variables), rate=rate))
        if output == "json":
            show_json({"valid": True, "problems": [], **shown_json(found)})
            return SUCCEEDED
        draft = found.draft
        click.echo(f"{plan} is valid: {draft.name}, endpoint {draft.endpoint_name} ({draft.plan.provider.name})\n")
        show(found)
        return SUCCEEDED

    return _told(work, output, name=str(plan))


@click.command(
    "plan",
    epilog=options.example(
        "rollout plan plan.yml", "rollout plan plan.yml --traffic 20/s", "rollout plan plan.yml --expand > long.yml"
    ),
)
@options.plan_file
@click.option("--expand", is_flag=True, help="Print the plan in its long form, with every default, instead.")
@click.option("--replace", is_flag=True, help="As in run: replace a deployment of the candidate's name.")
@click.option("--bootstrap", is_flag=True, help="As in run: bring an endpoint into service that gets no traffic.")
@options.VARS
@TRAFFIC
@options.output()
def plan_command(
    plan: Path,
    expand: bool,
    replace: bool,
    bootstrap: bool,
    variables: dict[str, str],
    traffic: str | None,
    output: str,
) -> int:
    """Show what PLAN would do to its endpoint as it stands now: who is who, every step, and what goes where.

    Exit code 2 says that `rollout run` would refuse it, and why. With --expand nothing is looked at.
    """
    from orchestrator import preview as previews
    from orchestrator.cli.main import SUCCEEDED
    from orchestrator.cli.previewed import heading, show, shown_json
    from orchestrator.cli.session import show_json, within
    from orchestrator.flags import Flags

    rate = _rate(traffic)
    flags = Flags(replace=replace, bootstrap=bootstrap, vars=variables)
    if expand:
        return _told(lambda: _expand(plan, flags, output), output, name=str(plan))

    async def work(app: "App") -> int:
        found = await previews.preview(app, plan, flags, rate=rate)
        if output == "json":
            show_json({"valid": True, "problems": [], **shown_json(found)})
            return SUCCEEDED
        click.echo(heading(found))
        show(found)
        given = "".join(f" --var {name}={value}" for name, value in variables.items())
        click.echo(f"\nrollout run {plan}{given}")
        return SUCCEEDED

    return _told(lambda: within(work), output, name=str(plan))


def _expand(plan: Path, flags: Any, output: str) -> int:
    import asyncio

    from orchestrator import preview as previews
    from orchestrator.app import offline
    from orchestrator.cli.main import SUCCEEDED
    from orchestrator.cli.session import show_json
    from plans.write import written

    found: Preview = asyncio.run(previews.check(offline(), plan, flags))
    text = written(found.draft.plan, interval=found.capabilities.interval, settle=found.capabilities.settle)
    if output == "json":
        show_json({"plan": text})
    else:
        click.echo(text, nl=False)
    return SUCCEEDED


def _rate(traffic: str | None) -> float | None:
    """Requests a second. Raises UsageError."""
    from plans.units import parse_frequency

    if traffic is None:
        return None
    try:
        return float(parse_frequency(traffic))  # type: ignore[arg-type]
    except ValueError as error:
        raise click.UsageError(f"--traffic: {error}", click.get_current_context()) from None


def _told(work: Callable[[], int], output: str, *, name: str) -> int:
    """Do the work; for programs, what is wrong with the plan is the answer, not an error."""
    from orchestrator.cli.main import USAGE
    from orchestrator.cli.session import show_json
    from orchestrator.errors import Unfit
    from plans.errors import PlanError

    try:
        return work()
    except (PlanError, Unfit) as error:
        if output != "json":
            raise
        alternative = error.alternative if isinstance(error, Unfit) else None
        show_json({"valid": False, "plan": name, "problems": error.problems, "alternative": alternative})
        return USAGE
