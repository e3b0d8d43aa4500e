"""Somebody else changes the endpoint while a rollout owns it: it pauses, and says what is different."""

import asyncio
import os
from datetime import UTC, datetime
from typing import Any

import pytest

from providers.actions import SetTraffic
from providers.base import Context, Done, Fence, Operation
from providers.local.provider import LocalProvider, Options

pytestmark = pytest.mark.needs("linux", "envoy")

STEPS = """
  - deploy: green
    deadline: 30s
  - canary: 20%
    gates: [errors]
    hold: 3s
    deadline: 3m
"""


def test_a_foreign_change_of_traffic_pauses_the_rollout(site: Any) -> None:
    driver = site.start("run", site.plan(steps=STEPS))
    with site.clients(rate=150) as clients:
        site.reaches("reached", "canary 20%")
        asyncio.run(_set_traffic(site, {"blue": 600, "green": 400}))
        site.reaches("paused")
        status = site.status()
        assert (status["phase"], status["paused"]) == ("paused", "drift")
        assert "somebody else changed the endpoint" in status["reason"]
        assert "40%" in status["reason"]
        assert "20%" in status["reason"]
        assert site.show()["traffic"] == {"blue": 60, "green": 40}, "what others did is left as it is"
        assert driver.running

        told = site.rollout("resume", code=2)
        assert "--take-back" in told
        assert "--keep-theirs" in told
        site.rollout("resume", "--take-back")
        driver.ends(0)
    assert clients.bad == []
    assert site.show()["traffic"] == {"blue": 80, "green": 20}


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
