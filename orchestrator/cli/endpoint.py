"""`rollout endpoint ...`: look at an endpoint, call it, read its logs, renew its keys, start it again, delete it.

These work on the world directly, beside any rollout; what would get in a rollout's way is refused while one owns the
endpoint.
"""

from collections.abc import Awaitable, Callable
from typing import IO, TYPE_CHECKING, Any

import click

from orchestrator.cli import options
from orchestrator.cli.main import SUCCEEDED, TRY_AGAIN

if TYPE_CHECKING:
    from orchestrator.app import App
    from providers.base import EndpointState, Provider

PROVIDER = click.option("--provider", default="local", show_default=True, metavar="NAME", help="Where the endpoint is.")
NAME = click.argument("name", metavar="ENDPOINT")


@click.group("endpoint", epilog=options.example("rollout endpoint show diabetes"))
def endpoint_command() -> None:
    """Show, call, start or delete an endpoint."""


@endpoint_command.command(
    "show", epilog=options.example("rollout endpoint show diabetes", "rollout endpoint show diabetes --output json")
)
@NAME
@PROVIDER
@options.output()
def show_command(name: str, provider: str, output: str) -> int:
    """Show deployments, traffic, mirror, address and owner of ENDPOINT as it stands."""

    async def work(app: "App", world: "Provider") -> int:
        from orchestrator.cli.session import show_json

        state = await _existing(world, name)
        owners = await app.store.rollouts(active=True, endpoint=world.identity(name), limit=1)
        owner = owners[0].id if owners else None
        if output == "json":
            show_json(_as_json(state, owner))
        else:
            _show(state, owner)
        return SUCCEEDED

    return _with(provider, work)


@endpoint_command.command(
    "invoke",
    epilog=options.example(
        "rollout endpoint invoke diabetes --request sample-request.json",
        "echo '{\"data\": []}' | rollout endpoint invoke diabetes --deployment green --request -",
    ),
)
@NAME
@click.option("--deployment", metavar="NAME", help="Ask this one directly, whatever its traffic.")
@click.option("--request", "body", type=click.File("rb"), help="File with the request's body; - reads it from stdin.")
@click.option("--method", default="POST", show_default=True, help="Of the request.")
@click.option("--path", default="/score", show_default=True, help="Of the request.")
@click.option("--timeout", type=click.FloatRange(0.1, 600), default=60.0, show_default=True, help="Seconds to wait.")
@PROVIDER
@options.output()
def invoke_command(
    name: str,
    deployment: str | None,
    body: IO[bytes] | None,
    method: str,
    path: str,
    timeout: float,
    provider: str,
    output: str,
) -> int:
    """Send a scoring request to ENDPOINT with its key, and print the answer's body.

    Exit code 0 for a status of 2xx, else 3.
    """

    async def work(_: "App", world: "Provider") -> int:
        from orchestrator.cli.session import show_json, warn
        from providers.base import Invokes, Request

        able = _able(world, Invokes, "send requests")
        request = Request(method=method.upper(), path=path, body=body.read() if body is not None else b"")
        response = await able.invoke(name, request, deployment=deployment, timeout=timeout)
        good = 200 <= response.status < 300
        if output == "json":
            show_json(
                {
                    "status": response.status,
                    "deployment": response.deployment,
                    "seconds": round(response.seconds, 6),
                    "body": response.body.decode(errors="replace"),
                }
            )
        else:
            click.echo(response.body, nl=not response.body.endswith(b"\n"))
        if not good:
            warn(f"rollout: {name} answered with status {response.status}" + _who(response.deployment))
        return SUCCEEDED if good else TRY_AGAIN

    return _with(provider, work)


