"""What is known of an endpoint's traffic: the measurements that earlier rollouts left in the last hour, or a look now.

A measurement is taken while a rollout runs, so an hour without one leaves nothing; then the endpoint is counted for
some seconds, as `rollout plan` does.
"""

import asyncio
from datetime import datetime, timedelta

from orchestrator.app import App, provider_for
from orchestrator.errors import UsageError
from orchestrator.preview import Preview
from orchestrator.simulate.given import Given, measured
from plans.units import show_duration
from providers.base import Measures
from providers.measurement import Measurement, MeasureQuery

AN_HOUR = timedelta(hours=1)
A_LOOK = 10.0
"""Seconds for which the endpoint is counted where nothing was measured in the last hour."""


async def last_hour(app: App, found: Preview) -> Given:
    """What the endpoint's last hour says, or else a look at it now.

    Raises:
        UsageError: there is no such endpoint, or it gets no requests.
        ProviderError: it cannot be measured now.
    """
    provider = provider_for(app, found.draft.plan, found.draft.path.parent)
    try:
        if found.observed is None:
            raise UsageError(
                f"endpoint {found.bundle.endpoint_name} does not exist yet, so nothing is known of its traffic: say "
                "--traffic, --errors and --latency"
            )
        since = app.clock() - AN_HOUR
        kept = await _kept(app, provider.identity(found.bundle.endpoint_name), since)
        known = measured(kept, found.roles.stable, "measured by rollouts in the last hour")
        if known.rate is not None:
            return known
        if not isinstance(provider, Measures):
            raise UsageError(f"provider {provider.name} cannot measure requests: say --traffic, --errors and --latency")
        query = MeasureQuery(found.bundle.endpoint_name, tuple(sorted(found.roles.baseline.traffic)))
        begun = await provider.measure(query, None)
        await asyncio.sleep(A_LOOK)
        known = measured([await provider.measure(query, begun.cursor)], found.roles.stable, "measured just now")
    finally:
        await provider.aclose()
    if known.rate is None:
        raise UsageError(
            f"endpoint {found.bundle.endpoint_name} got no requests in {show_duration(A_LOOK)}: say --traffic, "
            "--errors and --latency"
        )
    return known


async def _kept(app: App, identity: str, since: datetime) -> list[Measurement]:
    """The measurements of the endpoint's rollouts that ended after an instant."""
    found = []
    for rollout in await app.store.rollouts(endpoint=identity, limit=20):
        for _, _, each in await app.store.measurements(rollout.id):
            if each.end > since:
                found.append(each)
    return found
