"""The keeper on real processes: it may die at any moment, and what it keeps never notices."""

import http.client
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from providers.local import launch
from providers.local.processes import KEEPER, Processes, ProcessSpec

T = TypeVar("T")
PYTHON = (sys.executable, "-I", "-S")
SLEEPER = (*PYTHON, "-c", "import time; time.sleep(1000)")
SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", 1 << 16
    def do_GET(self):
        body = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def until(ask: Callable[[], T], seconds: float = 15.0) -> T:
    """Waits for a condition, and returns its first true value."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.01)
    return answer


def lives(pid: int) -> bool:
    return launch.start_time(pid) is not None


def environment_of(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a path that is short enough for sockets, which pytest's own are not always."""
    path = Path(tempfile.mkdtemp(prefix="rk", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def processes(tmp_path: Path, short: Path) -> Iterator[Processes]:
    endpoint = Processes(tmp_path / "endpoint", short)
    try:
        yield endpoint
    finally:
        if endpoint.procs.is_dir():
            for path in endpoint.procs.glob("*.json"):
                if (one := json.loads(path.read_text() or "{}")).get("stop_s"):
                    path.write_text(json.dumps(one | {"stop_s": 0.5}))
            endpoint.retire()
            until(endpoint.at_rest)
            for lock in endpoint.procs.glob("*.lock"):
                assert launch.kill_strays(str(lock)) == 0


def spec(processes: Processes, *argv: str, **more: object) -> ProcessSpec:
    return ProcessSpec(argv=argv, log=processes.directory / "one.log", **more)  # type: ignore[arg-type]


def start(processes: Processes, name: str, *argv: str, **more: object) -> int:
    processes.want(name, spec(processes, *argv, **more))
    processes.ensure_keeper()
    processes.wake()
    return until(lambda: processes.pid(name))


def other_pid(processes: Processes, pid: int) -> int | None:
    """The pid of the process that took the place of this one."""
    now = processes.pid("one")
    return None if now == pid else now


def kill_keeper(processes: Processes) -> int:
    pid = until(processes.keeper_pid)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not lives(pid))
    return pid


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_killing_the_keeper_disturbs_no_request(processes: Processes) -> None:
    port = free_port()
    pid = start(processes, "green-0", *PYTHON, "-c", SERVER, env={"PORT": str(port)})
    other = start(processes, "green-1", *SLEEPER)
    until(lambda: answers(port))
    stop, served, failures = threading.Event(), [0], []

    def load() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        while not stop.is_set():
            try:
                connection.request("GET", "/")
                assert connection.getresponse().read() == str(pid).encode()
                served[0] += 1
            except (OSError, AssertionError, http.client.HTTPException) as error:
                failures.append(error)
        connection.close()

    client = threading.Thread(target=load)
    client.start()
    try:
        for _ in range(5):
            before = kill_keeper(processes)
            processes.ensure_keeper()
            assert processes.keeper_pid() not in {None, before}
            status = processes.status()
            assert (status["green-0"].pid, status["green-1"].pid) == (pid, other)
            assert status["green-0"].alive
            assert status["green-0"].exits == 0
    finally:
        stop.set()
        client.join()
    assert not failures
    assert served[0] > 100


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_sigterm_ends_the_keeper_alone(processes: Processes) -> None:
    pid = start(processes, "one", *SLEEPER)
    keeper = until(processes.keeper_pid)
    os.kill(keeper, signal.SIGTERM)
    until(lambda: not lives(keeper))
    assert lives(pid)
    assert not processes.socket.exists()
    without = processes.status()["one"]  # nobody to ask: the locks say it
    assert (without.pid, without.alive) == (pid, True)
    processes.ensure_keeper()
    assert processes.status()["one"].pid == pid
    up = processes.status()["one"].up_s
    assert up is not None
    assert up > 0


def test_killed_instance_is_started_again(processes: Processes) -> None:
    pid = start(processes, "one", *SLEEPER)
    os.kill(pid, signal.SIGKILL)
    again = until(lambda: other_pid(processes, pid))
    status = processes.status()["one"]
    assert (status.pid, status.exits, status.last_exit) == (again, 1, "signal SIGKILL")


def test_adopted_instance_is_started_again_and_still_counted(processes: Processes) -> None:
    pid = start(processes, "one", *SLEEPER)
    kill_keeper(processes)
    processes.ensure_keeper()
    os.kill(pid, signal.SIGKILL)
    until(lambda: other_pid(processes, pid))
    status = processes.status()["one"]
    assert status.exits == 1
    assert "adopted" in (status.last_exit or "")


def test_instance_that_died_while_no_keeper_lived(processes: Processes) -> None:
    pid = start(processes, "one", *SLEEPER)
    kill_keeper(processes)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not lives(pid))
    assert processes.status()["one"].alive is False
    processes.ensure_keeper()
    assert until(lambda: other_pid(processes, pid))


