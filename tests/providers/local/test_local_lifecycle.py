"""Deployments come, change, fail and go; drivers are fenced; nothing is left."""

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from providers.actions import DeleteDeployment, DeleteEndpoint, PutEndpoint, Scale, SetTraffic
from providers.base import Claim, Done, Failed, Fence, Operation
from providers.errors import Fenced, NotFound, Permanent, Unsupported
from providers.local.launch import start_time
from providers.specs import EndpointSpec, Model

pytestmark = [pytest.mark.needs("linux", "envoy")]
NAME = "shop"
FENCE = Fence("store-a", "rollout-1", 1)


async def test_an_instance_gets_its_model_its_secrets_and_nothing_else(local: Any) -> None:
    spec = local.spec("blue", model=Model(path="model"), environment_variables={"SECRET": "${env:TOKEN}"})
    await local.build(spec, traffic={"blue": 1000})
    body = json.loads((await local.ask()).body)
    assert (body["secret"], body["model"], body["version"], body["outside"]) == ("s3cr3t", "w1", "1", False)
    with pytest.raises(Permanent, match="MISSING is not set"):
        await local.do(await local.put(local.spec("green", environment_variables={"SECRET": "${env:MISSING}"})))
    assert set((await local.state()).deployments) == {"blue"}


async def test_a_restart_never_picks_up_edited_files(local: Any, wait_until: Any) -> None:
    await local.build(local.spec("blue", model=Model(path="model")), traffic={"blue": 1000})
    (local.base / "code" / "version.txt").write_text("2")
    (local.base / "model" / "weights.txt").write_text("w2")
    before = json.loads((await local.ask()).body)["pid"]
    os.kill(before, 9)

    async def answers_again() -> bool:
        answer = await local.ask()
        return answer.status == 200 and json.loads(answer.body)["pid"] != before

    await wait_until(answers_again, "the instance is back")
    body = json.loads((await local.ask()).body)
    assert (body["version"], body["model"]) == ("1", "w1")


async def test_changed_content_is_refused_and_replaced_when_allowed(local: Any) -> None:
    await local.build(local.spec("blue"), local.spec("green"), traffic={"blue": 1000})
    pinned = await local.put(local.spec("red"))
    (local.base / "code" / "version.txt").write_text("2")
    with pytest.raises(Permanent, match="changed since the rollout was started"):
        await local.provider.begin(pinned, key="red", fence=FENCE)
    assert "red" not in (await local.state()).deployments

    changed = await local.put(local.spec("green"))
    old = (await local.state()).deployments["green"]
    with pytest.raises(Permanent, match=rf"{old.digest[:12]}.*{changed.deployment.digest[:12]}.*--replace"):
        await local.provider.begin(changed, key="green-2", fence=FENCE)
    failures = []

    async def watch() -> None:
        while True:
            answer = await local.ask("green")
            failures.extend([answer] if answer.status != 200 else [])

    watching = asyncio.create_task(watch())
    await local.do(replace(changed, replace=True))
    watching.cancel()
    assert not failures, "replacing is make before break"
    assert json.loads((await local.ask("green")).body)["version"] == "2"
    new = (await local.state()).deployments["green"]
    assert (new.digest, new.healthy, new.born > old.born) == (changed.deployment.digest, 1, True)
    assert len(list(local.directory.glob("snapshots/green~*"))) == 1


async def test_links_that_lead_out_of_the_code_are_refused(local: Any) -> None:
    (local.base / "secret.txt").write_text("x")
    (local.base / "code" / "link.txt").symlink_to(local.base / "secret.txt")
    with pytest.raises(Permanent, match=r"link\.txt leads out of"):
        await local.put(local.spec("blue"))
    (local.base / "code" / "link.txt").unlink()
    with pytest.raises(Permanent, match=r"model\.path: .* does not exist"):
        await local.put(local.spec("blue", model=Model(path="nothing")))
    with pytest.raises(Permanent, match=r"missing\.py is not a file"):
        await local.put(local.spec("blue", script="missing.py"))
    with pytest.raises(Permanent, match="registered model"):
        await local.put(local.spec("blue", model="azureml:m:1"))
    resolved = await local.put(local.spec("blue", instance_type="Standard_DS3_v2", app_insights_enabled=True))
    assert resolved.deployment.ignored == ("app_insights_enabled", "instance_type")


async def test_what_cannot_start_fails_with_the_end_of_its_log(local: Any) -> None:
    await local.build(local.spec("blue"), traffic={"blue": 1000})
    action = await local.put(local.spec("green", script="broken.py"))
    outcome = await local.end(await local.provider.begin(action, key="green", fence=FENCE))
    assert isinstance(outcome, Failed)
    assert "exited 3 times" in outcome.reason
    assert "no model here" in outcome.reason
    assert await local.end(await local.open().begin(action, key="green", fence=FENCE)) == outcome
    problem = (await local.state()).deployments["green"].problem
    assert problem is not None
    assert "no model here" in problem
    where = await local.provider.save_logs(NAME, "green", rollout="rollout/1")
    await local.do(DeleteDeployment(NAME, "green"))
    assert "no model here" in await local.provider.logs(NAME, "green", instance=0, tail=50)
    assert any("no model here" in path.read_text() for path in Path(where).rglob("*.log"))
    with pytest.raises(NotFound):
        await local.provider.logs(NAME, "never", instance=None, tail=5)


