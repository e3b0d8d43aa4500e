"""The built-in metrics do what every metric must."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from providers.metrics.base import Metric
from providers.testing.metrics import MetricConformance
from tests.providers.metrics.conftest import NOW, SECRET, Scraped, Web, serving


class Gate:
    """A server between Prometheus and whoever asks it, which can be closed."""

    def __init__(self, behind: str) -> None:
        self.behind, self.url, self.closed = behind, "", False

    def answer(self, request: Any, body: bytes) -> tuple[int, str, bytes]:
        if self.closed:
            return 502, "text/html", b"<html>Bad gateway</html>"
        kind = {"content-type": request.headers["content-type"]}
        answer = httpx.post(self.behind + request.path, content=body, headers=kind, trust_env=False)
        return answer.status_code, answer.headers["content-type"], answer.content


@pytest.fixture
def gate(scraped: Scraped) -> Iterator[Gate]:
    gate = Gate(scraped.url)
    with serving(gate.answer) as gate.url:
        yield gate


class OverHttp(MetricConformance):
    secret = SECRET

    @pytest.fixture(autouse=True)
    def server(self, web: Web) -> None:
        self.web, self.now, self.has = web, NOW, {"all": 1000, "bad": 10, "value": 1.0}
        web.says(self.has)

    async def later(self) -> datetime:
        self.now += timedelta(seconds=60)
        return self.now

    async def count(self, total: int, bad: int) -> None:
        self.has = {**self.has, "all": self.has["all"] + total, "bad": self.has["bad"] + bad}
        self.web.says(self.has)

    async def tell(self, value: float) -> None:
        self.web.says({**self.has, "value": value})

    async def down(self, *, down: bool) -> None:
        self.web.says({"error": f"no {SECRET}"} if down else self.has, status=503 if down else 200)


class TestHttpCounts(OverHttp):
    @pytest.fixture
    def metric(self, web: Web, opened: Any) -> Metric:
        return opened("http", url=web.url + "/?key=${env:SECRET}", total="all", bad="bad")


class TestHttpValues(OverHttp):
    @pytest.fixture
    def metric(self, web: Web, opened: Any) -> Metric:
        return opened("http", url=web.url, headers={"Authorization": "Bearer ${env:SECRET}"}, value="value")


@pytest.mark.needs("prometheus")
@pytest.mark.timeout(90)
class InPrometheus(MetricConformance):
    secret = SECRET

    @pytest.fixture(autouse=True)
    async def world(self, scraped: Scraped, gate: "Gate") -> None:
        self.scraped, self.gate, self.has = scraped, gate, {"tck_total": 1000, "tck_bad": 10, "tck_value": 1.0}
        await self.put()

    async def put(self, **has: float) -> None:
        self.has |= has
        self.scraped.lines |= {name: str(value) for name, value in self.has.items()}
        for name, value in self.has.items():
            await self.scraped.sees(f"{name} == {value}")

    async def later(self) -> datetime:
        await asyncio.sleep(1.1)
        return datetime.now(UTC)

    async def count(self, total: int, bad: int) -> None:
        await self.put(tck_total=self.has["tck_total"] + total, tck_bad=self.has["tck_bad"] + bad)

    async def tell(self, value: float) -> None:
        await self.put(tck_value=value)

    async def down(self, *, down: bool) -> None:
        # Prometheus goes on scraping, and nobody can ask it.
        self.gate.closed = down


class TestPrometheusCounts(InPrometheus):
    @pytest.fixture
    def metric(self, gate: Gate, opened: Any) -> Metric:
        return opened("prometheus", url=f"{gate.url}?key=${{env:SECRET}}", total="tck_total", bad="tck_bad")


class TestPrometheusValues(InPrometheus):
    @pytest.fixture
    def metric(self, gate: Gate, opened: Any) -> Metric:
        return opened("prometheus", url=f"{gate.url}?key=${{env:SECRET}}", value="tck_value", step="1s")
