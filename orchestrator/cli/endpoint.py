"""`rollout endpoint ...`: look at an endpoint, call it, read its logs, show what its clients send to be let in.

These work on the world directly, beside any rollout. The commands that change an endpoint stand in `endpoint_change`
and `endpoint_traffic`.
"""

from typing import IO, TYPE_CHECKING, Any

import click

from orchestrator.cli import completing, options
from orchestrator.cli.at_provider import NAME, PROVIDER, Commands, able, as_json, at, existing, with_provider
from orchestrator.cli.endpoint_change import create_command, delete_command, scale_command, start_command
from orchestrator.cli.endpoint_traffic import traffic_command
from orchestrator.cli.main import SUCCEEDED, TRY_AGAIN

if TYPE_CHECKING:
    from orchestrator.app import App
    from providers.base import EndpointState, Provider


@click.group("endpoint", cls=Commands, epilog=options.example("rollout endpoint show diabetes"))
def endpoint_command() -> None:
    """Make, show, call, change or delete an endpoint."""


for each in (create_command, scale_command, traffic_command, start_command, delete_command):
    endpoint_command.add_command(each)


@endpoint_command.command(
    "show",
    short_help="Show how an endpoint stands.",
    epilog=options.example("rollout endpoint show diabetes", "rollout endpoint show diabetes --output json"),
)
@NAME
@PROVIDER
@options.output()
def show_command(name: str, provider: str, output: str) -> int:
    """Show deployments, traffic, mirror, address and owner of ENDPOINT as it stands."""

    async def work(app: "App", world: "Provider") -> int:
        from orchestrator.app import owner_of
        from orchestrator.cli.session import show_json

        state = await existing(world, name)
        found = await owner_of(app, world.identity(name))
        owner = found.id if found is not None else None
        if output == "json":
            show_json(as_json(state, owner))
        else:
            _show(state, owner)
        return SUCCEEDED

    return with_provider(provider, work)


@endpoint_command.command(
    "invoke",
    short_help="Send one scoring request.",
    epilog=options.example(
        "rollout endpoint invoke diabetes --request sample-request.json",
        "echo '{\"data\": []}' | rollout endpoint invoke diabetes --deployment green --request -",
    ),
)
@NAME
@click.option(
    "--deployment",
    metavar="NAME",
    shell_complete=completing.deployments,
    help="Ask this one directly, whatever its traffic.",
)
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

        caller = able(world, Invokes, "send requests")
        await existing(world, name)
        request = Request(method=method.upper(), path=path, body=body.read() if body is not None else b"")
        response = await caller.invoke(name, request, deployment=deployment, timeout=timeout)
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

    return with_provider(provider, work)


@endpoint_command.command(
    "logs",
    short_help="Print what deployments printed.",
    epilog=options.example(
        "rollout endpoint logs diabetes", "rollout endpoint logs diabetes --deployment green --tail 500"
    ),
)
@NAME
@click.option(
    "--deployment",
    metavar="NAME",
    shell_complete=completing.deployments,
    help="Only this one's; also one that was deleted and whose logs were kept.",
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

        keeper = able(world, HasLogs, "show logs")
        state = await existing(world, name)
        wanted = [deployment] if deployment else sorted(state.deployments)
        texts = {each: await keeper.logs(name, each, instance=instance, tail=tail) for each in wanted}
        if output == "json":
            show_json(texts)
            return SUCCEEDED
        for each, text in texts.items():
            if len(texts) > 1:
                click.echo(f"==> {each} <==")
            click.echo(text.rstrip("\n"))
        return SUCCEEDED

    return with_provider(provider, work)


@endpoint_command.command(
    "keys",
    short_help="Show, or renew, the two keys.",
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

        owner = able(world, HasKeys, "show keys")
        await existing(world, name)
        if regenerate:
            keys = await owner.regenerate(name, regenerate, key=f"cli-{ids.token()}")
        else:
            keys = await owner.keys(name)
        shown = {which: key if show else masked(key) for which, key in _pair(keys).items()}
        if output == "json":
            show_json(shown)
        else:
            for which, key in shown.items():
                click.echo(f"{which:<9}  {key}" + ("  (new)" if which == regenerate else ""))
        return SUCCEEDED

    return with_provider(provider, work)


@endpoint_command.command(
    "token",
    short_help="Show the token, where there is one.",
    epilog=options.example(
        "rollout endpoint token diabetes", "rollout endpoint token diabetes --output json --show | jq -r .token"
    ),
)
@NAME
@click.option("--show", is_flag=True, help="Show it in full; otherwise only its last four characters.")
@PROVIDER
@options.output()
def token_command(name: str, show: bool, provider: str, output: str) -> int:
    """Show the token that clients of ENDPOINT send, where it has tokens (auth_mode: aml_token) instead of keys.

    A token is good for a while only; ask again for the next one.
    """

    async def work(_: "App", world: "Provider") -> int:
        from orchestrator.cli.session import local, show_json
        from orchestrator.errors import UsageError
        from providers.base import HasTokens
        from providers.errors import Unsupported

        await existing(world, name)
        keys = f"rollout endpoint keys {name}{at(provider)}"
        if not isinstance(world, HasTokens):
            raise UsageError(f"endpoints of the provider {world.name} have keys and no tokens: {keys}")
        try:
            token = await world.token(name)
        except Unsupported as error:
            raise UsageError(f"{str(error).removesuffix('.')}: {keys}") from None
        value = token.value if show else masked(token.value)
        if output == "json":
            show_json({"token": value, "expires": token.expires})
        else:
            click.echo(f"token  {value}" + (f"  (until {local(token.expires)})" if token.expires else ""))
        return SUCCEEDED

    return with_provider(provider, work)


def masked(key: str) -> str:
    """Only the last four characters, so that two keys can be told apart."""
    return f"{'*' * 12}{key[-4:]}" if len(key) >= 12 else "*" * 16


def _pair(keys: Any) -> dict[str, str]:
    return {"primary": keys.primary, "secondary": keys.secondary}


def _who(deployment: str | None) -> str:
    return f", by {deployment}" if deployment else ""


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
