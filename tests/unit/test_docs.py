"""The pages say what the program does: every field, figure, link, message and code block in docs/ is checked here.

The figures of the page on gates are in `test_docs_gates`, the commands of the way for newcomers in
`acceptance/test_getting_started`.
"""

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel

from orchestrator.cli import main as command_line
from plans import bounds, units
from plans import gates as plan_gates
from plans import model as plan_model
from plans import steps as plan_steps
from plans.gates import GATES, KINDS
from plans.model import Plan
from plans.source import loads
from plans.steps import STEPS
from providers.local.provider import LocalProvider
from providers.memory import Behaviour, MemoryProvider, World
from tests.unit.pages import DOCS, PAGES, ROOT, blocks, file_block, sentences, table, text

EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(DOCS)))


def _script(name: str) -> ModuleType:
    """A script of docs/, which is no package; the scripts import each other as they do when they are run."""
    sys.path.insert(0, str(DOCS))
    try:
        spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(DOCS))


generate = _script("generate")
said = generate.said


# --- the plan reference ---------------------------------------------------------------------------


def test_the_plan_reference_is_what_the_models_say() -> None:
    assert text("plan-reference.md") == generate.page(), "run: python docs/generate.py"


def test_a_field_without_words_is_an_error() -> None:
    class New(BaseModel):
        unheard: int = 1

    with pytest.raises(ValueError, match="unheard has no description"):
        generate.table("New", generate.fields(New))
    with pytest.raises(ValueError, match="no words for"):
        generate.words(complex)


def _examples() -> Iterator[tuple[str, str, type[BaseModel], str]]:
    """(key, field, model, where) of every field that the page shows."""
    places = {"Plan": Plan, **STEPS, **KINDS, **generate.parts()}
    for where, model in places.items():
        for name in generate.fields(model):
            yield f"{where}.{name}", name, model, where


EXAMPLES = list(_examples())


@pytest.mark.parametrize(("key", "name", "model", "where"), EXAMPLES, ids=[key for key, *_ in EXAMPLES])
def test_every_example_of_the_plan_reference_loads(key: str, name: str, model: type[BaseModel], where: str) -> None:
    example = generate.example(where, name)
    assert f"`{example.splitlines()[0]}`" in text("plan-reference.md")
    base = said.LEAST.get(where, "")
    if where == "Plan":
        base = said.BY_ROLES if name in said.ROLE_FIELDS else said.BY_NAME
    merged = yaml.safe_load(base) or {}
    given = yaml.load(example, yaml.BaseLoader)
    if where in GATES and name == "metric":
        given["metric"] = where
    if key == "Plan.steps":
        merged.pop("gates")
    if key == "Plan.gates":
        merged["steps"] = [{"deploy": "green"}, {"canary": "10%", "gates": list(given["gates"])}]
    loaded = loads(yaml.safe_dump(merged | given, sort_keys=False), model, name=key)
    attribute = next(own for own, field in model.model_fields.items() if (field.alias or own) == name)
    assert attribute in loaded.model_fields_set
    default = model.model_fields[attribute].get_default(call_default_factory=True)
    only_one_value = re.fullmatch(r"`[^`]+`", generate.words(model.model_fields[attribute].annotation))
    assert getattr(loaded, attribute) != default or only_one_value, f"{key}: the example shows the default"


def test_the_whole_plans_of_the_plan_reference_load() -> None:
    assert blocks("plan-reference.md", "yaml") == [said.BY_NAME, said.BY_ROLES]
    assert not loads(said.BY_NAME, Plan, name="by name").by_roles
    assert loads(said.BY_ROLES, Plan, name="by roles").by_roles


def test_no_example_is_left_over() -> None:
    models = {"Plan": Plan, **STEPS, **KINDS, **generate.parts()}
    known = {f"{where}.{name}" for where, model in models.items() for name in generate.fields(model)}
    known |= {f"step.{name}" for model in STEPS.values() for name in generate.fields(model)}
    known |= {f"gated.{name}" for name in generate.fields(plan_steps.GatedStep)}
    known |= {f"gate.{name}" for model in KINDS.values() for name in generate.fields(model)}
    assert sorted({*said.EXAMPLES, *said.MEANINGS, *said.VALUES} - known) == []
    assert sorted(set(said.SECTIONS) - set(generate.parts())) == []