def test_of_two_keepers_one_stays(processes: Processes) -> None:
    processes.want("one", spec(processes, *SLEEPER))
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(processes.ensure_keeper) for _ in range(4)]:
            done.result()
    keeper, pid = processes.keeper_pid(), until(lambda: processes.pid("one"))
    second = subprocess.run(
        [*PYTHON, str(KEEPER), str(processes.directory), str(processes.socket)],
        capture_output=True,
        timeout=10,
        check=False,
    )
    assert second.returncode == launch.REFUSED
    assert processes.keeper_pid() == keeper
    assert processes.status()["one"].pid == pid


def test_a_second_launcher_is_refused(processes: Processes) -> None:
    pid = start(processes, "one", *SLEEPER)
    second = subprocess.run(
        [*PYTHON, str(KEEPER.with_name("launch.py")), str(processes.procs), "one"],
        capture_output=True,
        timeout=10,
        check=False,
    )
    assert second.returncode == launch.REFUSED
    assert b"already runs" in second.stderr
    assert processes.pid("one") == pid


FORKS = """
import os, sys, time
where = sys.argv[1]
for number in range(2):
    if os.fork() == 0:
        if number:
            os.setsid()
        open(f"{where}/stray-{os.getpid()}", "w").close()
        time.sleep(1000)
time.sleep(1000)
"""


@pytest.mark.parametrize("keeper", ["alive", "killed"])
def test_strays_of_a_killed_leader_are_killed(processes: Processes, tmp_path: Path, keeper: str) -> None:
    pid = start(processes, "one", *PYTHON, "-c", FORKS, str(tmp_path))

    def strays() -> list[int]:
        return [int(path.name.removeprefix("stray-")) for path in tmp_path.glob("stray-*")]

    until(lambda: len(strays()) == 2)
    old = strays()
    if keeper == "killed":
        kill_keeper(processes)
    os.kill(pid, signal.SIGKILL)
    processes.ensure_keeper()
    again = until(lambda: other_pid(processes, pid))
    until(lambda: not any(lives(stray) for stray in old))
    until(lambda: len(strays()) == 4)
    processes.unwant("one")
    processes.wake()
    until(lambda: not any(lives(stray) for stray in [again, *strays()]))
    until(lambda: "one" not in processes.status())
    assert not (processes.procs / "one.lock").exists()


def test_exits_are_counted_until_the_file_is_written_again(processes: Processes) -> None:
    dies = spec(processes, *PYTHON, "-c", "import sys; print('no model here'); sys.exit(3)")
    processes.want("one", dies)
    processes.ensure_keeper()
    status = until(lambda: (s := processes.status()["one"]).exits >= 3 and s)
    assert status.last_exit == "exit code 3"
    assert (processes.directory / "one.log").read_text().count("no model here") >= 3
    processes.want("one", dies)  # the same again: nothing changes
    assert processes.wake()
    assert processes.status()["one"].exits >= 3
    processes.want("one", dies, fresh=True)
    assert processes.wake()
    assert processes.status()["one"].exits <= 1
    processes.want("one", spec(processes, *SLEEPER))
    processes.wake()
    until(lambda: processes.status()["one"].alive and processes.pid("one"))
    assert processes.status()["one"].exits == 0


@pytest.mark.parametrize(
    ("argv", "more", "words"),
    [
        (("/no/such/program",), {}, "exit code 127 (it cannot be run)"),
        (SLEEPER, {"cwd": Path("/no/such/directory")}, "exit code 126 (its working directory"),
        ((*PYTHON, "-c", "import os; os.abort()"), {}, "signal SIGABRT"),
    ],
)
def test_what_cannot_start_says_why(
    processes: Processes, argv: tuple[str, ...], more: dict[str, object], words: str
) -> None:
    processes.want("one", spec(processes, *argv, **more))
    processes.ensure_keeper()
    status = until(lambda: (s := processes.status()["one"]).exits and s)
    assert (status.last_exit or "").startswith(words)


def test_a_changed_desired_file_replaces_the_process(processes: Processes) -> None:
    pid = start(processes, "one", *SLEEPER)
    processes.want("one", spec(processes, *SLEEPER, stop_s=3.0))  # more patience is no other process
    assert processes.wake()
    assert processes.pid("one") == pid
    processes.want("one", spec(processes, *SLEEPER, "other"))
    processes.wake()
    again = until(lambda: other_pid(processes, pid))
    assert not lives(pid)
    status = processes.status()["one"]
    assert (status.pid, status.exits) == (again, 0)  # the stop was asked for


def test_a_change_made_while_no_keeper_lived_is_seen_by_the_next(processes: Processes) -> None:
    pid = start(processes, "one", *SLEEPER)
    kill_keeper(processes)
    processes.want("one", spec(processes, *SLEEPER, "other"))
    processes.ensure_keeper()
    assert until(lambda: other_pid(processes, pid))
    assert not lives(pid)


