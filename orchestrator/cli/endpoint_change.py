"""`rollout endpoint create`, `scale`, `start` and `delete`: change an endpoint directly, beside any rollout."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import completing, options
from orchestrator.cli.at_provider import (
    NAME,
    PROVIDER,
    agreed,
    as_json,
    at,
    deployment,
    existing,
    healthy,
    pairs,
    unowned,
    with_provider,
)
from orchestrator.cli.main import INTERRUPTED, SUCCEEDED

if TYPE_CHECKING:
    from orchestrator.app import App
    from providers.base import EndpointState, Provider
    from providers.specs import EndpointSpec

MOST = 50
"""Instances that a deployment can have, as in its file."""
OF_A_DEPLOYMENT = {"endpoint_name", "model", "code_configuration", "instance_count", "environment", "scoring_script"}


@click.command(
    "create",
    short_help="Create an endpoint from its file.",
    epilog=options.example(
        "rollout endpoint create endpoint.yml", "rollout endpoint create endpoint.yml --output json | jq -r .url"
    ),
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path), shell_complete=completing.plans)
@PROVIDER
@options.output()
def create_command(file: Path, provider: str, output: str) -> int:
    """Create the endpoint that FILE describes, in the YAML schema of `az ml online-endpoint create --file`.

    It then has an address and keys, and no deployment: a rollout brings one. An endpoint that exists is left as it is.
    """

    async def work(app: "App", world: "Provider") -> int:
        from orchestrator.app import carry_out
        from orchestrator.cli.session import show_json
        from orchestrator.errors import UsageError
        from orchestrator.reconcile import standing
        from providers.actions import PutEndpoint
        from providers.errors import Unsupported

        spec = _read(file)
        state = await world.observe(spec.name)
        await unowned(app, world, spec.name, state)
        if state is not None:
            raise UsageError(
                f"endpoint {spec.name} exists already at {state.url or world.name} ({standing(state)}); nothing was "
                f"changed: rollout endpoint show {spec.name}{at(provider)} tells more"
            )
        try:
            await carry_out(app, world, PutEndpoint(spec.name, spec))
        except Unsupported as error:
            raise UsageError(f"{file}: {error}") from None
        state = await existing(world, spec.name)
        if output == "json":
            show_json(as_json(state, None))
        else:
            _tell_created(spec, state, at(provider))
        return SUCCEEDED

    return with_provider(provider, work)


def _read(file: Path) -> "EndpointSpec":
    from orchestrator.errors import UsageError
    from plans.errors import PlanError
    from plans.source import load
    from providers.specs import EndpointSpec

    try:
        return load(file, EndpointSpec)
    except PlanError as error:
        # Of one wrong file a list of wrong fields says less than what it is.
        keys = {problem.key for problem in error.problems}
        if "steps" in keys:
            raise UsageError(f"{file} is a plan, not an endpoint's file: rollout run {file} carries it out") from None
        if keys & OF_A_DEPLOYMENT:
            raise UsageError(
                f"{file} is a deployment's file, not an endpoint's: name it in a plan, and rollout run deploys it"
            ) from None
        raise


def _tell_created(spec: "EndpointSpec", state: "EndpointState", here: str) -> None:
    what = "keys" if spec.auth_mode == "key" else "token"
    lines = [
        (f"rollout endpoint {what} {spec.name} --show{here}", "what clients send as `Authorization: Bearer ...`"),
        (f"rollout endpoint show {spec.name}{here}", "how it stands"),
        ("rollout init", "writes a plan, which brings it a deployment"),
    ]
    click.echo(f"{spec.name} is created: {state.url or 'it has no address yet'}")
    width = max(len(command) for command, _ in lines)
    for command, why in lines:
        click.echo(f"  {command:<{width}}  {why}")
    if spec.traffic or spec.mirror_traffic:
        click.echo("  its file's traffic is left out: there is no deployment yet that could get any")


@click.command(
    "scale",
    short_help="Change how many instances run.",
    epilog=options.example(
        "rollout endpoint scale diabetes blue=3", "rollout endpoint scale diabetes blue=1 green=4 --output json"
    ),
)
@NAME
@click.argument(
    "counts",
    metavar="DEPLOYMENT=COUNT...",
    nargs=-1,
    required=True,
    shell_complete=completing.deployments_with_sign,
)
@PROVIDER
@options.output()
def scale_command(name: str, counts: tuple[str, ...], provider: str, output: str) -> int:
    """Give deployments of ENDPOINT this many instances each, and wait until they are healthy.

    COUNT is from 1 to 50. Refused while a rollout owns the endpoint.
    """
    wanted = {each: _count(each, text) for each, text in pairs(counts, "COUNT", "blue=2").items()}

    async def work(app: "App", world: "Provider") -> int:
        from orchestrator.cli.session import show_json
        from orchestrator.errors import UsageError

        state = await existing(world, name)
        await unowned(app, world, name, state)
        before = {each: deployment(state, each).desired for each in wanted}
        if not world.capabilities(state).scale:
            raise UsageError(f"deployments of {name} cannot be scaled: {world.name} decides how many instances run")
        await _scale(app, world, state, wanted, quiet=output == "json")
        if output == "json":
            state = await existing(world, name)
            now = {each: state.deployments[each] for each in wanted if each in state.deployments}
            show_json({"endpoint": name, "before": before, "deployments": now})
        return SUCCEEDED

    return with_provider(provider, work)


def _count(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise click.UsageError(f"{name}={text}: write a whole number, such as {name}=2", click.get_current_context())
    if int(text) == 0:
        raise click.UsageError(
            f"{name}=0: a deployment has at least 1 instance; to take it out of use, give its traffic to another with "
            "`rollout endpoint traffic`",
            click.get_current_context(),
        )
    if int(text) > MOST:
        raise click.UsageError(f"{name}={text}: a deployment has at most {MOST} instances", click.get_current_context())
    return int(text)


async def _scale(
    app: "App", world: "Provider", state: "EndpointState", wanted: Mapping[str, int], *, quiet: bool
) -> None:
    """One after the other; what was done is told also when the next one fails."""
    from orchestrator.app import carry_out
    from providers.actions import Scale
    from providers.errors import Conflict, Permanent, Temporary

    done: list[str] = []
    for name, count in wanted.items():
        there = state.deployments[name]
        try:
            await carry_out(app, world, Scale(state.name, name, count))
        except (Permanent, Conflict, Temporary) as error:
            if not done:
                raise
            kind = Temporary if isinstance(error, Temporary) else Permanent
            raise kind(f"{name} is not scaled to {count}, {' and '.join(done)} is: {error}") from None
        done.append(f"{name} to {count}")
        if not quiet:
            click.echo(f"{name}: {_change(there.desired, count)}, all healthy")


def _change(before: int, after: int) -> str:
    shown = f"{after} instance" + ("s" if after != 1 else "")
    return f"{shown} as before" if before == after else f"{before} -> {shown}"


@click.command(
    "start", short_help="Start its processes again.", epilog=options.example("rollout endpoint start diabetes")
)
@NAME
@PROVIDER
@options.output()
def start_command(name: str, provider: str, output: str) -> int:
    """Start the processes of ENDPOINT again, as after the machine was restarted, and wait until they are healthy."""

    async def work(_: "App", world: "Provider") -> int:
        import asyncio

        from orchestrator.cli.session import show_json
        from providers.errors import Temporary, Unsupported

        start: Any = getattr(world, "start", None)
        if start is None:
            raise Unsupported(f"endpoints of {provider} cannot be started from here")
        await existing(world, name)
        await start(name)
        try:
            async with asyncio.timeout(120):
                while not healthy(state := await existing(world, name)):  # noqa: ASYNC110 - the world rings no bell
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise Temporary(f"{name} is not healthy after 2 minutes: see rollout endpoint show {name}") from None
        if output == "json":
            show_json(as_json(state, None))
        else:
            click.echo(f"{name} is up: {state.url}")
        return SUCCEEDED

    return with_provider(provider, work)


@click.command(
    "delete",
    short_help="Delete it with all its deployments.",
    epilog=options.example("rollout endpoint delete diabetes", "rollout endpoint delete diabetes --yes"),
)
@NAME
@click.option("--yes", is_flag=True, help="Do not ask.")
@PROVIDER
@options.output()
def delete_command(name: str, yes: bool, provider: str, output: str) -> int:
    """Delete ENDPOINT with all its deployments, after their last requests have been answered.

    Refused while a rollout owns it. One that does not exist counts as deleted.
    """

    async def work(app: "App", world: "Provider") -> int:
        from orchestrator.app import carry_out
        from orchestrator.cli.session import show_json, warn
        from plans.units import show_split
        from providers.actions import DeleteEndpoint

        state = await world.observe(name)
        await unowned(app, world, name, state)
        if state is not None:
            if not yes and not agreed(f"Delete {name} (traffic: {show_split(state.traffic)}) with everything in it?"):
                warn("nothing was deleted")
                return INTERRUPTED
            await carry_out(app, world, DeleteEndpoint(name))
        if output == "json":
            show_json({"endpoint": name, "existed": state is not None, "deleted": True})
        else:
            click.echo(f"{name} is deleted" if state is not None else f"there is no endpoint {name}: nothing to delete")
        return SUCCEEDED

    return with_provider(provider, work)
