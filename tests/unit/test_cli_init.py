"""`rollout init`, as a user types it: what it writes is right, runs, and never harms what is there."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from orchestrator.cli.main import main
from orchestrator.starter import found
from plans import expand, library, schema, source
from plans.model import Plan
from providers.base import Capabilities, Claim, DeploymentState, EndpointState
from providers.memory import DURATIONS, World
from providers.memory import provider as memory
from providers.specs import DeploymentSpec, EndpointSpec
from tests.unit.making import BORN

ALWAYS = ["plan.yml", "rollout-plan.schema.json", "endpoint.yml"]
BESIDE = ["sample-request.json", "onlinescoring/score.py", "model-1/model.json", "model-2/model.json"]
NAMED = [*ALWAYS, "blue-deployment.yml", "green-deployment.yml", *BESIDE]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, a home of its own, and a cloud in which everything takes no time."""
    monkeypatch.setenv("ROLLOUT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ROLLOUT_STORE", raising=False)
    monkeypatch.setitem(memory._WORLDS, "default", World("default", durations=dict.fromkeys(DURATIONS, 0.0)))
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def said(capsys, *arguments, code=0):
    assert main(["init", *map(str, arguments)]) == code
    shown = capsys.readouterr()
    return shown.err if code else shown.out


def as_json(capsys, *arguments):
    return json.loads(said(capsys, *arguments, "--output", "json"))


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def load(path):
    return source.loads(path.read_text(), Plan, name=str(path), rewrite=expand.rewriter({}))


@pytest.mark.parametrize("name", library.names())
def test_every_stock_plan_is_valid_in_an_empty_folder(here, capsys, name):
    done = as_json(capsys, "--from", name)
    deployments = ["deployment.yml"] if name == "scheduled" else ["blue-deployment.yml", "green-deployment.yml"]
    assert done == {
        "directory": ".",
        "written": [*ALWAYS, *deployments, *BESIDE],
        "kept": [],
        "next": ["rollout validate plan.yml", "rollout run plan.yml"],
    }
    assert sorted(files(here)) == sorted(done["written"])
    assert main(["validate", "plan.yml"]) == 0, capsys.readouterr().err
    assert "plan.yml is valid: shop, endpoint shop (local)" in capsys.readouterr().out
    read = load(here / "plan.yml")
    assert read.name == "shop"
    assert source.load(here / "endpoint.yml", EndpointSpec).name == "shop"
    for file in deployments:
        assert source.load(here / file, DeploymentSpec).endpoint_name == "shop"


def test_the_schema_beside_the_plan_is_the_one_that_validate_prints(here, capsys):
    said(capsys)
    assert main(["validate", "--schema"]) == 0
    assert capsys.readouterr().out == (here / "rollout-plan.schema.json").read_text() == schema.text()


def test_it_says_what_it_wrote_and_what_to_type(here, capsys):
    text = said(capsys, "my models")
    assert text.startswith(f"safe-rollout: {library.summary('safe-rollout')}\n  wrote  plan.yml\n")
    assert text.endswith("\nNext:\n  rollout validate 'my models/plan.yml'\n  rollout run 'my models/plan.yml'\n")
    assert (here / "my models" / "model-2" / "model.json").is_file()
    assert load(here / "my models" / "plan.yml").name == "my-models"


def test_what_is_there_is_left_as_it_is(here, capsys):
    (here / "onlinescoring").mkdir()
    (here / "onlinescoring" / "score.py").write_text("mine\n")
    (here / "endpoint.yml").write_text("name: older-name\n")
    (here / "sample-request.json").symlink_to("nowhere")
    done = as_json(capsys)
    assert done["kept"] == ["endpoint.yml", "sample-request.json", "onlinescoring/"]
    assert (here / "onlinescoring" / "score.py").read_text() == "mine\n"
    assert not (here / "nowhere").exists()
    assert source.load(here / "blue-deployment.yml", DeploymentSpec).endpoint_name == "older-name"

    before = files(here)
    text = said(capsys, "--from", "blue-green")
    assert "left   plan.yml, which was there; --force replaces it\n" in text
    assert "wrote" not in text
    assert files(here) == before


def test_a_folder_that_is_there_is_not_mixed_with_samples(here, capsys):
    (here / "model-1").mkdir()
    (here / "model-1" / "mine.pkl").write_text("mine")
    done = as_json(capsys)
    assert "model-1/" in done["kept"]
    assert [path.name for path in (here / "model-1").iterdir()] == ["mine.pkl"]
    assert (here / "model-2" / "model.json").exists()


