"""Servers to ask: a real Prometheus that scrapes what a test exposes, and one that says what it is told."""

import asyncio
import contextlib
import json
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from providers.base import Context
from providers.errors import Permanent
from providers.metrics.base import Metric, Reading, Spec
from providers.registry import open_metric
from tests.conftest import PROMETHEUS

SECRET = "s3cr3t-of-the-test"
NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
SPEC = Spec("shop", "green", "mirror", NOW, 10.0)


@contextlib.contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler, bytes], tuple[int, str, bytes]]) -> Iterator[str]:
    """An HTTP server on a free port of the loopback; its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, kind, sent = answer(self, body)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(sent)))
            if 300 <= status < 400:
                self.send_header("location", "/elsewhere")
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(sent)

        do_POST = do_GET  # noqa: N815 - the name is http.server's

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Web:
    """A server that answers as it is told, and remembers what it was asked."""

    url: str = ""
    status: int = 200
    kind: str = "application/json"
    body: bytes = b""
    delay: float = 0.0
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def says(self, document: Any, status: int = 200, kind: str = "application/json") -> None:
        self.body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.status, self.kind = status, kind

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
        self.asked.append((request.command, request.path, dict(request.headers), body))
        time.sleep(self.delay)
        return self.status, self.kind, self.body


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    with serving(web.answer) as web.url:
        yield web


@pytest.fixture
def context(tmp_path: Path) -> Context:
    def resolve(text: str) -> str:
        if "${env:MISSING}" in text:
            raise Permanent("${env:MISSING}: the environment has no MISSING; set it and try again")
        return text.replace("${env:SECRET}", SECRET)

    return Context(tmp_path, lambda: NOW, lambda: "token", resolve)


@pytest.fixture
async def opened(context: Context):
    """Metrics by name and options, closed afterwards."""
    metrics: list[Metric] = []

    def open_one(name: str, **options: Any) -> Metric:
        metrics.append(open_metric(name, options, context))
        return metrics[-1]

    yield open_one
    for metric in metrics:
        await metric.aclose()


@dataclass
class Scraped:
    """What a Prometheus scrapes every second: lines by series, in the text format."""

    url: str = ""
    lines: dict[str, str] = field(default_factory=dict)

    def page(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
        text = "".join(f"{series} {value}\n" for series, value in list(self.lines.items()))
        return 200, "text/plain; version=0.0.4", text.encode()

    async def ask(self, query: str) -> list[Any]:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{self.url}/api/v1/query", params={"query": query})
        return answer.json()["data"]["result"]

    async def sees(self, query: str) -> None:
        """Wait until a comparison holds for Prometheus."""
        async with asyncio.timeout(20):
            while not await self.ask(query):
                await asyncio.sleep(0.1)

    async def gone(self, query: str) -> None:
        async with asyncio.timeout(20):
            while await self.ask(query):
                await asyncio.sleep(0.1)


@contextlib.contextmanager
def prometheus(target: str, folder: Path) -> Iterator[str]:
    """A real Prometheus that scrapes `host:port`/path every second; its address. It ends with the context."""
    assert PROMETHEUS is not None
    host, _, path = target.removeprefix("http://").partition("/")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "prometheus.yml"
    scrape = {"job_name": "t", "metrics_path": f"/{path}", "static_configs": [{"targets": [host]}]}
    config.write_text(
        json.dumps({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [scrape]})
    )
    arguments = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    arguments += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([PROMETHEUS, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        give_up = time.monotonic() + 30
        with httpx.Client(trust_env=False) as client:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if client.get(f"{url}/-/ready").status_code == 200:
                        break
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < give_up, (folder / "log").read_text()
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    one = Scraped()
    with serving(one.page) as exporter, prometheus(f"{exporter}/metrics", tmp_path_factory.mktemp("prom")) as one.url:
        yield one


Look = Callable[..., Awaitable[Reading]]


@pytest.fixture
def look() -> Callable[[Metric], Look]:
    """Ask a metric, each time from where the last answer ended."""

    def of(metric: Metric) -> Look:
        mark: list[dict[str, Any] | None] = [None]

        async def once(until: datetime | None = None, spec: Spec = SPEC) -> Reading:
            reading = await metric.query(replace(spec, until=until or datetime.now(UTC)), mark[0])
            # Through JSON, as the store keeps it.
            mark[0] = json.loads(json.dumps(dict(reading.mark)))
            return reading

        return once

    return of


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)
