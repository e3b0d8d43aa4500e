"""The page on metrics says what the metrics do: every option with its default, plans that load, the whole example."""

import re
from typing import Any

import numpy as np
import pytest

from orchestrator.gates.kernels import bound_evidence
from plans.model import Plan
from plans.source import loads
from providers.metrics import base, http_json, prometheus
from providers.metrics.placeholders import NAMES
from providers.registry import metric_form
from tests.unit.pages import ROOT, blocks, file_block, sentences, table, text

HEAD = "version: 1\nendpoint: {file: e.yml}\ndeployments: {blue: {file: b.yml}, green: {file: g.yml}}\n"
STEPS = "steps: [{deploy: green}, {promote: 100%}]\n"


@pytest.mark.parametrize(("name", "options"), [("prometheus", prometheus.Options), ("http", http_json.Options)])
def test_every_option_with_its_default(name: str, options: Any) -> None:
    rows = table("metrics.md", f"\n## {name}\n")
    assert [row["option"].strip("`") for row in rows] == sorted(
        options.model_fields, key=[row["option"].strip("`") for row in rows].index
    )
    for row in rows:
        field = options.model_fields[row["option"].strip("`")]
        if field.is_required():
            assert row["default"] == "must be given"
        elif isinstance(field.default, float):
            assert row["default"] == f"{field.default:g}s"
        elif isinstance(field.default, str):
            assert row["default"] == field.default


def test_every_placeholder() -> None:
    rows = table("metrics.md", "## What is asked of whom")
    assert {row["placeholder"].strip("`{}") for row in rows} == set(NAMES)


def test_the_plans_of_the_page_load_and_their_metrics_take_their_options() -> None:
    seen = []
    for block in blocks("metrics.md", "yaml"):
        plan = loads(HEAD + block + STEPS, Plan, name="metrics.md")
        for gate in plan.gates.values():
            ((name, options),) = gate.metric.items()  # type: ignore[union-attr]
            seen.append((name, metric_form(name, options)))
    assert set(seen) == {(name, form) for name in ("prometheus", "http") for form in ("counts", "values")}


def test_the_example_is_the_one_that_is_tested() -> None:
    example = (ROOT / "examples" / "metrics" / "csv_metric.py").read_text()
    assert file_block("metrics.md", "csv_metric.py") == f"# csv_metric.py\n{example}"
    assert len(example.splitlines()) <= 50
    (announced,) = blocks("metrics.md", "toml")
    assert announced in (ROOT / "examples" / "metrics" / "pyproject.toml").read_text()
    assert re.search(r"`examples/metrics`", text("metrics.md"))


@pytest.mark.parametrize(("side", "level", "about", "give"), [("fail", 0.01, 10, 2), ("pass", 0.05, 6, 1)])
def test_what_the_coarse_form_costs(side: Any, level: float, about: int, give: int) -> None:
    said = {"fail": f"about {about} points beyond the limit", "pass": f"about {about} within it are a PASS"}
    assert said[side] in sentences("metrics.md")
    assert f"about {about} " in " ".join(str(base.__doc__).split())

    def needed(contrary: int) -> int:
        """Points until the gate is sure, so many of them on the other side."""
        beyond = side == "fail"
        points = [int(not beyond)] * contrary + [int(beyond)] * 60
        evidence = bound_evidence(points, [1] * len(points), 0.5, side)
        return int(np.argmax(evidence >= np.log(1 / level))) + 1

    assert abs(needed(0) - about) <= give
    assert {needed(1) - needed(0), needed(2) - needed(1), needed(3) - needed(2)} <= {3, 4}
