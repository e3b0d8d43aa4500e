"""`rollout`: finds the command that was asked for, and turns every way to end into an exit code.

Starting up is a promise (`--help` answers at once), so this module imports click and nothing else: commands stand in a
table, and one's module is imported when it runs. An error's branch in its tree says the exit code; the branch is found
by the names of its classes, so that no module is imported just to be compared with.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

SUCCEEDED, ROLLED_BACK, USAGE, TRY_AGAIN, PAUSED, FAILED, READER_LEFT, INTERRUPTED = 0, 1, 2, 3, 4, 5, 141, 130

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("orchestrator.cli.init", "Write a commented plan to begin with."),
    "run": ("orchestrator.cli.run", "Carry out a plan, live."),
    "resume": ("orchestrator.cli.run", "Go on with a rollout that was paused, stopped or killed."),
    "pause": ("orchestrator.cli.ask", "Stop making progress; the gates go on guarding."),
    "abort": ("orchestrator.cli.ask", "Give stable its traffic back and end the rollout."),
    "approve": ("orchestrator.cli.ask", "Agree to a step that waits for it."),
    "status": ("orchestrator.cli.look", "Where a rollout stands, in a few lines."),
    "watch": ("orchestrator.cli.watch", "Follow a rollout live until it ends."),
    "explain": ("orchestrator.cli.look", "Why it waits, what was measured, what you can do."),
    "list": ("orchestrator.cli.look", "All rollouts, the newest first."),
    "history": ("orchestrator.cli.look", "Everything that happened to a rollout."),
    "report": ("orchestrator.cli.report", "One file that tells a rollout's story, with charts."),
    "validate": ("orchestrator.cli.plan", "Check a plan and all files that it names, offline."),
    "plan": ("orchestrator.cli.plan", "Show what a plan would do to the endpoint as it stands."),
    "simulate": ("orchestrator.cli.simulate", "How often a plan catches what goes wrong, simulated."),
    "backtest": ("orchestrator.cli.backtest", "Replay recorded traffic through a plan."),
    "graph": ("orchestrator.cli.graph", "Draw a plan, or a rollout, as a diagram."),
    "endpoint": ("orchestrator.cli.endpoint", "Make, show, call, change or delete an endpoint."),
    "load": ("orchestrator.cli.load", "Send synthetic traffic to an endpoint."),
    "completion": ("orchestrator.cli.completion", "Print the completion script of a shell."),
    "doctor": ("orchestrator.cli.doctor", "Check this machine and installation."),
}
"""Name -> the module that defines it, as an attribute `<name>_command`, and its line in `--help`."""

CODES = {
    "plans.errors.PlanError": USAGE,
    "providers.errors.ProviderError": TRY_AGAIN,
    "orchestrator.errors.UsageError": USAGE,
    "orchestrator.errors.Invariant": FAILED,
    "orchestrator.errors.OrchestratorError": TRY_AGAIN,
}
"""Class at the root of a branch -> exit code; the nearest ancestor counts."""


@dataclass
class State:
    """What commands share with `main`: whether a traceback is wanted."""

    debug: bool = False


class Lazy(click.Group):
    """A group that knows its commands by name, and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        if cmd_name not in COMMANDS:
            return None
        from importlib import import_module

        command: click.Command = getattr(import_module(COMMANDS[cmd_name][0]), f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known_or_option(ctx, args[0], list(COMMANDS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # click would end with 1, which means rolled back here.
            return READER_LEFT


def known_or_option(ctx: click.Context, name: str, known: Sequence[str]) -> None:
    """Raise UsageError with a suggestion when there is no such command."""
    if name in known or name.startswith("-") or ctx.resilient_parsing:
        return
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1, cutoff=0.5)
    meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise click.UsageError(f"there is no command {name}: {meant}", ctx)


@click.group(
    cls=Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: rollout validate plan.yml, rollout plan plan.yml, rollout run plan.yml.  "
    "Exit codes: 0 succeeded, 1 rolled back or aborted, 2 usage or invalid plan, 3 provider or store error (try "
    "again), 4 paused (needs a human), 5 failed, 130 interrupted.",
)
@click.version_option(package_name="rollout-orchestrator", prog_name="rollout", message="%(prog)s %(version)s")
@click.option(
    "--debug", is_flag=True, envvar="ROLLOUT_DEBUG", help="Show tracebacks of errors (also: ROLLOUT_DEBUG=1)."
)
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Take a model endpoint from one version to the next, with real traffic, and back when the evidence says so."""
    ctx.ensure_object(State).debug = debug


def code_of(error: BaseException) -> int | None:
    """The exit code of an error that is part of our interface, or None for one that is not."""
    for kind in type(error).__mro__:
        code = CODES.get(f"{kind.__module__}.{kind.__qualname__}")
        if code is not None:
            return code
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. `arguments` default to the process's."""
    state = State()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A name that the terminal cannot show must not end a command.
            stream.reconfigure(errors="replace")
    try:
        ended = cli.main(args=arguments, prog_name="rollout", standalone_mode=False, obj=state)
        sys.stdout.flush()
        return ended if isinstance(ended, int) else SUCCEEDED
    except click.ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # click 8.2 and newer; older ones print the help themselves
            _print(error.format_message())
        else:
            _say(_usage(error))
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        _close_stdout()
        return READER_LEFT
    except Exception as error:  # noqa: BLE001 - the last stop: people get a sentence, with ROLLOUT_DEBUG a traceback
        return _ended_by(error, state)


def _ended_by(error: Exception, state: State) -> int:
    if state.debug:
        from traceback import print_exception

        print_exception(error)
    known = [(code, each) for each in _leaves(error) if (code := code_of(each)) is not None]
    if known:
        code, cause = known[0]
        problems = getattr(cause, "problems", ())
        if problems:
            # Each line begins with its place, as editors and other tools expect it.
            _print(str(cause))
            count = f"{len(problems)} mistakes" if len(problems) > 1 else "1 mistake"
            _say(f"{count} in the plan or its files; nothing was changed")
        else:
            _say(str(cause) or type(cause).__name__)
        return code
    _say(
        f"this is a fault of rollout itself ({type(error).__name__}: {error}); what was done is in the journal, and "
        "`rollout resume` goes on from there. ROLLOUT_DEBUG=1 shows where it happened"
    )
    return TRY_AGAIN


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The error, or those of a group, in order."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _usage(error: click.ClickException) -> str:
    text = error.format_message()
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    return f"{text[:1].lower()}{text[1:]}" + (f" (see {ctx.command_path} --help)" if ctx is not None else "")


def _say(message: str) -> None:
    _print(f"rollout: {message}")


def _print(message: str) -> None:
    try:
        click.echo(message, err=True)
    except OSError:
        pass  # nobody listens; the exit code still says it


def _close_stdout() -> None:
    """Let the interpreter flush into nothing at its end, where it would complain otherwise."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
