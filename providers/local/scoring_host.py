"""Serves one score.py: the contract of Azure's inference server, on an ASGI server that keeps its connections.

The official server opens a connection for each request and pins old versions of widely used libraries, so it can stand
neither behind a proxy under load nor in the user's own environment. The contract is kept: `init()` once, then
`run(raw_data)` with the body as text for each POST /score, AZUREML_MODEL_DIR, the code directory as working directory
and first on sys.path, GET / for liveness, 500 when run() raises.

Run as `python scoring_host.py` with the environment:

    PORT or ROLLOUT_PORT    port on 127.0.0.1
    ROLLOUT_CODE            the code directory
    ROLLOUT_SCRIPT          the script in it (score.py)
    ROLLOUT_INSTANCE        a text that proves to a health check which process answers
    ROLLOUT_MAX_BODY        bytes of a request's body (16 MiB)
    ROLLOUT_RUNTIME         a file that names the folder of `answers.sock`, or nothing
    AZUREML_MODEL_DIR       for the script

The model has one thread of its own: scripts are rarely thread-safe, and neither a slow init() nor a hung run() keeps
GET /healthz from answering (503 until init() is done, then 200). Requests wait in line for that thread; one whose
client has gone is dropped from it. SIGTERM finishes the requests in flight.

Answers to requests that the proxy marks (it mirrored them, or they are the copies) are handed to the comparing process
while there is one, after they were sent; the wire is described in `comparer`.

Exit codes: 3 the script cannot be loaded or init() raised, its traceback is in the log; 4 the port is taken; 2 usage.
"""

import asyncio
import errno
import faulthandler
import importlib.util
import io
import json
import logging
import os
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

# Run as a script, this module's own directory comes first on sys.path; the user's imports must never find our modules.
sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != Path(__file__).resolve().parent]

import uvicorn  # noqa: E402  (only now: see above)

CANNOT_START, PORT_TAKEN, USAGE = 3, 4, 2
JSON, TEXT, OCTETS = b"application/json", b"text/plain; charset=utf-8", b"application/octet-stream"
# Past this, a client that still sends more than it may is cut off; up to it, it gets to read the 413.
PATIENCE = 4
MARK, ID = b"x-rollout-pair", b"x-request-id"
LARGEST = 256 << 10
"""Bytes of an answer that is handed over with its body."""

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Answer = tuple[int, bytes, bytes]  # status, content type, body


class Gone(Exception):
    """The client closed the connection."""


class TooLarge(Exception):
    """The body exceeds the limit."""

    def __init__(self, *, unread: bool) -> None:
        self.unread = unread


def failure(status: int, sentence: str) -> Answer:
    return status, JSON, json.dumps({"error": sentence}).encode()


def plain(value: Any) -> Any:
    """What json cannot write: numpy's arrays and scalars, and whatever else has a tolist()."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def encode(result: Any) -> Answer:
    """The answer for what run() returned.

    Raises:
        TypeError, ValueError: it is nothing that can be sent.
    """
    if isinstance(result, bytes | bytearray | memoryview):
        return 200, OCTETS, bytes(result)
    if isinstance(result, str):
        try:
            json.loads(result)
        except ValueError:
            return 200, TEXT, result.encode()
        return 200, JSON, result.encode()
    return 200, JSON, json.dumps(result, default=plain).encode()


class Model:
    """The user's script, in its own thread."""

    def __init__(self, code: Path, script: str) -> None:
        self.code, self.path = code, code / script
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.run: Callable[[str], Any] | None = None
        self.ready = False

    def load(self) -> None:
        """Imports the script and calls init(); whatever that raises goes to the caller."""
        spec = importlib.util.spec_from_file_location(self.path.stem, self.path)
        if spec is None or spec.loader is None or not self.path.is_file():
            raise FileNotFoundError(f"there is no script {self.path.name} in the code directory")
        module = importlib.util.module_from_spec(spec)
        sys.modules[self.path.stem] = module  # as an import would do: pickled models look their classes up there
        spec.loader.exec_module(module)
        for name in ("init", "run"):
            if not callable(getattr(module, name, None)):
                raise AttributeError(f"{self.path.name} has no function {name}()")
        module.init()
        self.run = module.run
        self.ready = True

    def score(self, raw: str) -> Answer:
        assert self.run is not None
        try:
            result = self.run(raw)
        except BaseException as error:  # noqa: BLE001  (a SystemExit of the script must not end the model's thread)
            traceback.print_exc()
            return failure(500, f"run() raised {type(error).__name__}; the deployment's log has the traceback")
        try:
            return encode(result)
        except Exception as error:  # noqa: BLE001  (what a tolist() of the script's own may raise, too)
            traceback.print_exc()
            return failure(500, f"run() returned what cannot be sent: {error}")