def test_force_replaces_the_plan_and_nothing_else(here, capsys):
    said(capsys)
    (here / "endpoint.yml").write_text("name: shop\ndescription: mine\n")
    before = files(here)
    done = as_json(capsys, "--from", "blue-green", "--force")
    assert done["written"] == ["plan.yml"]
    after = files(here)
    assert {path for path in after if after[path] != before.get(path)} == {"plan.yml"}
    assert b"One switch" in after["plan.yml"]


@pytest.mark.parametrize("path", ["model-1", "onlinescoring"])
def test_nothing_is_written_through_a_link(here, tmp_path, capsys, path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (here / path).symlink_to(outside)
    text = said(capsys, code=2)
    assert text == (f"rollout: {path} is a link or no folder, and nothing is written through it: name another folder\n")
    assert list(outside.iterdir()) == []
    assert files(here) == {}, "nothing at all was written"


def test_a_plan_that_is_a_link_is_not_replaced(here, tmp_path, capsys):
    other = tmp_path / "other.yml"
    other.write_text("mine\n")
    (here / "plan.yml").symlink_to(other)
    assert "plan.yml" in as_json(capsys)["kept"]
    text = said(capsys, "--force", code=2)
    assert text.startswith("rollout: plan.yml is a link or no regular file, so it is not replaced: ")
    assert other.read_text() == "mine\n"
    assert [name for name in files(here) if name.startswith(".")] == []


@pytest.mark.parametrize(("path", "expected"), [("file", "is a link or no folder"), ("file/below", "is a link or no")])
def test_a_file_where_the_folder_should_be(here, capsys, path, expected):
    (here / "file").write_text("")
    assert expected in said(capsys, path, code=2)


def test_a_folder_where_a_file_should_be(here, capsys):
    (here / "endpoint.yml").mkdir()
    assert said(capsys, code=2).startswith("rollout: endpoint.yml is a folder, where a file would be written: ")
    assert files(here) == {}


@pytest.mark.parametrize(
    ("folder", "expected"),
    [("Churn_Model.v2", "churn-model-v2"), ("2nd", library.CALLED), ("x", library.CALLED), ("a" * 40, "a" * 32)],
)
def test_names_come_from_the_folder(here, capsys, folder, expected):
    said(capsys, folder)
    assert load(here / folder / "plan.yml").name == expected
    assert source.load(here / folder / "endpoint.yml", EndpointSpec).name == expected


def test_names_and_providers_can_be_given(here, capsys):
    said(capsys, "--name", "Diabetes", "--provider", "memory")
    read = load(here / "plan.yml")
    assert (read.name, read.provider.name) == ("diabetes", "memory")
    assert source.load(here / "endpoint.yml", EndpointSpec).name == "Diabetes"
    assert main(["validate", "plan.yml"]) == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--from", "safe-rolout"], "there is no stock plan safe-rolout: did you mean safe-rollout? (there are blue-"),
        (["--from", "xyzzy"], "there is no stock plan xyzzy; there are blue-green, canary-ladder, "),
        (["--from", "../model"], "there is no stock plan ../model"),
        (["--provider", "lcal"], "Provider lcal is not known (did you mean local?): there is local, memory"),
        (["--name", "a b"], "'a b' cannot be the name of an endpoint: write 3 to 32 letters, digits and dashes, "),
        (["--from", "safe-rollout", "--from-endpoint", "x"], "--from and --from-endpoint contradict each other: give "),
        (["--from-endpoint", "x!"], "'x!' cannot be the name of an endpoint: write 3 to 32 letters"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(here, capsys, arguments, expected):
    assert said(capsys, *arguments, code=2).startswith(f"rollout: {expected}")
    assert files(here) == {}


def test_the_list(here, capsys):
    lines = said(capsys, "--list").splitlines()
    assert [line.split("  ")[0] for line in lines] == list(library.names())
    assert as_json(capsys, "--list")[0] == {"name": "blue-green", "summary": library.summary("blue-green")}
    assert files(here) == {}


# --- from an endpoint that exists ---


@pytest.fixture
def serving(here, capsys):
    """An endpoint of the simulated provider, on which a rollout has ended."""
    steps = "steps: [deploy: green, promote: 100%, delete: blue]\n"
    (here / "endpoint.yml").write_text("name: shop\n")
    for name in ("blue", "green"):
        (here / f"{name}.yml").write_text(f"name: {name}\nmodel: azureml:{name}:1\ninstance_count: 3\n")
    names = "deployments: {blue: {file: blue.yml}, green: {file: green.yml}}\n"
    (here / "first.yml").write_text(f"provider: memory\nendpoint: {{file: endpoint.yml}}\n{names}{steps}")
    assert main(["run", "first.yml"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    return SimpleNamespace(at=("--provider", "memory"))


def test_a_plan_for_an_endpoint_that_exists(here, capsys, serving):
    done = as_json(capsys, "next", "--from-endpoint", "shop", *serving.at)
    assert done["written"] == [
        *("plan.yml", "rollout-plan.schema.json", "deployment.yml", "sample-request.json"),
        *("onlinescoring/score.py", "model/README.txt"),
    ]
    text = (here / "next" / "plan.yml").read_text()
    assert re.search(r"^#   green   100% of the traffic, 3 of 3 instances healthy$", text, re.MULTILINE)
    assert "`stable` is what serves: now green" in text
    read = load(here / "next" / "plan.yml")
    assert (read.name, read.endpoint, read.provider.name) == ("shop", "shop", "memory")
    assert (read.slots, read.stable) == (("green", "blue"), None)
    spec = source.load(here / "next" / "deployment.yml", DeploymentSpec)
    assert (spec.name, spec.endpoint_name, spec.instance_count) == ("blue", "shop", 3)
    assert main(["validate", "next/plan.yml"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert main(["plan", "next/plan.yml", "--output", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["candidate"], shown["stable"], shown["exists"]) == ("blue", "green", True)


def test_an_endpoint_that_is_not_there(here, capsys, serving):
    expected = "rollout: there is no endpoint shpo at memory: did you mean shop? (there are shop)\n"
    assert said(capsys, "--from-endpoint", "shpo", *serving.at, code=2) == expected
    assert said(capsys, "--from-endpoint", "shop", code=2) == (
        "rollout: there is no endpoint shop at local; there is none yet\n"
    )


def state(shares):
    deployments = {name: DeploymentState(name, 1, 2, "0" * 64, BORN) for name in shares}
    return EndpointState("shop", deployments, {name: share for name, share in shares.items() if share})


def planned(observed, **capabilities):
    capable = Capabilities(**capabilities)
    text = found.plan_for(observed, called="shop", provider="local", capabilities=capable, now=BORN)
    return text, source.loads(text, Plan, name="plan.yml", rewrite=expand.rewriter({}))


@pytest.mark.parametrize(
    ("shares", "slots", "stable", "comment"),
    [
        ({"blue": 1000}, ("blue", "green"), None, "now blue"),
        ({"green": 1000}, ("green", "blue"), None, "now green"),
        (
            {"blue": 1000, "green": 0},
            ("blue", "green-2"),
            None,
            "green     0% of the traffic, 1 of 2 instances healthy",
        ),
        ({"v-7": 1000}, ("v-7", "blue"), None, "now v-7"),
        ({"blue": 300, "green": 700}, ("green", "green-2"), "green", "several serve"),
        ({"blue": 0}, ("blue", "green"), None, "--bootstrap"),
        ({}, ("green", "blue"), None, "it has no deployment"),
    ],
    ids=["blue", "green", "green is taken", "another name", "several", "none serves", "none there"],
)
def test_who_serves_and_where_there_is_room(shares, slots, stable, comment):
    text, read = planned(state(shares))
    assert comment in text
    assert (set(read.slots), read.stable) == (set(slots), stable)


def test_a_rollout_that_is_at_work_there_is_named():
    text, _ = planned(replace(state({"blue": 900, "green": 100}), claim=Claim("store", "shop-1", 3)))
    assert "#   rollout shop-1 was at work there" in text


def test_the_steps_are_those_that_the_endpoint_can_do():
    assert planned(state({"blue": 1000}))[1].steps[2].shadow == (100,)
    assert planned(state({"blue": 1000}), mirror_limit=50)[1].steps[2].shadow == (50,)
    text, read = planned(state({"blue": 1000}), mirror_limit=0)
    assert not any(hasattr(step, "shadow") for step in read.steps)
    assert "cannot mirror" in text
    assert max(map(len, text.splitlines())) <= 120


def test_a_name_that_no_plan_can_say_is_told():
    with pytest.raises(found.UsageError, match="stable serves on endpoint shop, and that is a word of the plan"):
        planned(state({"stable": 1000}))
