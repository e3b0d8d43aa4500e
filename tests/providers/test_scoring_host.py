"""The scoring host as a process of its own: what scripts do to it, and what clients see of that."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from providers.local import launch

T = TypeVar("T")
HOST = Path(launch.__file__).with_name("scoring_host.py")


def until(ask: Callable[[], T], seconds: float = 15.0) -> T:
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.01)
    return answer


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    client: httpx.Client
    log: Path
    code: Path

    def health(self) -> int | None:
        try:
            return self.client.get("/healthz").status_code
        except httpx.TransportError:
            assert self.process.poll() is None, self.log.read_text()
            return None

    def ready(self) -> "Running":
        until(lambda: self.health() == 200)
        return self

    def score(self, body: bytes | str, **more: object) -> httpx.Response:
        return self.client.post("/score", content=body, **more)  # type: ignore[arg-type]


Start = Callable[..., Running]


@pytest.fixture(scope="module")
def start_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    running: list[Running] = []

    def start(script: str, **environment: str) -> Running:
        home = tmp_path_factory.mktemp("host")
        (home / "code").mkdir()
        (home / "code" / "score.py").write_text(textwrap.dedent(script))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, HOST],
                env={
                    "PATH": os.environ["PATH"],
                    "PORT": str(port),
                    "ROLLOUT_CODE": str(home / "code"),
                    "ROLLOUT_SCRIPT": "score.py",
                    "ROLLOUT_INSTANCE": "token-7",
                    "AZUREML_MODEL_DIR": str(home),
                    **environment,
                },
                stdout=log,
                stderr=log,
                cwd="/",
            )
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        running.append(Running(process, client, home / "log", home / "code"))
        return running[-1]

    yield start
    for one in running:
        one.client.close()
        one.process.kill()
        one.process.wait()


@pytest.fixture(scope="module")
def host(start_host: Start) -> Running:
    """One host for every test that does not change it."""
    return start_host(
        """
        import json, logging, os, sys
        from pathlib import Path

        import numpy as np

        def init():
            global where
            where = {
                "cwd": os.getcwd(), "path": sys.path[0], "model": os.environ["AZUREML_MODEL_DIR"],
                "ours": [p for p in sys.path if (Path(p) / "keeper.py").exists()],
            }
            print("init is done")
            logging.info("logged by the script")

        def run(raw_data):
            assert type(raw_data) is str
            what = json.loads(raw_data)["what"]
            if what == "raise":
                raise ValueError("the secret of the model")
            if what == "exit":
                sys.exit(9)
            if what == "print":
                print("a line of run()", end="")
            return {
                "where": where, "text": "plain text", "json": '{"a": 1}', "bytes": b"\\x00\\xff", "list": [1, 2.5],
                "number": 7, "none": None, "array": np.arange(3), "scalar": np.float32(0.5),
                "nested": {"a": np.int64(4), "b": [np.array([[1.5]])]}, "object": object(), "set": {1},
                "unicode": "Grüße 👋",
            }.get(what)
        """,
        ROLLOUT_MAX_BODY="1000",
    ).ready()


def test_identity_and_liveness(host: Running) -> None:
    health = host.client.get("/healthz")
    assert (health.status_code, health.headers["x-rollout-instance"], health.text) == (200, "token-7", "token-7")
    alive = host.client.get("/")
    assert (alive.status_code, alive.text) == (200, "Healthy")
    assert host.client.head("/healthz").status_code == 200


def test_the_script_finds_what_it_expects(host: Running) -> None:
    where = host.score('{"what": "where"}').json()
    code = str(host.code)
    assert where == {"cwd": code, "path": code, "model": str(host.code.parent), "ours": []}


@pytest.mark.parametrize(
    ("what", "kind", "body"),
    [
        ("text", "text/plain; charset=utf-8", b"plain text"),
        ("unicode", "text/plain; charset=utf-8", "Grüße 👋".encode()),
        ("json", "application/json", b'{"a": 1}'),
        ("bytes", "application/octet-stream", b"\x00\xff"),
        ("list", "application/json", b"[1, 2.5]"),
        ("number", "application/json", b"7"),
        ("none", "application/json", b"null"),
        ("array", "application/json", b"[0, 1, 2]"),
        ("scalar", "application/json", b"0.5"),
        ("nested", "application/json", b'{"a": 4, "b": [[[1.5]]]}'),
    ],
)
def test_results(host: Running, what: str, kind: str, body: bytes) -> None:
    answer = host.score(json.dumps({"what": what}))
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, kind, body)


def test_a_raising_run_is_500_and_its_traceback_is_in_the_log_only(host: Running) -> None:
    answer = host.score('{"what": "raise"}')
    assert answer.status_code == 500
    assert answer.json() == {"error": "run() raised ValueError; the deployment's log has the traceback"}
    assert "the secret of the model" in host.log.read_text()
    assert host.score('{"what": "exit"}').status_code == 500
    for what in ("object", "set"):
        unsendable = host.score(json.dumps({"what": what}))
        assert unsendable.status_code == 500
        assert f"{what} cannot be written as JSON" in unsendable.json()["error"]
    assert host.score('{"what": "number"}').status_code == 200


def test_methods_paths_and_text(host: Running) -> None:
    for method, path, status in [
        ("GET", "/score", 405),
        ("PUT", "/score", 405),
        ("POST", "/healthz", 405),
        ("GET", "/other", 404),
        ("POST", "/", 405),
    ]:
        answer = host.client.request(method, path)
        assert (answer.status_code, "error" in answer.json()) == (status, True)
    assert host.client.get("/score").headers["allow"] == "POST"
    assert host.score(b"\xff\xfe").status_code == 400


def test_what_is_printed_reaches_the_log_at_once(host: Running) -> None:
    assert host.score('{"what": "print"}').status_code == 200
    log = host.log.read_text()
    assert "a line of run()" in log
    assert "init is done" in log
    assert "logged by the script" in log


def test_too_large_a_body_is_413(host: Running) -> None:
    def pieces(n: int) -> Iterator[bytes]:
        for _ in range(n):
            yield b" " * 100

    assert host.score(b'{"what": "number"}'.ljust(1000)).status_code == 200
    assert host.score(b" " * 1001).status_code == 413
    assert host.score(pieces(11)).status_code == 413  # type: ignore[arg-type]
    assert "connection" not in host.score(b" " * 1001).headers  # read to its end: the connection goes on
    far_too_large = host.score(b" " * 5000)
    assert far_too_large.status_code == 413
    assert far_too_large.headers["connection"] == "close"
    assert host.score('{"what": "number"}').status_code == 200


def test_connections_are_kept(host: Running) -> None:
    with httpx.Client(base_url=host.client.base_url, limits=httpx.Limits(max_connections=1)) as client:
        ports = set()
        for _ in range(3):
            with client.stream("POST", "/score", content='{"what": "number"}') as answer:
                ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
                answer.read()
        assert len(ports) == 1


GATED = """
    import os, time
    from pathlib import Path
    here = Path(os.environ["AZUREML_MODEL_DIR"])
    def init():
        while (here / "hold-init").exists():
            time.sleep(0.01)
    def run(raw_data):
        if raw_data == "hold":
            (here / "held").touch()
            while (here / "hold-run").exists():
                time.sleep(0.01)
        with (here / "calls").open("a") as file:
            file.write(raw_data + chr(10))
        return raw_data