class Hand:
    """Hands answers to the comparing process. It never waits, and what cannot be sent now is told as lost."""

    def __init__(self, runtime: Path, instance: bytes) -> None:
        self.runtime, self.instance = runtime, instance
        self.socket: socket.socket | None = None
        self.not_before = 0.0
        self.lost: deque[bytes] = deque(maxlen=256)

    def give(self, headers: list[tuple[bytes, bytes]], status: int, body: bytes) -> None:
        """Nothing is asked for without the mark; then nothing is done."""
        found = dict(headers)
        name = found.get(ID, b"")
        if MARK not in found or not 0 < len(name) <= 128 or not (self.socket or self.connect()):
            return
        good = 200 <= status < 300
        how = b"large" if good and len(body) > LARGEST else b"whole"
        try:
            while self.lost:
                self.send(b"%s 200 lost\n" % self.lost[0], b"")
                self.lost.popleft()
            self.send(b"%s %d %s\n" % (name, status, how), body if good and how == b"whole" else b"")
        except (BlockingIOError, InterruptedError):
            self.lost.append(name)
        except OSError as error:
            if error.errno in {errno.EMSGSIZE, errno.ENOBUFS}:
                self.lost.append(name)
            else:
                self.close()

    def send(self, head: bytes, body: bytes) -> None:
        assert self.socket is not None
        self.socket.sendmsg([head, body])

    def connect(self) -> bool:
        now = time.monotonic()
        if now < self.not_before:
            return False
        self.not_before = now + 0.1
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.socket.setblocking(False)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LARGEST)
            self.socket.connect(f"{self.runtime.read_text(encoding='utf-8')}/answers.sock")
            self.socket.send(b"answers " + self.instance)
        except OSError:  # there is none while nobody asks
            self.close()
            return False
        return True

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self.socket = None
        self.lost.clear()


