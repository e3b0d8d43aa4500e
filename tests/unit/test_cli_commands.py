"""Every command, as a user types it: real store, real engine, the simulated provider, no process and no network."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from orchestrator import app as use_cases
from orchestrator.app import Asked
from orchestrator.cli.endpoint import masked
from orchestrator.cli.main import main
from providers.memory import DURATIONS, World
from providers.memory import provider as memory

PLAN = """
version: 1
name: shop
provider: memory
endpoint: {file: endpoint.yml}
deployments:
  blue: {file: blue.yml}
  green: {file: green.yml}
steps:
"""
STEPS = """
  - deploy: green
  - promote: 100%
  - delete: blue
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A plan, a home of its own, and a cloud in which everything takes no time."""
    monkeypatch.setenv("ROLLOUT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ROLLOUT_ACTOR", "ada")
    monkeypatch.delenv("ROLLOUT_STORE", raising=False)
    monkeypatch.setitem(memory._WORLDS, "default", World("default", durations=dict.fromkeys(DURATIONS, 0.0)))
    (tmp_path / "endpoint.yml").write_text("name: shop\n")
    for name in ("blue", "green"):
        (tmp_path / f"{name}.yml").write_text(f"name: {name}\ntags: {{side: {name}}}\nmodel: azureml:{name}:1\n")
    plan = tmp_path / "plan.yml"
    plan.write_text(PLAN + STEPS)
    return SimpleNamespace(plan=str(plan), write=lambda steps: plan.write_text(PLAN + steps), home=tmp_path / "home")


def output(capsys, *arguments: str, code: int = 0) -> str:
    assert main(list(arguments)) == code, capsys.readouterr().err
    return capsys.readouterr().out


def as_json(capsys, *arguments: str, code: int = 0):
    return json.loads(output(capsys, *arguments, "--output", "json", code=code))


def test_a_rollout_from_the_first_command_to_the_last(shop, capsys):
    assert "is valid: shop" in output(capsys, "validate", shop.plan)
    checked = as_json(capsys, "validate", shop.plan)
    assert [stage["name"] for stage in checked["stages"]][1:] == ["deploy green", "promote 100%", "delete blue"]
    assert "does not exist yet" in output(capsys, "plan", shop.plan)
    planned = as_json(capsys, "plan", shop.plan)
    assert (planned["candidate"], planned["stable"], planned["exists"]) == ("green", "blue", False)

    told = output(capsys, "run", shop.plan)
    assert "step 1: bootstrap blue" in told
    assert "succeeded in" in told
    assert "endpoint shop now: green 100%" in told

    status = as_json(capsys, "status")
    assert status["phase"] == "succeeded"
    assert status["traffic"] == {"green": 100}
    assert status["bundle_sha256"] == planned["bundle_sha256"]
    assert [step["state"] for step in status["steps"]] == ["passed"] * 4
    assert "succeeded" in output(capsys, "status", "shop")
    assert status["id"] in output(capsys, "list")
    assert as_json(capsys, "list")[0]["id"] == status["id"]
    assert as_json(capsys, "list", "--active") == []
    assert output(capsys, "list", "--active") == "no rollout is active\n"
    explained = as_json(capsys, "explain", status["id"][:12])
    assert "succeeded after" in explained["explanation"]

    story = output(capsys, "history")
    assert "step 2: deploy green" in story
    everything = output(capsys, "history", "--all")
    assert len(everything.splitlines()) > len(story.splitlines())
    events = as_json(capsys, "history")
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    lines = output(capsys, "history", "--output", "ndjson").splitlines()
    assert [json.loads(line) for line in lines] == events

    assert "shop" in output(capsys, "watch", "shop")
    assert main(["watch", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["phase"] == "succeeded"


def test_run_in_json_keeps_stdout_for_the_result(shop, capsys):
    assert main(["run", shop.plan, "--output", "json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["phase"] == "succeeded"
    assert "step 2: deploy green" in shown.err


def test_a_plan_that_is_wrong_is_told_with_its_place(shop, capsys):
    shop.write("\n  - deplyo: green\n")
    assert main(["validate", shop.plan]) == 2
    said = capsys.readouterr().err
    assert "plan.yml:" in said
    assert "Traceback" not in said


def test_a_human_is_needed_and_comes(shop, capsys):
    shop.write("\n  - deploy: green\n  - approve: ship it?\n  - promote: 100%\n")
    assert main(["run", shop.plan, "--exit-on-pause"]) == 4
    told = capsys.readouterr().out
    assert "left where a human is needed" in told
    ref = as_json(capsys, "status")["id"]
    assert f"rollout approve {ref}" in told
    explained = output(capsys, "explain")
    assert "Driver let go: waits for approval: ship it?" in explained
    assert main(["endpoint", "delete", "shop", "--yes", "--provider", "memory"]) == 2
    assert f"rollout {ref} owns endpoint shop" in capsys.readouterr().err
    told = output(capsys, "abort", "--reason", "enough of it")
    assert "aborted by ada: enough of it" in told
    assert "step 1" not in told, "the story begins where this process began"
    assert as_json(capsys, "status")["phase"] == "rolled_back"
    assert main(["abort"]) == 2
    assert "has ended: rolled back" in capsys.readouterr().err
    assert main(["watch"]) == 1


def test_approve_says_what_came_of_it(shop, capsys, monkeypatch):
    main(["run", shop.plan])
    asked = {}

    async def ask(app, kind, ref, *, reason, flags, watcher, stop, despite=None):
        asked.update(kind=kind, reason=reason, despite=despite)
        return Asked(await use_cases.find(app, ref), asked.get("accepted", True), "accepted", False)

    monkeypatch.setattr(use_cases, "ask", ask)
    capsys.readouterr()
    assert output(capsys, "approve", "--reason", "looked").endswith(": accepted\n")
    assert (asked["kind"], asked["reason"]) == ("approve", "looked")
    assert as_json(capsys, "approve")["accepted"] is True
    as_json(capsys, "approve", "--despite-gate", "errors", "--reason", "we know")
    assert (asked["despite"], asked["reason"]) == ("errors", "we know")
    asked["accepted"] = False
    assert as_json(capsys, "approve", code=2)["accepted"] is False


def test_flags_reach_the_use_cases(shop, capsys, monkeypatch):
    seen = []

    async def run(app, plan, flags, *, watcher, stop):
        seen.append(flags)
        raise use_cases.Refused("not today")

    async def resume(app, ref, flags, *, watcher, stop):
        seen.append(flags)
        raise use_cases.Refused("not today")

    monkeypatch.setattr(use_cases, "run", run)
    monkeypatch.setattr(use_cases, "resume", resume)
    flags = ["--steal", "--replace", "--bootstrap", "--exit-on-pause", "--leave-exposed"]
    assert main(["run", shop.plan, *flags]) == 2
    assert main(["resume", "--adopt", "--steal", "--take-back", "--exit-on-pause", "--leave-exposed"]) == 2
    assert main(["resume", "--keep-theirs"]) == 2
    assert capsys.readouterr().err == "rollout: not today\n" * 3
    assert seen[0] == use_cases.Flags(steal=True, replace=True, bootstrap=True, exit_on_pause=True, leave_exposed=True)
    expected = use_cases.Flags(adopt=True, steal=True, take_back=True, exit_on_pause=True, leave_exposed=True)
    assert seen[1] == expected
    assert seen[2] == use_cases.Flags(keep_theirs=True)
    assert main(["resume", "--keep-theirs", "--take-back"]) == 2
    assert "contradict" in capsys.readouterr().err


def test_an_unknown_rollout_lists_what_there_is(shop, capsys):
    assert main(["status"]) == 2
    assert "there is no rollout yet" in capsys.readouterr().err
    main(["run", shop.plan])
    capsys.readouterr()
    assert main(["status", "nonsense"]) == 2
    assert "the newest are: shop-" in capsys.readouterr().err


def test_the_endpoint_after_a_rollout(shop, capsys):
    main(["run", shop.plan])
    capsys.readouterr()
    at = ("--provider", "memory")
    shown = output(capsys, "endpoint", "show", "shop", *at)
    assert "traffic  green 100%" in shown
    assert "1/1 healthy" in shown
    body = as_json(capsys, "endpoint", "show", "shop", *at)
    assert body["traffic"] == {"green": 100}
    assert body["rollout"] is None

    answer = as_json(capsys, "endpoint", "invoke", "shop", *at)
    assert answer["status"] == 200
    assert main(["endpoint", "invoke", "shop", "--deployment", "green", *at]) == 0
    capsys.readouterr()
    assert as_json(capsys, "endpoint", "logs", "shop", *at).keys() == {"green"}
    output(capsys, "endpoint", "logs", "shop", "--deployment", "green", "--tail", "3", *at)

    hidden = as_json(capsys, "endpoint", "keys", "shop", *at)
    keys = as_json(capsys, "endpoint", "keys", "shop", "--show", *at)
    assert hidden == {which: masked(key) for which, key in keys.items()}
    assert keys["primary"] not in output(capsys, "endpoint", "keys", "shop", *at)
    renewed = as_json(capsys, "endpoint", "keys", "shop", "--show", "--regenerate", "secondary", *at)
    assert renewed["primary"] == keys["primary"]
    assert renewed["secondary"] != keys["secondary"]

    assert main(["endpoint", "start", "shop", *at]) == 3
    assert "cannot be started" in capsys.readouterr().err
    assert output(capsys, "endpoint", "delete", "shop", "--yes", *at) == "shop is deleted\n"
    assert "nothing to delete" in output(capsys, "endpoint", "delete", "shop", "--yes", *at)
    assert main(["endpoint", "show", "shop", *at]) == 2
    assert "there is no endpoint shop" in capsys.readouterr().err


def test_deleting_asks_first(shop, capsys, monkeypatch):
    main(["run", shop.plan])
    capsys.readouterr()
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    assert main(["endpoint", "delete", "shop", "--provider", "memory"]) == 130
    assert "green 100%" in output(capsys, "endpoint", "show", "shop", "--provider", "memory")


def test_an_unknown_provider_is_told(shop, capsys):
    assert main(["endpoint", "show", "shop", "--provider", "memmory"]) == 3
    assert "memory" in capsys.readouterr().err


def test_short_keys_are_never_shown_in_part():
    assert masked("abc") == "*" * 16
    assert masked("0123456789abcdef") == "************cdef"


def test_times_are_shown_as_the_clock_on_the_wall(monkeypatch):
    import time

    from orchestrator.cli.session import local

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert local(datetime(2026, 11, 22, 20, 0, tzinfo=UTC)) == "2026-11-23 05:00:00"
    finally:
        monkeypatch.undo()
        time.tzset()
