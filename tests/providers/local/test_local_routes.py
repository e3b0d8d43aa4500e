"""Who is let in, who answers, and what is counted by chance: split, mirror, keys."""

import asyncio
import json
import math
from collections import Counter
from typing import Any

import pytest

from providers.actions import DeleteDeployment, Scale, SetTraffic
from providers.base import Done
from providers.errors import Conflict, Permanent
from providers.measurement import MeasureQuery
from providers.specs import LocalRuntime, Model

pytestmark = [pytest.mark.needs("linux", "envoy")]
NAME = "shop"


async def test_requests_are_let_in_by_key_and_go_where_the_header_says(local: Any) -> None:
    await local.build(local.spec("blue"), local.spec("green"))
    keys = await local.provider.keys(NAME)
    none = await local.http(key=f"Bearer {keys.primary}")
    assert (none.status_code, none.headers.get("azureml-model-deployment")) == (404, None)

    await local.do(SetTraffic(NAME, {"blue": 1000}, {"green": 1000}))
    for wrong in (None, "Bearer", "Bearer wrong", f"Basic {keys.primary}", f"Bearer {keys.primary}x", keys.primary):
        assert (await local.http(key=wrong)).status_code == 401
    for right in (f"Bearer {keys.primary}", f"bearer  {keys.secondary}", f"BEARER {keys.primary}"):
        answer = await local.http(key=right)
        assert (answer.status_code, answer.headers["azureml-model-deployment"]) == (200, "blue")

    query = MeasureQuery(NAME, ("blue", "green"))
    cursor = (await local.provider.measure(query, None)).cursor
    for _ in range(5):
        answer = await local.http(key=f"Bearer {keys.primary}", azureml_model_deployment="blue")
        assert answer.json()["instance"].startswith("blue.0.")
    assert (await local.ask("green")).deployment == "green"
    assert (await local.ask("missing")).status == 404
    counted = await local.provider.measure(query, cursor)
    assert counted.leg("blue", "direct").requests == 5
    assert counted.leg("green", "direct").requests == 1
    assert counted.leg("green", "mirror").requests == 0, "a request that names its deployment is never mirrored"
    assert (local.directory.stat().st_mode & 0o777) == 0o700
    for secret in ("keys.json", "state.json", "xds/rds/resource.json"):
        assert ((local.directory / secret).stat().st_mode & 0o777) == 0o600


async def test_split_and_mirror_are_as_asked_and_independent(local: Any, wait_until: Any) -> None:
    """Envoy draws one random number for both: with one modulus, all or none of green's share would be mirrored."""
    await local.build(local.spec("blue"), local.spec("green"), local.spec("red"))
    await local.do(SetTraffic(NAME, {"blue": 700, "green": 300}, {"red": 300}))
    query = MeasureQuery(NAME, ("blue", "green", "red"))
    cursor = (await local.provider.measure(query, None)).cursor
    async with local.load(clients=8) as load:
        while load.total < 1500:
            await asyncio.sleep(0.02)
    assert not load.bad

    def pairs() -> dict[str, set[str]]:
        """Id of a request -> the clusters that got it."""
        found: dict[str, set[str]] = {}
        for line in (local.directory / "pairs.ndjson").read_text().splitlines():
            entry = json.loads(line)
            found.setdefault(entry["id"], set()).add(entry["cluster"])
        return found

    counted = None

    async def logged() -> bool:
        nonlocal counted
        counted = await local.provider.measure(query, cursor)
        whole = sum("red~mirror" in clusters and len(clusters) == 2 for clusters in pairs().values())
        return whole == counted.leg("red", "mirror").requests

    await wait_until(logged, "every mirrored request is logged with its twin, and no other request")
    assert counted is not None
    assert [counted.leg(name, "live").requests for name in ("blue", "green")] == [load.of("blue"), load.of("green")]
    assert len(pairs()) == counted.leg("red", "mirror").requests, "what is not mirrored is not logged"
    split = Counter(("green" in clusters, True) for clusters in pairs().values())
    for who, name in ((True, "green"), (False, "blue")):
        split[who, False] = load.of(name) - split[who, True]
    for who in (False, True):
        for mirrored in (False, True):
            share = (0.3 if who else 0.7) * (0.3 if mirrored else 0.7)
            sigma = math.sqrt(share * (1 - share) / load.total)
            assert abs(split[who, mirrored] / load.total - share) < 4.5 * sigma, split