class Host:
    """The ASGI application."""

    def __init__(self, model: Model, instance: str, max_body: int, runtime: str = "") -> None:
        self.model, self.instance, self.max_body = model, instance.encode(), max_body
        self.hand = Hand(Path(runtime), self.instance) if runtime and instance else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers: list[tuple[bytes, bytes]] = []
        try:
            answer = await self.route(scope, receive, headers)
        except Gone:
            return
        except TooLarge as error:
            answer = failure(413, f"the body is larger than {self.max_body} bytes")
            if error.unread:
                headers.append((b"connection", b"close"))
        except asyncio.CancelledError:  # the server's patience after SIGTERM is over
            answer = failure(503, "the instance stopped before run() returned")
        status, kind, body = answer
        headers += [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        if self.hand is not None:
            self.hand.give(scope["headers"], status, body)

    async def route(self, scope: Scope, receive: Receive, headers: list[tuple[bytes, bytes]]) -> Answer:
        path, reads = scope["path"], scope["method"] in {"GET", "HEAD"}
        if path == "/score":
            if scope["method"] == "POST":
                return await self.score(scope, receive)
            headers.append((b"allow", b"POST"))
            return failure(405, "use POST")
        if path not in {"/", "/healthz"}:
            return failure(404, "there is /score, and / and /healthz for health")
        if not reads:
            headers.append((b"allow", b"GET, HEAD"))
            return failure(405, "use GET")
        if path == "/":
            return 200, TEXT, b"Healthy"
        headers.append((b"x-rollout-instance", self.instance))
        return 200 if self.model.ready else 503, TEXT, self.instance

    async def score(self, scope: Scope, receive: Receive) -> Answer:
        body = await self.read(scope, receive)
        if not self.model.ready:
            return failure(503, "init() has not finished")
        try:
            raw = body.decode()
        except UnicodeDecodeError:
            return failure(400, "the body is not UTF-8 text")
        work = asyncio.get_running_loop().run_in_executor(self.model.thread, self.model.score, raw)
        gone = asyncio.ensure_future(receive())
        either: set[asyncio.Future[Any]] = {work, gone}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise Gone
            return work.result()
        finally:
            gone.cancel()
            work.cancel()  # takes it out of the line; a run() that has begun cannot be stopped

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        announced = next((int(value) for name, value in scope["headers"] if name == b"content-length"), 0)
        if announced > self.max_body * PATIENCE:
            raise TooLarge(unread=True)
        chunks, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            chunk, more = message.get("body", b""), message.get("more_body", False)
            size += len(chunk)
            if size <= self.max_body:
                chunks.append(chunk)
            elif size > self.max_body * PATIENCE:
                raise TooLarge(unread=True)
            else:
                chunks.clear()
        if size > self.max_body:
            raise TooLarge(unread=False)
        return b"".join(chunks)


def unbuffered(descriptor: int) -> io.TextIOWrapper:
    raw = open(descriptor, "wb", buffering=0, closefd=False)  # noqa: SIM115  (it lives as long as we do)
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


def serve(model: Model, host: Host, listener: socket.socket) -> int:
    """Serves until SIGTERM, or until the script turns out not to start; returns the exit code."""
    config = uvicorn.Config(
        host,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
        access_log=False,
        log_level="warning",
        server_header=False,
    )
    server = uvicorn.Server(config)
    failed: list[BaseException] = []

    def loaded(outcome: Future[None]) -> None:
        if (error := outcome.exception()) is not None:
            failed.append(error)
            traceback.print_exception(error)
            server.should_exit = True

    model.thread.submit(model.load).add_done_callback(loaded)
    server.run(sockets=[listener])
    return CANNOT_START if failed else 0


def main(environment: dict[str, str]) -> int:
    # As `python -u` does: when the process is killed, its last words are what a person needs.
    sys.stdout, sys.stderr = (unbuffered(descriptor) for descriptor in (1, 2))
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        port = int(environment.get("ROLLOUT_PORT") or environment["PORT"])
        max_body = int(environment.get("ROLLOUT_MAX_BODY") or 16 << 20)
        code = Path(environment["ROLLOUT_CODE"]).resolve(strict=True)
    except (KeyError, ValueError, OSError) as error:
        sys.stderr.write(f"scoring host: set PORT, ROLLOUT_CODE and ROLLOUT_SCRIPT rightly: {error!r}\n")
        return USAGE
    os.chdir(code)
    sys.path.insert(0, str(code))
    try:
        listener = listen(port)
    except OSError as error:
        sys.stderr.write(f"scoring host: port {port} cannot be used: {error.strerror}\n")
        return PORT_TAKEN
    model = Model(code, environment.get("ROLLOUT_SCRIPT") or "score.py")
    host = Host(model, environment.get("ROLLOUT_INSTANCE", ""), max_body, environment.get("ROLLOUT_RUNTIME", ""))
    status = serve(model, host, listener)
    if status == CANNOT_START:
        os._exit(status)  # threads that the script left behind must not keep a failed start alive
    return status


if __name__ == "__main__":
    sys.exit(main(dict(os.environ)))
