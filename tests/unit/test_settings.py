"""What the environment says, and what is refused."""

import getpass
from pathlib import Path

import pytest

from orchestrator import settings
from orchestrator.errors import UsageError
from orchestrator.settings import from_environment


def test_the_defaults():
    read = from_environment({})
    assert read.home.is_absolute()
    assert read.home.name == "rollout"
    assert read.store == f"sqlite:///{read.home / 'rollouts.db'}"
    assert read.runtime is None
    assert read.actor == getpass.getuser()


def test_what_is_given(tmp_path):
    given = {
        "ROLLOUT_HOME": str(tmp_path),
        "ROLLOUT_STORE": "postgresql://ada:hidden@db/rollouts",
        "ROLLOUT_ACTOR": "ada",
        "XDG_RUNTIME_DIR": str(tmp_path),
        "HOOK": "hidden",
    }
    read = from_environment(given)
    assert (read.home, read.store, read.actor, read.runtime) == (tmp_path, given["ROLLOUT_STORE"], "ada", tmp_path)
    assert read.environment["HOOK"] == "hidden"
    assert "hidden" not in repr(read), "neither the environment nor the store's password"


def test_a_relative_home_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert from_environment({"ROLLOUT_HOME": "here"}).home == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert from_environment({"ROLLOUT_HOME": "~/state"}).home == tmp_path / "state"


def test_a_home_that_is_none(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UsageError, match=f"ROLLOUT_HOME is {file}, which is not a directory"):
        from_environment({"ROLLOUT_HOME": str(file)})
    with pytest.raises(UsageError, match="ROLLOUT_HOME is ~nobody-of-that-name/x, which cannot be looked at"):
        from_environment({"ROLLOUT_HOME": "~nobody-of-that-name/x"})


def test_a_runtime_directory_that_is_gone_is_left_out(tmp_path):
    assert from_environment({"XDG_RUNTIME_DIR": str(tmp_path / "gone")}).runtime is None


def test_an_actor_is_one_short_line(monkeypatch):
    assert from_environment({"ROLLOUT_ACTOR": "ada\n\x1b[31mlovelace" + "x" * 100}).actor == (
        "ada??[31mlovelace" + "x" * 63
    )

    def unknown() -> str:
        raise KeyError("no such user")

    monkeypatch.setattr(settings.getpass, "getuser", unknown)
    assert from_environment({}).actor.startswith("uid-")


def test_the_environment_is_frozen_when_it_is_read(monkeypatch):
    monkeypatch.setenv("ROLLOUT_ACTOR", "ada")
    read = from_environment()
    monkeypatch.setenv("ROLLOUT_ACTOR", "bob")
    assert read.environment["ROLLOUT_ACTOR"] == read.actor == "ada"
    assert isinstance(read.home, Path)
