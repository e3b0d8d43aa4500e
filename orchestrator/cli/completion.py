"""`rollout completion`: the script that teaches a shell to complete our command lines.

It is click's own for that shell, with a few changes: what goes wrong stays silent, after `blue=` or `folder/` no space
is added, because one goes on typing there, and an explanation may have a comma. What is offered is found in
`completing`.
"""

import click

from orchestrator.cli import options

PROGRAM = "rollout"
INSTALL = {
    "bash": """\
# Completion of rollout for bash, 4.4 or newer. Install it once; it is loaded by new shells that have the package
# bash-completion:
#   mkdir -p ~/.local/share/bash-completion/completions
#   rollout completion bash > ~/.local/share/bash-completion/completions/rollout
# or, without that package, load it from ~/.bashrc:
#   eval "$(rollout completion bash)"
""",
    "zsh": """\
# Completion of rollout for zsh. Install it once into a folder of your fpath:
#   mkdir -p ~/.zfunc && rollout completion zsh > ~/.zfunc/_rollout
# with these lines in ~/.zshrc:
#   fpath=(~/.zfunc $fpath)
#   autoload -Uz compinit && compinit
""",
    "fish": """\
# Completion of rollout for fish. Install it once; it is loaded by new shells:
#   mkdir -p ~/.config/fish/completions
#   rollout completion fish > ~/.config/fish/completions/rollout.fish
""",
}
_END_BASH = """\
    return 0
}"""
_ADD_ZSH = """\
compadd -U -V unsorted -a completions
"""
CHANGES = {
    "bash": (
        ("=bash_complete $1)", "=bash_complete $1 2>/dev/null)"),
        (
            _END_BASH,
            """\
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/] ]]; then
        compopt -o nospace
    fi

    return 0
}""",
        ),
    ),
    "zsh": (
        (f"=zsh_complete {PROGRAM})", f"=zsh_complete {PROGRAM} 2>/dev/null)"),
        (
            _ADD_ZSH,
            """\
local -a begun ended
        begun=(${(M)completions:#*[=/]}) ended=(${completions:#*[=/]})
        if [ -n "$ended" ]; then
            compadd -U -V unsorted -a ended
        fi
        if [ -n "$begun" ]; then
            compadd -U -V unsorted -S '' -a begun
        fi
""",
        ),
    ),
    "fish": (
        (f"COMP_CWORD=(commandline -t) {PROGRAM})", f"COMP_CWORD=(commandline -t) {PROGRAM} 2>/dev/null)"),
        ('(string split "," $completion)', '(string split -m 1 "," $completion)'),
    ),
}
"""Shell -> (what stands in click's script, what shall stand there)."""


@click.command(
    "completion",
    epilog=options.example(
        'eval "$(rollout completion bash)"   # for this shell only',
        "rollout completion bash > ~/.local/share/bash-completion/completions/rollout",
        "rollout completion zsh > ~/.zfunc/_rollout",
        "rollout completion fish > ~/.config/fish/completions/rollout.fish",
    ),
)
@click.argument("shell", metavar="bash|zsh|fish", required=False, type=click.Choice(list(INSTALL)))
@options.output()
def completion_command(shell: str | None, output: str) -> None:
    """Print the completion script of a shell, which says in its first lines how to install it.

    TAB then completes commands, options, plan files, rollouts, endpoints of this machine and their deployments.
    """
    if shell is None:
        raise click.UsageError("say for which shell: bash, zsh or fish", click.get_current_context())
    text = script(shell)
    if output == "json":
        from orchestrator.cli.session import show_json

        show_json({"shell": shell, "script": text})
    else:
        click.echo(text, nl=False)


def script(shell: str) -> str:
    """The script for that shell."""
    from click.shell_completion import get_completion_class

    from orchestrator.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None, "click has had all three since 8.0"
    made = kind(cli, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE")
    # Not made.source(): of bash it starts one to see how old that is, which may be another machine's matter.
    text = made.source_template % made.source_vars()
    for found, wanted in CHANGES[shell]:
        text = text.replace(found, wanted)
    first, rest = (text.rstrip() + "\n").split("\n", 1)
    if first.startswith("#compdef"):
        # Zsh finds out by the first line what the file is for.
        return f"{first}\n{INSTALL[shell]}{rest}"
    return f"{INSTALL[shell]}{first}\n{rest}"
