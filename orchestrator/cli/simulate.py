"""`rollout simulate`: how often a plan catches what may be wrong with a candidate, before any of it is real."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import options

if TYPE_CHECKING:
    from orchestrator.preview import Preview
    from orchestrator.simulate.given import Given

ENDPOINT = "endpoint"
PICTURES = {".svg": "svg", ".html": "html", ".htm": "html"}


def _parsed(unit: str) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """A callback that reads a unit of the plan language."""

    def read(ctx: click.Context, parameter: click.Parameter, given: str | None) -> Any:
        from plans import units

        if given is None:
            return None
        try:
            return getattr(units, f"parse_{unit}")(given)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, parameter, param_hint=parameter.opts[0]) from None

    return read


@click.command(
    "simulate",
    epilog=options.example(
        "rollout simulate plan.yml --traffic 60/s",
        "rollout simulate plan.yml --baseline endpoint --picture simulation.html",
        "rollout simulate plan.yml --traffic 60/s --only --regression 'new model=errors+0.5%,latency x1.1'",
        "rollout simulate plan.yml --traffic 60/s --output json",
    ),
)
@options.plan_file
@click.option(
    "--traffic",
    metavar="RATE",
    callback=_parsed("frequency"),
    help="The endpoint's requests, such as 60/s or 600/m; without it the plan's `load` counts.",
)
@click.option("--errors", metavar="RATE", callback=_parsed("rate"), help="Stable's share of errors, such as 0.5%.")
@click.option("--latency", metavar="LATENCY", callback=_parsed("latency"), help="Stable's p95, such as 400ms.")
@click.option(
    "--sigma",
    metavar="NUMBER",
    type=click.FloatRange(0, 5, min_open=True),
    help="How widely stable's latencies scatter: the standard deviation of their logarithm.  [default: 0.6]",
)
@click.option(
    "--baseline",
    metavar="FILE|endpoint",
    help="Take what the flags do not say from a file, or from the endpoint: what was measured there in the last hour, "
    "else in the next ten seconds.",
)
@click.option(
    "--regression",
    "regressions",
    metavar="NAME=CHANGE",
    multiple=True,
    help="One more row: `errors+1%`, `errors x2`, `errors 3%`, `latency x1.2`, `answers 1%`, `missing 2%`, several "
    "with commas, `from middle` for one that begins in mid-rollout. May be given several times.",
)
@click.option("--only", is_flag=True, help="Only the rows of --regression.")
@click.option(
    "--rollouts", metavar="N", type=click.IntRange(1, 1_000_000), default=1000, show_default=True, help="For each row."
)
@click.option(
    "--seed", metavar="N", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of all chance."
)
@click.option(
    "--no-smallest",
    is_flag=True,
    help="Do not look for the smallest regressions that are caught nine times in ten, which takes about as long as the "
    "table.",
)
@click.option(
    "--picture",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Draw the table there: an image (.svg) or a page (.html). An older picture there is replaced.",
)
@click.option("--force", is_flag=True, help="Write over a file that is no picture of ours, too.")
@options.VARS
@options.output()
def simulate_command(
    plan: Path,
    traffic: float | None,
    errors: float | None,
    latency: int | None,
    sigma: float | None,
    baseline: str | None,
    regressions: tuple[str, ...],
    only: bool,
    rollouts: int,
    seed: int,
    no_smallest: bool,
    picture: Path | None,
    force: bool,
    variables: dict[str, str],
    output: str,
) -> int:
    """Carry out PLAN thousands of times on simulated traffic, and tell what it catches, how soon, and at what price.

    The stages, gates and verdicts are those of `rollout run`; requests are only counted. Each row is a candidate with
    something wrong, or something that must not stop it. Nothing is changed, and without `--baseline endpoint` no
    endpoint is looked at.
    """
    from orchestrator.cli.main import INTERRUPTED, SUCCEEDED
    from orchestrator.cli.session import show_json
    from orchestrator.cli.simulated import Told, drawn, show, shown_json
    from orchestrator.simulate import given, study
    from orchestrator.simulate.change import parse, table, tolerated

    if picture is not None and picture.suffix.lower() not in PICTURES:
        raise click.UsageError(
            f"--picture {picture}: name a file that ends in .svg or .html", click.get_current_context()
        )
    if only and not regressions:
        raise click.UsageError("--only leaves no row: give --regression NAME=CHANGE", click.get_current_context())
    flags = given.Given("as given", traffic, errors, None, latency, sigma)
    found, sources = _sources(plan, variables, baseline, flags)
    made, figures = given.baseline(sources, study.gates_of(found.stages))
    asked = study.Study.of(
        found.stages,
        found.roles.stable,
        made,
        digits=found.capabilities.bucket_digits,
        seed=seed,
    )
    try:
        parsed = [parse(text, made.errors) for text in regressions]
    except ValueError as error:
        raise click.UsageError(f"--regression: {error}", click.get_current_context()) from None
    known = (asked.rules.gates, made.errors, made.latencies)
    rows = [*(() if only else table(*known)), *(tolerated(each, *known) for each in parsed)]
    result = study.Result(asked, figures, study.caveats(asked, found.stages), len(rows), rollouts)
    code = SUCCEEDED
    try:
        with Told(len(rows), rollouts) as progress:
            for change in rows:
                result.add(change, progress.of(change.name))
            for kind in () if no_smallest else study.kinds(asked):
                progress.searching(kind)
                result.smallest.append(study.smallest(asked, kind, min(rollouts, study.TRIED), progress.told))
    except KeyboardInterrupt:
        code = INTERRUPTED
        result.complete = False
    where = drawn(picture, PICTURES[picture.suffix.lower()], found, result, force=force) if picture else None
    if output == "json":
        show_json(shown_json(found, result))
    else:
        show(found, result, where)
    return code


def _sources(
    plan: Path, variables: dict[str, str], baseline: str | None, flags: "Given"
) -> tuple["Preview", list["Given"]]:
    """The plan, and what is known of its traffic, the surest first. Raises PlanError, Refused, ProviderError."""
    import asyncio

    from orchestrator import preview as previews
    from orchestrator.app import offline, opened
    from orchestrator.errors import Refused
    from orchestrator.flags import Flags
    from orchestrator.simulate import given
    from orchestrator.simulate.endpoint import last_hour

    asked = Flags(vars=variables)

    async def seen() -> tuple["Preview", "Given"]:
        async with opened() as app:
            found = await previews.preview(app, plan, asked, rate=1.0)
            return found, await last_hour(app, found)

    if baseline == ENDPOINT:
        found, known = asyncio.run(seen())
        sources = [flags, known]
    else:
        found = asyncio.run(previews.check(offline(), plan, asked))
        sources = [flags, given.from_file(Path(baseline))] if baseline is not None else [flags]
    load = found.draft.plan.load
    if load is not None:
        sources.append(given.Given("the plan's own load", load.rate))
    if not any(stage.gates for stage in found.stages):
        raise Refused(
            f"{found.draft.path.name} has no step with gates, so there is nothing to simulate; add `gates` to one"
        )
    return found, sources