async def test_logs_of_several_instances_are_told_apart(local: Any) -> None:
    await local.build(local.spec("blue", 2))
    lines = (await local.provider.logs(NAME, "blue", instance=None, tail=10)).splitlines()
    assert [line for line in lines if line.startswith("[0] started")]
    assert [line for line in lines if line.startswith("[1] started")]
    one = await local.provider.logs(NAME, "blue", instance=1, tail=1)
    assert one.startswith("started blue.1.")
    with pytest.raises(NotFound, match="there is 0, 1"):
        await local.provider.logs(NAME, "blue", instance=7, tail=1)


async def test_drivers_are_fenced_by_epoch_and_by_store(local: Any) -> None:
    await local.build(local.spec("blue"), traffic={"blue": 1000})
    newer, foreign = replace(FENCE, epoch=5), Fence("store-b", "rollout-9", 1)
    await local.do(SetTraffic(NAME, {"blue": 1000}), fence=newer)
    for fence in (FENCE, replace(FENCE, steal=True), foreign):
        with pytest.raises(Fenced):
            await local.open().begin(Scale(NAME, "blue", 2), key="late", fence=fence)
    await local.provider.release(NAME, FENCE)
    await local.provider.release(NAME, foreign)
    assert (await local.state()).claim == Claim("store-a", "rollout-1", 5)
    await local.provider.release(NAME, newer)
    assert (await local.state()).claim is None
    await local.do(SetTraffic(NAME, {}), fence=foreign)
    with pytest.raises(Fenced, match="epoch 5"):
        await local.provider.begin(SetTraffic(NAME, {"blue": 1000}), key="late", fence=replace(FENCE, steal=True))


async def test_one_key_is_one_operation_in_every_process(local: Any) -> None:
    await local.build(local.spec("blue"))
    action = await local.put(local.spec("green", 2))
    operation = await local.provider.begin(action, key="once", fence=FENCE)
    again = await asyncio.gather(*(local.open().begin(action, key="once", fence=FENCE) for _ in range(3)))
    assert {one.key for one in again} == {operation.key}
    assert isinstance(await local.end(operation), Done)
    assert local.processes.wanted() == {"envoy", "blue.0", "green.0", "green.1"}
    await local.do(Scale(NAME, "green", 1))
    assert isinstance(await local.end(await local.open().begin(action, key="once", fence=FENCE)), Done)
    assert (await local.state()).deployments["green"].desired == 1
    with pytest.raises(Permanent, match="another action"):
        await local.provider.begin(Scale(NAME, "green", 3), key="once", fence=FENCE)
    with pytest.raises(NotFound):
        await local.provider.poll(Operation("never begun", action))


async def test_what_is_wrong_is_said_in_a_sentence(local: Any) -> None:
    with pytest.raises(Unsupported, match="use key"):
        await local.provider.begin(
            PutEndpoint(NAME, EndpointSpec(name=NAME, auth_mode="aml_token")), key="x", fence=FENCE
        )
    assert await local.provider.observe("../escape") is None
    await local.build(local.spec("blue"))
    whole = (local.directory / "state.json").read_bytes()
    for damaged in (b"{", b'{"format": 1}', b"[]", whole[: len(whole) // 2]):
        (local.directory / "state.json").write_bytes(damaged)
        with pytest.raises(Permanent, match=r"state\.json is damaged"):
            await local.provider.observe(NAME)
        with pytest.raises(Permanent, match=r"state\.json is damaged"):
            await local.provider.begin(Scale(NAME, "blue", 2), key="x", fence=FENCE)
    (local.directory / "state.json").write_bytes(whole.replace(b'"format":1', b'"format":99'))
    with pytest.raises(Permanent, match="format 99"):
        await local.provider.observe(NAME)
    (local.directory / "state.json").write_bytes(whole)
    assert (await local.state()).deployments["blue"].healthy == 1


async def test_nothing_is_left_of_a_deleted_endpoint(local: Any) -> None:
    await local.build(local.spec("blue", 2), local.spec("green"), traffic={"blue": 1000})
    processes, runtime = local.processes, Path((local.directory / "runtime").read_text())
    pids = [status.pid for status in processes.status().values()] + [processes.keeper_pid()]
    assert len(pids) == 5
    await local.do(DeleteEndpoint(NAME))
    assert await local.provider.observe(NAME) is None
    assert not [pid for pid in pids if pid and start_time(pid)]
    assert not local.directory.exists()
    assert not runtime.exists()
    assert json.loads((local.context.home / "local" / "ports.json").read_text()) == {}
    assert not [path for path in local.directory.parent.iterdir() if path.is_dir()]
    await local.build(local.spec("blue"), traffic={"blue": 1000})
    assert (await local.ask()).status == 200
