"""What TAB offers, in real shells where they are installed, and that it stays silent and makes nothing."""

import json
import os
import re
import select
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from orchestrator.cli import completing
from orchestrator.cli.completion import CHANGES, INSTALL, script
from orchestrator.cli.main import main
from tests.unit.simulated import said, told
from tests.unit.stored import put


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Two endpoints of this machine, five rollouts, and a folder with plans in which the test stands."""
    home = tmp_path / "home"
    for name, deployments in (("shop", ("blue", "green")), ("cart", ("red",))):
        folder = home / "local" / name
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps({"deployments": {each: {} for each in deployments}}))
    (home / "local" / ".shop.deleted-1").mkdir()
    (home / "local" / "ports.json").write_text("{}")
    files = tmp_path / "files"
    (files / "plans").mkdir(parents=True)
    for name in ("plan.yml", "plan-slow.yaml", "plan.txt", ".hidden.yml", "plans/deep.yml"):
        (files / name).write_text("")
    binaries = tmp_path / "bin"
    binaries.mkdir()
    program = binaries / "rollout"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m orchestrator.cli.main "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("ROLLOUT_HOME", str(home))
    monkeypatch.delenv("ROLLOUT_STORE", raising=False)
    monkeypatch.setenv("PATH", f"{binaries}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(files)
    return home


@pytest.fixture
def store(home):
    put(
        ("shop-20241120-aaaaa", "shop", "shop", "failed"),
        ("cart-20241120-bbbbb", "cart", "cart", "paused"),
        ("shop-20241120-ccccc", "shop", "shop", "running"),
    )
    return home / "rollouts.db"


def offered(completer, typed: str, command: str = "show", **parameters) -> list[str]:
    context = click.Context(click.Command(command), info_name=command)
    context.params.update(parameters)
    return [item.value for item in completer(context, click.Argument(["given"]), typed)]


# --- what is offered


def test_rollouts_by_name_and_id_the_newest_first(store):
    everything = ["shop", "shop-20241120-ccccc", "cart", "cart-20241120-bbbbb", "shop-20241120-aaaaa"]
    assert offered(completing.rollouts, "", "status") == everything
    assert offered(completing.rollouts, "shop-", "status") == ["shop-20241120-ccccc", "shop-20241120-aaaaa"]
    assert offered(completing.rollouts, "shop-", "abort") == ["shop-20241120-ccccc"]
    assert offered(completing.rollouts, "x", "status") == []
    assert offered(completing.names, "") == ["shop", "cart"]


def test_plans_are_files_in_yaml_and_the_folders_on_the_way(home, monkeypatch):
    assert offered(completing.plans, "") == ["plan-slow.yaml", "plan.yml", "plans/"]
    assert offered(completing.plans, "plan.") == ["plan.yml"]
    assert offered(completing.plans, "plans/") == ["plans/deep.yml"]
    assert offered(completing.plans, "./plans/d") == ["./plans/deep.yml"]
    assert offered(completing.plans, "~/files/plan.") == ["~/files/plan.yml"]
    assert offered(completing.plans, ".h") == [".hidden.yml"]
    assert offered(completing.plans, "nowhere/") == []
    Path("plan two.yml").touch()
    context = click.Context(click.Command("run"))
    (item,) = completing.plans(context, click.Argument(["plan"]), "plan")
    assert (item.type, item.value) == ("file", "plan")


def test_what_takes_a_plan_or_a_rollout_is_offered_both(store):
    assert offered(completing.plans_and_rollouts, "pl", "graph") == ["plan-slow.yaml", "plan.yml", "plans/"]
    assert offered(completing.plans_and_rollouts, "ca", "graph") == ["cart", "cart-20241120-bbbbb"]


def test_endpoints_of_this_machine(home):
    assert offered(completing.endpoints, "") == ["cart", "shop"]
    assert offered(completing.endpoints, "s") == ["shop"]
    assert offered(completing.endpoints, "", provider="local") == ["cart", "shop"]
    assert offered(completing.endpoints, "", provider="azureml") == []


def test_deployments_of_the_endpoint_that_was_typed(home):
    assert offered(completing.deployments, "", name="shop") == ["blue", "green"]
    assert offered(completing.deployments, "g", name="shop") == ["green"]
    for wrong in ("nope", "../home", "", None):
        assert offered(completing.deployments, "", name=wrong) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), ["blue=", "green="]),
        (("blue=2",), ["green="]),
        (("blue=2", "green=3"), []),
        # As bash gives them: the sign is a word of its own.
        (("blue", "=", "2"), ["green="]),
        (("blue",), []),
        (("blue", "="), []),
    ],
)
def test_a_deployment_with_its_sign_unless_a_number_is_being_typed(home, given, expected):
    assert offered(completing.deployments_with_sign, "", name="shop", given=given) == expected


# --- quick and silent


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_looking_makes_no_file_and_changes_none(store):
    before = contents(store.parent)
    assert not store.with_name("rollouts.db-wal").exists()
    assert len(offered(completing.rollouts, "", "status")) == 5
    assert contents(store.parent) == before


def test_a_store_that_is_open_elsewhere_is_read_with_what_was_just_written(store):
    writer = sqlite3.connect(store, isolation_level=None)
    writer.execute("UPDATE rollouts SET phase = 'failed' WHERE name = 'cart'")
    assert store.with_name("rollouts.db-wal").exists()
    assert offered(completing.rollouts, "cart-", "abort") == []
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE rollouts SET phase = 'paused' WHERE name = 'cart'")
    assert offered(completing.rollouts, "cart-", "status") == ["cart-20241120-bbbbb"]
    writer.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ROLLOUT_HOME", "/nowhere/at/all"),
        ("ROLLOUT_HOME", "/etc/passwd"),
        ("ROLLOUT_STORE", "postgresql://somewhere/db"),
        ("ROLLOUT_STORE", "sqlite:////nowhere/rollouts.db"),
        ("ROLLOUT_STORE", "sqlite:////etc/passwd"),
        ("ROLLOUT_STORE", "nonsense"),
    ],
)
def test_what_cannot_be_read_offers_nothing_and_prints_nothing(home, monkeypatch, capfd, name, value):
    monkeypatch.setenv(name, value)
    for command, completer in (("status", completing.rollouts), ("list", completing.names)):
        assert offered(completer, "", command) == []
    if name == "ROLLOUT_HOME":
        assert offered(completing.endpoints, "") == []
        assert offered(completing.deployments, "", name="shop") == []
    assert capfd.readouterr() == ("", "")
    assert not Path("/nowhere").exists()


def test_a_damaged_state_offers_nothing(home, capfd):
    (home / "local" / "shop" / "state.json").write_text("{")
    assert offered(completing.deployments, "", name="shop") == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("mode", ["NORMAL", "EXCLUSIVE"])
def test_a_locked_store_is_not_waited_for(store, capfd, mode):
    """As while somebody writes, and while somebody has the file for himself."""
    writer = sqlite3.connect(store, isolation_level=None)
    writer.execute(f"PRAGMA locking_mode = {mode}")
    writer.execute("BEGIN EXCLUSIVE")
    writer.execute("UPDATE rollouts SET phase = 'failed'")
    began = time.monotonic()
    assert offered(completing.rollouts, "cart", "abort") == ["cart", "cart-20241120-bbbbb"]
    assert time.monotonic() - began < 2.0
    writer.execute("ROLLBACK")
    writer.close()
    assert capfd.readouterr() == ("", "")


def test_completing_imports_nothing_heavy(home):
    code = "import sys, orchestrator.cli.completing; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    heavy = {"pydantic", "sqlalchemy", "rich", "httpx", "sqlite3", "orchestrator.settings"}
    assert not heavy & set(done.stdout.split())


# --- the scripts


@pytest.mark.parametrize("shell", INSTALL)
def test_the_script_says_how_to_install_it_and_is_changed_where_it_should_be(shell, capsys):
    text = script(shell)
    assert told(capsys, "completion", shell) == text
    assert json.loads(told(capsys, "completion", shell, "--output", "json")) == {"shell": shell, "script": text}
    assert f"rollout completion {shell} > ~/" in text
    assert text.startswith("#compdef rollout\n#" if shell == "zsh" else "# Completion of rollout")
    for _, wanted in CHANGES[shell]:
        assert wanted in text, f"click's script for {shell} has changed: look at CHANGES"


def test_a_shell_has_to_be_named(capsys):
    assert said(capsys, "completion", code=2) == "say for which shell: bash, zsh or fish"
    assert main(["completion", "tcsh"]) == 2
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err


def needs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")


def in_bash(*words: str) -> list[str]:
    """What bash would insert for the last word: each offer, and `nospace` when no space would follow."""
    needs("bash")
    code = (
        'eval "$(rollout completion bash)"; compopt() { [[ $2 == nospace ]] && echo nospace; }\n'
        f"COMP_WORDS=({' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}; COMPREPLY=()\n"
        "_rollout_completion rollout; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["comp"], ["completion"]),
        (["endpoint", "sc"], ["scale"]),
        (["endpoint", "show", "s"], ["shop"]),
        (["endpoint", "scale", "shop", "g"], ["nospace", "green="]),
        (["endpoint", "scale", "shop", "blue", "=", "2", ""], ["nospace", "green="]),
        (["endpoint", "scale", "shop", "blue", "="], [""]),
        (["endpoint", "traffic", "shop", "blue=90", "--mirror", "gr"], ["nospace", "green="]),
        (["endpoint", "create", "plan-"], ["plan-slow.yaml"]),
        (["load", "shop", "--deployment", "b"], ["blue"]),
        (["list", "--phase", "roll"], ["rolling_back", "rolled_back"]),
        (["list", "--name", "ca"], ["cart"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
    ],
    ids=" ".join,
)
def test_bash_completes(store, words, expected):
    assert in_bash("rollout", *words) == expected


def test_fish_completes(store, tmp_path):
    needs("fish")
    (tmp_path / "rollout.fish").write_text(script("fish"))
    code = f"source {tmp_path}/rollout.fish; complete -C 'rollout endpoint scale shop '; complete -C 'rollout endp'"
    done = subprocess.run(["fish", "--no-config", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [
        "blue=",
        "green=",
        "endpoint\tMake, show, call, change or delete an...",
    ]
    assert done.stderr == ""


def typed_into(shell: list[str], *keys: tuple[str, str]) -> str:
    """What stands on an interactive shell's terminal after these keys, each of which makes it show something new."""
    terminal, inside = os.openpty()
    environment = os.environ | {"TERM": "xterm", "PS1": "$ ", "COLUMNS": "200", "LINES": "50"}
    process = subprocess.Popen(
        shell, stdin=inside, stdout=inside, stderr=inside, env=environment, start_new_session=True
    )
    os.close(inside)
    shown = ""
    try:
        for key, expected in keys:
            seen = len(shown)
            os.write(terminal, key.encode())
            until = time.monotonic() + 30
            while expected not in (new := plain(shown[seen:])):
                assert time.monotonic() < until, f"after {key!r} no {expected!r} but {new!r}"
                if select.select([terminal], [], [], 0.2)[0]:
                    shown += os.read(terminal, 4096).decode(errors="replace")
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    return plain(shown)


def plain(text: str) -> str:
    """Without what moves the cursor or colours; zsh draws a space again and again."""
    return re.sub(r" +", " ", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x08", "", text))


INTERACTIVE = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(rollout completion bash)"; echo rea""dy\n'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -Uz compinit && compinit -D; eval "$(rollout completion zsh)"; echo rea""dy\n',
    ),
}


@pytest.mark.parametrize("shell", INTERACTIVE)
def test_an_interactive_shell_adds_no_space_where_one_goes_on_typing(store, shell):
    needs(shell)
    command, load = INTERACTIVE[shell]
    shown = typed_into(
        command,
        (load, "ready"),
        ("rollout endpoint sca\t", "scale "),
        ("sh\t", "shop "),
        ("gr\t", "green="),
        ("3 bl\t", "blue="),
    )
    assert shown.endswith("rollout endpoint scale shop green=3 blue=")
    assert "\a" not in shown