"""


def test_a_slow_init_is_503_and_then_200(start_host: Start, tmp_path: Path) -> None:
    (tmp_path / "hold-init").touch()
    host = start_host(GATED, AZUREML_MODEL_DIR=str(tmp_path))
    until(lambda: host.health() == 503)
    assert host.client.get("/healthz").headers["x-rollout-instance"] == "token-7"
    assert host.score("x").status_code == 503
    assert host.client.get("/").status_code == 200
    (tmp_path / "hold-init").unlink()
    host.ready()
    assert host.score("x").text == "x"


def test_a_hung_run_leaves_health_alive_and_forgets_who_has_gone(start_host: Start, tmp_path: Path) -> None:
    (tmp_path / "hold-run").touch()
    host = start_host(GATED, AZUREML_MODEL_DIR=str(tmp_path)).ready()
    for body in ("hold", "gone"):  # the second waits in line behind the first
        with pytest.raises(httpx.ReadTimeout):
            host.score(body, timeout=0.5)
    assert host.health() == 200
    (tmp_path / "hold-run").unlink()
    assert host.score("after").text == "after"
    assert (tmp_path / "calls").read_text().split() == ["hold", "after"]
    assert "Traceback" not in host.log.read_text()


def test_sigterm_finishes_the_request_in_flight(start_host: Start, tmp_path: Path) -> None:
    (tmp_path / "hold-run").touch()
    host = start_host(GATED, AZUREML_MODEL_DIR=str(tmp_path)).ready()
    answers: list[httpx.Response] = []
    client = threading.Thread(target=lambda: answers.append(host.score("hold")))
    client.start()
    try:
        until((tmp_path / "held").exists)
        host.process.terminate()
        until(lambda: not accepts(host))
        assert host.process.poll() is None
    finally:
        (tmp_path / "hold-run").unlink()
        client.join()
    assert [(answer.status_code, answer.text) for answer in answers] == [(200, "hold")]
    assert host.process.wait(10) == -signal.SIGTERM
    assert "Traceback" not in host.log.read_text()


def accepts(host: Running) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", host.client.base_url.port)) == 0


LEAVES_A_THREAD = """
import sys, threading
def init():
    threading.Thread(target=threading.Event().wait).start()
    sys.exit()