def test_who_ignores_sigterm_is_killed_after_its_patience(processes: Processes) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(1000)"
    pid = start(processes, "one", *PYTHON, "-c", deaf, stop_s=0.3)
    until(lambda: "ready" in (processes.directory / "one.log").read_text())
    kill_keeper(processes)  # the patience is known from the lock, not from the file that is gone
    processes.unwant("one")
    begun = time.monotonic()
    processes.ensure_keeper()
    until(lambda: not lives(pid))
    assert 0.3 <= time.monotonic() - begun < 5


def test_an_unreadable_desired_file_changes_nothing(processes: Processes) -> None:
    pid = start(processes, "one", *SLEEPER)
    text = (processes.procs / "one.json").read_text()
    (processes.procs / "one.json").write_text(text[:40])
    kill_keeper(processes)
    processes.ensure_keeper()
    status = processes.status()["one"]
    assert status.pid == pid
    assert "cannot be read" in (status.last_exit or "")
    (processes.procs / "one.json").write_text(text)
    processes.wake()
    assert processes.status()["one"].last_exit is None
    assert processes.pid("one") == pid


def test_retired_keeper_stops_everything_and_exits(processes: Processes) -> None:
    pids = [start(processes, name, *SLEEPER) for name in ("one", "two")]
    keeper = until(processes.keeper_pid)
    kill_keeper(processes)
    processes.retire()  # starts a keeper for the last work
    until(processes.at_rest)
    assert not any(lives(pid) for pid in [keeper, *pids])
    assert not processes.socket.exists()
    processes.ensure_keeper()  # nothing to keep
    assert processes.keeper_pid() is None
    assert lives(start(processes, "one", *SLEEPER))  # wanted again: no longer retired


def test_removed_directory_ends_processes_and_keeper(processes: Processes) -> None:
    pid = start(processes, "one", *SLEEPER)
    keeper = until(processes.keeper_pid)
    shutil.rmtree(processes.directory)
    processes.wake()
    until(lambda: not lives(pid) and not lives(keeper))


def test_the_environment_that_reaches_an_instance(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "hush")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("LC_TIME", "C")
    pid = start(processes, "one", "sleep", "1000", env={"MODEL": "diabetes"}, mark="v7")
    seen = until(
        lambda: (now := environment_of(pid)) and launch.MARKER in now and now
    )  # once the launcher has become it
    assert {key: seen[key] for key in ("MODEL", "LC_TIME", "ROLLOUT_MARK")} == {
        "MODEL": "diabetes",
        "LC_TIME": "C",
        "ROLLOUT_MARK": "v7",
    }
    assert seen["PATH"] == os.environ["PATH"]
    keeper = environment_of(until(processes.keeper_pid))
    for environment in (seen, keeper):
        assert not {"AZURE_CLIENT_SECRET", "PYTHONPATH"} & environment.keys()
    assert os.getsid(pid) == os.getpgid(pid) == pid
    ignored = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn"))
    mask = int(ignored.split()[1], 16)
    assert not [number for number in signal.valid_signals() if mask >> (number - 1) & 1]  # Python ignores SIGPIPE


def test_files_are_private(processes: Processes) -> None:
    start(processes, "one", *SLEEPER)
    for path in [processes.procs, *processes.procs.iterdir(), processes.directory / "one.log", processes.socket]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE((processes.directory / "keeper.log").stat().st_mode) == 0o600


def test_removed_socket_comes_back(processes: Processes) -> None:
    pid = start(processes, "one", *SLEEPER)
    keeper = processes.keeper_pid()
    processes.socket.unlink()
    processes.ensure_keeper()
    assert (processes.keeper_pid(), processes.status()["one"].pid) == (keeper, pid)


def test_stopped_keeper_is_replaced(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.local.processes.DEAF_S", 0.5)
    monkeypatch.setattr("providers.local.processes.ANSWER_S", 0.3)
    pid = start(processes, "one", *SLEEPER)
    keeper = until(processes.keeper_pid)
    os.kill(keeper, signal.SIGSTOP)
    processes.ensure_keeper()
    assert processes.keeper_pid() not in {None, keeper}
    assert processes.status()["one"].pid == pid


def test_without_pidfds(processes: Processes) -> None:
    processes.want("one", spec(processes, *SLEEPER, stop_s=1.0))
    keeper = subprocess.Popen([*PYTHON, str(KEEPER), str(processes.directory), str(processes.socket), "--poll"])
    try:
        pid = until(lambda: processes.pid("one"))
        os.kill(pid, signal.SIGKILL)
        again = until(lambda: other_pid(processes, pid))
        until(lambda: processes.status()["one"].pid == again)
        assert processes.status()["one"].last_exit == "signal SIGKILL"
        keeper.kill()
        keeper.wait()
        keeper = subprocess.Popen([*PYTHON, str(KEEPER), str(processes.directory), str(processes.socket), "--poll"])
        until(processes.wake)
        assert processes.status()["one"].pid == again
        processes.unwant("one")
        processes.wake()
        until(lambda: not lives(again))
    finally:
        keeper.kill()
        keeper.wait()
