"""The front door: help, suggestions, exit codes, one sentence for every error, and nobody to read the output."""

import subprocess
import sys

import click
import pytest

from orchestrator import errors
from orchestrator.cli import main as front
from orchestrator.cli.main import COMMANDS, Lazy, code_of, main
from plans.errors import PlanError
from providers import errors as provider_errors


@pytest.fixture
def command(monkeypatch):
    """Make `rollout status` do what the test says."""

    def put(work):
        @click.command("status")
        def status_command():
            return work()

        monkeypatch.setattr(
            Lazy, "get_command", lambda self, ctx, name: status_command if name == "status" else None, raising=True
        )

    return put


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "orchestrator.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_help_names_every_command_and_imports_none():
    code = (
        "import sys\nfrom orchestrator.cli.main import main\ncode = main(['--help'])\n"
        "print(sorted(m for m in sys.modules if m.startswith('orchestrator.')), code, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.split() == ["['orchestrator.cli',", "'orchestrator.cli.main']", "0"]
    for name, (_, line) in COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert line in done.stdout


def test_a_commands_own_help_needs_nothing_heavy():
    code = (
        "import sys\nfrom orchestrator.cli.main import main\nmain([sys.argv[1], '--help'])\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    for name in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-c", code, name], capture_output=True, text=True, timeout=60, check=True
        )
        heavy = {"pydantic", "sqlalchemy", "rich", "numpy", "httpx", "transitions"} & set(done.stderr.split())
        assert not heavy, f"rollout {name} --help imports {sorted(heavy)}"


def test_version():
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("rollout ")


def test_a_misspelled_command_is_answered_with_the_one_that_is_meant(capsys):
    assert main(["staus"]) == 2
    assert "did you mean status?" in capsys.readouterr().err
    assert main(["xyzzy"]) == 2
    assert "there are init, run, resume" in capsys.readouterr().err


def test_a_misspelled_option_is_answered_with_the_one_that_is_meant(capsys):
    assert main(["status", "--outptu", "json"]) == 2
    said = capsys.readouterr().err
    assert "--output" in said
    assert "rollout status --help" in said


def test_a_plan_that_is_not_there_is_a_usage_error(capsys):
    assert main(["run", "/nowhere/plan.yml"]) == 2
    assert "/nowhere/plan.yml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("u"), 2),
        (errors.Refused("r"), 2),
        (errors.UnknownRollout("x"), 2),
        (errors.StoreError("s"), 3),
        (errors.CommitUnknown("c"), 3),
        (errors.LeaseLost("l"), 3),
        (errors.Invariant("i"), 5),
        (provider_errors.Permanent("p"), 3),
        (provider_errors.NotFound("n"), 3),
        (provider_errors.Conflict("c"), 3),
        (provider_errors.Fenced("f"), 3),
        (click.UsageError("no"), 2),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (BrokenPipeError(), 141),
    ],
)
def test_every_branch_of_errors_has_its_exit_code(command, capfd, error, code):
    def fail():
        raise error

    command(fail)
    assert main(["status"]) == code
    shown = capfd.readouterr()
    assert "Traceback" not in shown.out + shown.err


def test_every_error_of_ours_has_an_exit_code():
    for module in (errors, provider_errors):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Exception):
                assert code_of(kind.__new__(kind)) is not None, kind
    assert code_of(PlanError.__new__(PlanError)) == 2
    assert code_of(ValueError("x")) is None


def test_errors_in_a_group_are_told_one_by_one(command, capsys):
    def fail():
        raise ExceptionGroup("two", [ExceptionGroup("in", [errors.StoreError("the disk is full")]), ValueError("x")])

    command(fail)
    assert main(["status"]) == 3
    assert capsys.readouterr().err == "rollout: the disk is full\n"


def test_a_fault_of_our_own_is_one_sentence_and_a_traceback_only_when_asked_for(command, capsys, monkeypatch):
    def fail():
        raise ZeroDivisionError("division by zero")

    command(fail)
    assert main(["status"]) == 3
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1
    monkeypatch.setenv("ROLLOUT_DEBUG", "1")
    assert main(["status"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_what_a_command_returns_is_the_exit_code(command):
    command(lambda: 4)
    assert main(["status"]) == 4
    command(lambda: None)
    assert main(["status"]) == 0


def test_a_reader_that_leaves_early_is_no_traceback(tmp_path):
    code = (
        "import click\nfrom orchestrator.cli import main as front\n"
        "@click.command('status')\ndef status():\n    for _ in range(100_000):\n        click.echo('x' * 80)\n"
        "front.Lazy.get_command = lambda self, ctx, name: status\nimport sys\nsys.exit(front.main(['status']))"
    )
    script = tmp_path / "talk.py"
    script.write_text(code)
    shell = f"{sys.executable} {script} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == front.READER_LEFT
    assert done.stderr == ""
