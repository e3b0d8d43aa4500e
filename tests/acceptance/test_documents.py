"""What the documents tell people to type is typed: every command of the README is run, or at least understood."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator.cli.main import cli
from plans.model import Plan
from plans.source import load, loads

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DRIVING = ("run", "resume", "pause", "abort", "approve", "watch")


def commands(document: Path) -> list[list[str]]:
    """The words of each `rollout` command in the shell blocks of a document."""
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = []
    for line in "\n".join(blocks).splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words and words[0] in ("rollout", ".venv/bin/rollout"):
            found.append(words[1:])
    return found


@pytest.mark.parametrize("document", [README, *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda path: path.name)
def test_every_command_in_a_document_exists_with_its_options(document: Path) -> None:
    for words in commands(document):
        names = words[:2] if words[0] == "endpoint" else words[:1]
        result = CliRunner().invoke(cli, [*names, "--help"])
        assert result.exit_code == 0, f"{document.name}: rollout {' '.join(words)}: {result.output}"
        for option in (word for word in words if word.startswith("--")):
            assert option.partition("=")[0] in result.output, f"{document.name}: rollout {' '.join(words)}"


def test_every_make_target_of_the_readme_exists() -> None:
    targets = re.findall(r"^make (\S+)", README.read_text(), flags=re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert targets
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, flags=re.MULTILINE)] == []


def test_the_plan_that_the_readme_explains_is_the_one_that_runs() -> None:
    explained = re.search(r"^```yaml\n(version: 1\n.*?)^```", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert explained is not None
    plan = ROOT / "examples" / "quickstart" / "plan.yml"
    assert loads(explained[1], Plan, name="README.md") == load(plan, Plan)


@pytest.mark.needs("linux", "envoy")
def test_the_commands_after_the_quickstart_do_what_the_readme_says(site: Any) -> None:
    site.rollout("run", "plan-errors.yml", code=1)
    typed = 0
    for words in commands(README):
        if words[0] in DRIVING or words[:2] == ["endpoint", "delete"]:
            continue
        here = [word.replace("examples/quickstart/", "").replace("diabetes", site.endpoint) for word in words]
        here = [site.endpoint if word == "NAME" else word for word in here]
        site.rollout(*here)
        typed += 1
    assert typed >= 5
    assert "blue 100%" in site.rollout("endpoint", "show", site.endpoint)
    site.rollout("endpoint", "delete", site.endpoint, "--yes")
