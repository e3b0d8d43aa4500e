"""The stock plans: each is a right plan, teaches what its comments promise, and names the same few files."""

import re

import pytest

from orchestrator.starter.companions import companions
from plans import expand, library, source
from plans.model import FileRef, Plan
from plans.steps import step_kind

NAMES = library.names()
EACH = pytest.mark.parametrize("name", NAMES)


def plan(name: str, **overrides: str) -> Plan:
    return source.loads(library.text(name), Plan, name=name, rewrite=expand.rewriter(overrides))


def kinds(name: str) -> list[str]:
    return [str(step_kind(step)) for step in plan(name).steps]


def test_what_there_is():
    assert NAMES == (
        "blue-green",
        "canary-ladder",
        "kubernetes",
        "low-traffic",
        "safe-rollout",
        "scheduled",
        "shadow-only",
    )


@EACH
def test_it_is_a_right_plan_that_anybody_can_read(name):
    read, lines = plan(name), library.text(name).splitlines()
    assert lines[0] == "# yaml-language-server: $schema=rollout-plan.schema.json"
    assert library.summary(name) == lines[1].removeprefix("# ")
    assert re.fullmatch(r"[A-Z].{30,90}\.", library.summary(name))
    assert 30 <= len(lines) <= 60
    assert max(map(len, lines)) <= 120
    assert sum("#" in line for line in lines) >= 15
    assert read.name == library.CALLED
    assert (read.provider.name, read.version) == ("local", 1)


@EACH
def test_it_names_the_files_that_init_writes(name):
    read = plan(name)
    beside = companions("x")
    refs = [read.endpoint, read.candidate, read.stable, *(read.deployments or {}).values()]
    for ref in refs:
        if ref is not None and not isinstance(ref, str):
            assert isinstance(ref, FileRef)
            assert ref.file in beside
    for request in re.findall(r"request: ([\w.-]+)", library.text(name)):
        assert request in beside


@EACH
def test_its_hold_is_a_variable_so_that_it_can_be_seen_in_a_minute(name):
    quick = plan(name, HOLD="1s")
    holds = [step.hold for step in quick.steps if getattr(step, "gates", ())]
    assert holds
    assert set(holds) == {1.0}
    assert "--var HOLD=" in library.text(name)


@EACH
def test_it_has_traffic_of_its_own_and_says_what_becomes_of_it(name):
    text = library.text(name)
    assert plan(name).load is not None
    before = text[: text.index("\nload:")].splitlines()[-1]
    assert re.search(r"[Rr]emove it|Worth keeping", before)


@EACH
def test_every_gated_step_after_the_switch_has_an_absolute_bound(name):
    """Stable has no traffic any more, so there is nothing else to hold the candidate to."""
    read = plan(name)
    for step in read.steps:
        if getattr(step, "promote", None) == 1000:
            assert step.hold > 0
            assert all(read.gates[gate].max is not None for gate in step.gates)


def test_what_makes_each_one_what_it_is():
    assert kinds("safe-rollout") == ["deploy", "test", "shadow", "canary", "promote", "delete"]
    assert kinds("blue-green") == ["deploy", "test", "promote", "delete"]
    assert kinds("shadow-only") == ["deploy", "test", "shadow"]
    assert kinds("canary-ladder").count("canary") == 2
    assert "shadow" not in kinds("kubernetes"), "endpoints on Kubernetes cannot mirror"
    assert "approve" in kinds("low-traffic")
    assert {"wait", "approve"} < set(kinds("scheduled"))
    assert plan("scheduled").by_roles
    assert max(step.hold for step in plan("scheduled").steps if hasattr(step, "hold")) >= 3600
    assert plan("canary-ladder").steps[2].decide == "no_fail"


def test_the_first_plan_ends_in_a_minute_or_so():
    read = plan("safe-rollout")
    stages = sum(len(getattr(step, "canary", (1,))) for step in read.steps if hasattr(step, "hold"))
    assert stages * read.steps[2].hold <= 60
    assert (
        library.text("safe-rollout").count("# PRODUCTION:") + library.text("safe-rollout").count(" # PRODUCTION") >= 4
    )


def test_an_unknown_one():
    with pytest.raises(KeyError):
        library.text("nonsense")
    with pytest.raises(KeyError):
        library.text("../model")
