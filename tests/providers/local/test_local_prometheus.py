"""A gate asks a real Prometheus that scrapes the endpoint's own Envoy: it counts what clients and mirrors were sent."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from providers.actions import SetTraffic
from providers.local.processes import runtime_directory
from providers.measurement import Count
from providers.metrics.base import Spec
from providers.metrics.sampling import Question, sampled
from providers.registry import open_metric
from tests.providers.metrics.conftest import Scraped, prometheus, serving

pytestmark = [pytest.mark.needs("linux", "envoy", "prometheus"), pytest.mark.timeout(90)]

NAME = "shop"
TOTAL = 'sum(envoy_cluster_upstream_rq_completed{envoy_cluster_name="{{leg}}"})'
BAD = """
  sum(envoy_cluster_upstream_rq_xx{envoy_cluster_name="{{leg}}", envoy_response_code_class="5"})
    or vector(0)   # Envoy has no counter of 5xx before the first one
"""


@pytest.fixture
def envoy(local: Any, tmp_path: Path) -> Iterator[Scraped]:
    """Envoy's admin has a Unix socket, which Prometheus cannot reach: a server on the loopback stands between."""
    socket = runtime_directory(local.directory, local.context.runtime) / "envoy.sock"

    def statistics(request: Any, body: bytes) -> tuple[int, str, bytes]:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=5) as admin:
            try:
                answer = admin.get(f"http://envoy{request.path}")
            except httpx.HTTPError as error:
                return 503, "text/plain", repr(error).encode()
        return answer.status_code, "text/plain; version=0.0.4", answer.content

    with serving(statistics) as bridge, prometheus(f"{bridge}/stats/prometheus", tmp_path) as url:
        yield Scraped(url)


async def test_what_was_sent_is_what_is_told(local: Any, envoy: Scraped) -> None:
    await local.build(local.spec("blue"), local.spec("green"))
    await local.do(SetTraffic(NAME, {"blue": 1000}, {"green": 1000}))
    metric = open_metric("prometheus", {"url": envoy.url, "total": TOTAL, "bad": BAD}, local.context)
    sources: dict[str, Any] = {}
    sent: list[Count] = []
    told: list[Any] = []
    green = Spec(NAME, "green", "mirror", datetime.now(UTC), 1.0)
    blue = replace(green, deployment="blue", source="live")

    async def ask() -> Any:
        nonlocal sources
        now = datetime.now(UTC)
        question = Question(metric, "q", replace(green, until=now), replace(blue, until=now))
        samples, sources = await sampled({"g": question}, sources)
        return samples["g"]

    completed = 'sum(envoy_cluster_upstream_rq_completed{{envoy_cluster_name="{}"}}) == {}'
    try:
        assert (await local.ask()).status == 200
        for leg in ("blue", "green~mirror"):
            await envoy.sees(completed.format(leg, 1))
        first = await ask()
        assert (first.candidate, first.problem) == (None, "")
        requests = 1
        for good, bad in ((20, 0), (7, 3), (0, 0), (5, 5)):
            answers = await asyncio.gather(*(local.ask(**({"raise": 1} if n < bad else {})) for n in range(good + bad)))
            assert sorted(answer.status for answer in answers) == [200] * good + [500] * bad
            requests += good + bad
            sent.append(Count(bad, good + bad))
            for leg in ("blue", "green~mirror"):
                await envoy.sees(completed.format(leg, requests))
            told.append(await ask())
        assert [sample.problem + sample.nothing for sample in told] == [""] * 4
        assert [sample.candidate for sample in told] == sent, "each mirrored request is told once"
        assert [sample.stable for sample in told] == sent, "and each live one"
        assert 'envoy_cluster_name="green~mirror"' in told[0].query
    finally:
        await metric.aclose()
