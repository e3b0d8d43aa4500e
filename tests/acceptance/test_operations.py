"""What the page for 3 a.m. says that the program prints, it prints: each trouble is made, and the page's command typed.

The `text` blocks of docs/operations.md are compared with what is printed; `...` in them stands for anything.
"""

import asyncio
import fnmatch
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from providers.actions import SetTraffic
from providers.base import Context, Done, Fence, Operation
from providers.local.provider import LocalProvider, Options
from tests.unit.pages import check_printed, table, text

pytestmark = pytest.mark.needs("linux", "envoy")

STEPS = """
  - deploy: green
    deadline: 30s
  - canary: 20%
    gates: [errors]
    hold: 10m
"""
IDLE = STEPS.replace("hold: 10m", "deadline: 3s")


def shown(section: str, number: int = 0) -> str:
    """A `text` block of a section of the page."""
    body = text("operations.md").split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^```text\n(.*?)^```", body, re.MULTILINE | re.DOTALL)[number]


def test_a_pause_a_dead_driver_a_stranger_and_an_abort(site: Any) -> None:
    driver = site.start("run", site.plan(steps=STEPS))
    with site.clients(rate=100):
        site.reaches("measured")
        site.rollout("pause", "--reason", "the on-call is at lunch")
        check_printed(shown("It is paused"), site.rollout("status"), "rollout status")
        site.rollout("resume")

        driver.kill()
        check_printed(shown("Nobody drives it"), site.rollout("status"), "rollout status")
        driver = site.start("resume")
        seen = site.journal()[-1]["seq"]
        site.reaches("measured", after=seen)

        asyncio.run(_set_traffic(site, {"blue": 600, "green": 400}))
        site.reaches("paused", after=seen)
        printed = site.rollout("status", COLUMNS="200")
        check_printed(shown("Somebody else changed the endpoint"), printed, "rollout status")
        site.rollout("resume", code=2)
        site.rollout("resume", "--take-back")

        copy = _backup(site).rename(site.files / "backup.db")
        site.rollout("abort", "--reason", "woken up, back to blue")
        driver.ends(1)
    assert site.show()["traffic"] == {"blue": 100}
    assert site.rollout("endpoint", "logs", site.endpoint, "--deployment", "green")
    _every_file_is_explained(site)

    for beside in site.home.glob("rollouts.db*"):
        beside.unlink()
    copy.rename(site.home / "rollouts.db")
    assert "somebody else changed the endpoint" in site.rollout("resume", "--exit-on-pause", code=4)
    site.rollout("resume", "--keep-theirs", code=5)
    assert site.show()["traffic"] == {"blue": 100}


def test_a_rebooted_machine_and_a_rollout_that_failed(site: Any) -> None:
    driver = site.start("run", site.plan(steps=STEPS))
    with site.clients(rate=50):
        site.reaches("measured")
    driver.kill()
    _reboot(site)
    printed = site.rollout("endpoint", "show", site.endpoint)
    check_printed(shown("The machine was rebooted"), printed, "rollout endpoint show")
    printed = site.rollout("abort", code=5)
    check_printed(shown("It failed"), printed, "rollout abort")
    site.rollout("endpoint", "start", site.endpoint)
    assert {each["healthy"] for each in site.show()["deployments"].values()} == {1}
    site.rollout("endpoint", "traffic", site.endpoint, "blue=100", "--yes")
    assert site.show()["traffic"] == {"blue": 100}


def test_no_data_an_owned_endpoint_and_a_gate_set_aside(site: Any) -> None:
    plan = _pausing(site, IDLE)
    printed = site.rollout("run", plan, "--exit-on-pause", code=4)
    check_printed(shown("No data"), printed, "rollout run")
    first, second = shown("Another rollout is in the way").splitlines()
    check_printed(first, site.rollout("run", plan, code=2), "rollout run")
    printed = site.rollout("endpoint", "delete", site.endpoint, "--yes", code=2)
    check_printed(second, printed, "rollout endpoint delete")
    site.rollout("approve", "--despite-gate", "errors", "--reason", "checked the graphs")
    assert site.status()["phase"] == "succeeded"
    told = site.rollout("history")
    assert "gate errors set aside by alice: checked the graphs" in told


def test_an_undecided_step_gets_more_time(site: Any) -> None:
    driver = site.start("run", _pausing(site, IDLE))
    with site.clients(rate=60):
        site.reaches("paused")
        check_printed("undecided within 3s", site.rollout("explain"), "rollout explain")
        site.rollout("resume", "--extend", "2h")
        driver.ends(0)


def _pausing(site: Any, steps: str) -> str:
    """A plan that pauses where nothing is proved, as plans do by default."""
    plan = site.plan(steps=steps)
    path = site.files / plan
    path.write_text(re.sub(r"^on_(?:undecided|no_data): rollback\n", "", path.read_text(), flags=re.MULTILINE))
    return str(plan)


def _backup(site: Any) -> Path:
    """As the page says."""
    (script,) = re.findall(r"^```python\n(# backup.py.*?)^```", text("operations.md"), re.MULTILINE | re.DOTALL)
    subprocess.run([sys.executable, "-c", script], cwd=site.home, check=True, timeout=60)
    return Path(site.home / "backup.db")


def _every_file_is_explained(site: Any) -> None:
    known = [
        path.replace("NAME", site.endpoint).replace("ROLLOUT", "*")
        for row in table("operations.md", "## What lies where")
        for path in re.findall(r"`([^`]+)`", row["path"])
    ]
    known += [f"rollouts.db{path}" for path in ("-wal", "-shm")]
    top = [*site.home.iterdir(), *(site.home / "local").iterdir(), *site.directory.iterdir()]
    for path in top:
        name = str(path.relative_to(site.home)) + ("/" if path.is_dir() else "")
        explained = name == "local/" or any(fnmatch.fnmatch(name, each) or each.startswith(name) for each in known)
        assert explained, f"docs/operations.md does not say what {name} is"


def _reboot(site: Any) -> None:
    """All processes gone, and another boot id than the one that the endpoint was started in."""
    state = site.directory / "state.json"
    for process in ("keeper", "envoy", "blue.0", "green.0"):
        os.kill(site.pid(process), signal.SIGKILL)
    state.write_text(re.sub(r'"boot": ?"[^"]+"', '"boot":"another"', state.read_text()))


async def _set_traffic(site: Any, traffic: dict[str, int]) -> None:
    """As another tool on this machine would, under the epoch that stands there."""
    claim = site.state()["claim"]
    context = Context(site.home, lambda: datetime.now(UTC), lambda: os.urandom(8).hex(), str, site.runtime)
    provider = LocalProvider(Options(), context)
    try:
        fence = Fence(claim["store"], claim["rollout"], claim["epoch"])
        operation: Any = await provider.begin(SetTraffic(site.endpoint, traffic, {}), key="foreign.1", fence=fence)
        async with asyncio.timeout(30):
            while isinstance(operation, Operation):
                operation = await provider.poll(operation)
        assert isinstance(operation, Done), operation
    finally:
        await provider.aclose()