@endpoint_command.command(
    "logs",
    epilog=options.example(
        "rollout endpoint logs diabetes", "rollout endpoint logs diabetes --deployment green --tail 500"
    ),
)
@NAME
@click.option(
    "--deployment", metavar="NAME", help="Only this one's; also one that was deleted and whose logs were kept."
)
@click.option("--instance", type=click.IntRange(min=0), help="Only this instance's.")
@click.option("--tail", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many lines at most.")
@PROVIDER
@options.output()
def logs_command(name: str, deployment: str | None, instance: int | None, tail: int, provider: str, output: str) -> int:
    """Print the last lines of what the deployments of ENDPOINT printed."""

    async def work(_: "App", world: "Provider") -> int:
        from orchestrator.cli.session import show_json
        from providers.base import HasLogs

        able = _able(world, HasLogs, "show logs")
        wanted = [deployment] if deployment else sorted((await _existing(world, name)).deployments)
        texts = {each: await able.logs(name, each, instance=instance, tail=tail) for each in wanted}
        if output == "json":
            show_json(texts)
            return SUCCEEDED
        for each, text in texts.items():
            if len(texts) > 1:
                click.echo(f"==> {each} <==")
            click.echo(text.rstrip("\n"))
        return SUCCEEDED

    return _with(provider, work)


@endpoint_command.command(
    "keys",
    epilog=options.example(
        "rollout endpoint keys diabetes --show", "rollout endpoint keys diabetes --regenerate secondary"
    ),
)
@NAME
@click.option("--show", is_flag=True, help="Show them in full; otherwise only their last four characters.")
@click.option(
    "--regenerate",
    type=click.Choice(["primary", "secondary"]),
    help="Make this one anew; the old one is refused from then on, the other goes on working.",
)
@PROVIDER
@options.output()
def keys_command(name: str, show: bool, regenerate: Any, provider: str, output: str) -> int:
    """Show, or renew, the two keys of ENDPOINT."""

    async def work(_: "App", world: "Provider") -> int:
        from orchestrator import ids
        from orchestrator.cli.session import show_json
        from providers.base import HasKeys

        able = _able(world, HasKeys, "show keys")
        if regenerate:
            keys = await able.regenerate(name, regenerate, key=f"cli-{ids.token()}")
        else:
            keys = await able.keys(name)
        shown = {which: key if show else masked(key) for which, key in _pair(keys).items()}
        if output == "json":
            show_json(shown)
        else:
            for which, key in shown.items():
                click.echo(f"{which:<9}  {key}" + ("  (new)" if which == regenerate else ""))
        return SUCCEEDED

    return _with(provider, work)


@endpoint_command.command("start", epilog=options.example("rollout endpoint start diabetes"))
@NAME
@PROVIDER
@options.output()
def start_command(name: str, provider: str, output: str) -> int:
    """Start the processes of ENDPOINT again, as after the machine was restarted, and wait until they are healthy."""

    async def work(_: "App", world: "Provider") -> int:
        import asyncio

        from orchestrator.cli.session import show_json
        from providers.errors import Temporary, Unsupported

        start = getattr(world, "start", None)
        if start is None:
            raise Unsupported(f"endpoints of {provider} cannot be started from here")
        await start(name)
        try:
            async with asyncio.timeout(120):
                while not healthy(state := await _existing(world, name)):  # noqa: ASYNC110 - the world rings no bell
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise Temporary(f"{name} is not healthy after 2 minutes: see rollout endpoint show {name}") from None
        if output == "json":
            show_json(_as_json(state, None))
        else:
            click.echo(f"{name} is up: {state.url}")
        return SUCCEEDED

    return _with(provider, work)


@endpoint_command.command(
    "delete", epilog=options.example("rollout endpoint delete diabetes", "rollout endpoint delete diabetes --yes")
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
        from orchestrator.cli.session import show_json
        from orchestrator.errors import UsageError
        from plans.units import show_split
        from providers.actions import DeleteEndpoint

        owners = await app.store.rollouts(active=True, endpoint=world.identity(name), limit=1)
        if owners:
            owner = owners[0]
            raise UsageError(
                f"rollout {owner.id} owns endpoint {name} ({owner.phase}): let it end, or rollout abort {owner.id}"
            )
        state = await world.observe(name)
        if state is not None:
            if not yes:
                click.confirm(
                    f"Delete {name} (traffic: {show_split(state.traffic)}) with everything in it?", abort=True
                )
            await carry_out(app, world, DeleteEndpoint(name))
        if output == "json":
            show_json({"endpoint": name, "existed": state is not None, "deleted": True})
        else:
            click.echo(f"{name} is deleted" if state is not None else f"there is no endpoint {name}: nothing to delete")
        return SUCCEEDED

    return _with(provider, work)


def masked(key: str) -> str:
    """Only the last four characters, so that two keys can be told apart."""
    return f"{'*' * 12}{key[-4:]}" if len(key) >= 12 else "*" * 16


def healthy(state: "EndpointState") -> bool:
    """Whether everything that shall run does."""
    full = all(each.healthy >= each.desired for each in state.deployments.values())
    return full and state.problem is None


def _pair(keys: Any) -> dict[str, str]:
    return {"primary": keys.primary, "secondary": keys.secondary}


def _who(deployment: str | None) -> str:
    return f", by {deployment}" if deployment else ""


def _with(provider: str, work: "Callable[[App, Provider], Awaitable[int]]") -> int:
    """Run the work with the provider of that name open."""
    from orchestrator import app as use_cases
    from orchestrator.cli.session import within

    async def session(app: "App") -> int:
        world = use_cases.provider_of(app, name=provider)
        try:
            return await work(app, world)
        finally:
            await world.aclose()

    return within(session)


async def _existing(world: "Provider", name: str) -> "EndpointState":
    from orchestrator.errors import UsageError

    state = await world.observe(name)
    if state is None:
        raise UsageError(
            f"there is no endpoint {name} at {world.name}; a plan with `endpoint: {{file: ...}}` makes one"
        )
    return state


def _able(world: Any, protocol: Any, what: str) -> Any:
    """The provider, which has that protocol. Raises Unsupported."""
    from providers.errors import Unsupported

    if not isinstance(world, protocol):
        raise Unsupported(f"the provider {world.name} cannot {what}")
    return world


def _as_json(state: "EndpointState", owner: str | None) -> dict[str, Any]:
    from orchestrator.views import percents

    return {
        "name": state.name,
        "url": state.url,
        "traffic": percents(state.traffic),
        "mirror": percents(state.mirror),
        "deployments": dict(sorted(state.deployments.items())),
        "busy": state.busy,
        "problem": state.problem,
        "claim": state.claim,
        "rollout": owner,
    }


def _show(state: "EndpointState", owner: str | None) -> None:
    from orchestrator.cli.session import local
    from plans.units import show_share, show_split

    click.echo(f"{state.name}  {state.url or 'no address'}")
    click.echo(f"  traffic  {show_split(state.traffic)}")
    if state.mirror:
        click.echo(f"  mirror   {show_split(state.mirror)}")
    if owner:
        click.echo(f"  owner    rollout {owner}")
    elif state.claim is not None:
        click.echo(
            f"  claim    rollout {state.claim.rollout} of store {state.claim.store[:12]} (epoch {state.claim.epoch})"
        )
    for label, text in (("busy", state.busy), ("problem", state.problem)):
        if text:
            click.echo(f"  {label:<7}  {text}")
    for name, each in sorted(state.deployments.items()):
        share = show_share(state.traffic.get(name, 0))
        born = local(each.born, "%Y-%m-%d %H:%M")
        click.echo(f"  {name:<12} {share:>5}  {each.healthy}/{each.desired} healthy  since {born}  {each.digest[:12]}")
        if each.problem:
            click.echo(f"      {each.problem}")