run = init
"""


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("def init():\n    raise RuntimeError('no weights here')\ndef run(raw):\n    return raw\n", "no weights here"),
        ("import no_such_module\n", "no_such_module"),
        ("def run(raw):\n    return raw\n", "score.py has no function init()"),
        (
            LEAVES_A_THREAD,
            "SystemExit",
        ),
    ],
)
def test_a_script_that_cannot_start_is_exit_code_3(start_host: Start, script: str, words: str) -> None:
    host = start_host(script)
    assert host.process.wait(15) == 3
    log = host.log.read_text()
    assert words in log
    assert "Traceback" in log or "SystemExit" in log


def test_a_missing_script_and_a_taken_port(start_host: Start, host: Running) -> None:
    missing = start_host("", ROLLOUT_SCRIPT="other.py")
    taken = start_host("", PORT=str(host.client.base_url.port))
    unset = start_host("", ROLLOUT_CODE="/no/such/directory")
    assert missing.process.wait(15) == 3
    assert "there is no script other.py" in missing.log.read_text()
    assert taken.process.wait(15) == 4
    assert "cannot be used: Address already in use" in taken.log.read_text()
    assert unset.process.wait(15) == 2


def test_a_client_that_leaves_in_the_middle_leaves_no_traceback(host: Running) -> None:
    for start in (b"POST /score HTTP/1.1\r\ncontent-length: 900\r\n\r\n{", b"POST /sc"):
        with socket.create_connection(("127.0.0.1", host.client.base_url.port or 0)) as client:
            client.sendall(b"".join([start.replace(b"\r\n", b"\r\nhost: x\r\n", 1)]))
    before = host.log.read_text().count("Traceback")
    for _ in range(3):
        assert host.score('{"what": "number"}').status_code == 200
    assert host.log.read_text().count("Traceback") == before


def test_only_loopback(host: Running) -> None:
    listening = Path("/proc/net/tcp")
    if not listening.exists():
        pytest.skip("needs /proc/net/tcp")
    port = f"{host.client.base_url.port:04X}"
    addresses = {
        fields[1]
        for fields in (line.split() for line in listening.read_text().splitlines()[1:])
        if fields[3] == "0A" and fields[1].endswith(f":{port}")
    }
    assert addresses == {f"0100007F:{port}"}