READERS: dict[str, Callable[[object], object]] = {
    "share": units.parse_share,
    "rate": units.parse_rate,
    "duration": units.parse_duration,
    "latency": units.parse_latency,
    "frequency": units.parse_frequency,
    "ratio": units.parse_ratio,
    "quantile": units.parse_quantile,
    "count or frequency": units.parse_load,
    "number": bounds.parse_number,
    "rate or number": bounds.parse_bound,
}


def test_values_are_written_as_the_page_says() -> None:
    shown = {row["value"]: re.findall(r"`([^`]+)`", row["examples"]) for row in table("plan-reference.md", "## How v")}
    assert set(generate.FORMS) <= set(shown)
    for form, reader in READERS.items():
        for example in shown[form]:
            assert not isinstance(reader(example), str), f"{form}: {example}"
    step = plan_steps.ApproveStep
    for example, meant in zip(shown["flag"], (True, False) * 3, strict=True):
        assert step.model_validate({"approve": "?", "not_by_starter": example}).not_by_starter is meant
    plan_gates.ErrorRateGate.model_validate({"metric": "error_rate", "max": "2%", "codes": shown["class of errors"]})


def test_what_is_not_built_is_refused_by_name() -> None:
    listed = set(re.findall(r"`(\w+)`", text("plan-reference.md").partition("## Not built yet")[2]))
    assert listed == {*Plan.not_built, *plan_steps.StepFields.not_built, *plan_gates.GateFields.not_built}
    assert plan_model.Plan.not_built <= listed


# --- providers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "provider"), [("local", LocalProvider), ("memory", MemoryProvider)])
def test_the_options_of_a_provider(name: str, provider: Any) -> None:
    after = text("providers.md").split(f"\n## {name}", 1)[1].split("\n## ", 1)[0]
    options = after.split("**Options**", 1)[1]
    found = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*?) \|$", options, re.MULTILINE))
    fields = provider.Options.model_fields
    assert set(found) == set(fields)
    for option, shown in found.items():
        default = fields[option].default
        if isinstance(default, int | float | str):
            assert (
                shown.strip("`") == (str(default).lower() if isinstance(default, bool) else f"{default}".rstrip(".0"))
                or shown == f"{default:g}"
            )


def test_the_skeleton_of_a_provider_passes_the_conformance_suite(tmp_path: Path) -> None:
    for name in ("shelf.py", "test_shelf.py"):
        (tmp_path / name).write_text(file_block("providers.md", name))
    options = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function", "-o", "pythonpath=.")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", *options, "test_shelf.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed, skipped = re.search(r"(\d+) passed, (\d+) skipped", done.stdout).groups()  # type: ignore[union-attr]
    assert f"{passed} tests pass, and {skipped} are skipped" in sentences("providers.md")


def test_the_plans_and_the_world_of_the_page_on_providers() -> None:
    for block in blocks("providers.md", "yaml"):
        if block.startswith("provider:"):
            loads(said.BY_NAME + block, Plan, name="providers.md")
    plan = loads(file_block("providers.md", "simulated.yml"), Plan, name="simulated.yml")
    assert MemoryProvider.Options.model_validate(plan.provider.options).rate == 200  # type: ignore[attr-defined]
    names: dict[str, Any] = {}
    exec(file_block("providers.md", "in_a_test.py"), names)
    assert isinstance(names["world"], World)
    assert isinstance(names["Behaviour"](), Behaviour)


# --- operations and the command line --------------------------------------------------------------


def test_every_exit_code_is_explained() -> None:
    names = ("SUCCEEDED", "ROLLED_BACK", "USAGE", "TRY_AGAIN", "PAUSED", "FAILED", "READER_LEFT", "INTERRUPTED")
    codes = {str(getattr(command_line, name)) for name in names}
    for page, heading in (("operations.md", "## Exit codes"), ("cli.md", "**Exit codes**")):
        assert {row["code"] for row in table(page, heading)} == codes


