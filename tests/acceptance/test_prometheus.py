"""A rollout whose only gate asks a real Prometheus, which scrapes the endpoint's own Envoy."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.providers.metrics.conftest import prometheus, serving

pytestmark = pytest.mark.needs("linux", "envoy", "prometheus")

GATES = """gates:
  refused:
    metric:
      prometheus:
        url: "${env:PROMETHEUS_URL}"
        total: sum(envoy_cluster_upstream_rq_completed{envoy_cluster_name="{{leg}}"})
        bad: >-
          sum(envoy_cluster_upstream_rq_xx{envoy_cluster_name="{{leg}}", envoy_response_code_class="5"}) or vector(0)
    max: 5%
    max_ratio: 2
    max_increase: 2%
    interval: 1s
    warm_up: 2s
"""


@pytest.fixture
def scraped(site: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus; what it scrapes is there as soon as the endpoint is."""

    def statistics(request: Any, body: bytes) -> tuple[int, str, bytes]:
        sockets = list(Path(site.runtime).rglob("envoy.sock"))
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(sockets[0])), timeout=5) as admin:
                answer = admin.get(f"http://envoy{request.path}")
        except (IndexError, httpx.HTTPError) as error:
            return 503, "text/plain", repr(error).encode()
        return answer.status_code, "text/plain; version=0.0.4", answer.content

    with (
        serving(statistics) as bridge,
        prometheus(f"{bridge}/stats/prometheus", tmp_path_factory.mktemp("prometheus")) as url,
    ):
        yield url


def written(site: Any) -> str:
    plan = (site.files / "plan-errors-live.yml").read_text()
    before, _, rest = plan.partition("gates:\n")
    _, _, after = rest.partition("on_undecided:")
    text = f"{before}{GATES}on_undecided:{after}".replace("[errors, latency]", "[refused]").replace(
        "[errors]", "[refused]"
    )
    (site.files / "plan-prometheus.yml").write_text(text)
    return "plan-prometheus.yml"


def test_a_candidate_that_fails_is_stopped_by_what_prometheus_says(site: Any, scraped: str) -> None:
    output = site.start("run", written(site), PROMETHEUS_URL=scraped).ends(1)
    reason = r"canary 10%: gate refused: green \d+(\.\d+)?% bad against blue 0% over \d+ requests: .* -> FAIL"
    assert re.search(reason, output), output
    status = site.status()
    assert status["phase"] == "rolled_back"
    assert status["traffic"] == {"blue": 100}


def test_without_an_answer_nothing_passes(site: Any) -> None:
    plan = written(site)
    text = (
        (site.files / plan).read_text().replace("on_undecided: rollback", "on_error: rollback\non_undecided: rollback")
    )
    (site.files / plan).write_text(text)
    output = site.start("run", plan, PROMETHEUS_URL="http://127.0.0.1:9").ends(1)
    status = site.status()
    assert status["phase"] == "rolled_back"
    assert "${env:PROMETHEUS_URL}" in status["reason"]
    assert "could not be measured" in status["reason"]
    assert "127.0.0.1:9" not in output, "what a reference stands for is not shown"