async def test_keys_are_renewed_under_load_without_a_failure(local: Any) -> None:
    await local.build(local.spec("blue"), traffic={"blue": 1000})
    async with local.load(which="secondary") as load:
        old = await local.provider.keys(NAME)
        for number in range(5):
            new = await local.provider.regenerate(NAME, "primary", key=f"renew-{number}")
            assert new.secondary == old.secondary
            assert (await local.http(key=f"Bearer {new.primary}")).status_code == 200
            assert (await local.http(key=f"Bearer {old.primary}")).status_code == 401
            assert await local.open().regenerate(NAME, "primary", key=f"renew-{number}") == new
            old = new
    assert load.total > 50
    assert not load.bad


async def test_instances_and_traffic_change_under_load_without_a_failure(local: Any) -> None:
    await local.build(local.spec("blue"), traffic={"blue": 1000})
    async with local.load(clients=6) as load:
        await local.do(Scale(NAME, "blue", 3))
        assert (await local.state()).deployments["blue"].healthy == 3
        await local.do(await local.put(local.spec("green", 2)))
        for split in ({"blue": 500, "green": 500}, {"green": 1000}, {"blue": 900, "green": 100}, {"blue": 1000}):
            await local.do(SetTraffic(NAME, split, {"green": 500} if split == {"blue": 1000} else {}))
        await local.do(SetTraffic(NAME, {"green": 1000}))
        await local.do(DeleteDeployment(NAME, "blue"))
        await local.do(Scale(NAME, "green", 1))
    assert not load.bad
    assert load.of("green") > 0
    state = await local.state()
    assert (set(state.deployments), state.deployments["green"].healthy) == ({"green"}, 1)
    assert local.processes.wanted() == {"envoy", "green.0"}
    assert not list(local.directory.glob("snapshots/blue*"))
    assert not (local.directory / "xds" / "eds-blue").exists()


async def test_traffic_goes_only_where_somebody_is_well(local: Any) -> None:
    # A server that never says it is well: its instances run, and stay out.
    command = LocalRuntime(command=["python3", "-c", "import time; time.sleep(60)"], health_path="/")
    await local.build(local.spec("blue"), traffic={"blue": 1000})
    action = await local.put(local.spec("green", local=command))
    operation = await local.provider.begin(action, key="green", fence=local_fence())
    assert not isinstance(await local.provider.poll(operation), Done)
    for traffic, mirror in (({"blue": 900, "green": 100}, {}), ({"blue": 1000}, {"green": 100})):
        with pytest.raises(Conflict, match=r"green has 0 healthy"):
            await local.provider.begin(SetTraffic(NAME, traffic, mirror), key="x", fence=local_fence())
    assert (await local.ask()).deployment == "blue"
    with pytest.raises(Conflict, match=r"100% of the live traffic"):
        await local.provider.begin(DeleteDeployment(NAME, "blue"), key="x", fence=local_fence())
    with pytest.raises(Permanent, match=r"sums to 110%"):
        await local.provider.begin(SetTraffic(NAME, {"blue": 1000, "green": 100}), key="x", fence=local_fence())


async def test_any_server_runs_by_its_command(local: Any) -> None:
    server = (
        "import http.server, os, sys; "
        "http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)"
        ".serve_forever()"
    )
    runtime = LocalRuntime(command=["python3", "-c", server, "${PORT}"], health_path="/version.txt")
    await local.build(local.spec("files", local=runtime, model=Model(path="model")), traffic={"files": 1000})
    keys = await local.provider.keys(NAME)
    import httpx

    async with httpx.AsyncClient(trust_env=False) as client:
        url = (await local.state()).url
        answer = await client.get(f"{url}/version.txt", headers={"authorization": f"Bearer {keys.primary}"})
    assert (answer.status_code, answer.text) == (200, "1")


def local_fence() -> Any:
    from providers.base import Fence

    return Fence("store-a", "rollout-1", 1)
