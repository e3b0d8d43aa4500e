"""The doctor's checks, on good machines and bad ones."""

import json
import os
from datetime import UTC, datetime
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from orchestrator.cli import checks
from orchestrator.cli.main import main
from orchestrator.settings import from_environment
from providers.errors import Unsupported


class Other(Distribution):
    """A distribution with a top-level module of our name."""

    def read_text(self, filename):
        return {"METADATA": "Name: orchestrator-core\nVersion: 1\n", "top_level.txt": "orchestrator\n"}.get(filename)

    def locate_file(self, path):
        return Path(path)


def settings(tmp_path: Path, **more: str):
    return from_environment({"ROLLOUT_HOME": str(tmp_path / "home"), **more})


def test_python_and_clock():
    assert checks.python((3, 11, 0)).state == "ok"
    assert checks.python((3, 10, 9)).state == "fail"
    assert checks.clock(datetime(1970, 1, 1, tzinfo=UTC)).state == "fail"
    assert checks.clock(datetime(2026, 11, 22, tzinfo=UTC)).state == "ok"


def test_pidfd(monkeypatch):
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    found = checks.pidfd("darwin")
    assert found.state == "warn"
    assert "polling" in (found.advice or "")


def test_another_distribution_with_one_of_our_names(monkeypatch):
    monkeypatch.setattr(checks, "distributions", lambda: [Other()])
    found = {check.name: check for check in checks.names()}
    assert found["installation"].state == "warn"
    assert found["import names"].state == "fail"
    assert "`orchestrator` also belongs to orchestrator-core" in found["import names"].found


def test_our_own_installation_is_well():
    assert [check.state for check in checks.names()] == ["ok"]


@pytest.mark.needs("envoy")
async def test_envoy_runs():
    found = await checks.envoy_binary()
    assert found.state == "ok"
    assert found.found[0].isdigit()


async def test_an_envoy_that_is_missing_or_broken(monkeypatch, tmp_path):
    def missing() -> Path:
        raise Unsupported("no Envoy here")

    monkeypatch.setattr(checks.envoy, "executable", missing)
    assert (await checks.envoy_binary()).state == "fail"
    broken = tmp_path / "envoy"
    broken.write_text("#!/bin/sh\necho broken\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(checks.envoy, "executable", lambda: broken)
    found = await checks.envoy_binary()
    assert found.state == "fail"
    assert "ended with 3: broken" in found.found
    monkeypatch.setattr(checks.envoy, "executable", lambda: tmp_path / "nowhere")
    assert (await checks.envoy_binary()).state == "fail"


def test_home(tmp_path):
    assert checks.home(tmp_path / "absent").state == "ok"
    tmp_path.chmod(0o755)
    found = checks.home(tmp_path)
    assert found.state == "warn"
    assert found.advice == f"chmod 700 {tmp_path}"
    tmp_path.chmod(0o700)
    assert checks.home(tmp_path).state == "ok"
    file = tmp_path / "file"
    file.write_text("")
    assert checks.home(file).state == "fail"


async def test_the_store(tmp_path):
    assert "not there yet" in (await checks.store(settings(tmp_path))).found
    assert not (tmp_path / "home").exists(), "a check leaves nothing behind"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "rollouts.db").write_bytes(b"no database at all, but long enough to be looked at")
    assert (await checks.store(settings(tmp_path))).state == "fail"
    good = await checks.store(settings(tmp_path, ROLLOUT_STORE=f"sqlite:///{tmp_path / 'new.db'}"))
    assert good.found == "reachable, 0 active rollouts"


def test_a_runtime_directory_that_is_too_long_is_not_used(tmp_path):
    long = tmp_path / ("x" * 90)
    long.mkdir()
    found = checks.runtime(settings(tmp_path, XDG_RUNTIME_DIR=str(long)))
    assert found.state == "ok", "there is always the temporary directory"
    assert str(long) not in found.found


def test_keepers(tmp_path):
    for name in ("alive", "dead"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.json").write_text("{}")
    found = {check.name: check for check in checks.keepers(tmp_path, lambda path: 7 if path.name == "alive" else None)}
    assert found["keeper of alive"].found == "process 7"
    assert found["keeper of dead"].state == "warn"
    assert "rollout endpoint start dead" in (found["keeper of dead"].advice or "")
    assert next(checks.keepers(tmp_path)).state == "warn", "nothing holds its lock"


def test_the_exit_code_says_whether_something_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ROLLOUT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ROLLOUT_STORE", raising=False)

    async def found(_):
        return [checks.Check("a", "ok", "fine"), checks.Check("b", state, "bad", "mend it")]

    monkeypatch.setattr(checks, "check_all", found)
    state = "warn"
    assert main(["doctor"]) == 0
    assert "mend it" in capsys.readouterr().out
    state = "fail"
    assert main(["doctor", "--output", "json"]) == 3
    assert json.loads(capsys.readouterr().out)[1] == {"name": "b", "state": "fail", "found": "bad", "advice": "mend it"}
