"""A plan and its files, read once: what is pinned, what its sha256 covers, and what is wrong with files."""

from pathlib import Path

import pytest

from orchestrator.bundle import BUNDLE, Bundle, pin, read
from plans.errors import PlanError
from plans.steps import InlineRequest
from providers.base import Context
from providers.errors import Temporary
from providers.memory import World
from providers.memory.provider import MemoryProvider
from tests.unit.making import BORN

PLAN = """
endpoint: {file: files/endpoint.yml}
deployments:
  blue: {file: files/blue.yml}
  green: {file: files/green.yml}
steps:
  - deploy: green
  - test: green
    request: request.json
    expect: {json: {prediction: 1.5}}
  - load: 5
    request: {body: '{"x": 2}'}
  - wait: 5s
load: {request: other.json, rate: 2/s}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    (tmp_path / "plan.yml").write_text(PLAN)
    (tmp_path / "files" / "endpoint.yml").write_text("name: shop\n")
    (tmp_path / "files" / "blue.yml").write_text("name: first\nmodel: azureml:m@latest\ninstance_count: 2\n")
    (tmp_path / "files" / "green.yml").write_text("name: green\nmodel: azureml:m:2\ntags: {team: ml}\n")
    (tmp_path / "request.json").write_text('{"x": "ü"}')
    (tmp_path / "other.json").write_text("{}")
    return tmp_path


def provider() -> MemoryProvider:
    return MemoryProvider.in_world(World(), Context(Path("/home"), lambda: BORN, lambda: "token"))


async def pinned(folder: Path) -> Bundle:
    return await pin(read(folder / "plan.yml"), provider())


async def test_everything_that_is_named_is_pinned(folder):
    bundle = await pinned(folder)
    assert set(bundle.files) == {
        "",
        "files/endpoint.yml",
        "files/blue.yml",
        "files/green.yml",
        "request.json",
        "other.json",
    }
    assert (bundle.name, bundle.endpoint_name, bundle.path) == ("plan", "shop", str(folder / "plan.yml"))
    assert {name: made.spec.name for name, made in bundle.deployments.items()} == {"blue": "blue", "green": "green"}
    assert bundle.deployments["blue"].base == str(folder / "files")
    assert bundle.deployments["blue"].versions == {"azureml:m@latest": "azureml:m:1"}
    assert len(bundle.sha256) == 64


async def test_requests_by_file_inline_and_none(folder):
    bundle = await pinned(folder)
    assert bundle.request_body("request.json") == '{"x": "ü"}'.encode()
    assert bundle.request_body(InlineRequest(body="x")) == b"x"
    assert bundle.request_body(None) == b""


async def test_it_comes_back_from_the_store_as_it_was(folder):
    bundle = await pinned(folder)
    assert BUNDLE.validate_json(BUNDLE.dump_json(bundle)) == bundle


async def test_the_same_files_elsewhere_have_the_same_sha256(folder, tmp_path_factory):
    first = await pinned(folder)
    other = tmp_path_factory.mktemp("elsewhere") / "moved"
    folder.rename(other)
    assert (await pinned(other)).sha256 == first.sha256


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plan.yml", PLAN + "\n# another word\n"),
        ("files/endpoint.yml", "name: shop\ntags: {a: b}\n"),
        ("files/green.yml", "name: green\nmodel: azureml:m:3\n"),
        ("request.json", "{}"),
    ],
)
async def test_an_edit_shows(folder, name, text):
    before = await pinned(folder)
    (folder / name).write_text(text)
    assert (await pinned(folder)).sha256 != before.sha256


@pytest.mark.parametrize("name", ["files/endpoint.yml", "files/blue.yml", "request.json", "other.json"])
def test_a_file_that_is_missing(folder, name):
    (folder / name).unlink()
    with pytest.raises(PlanError, match=rf"plan.yml:\d+:\d+: .*{name}: there is no such file"):
        read(folder / "plan.yml")


def test_what_is_wrong_with_the_plan_and_with_all_its_files_is_told_at_once(folder):
    plan = folder / "plan.yml"
    plan.write_text(plan.read_text().replace("steps:", "onfail: pause\nsteps:", 1))
    (folder / "files" / "green.yml").write_text("name: green\ninstance_cuont: 2\n")
    (folder / "files" / "endpoint.yml").write_text("nam: shop\n")
    (folder / "request.json").unlink()
    with pytest.raises(PlanError) as caught:
        read(plan)
    told = "\n".join(f"{Path(each.file).name}: {each.key}" for each in caught.value.problems)
    assert "endpoint.yml: nam" in told
    assert "green.yml: instance_cuont" in told
    assert "plan.yml: onfail" in told
    assert "plan.yml: steps[1].request" in told


def test_a_wrong_file_is_named_with_its_line(folder):
    (folder / "files" / "green.yml").write_text("name: green\ninstance_cuont: 2\n")
    with pytest.raises(PlanError, match=r"green.yml:2:1.*instance_count"):
        read(folder / "plan.yml")


@pytest.mark.parametrize(
    ("file", "name"),
    [("My Plan (v2).yml", "my-plan-v2"), ("--.yml", "plan"), ("übung.yml", "bung"), ("x" * 100 + ".yml", "x" * 63)],
)
def test_a_plan_is_called_after_its_file(folder, file, name):
    (folder / "plan.yml").rename(folder / file)
    assert read(folder / file).name == name


def test_a_relative_path_is_made_absolute(folder, monkeypatch):
    monkeypatch.chdir(folder)
    draft = read(Path("plan.yml"))
    assert draft.path == folder / "plan.yml"
    assert draft.bases["green"] == str(folder / "files")


async def test_what_the_provider_says_passes_through(folder):
    chosen = provider()
    chosen.world.fail_next("resolve", Temporary("the registry is away"))
    with pytest.raises(Temporary, match="registry"):
        await pin(read(folder / "plan.yml"), chosen)


def test_an_endpoint_by_name_has_no_file(folder):
    text = PLAN.replace("{file: files/endpoint.yml}", "shop")
    (folder / "plan.yml").write_text(text)
    draft = read(folder / "plan.yml")
    assert (draft.endpoint, draft.endpoint_name) == (None, "shop")