@pytest.mark.parametrize("command", command_line.COMMANDS)
def test_every_command_has_a_section(command: str) -> None:
    """Its options and sub-commands are compared in `test_cli_docs`."""
    assert f"\n## rollout {command}\n" in text("cli.md")


def test_every_setting_of_the_environment_is_explained() -> None:
    read = set(re.findall(r"ROLLOUT_[A-Z]+", (ROOT / "orchestrator" / "settings.py").read_text("utf-8"))) | {"NO_COLOR"}
    assert read <= {row["variable"].strip("`") for row in table("cli.md", "**Environment**")}


@EACH_PAGE
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    """Also those within a sentence; `test_documents` runs over the blocks."""
    for written in re.findall(r"`(rollout [a-z][^`\n]*)`", page.read_text("utf-8")):
        words = [word for word in shlex.split(written) if word != "..."][1:]
        names = words[:2] if words[0] == "endpoint" and len(words) > 1 else words[:1]
        if not re.fullmatch(r"[a-z][a-z-]*", names[0]):
            continue
        result = CliRunner().invoke(command_line.cli, [*names, "--help"])
        assert result.exit_code == 0, f"`{written}`: {result.output}"
        for option in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert option in result.output, f"`{written}`: there is no {option}"


def _spoken() -> str:
    """All that the program can say, as one text: its sources, with strings that are joined joined."""
    sources = [path.read_text("utf-8") for floor in ("orchestrator", "providers") for path in _modules(floor)]
    joined = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))
    return re.sub(r"\s+", " ", joined)


def _modules(floor: str) -> list[Path]:
    return sorted((ROOT / floor).rglob("*.py"))


def test_every_message_that_leads_to_a_section_is_one_that_the_program_says() -> None:
    spoken = _spoken()
    rows = table("operations.md", "woken up, back to blue")
    assert len(rows) >= 12
    anchors = _anchors(DOCS / "operations.md")
    for row in rows:
        cells = list(row.values())
        for message in re.findall(r"`([^`]+)`", cells[0]):
            said_as = {
                "rolled back": '"rolled back"',
                "waits for approval": "waits for approval: ",
                "could not be measured 5 times in a row": "could not be measured {ERRORS_THAT_ACT} times in a row",
                "undecided within": "undecided {limit}",
                "no data within": "no data {limit}",
            }.get(message, message)
            assert said_as in spoken, f"nothing says {message!r}"
        (target,) = re.findall(r"\]\(#([^)]+)\)", cells[1])
        assert target in anchors


# --- links ----------------------------------------------------------------------------------------


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts and MyST make them."""
    prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#{1,4} (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EACH_PAGE
def test_every_link_leads_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file) if file else page
        assert there.exists(), f"{page.name}: {target}"
        assert DOCS in there.resolve().parents, f"{page.name}: {target} leads out of docs/, where the site has no page"
        assert not anchor or anchor in _anchors(there), f"{page.name}: {target}"


def test_every_page_is_in_the_sidebar_and_the_index() -> None:
    listed = [
        f"{name}.md" for name in re.findall(r'^    "([a-z/*-]+)",$', (DOCS / "conf.py").read_text(), re.MULTILINE)
    ]
    found = {path for pattern in listed for path in DOCS.glob(pattern)} | {DOCS / "index.md"}
    assert found == set(PAGES)
    linked = re.findall(r"\]\(([\w/.-]+\.md)\)", text("index.md"))
    assert {DOCS / link for link in linked} | {DOCS / "index.md"} == set(PAGES)


@pytest.mark.needs("docs")
def test_the_site_builds_without_a_warning_and_needs_no_network(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-b",
        "html",
        "-W",
        "-q",
        "-d",
        str(tmp_path / "trees"),
        str(DOCS),
        str(site),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        html = page.read_text("utf-8")
        fetched = re.findall(r"<(?:script|img|iframe|source)[^>]*\bsrc=\"((?:https?:)?//[^\"]+)", html)
        fetched += re.findall(r"<link[^>]*\bhref=\"((?:https?:)?//[^\"]+)", html)
        assert fetched == [], f"{page.name} fetches {fetched}"
    for style in site.rglob("*.css"):
        assert re.findall(r"url\(['\"]?(?:https?:)?//", style.read_text("utf-8")) == [], style.name
