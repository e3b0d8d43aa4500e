"""Plans and rollouts as Mermaid text: what is in it, the one way back, and that no name can break it."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from orchestrator import graph
from orchestrator.cli.main import main
from orchestrator.gates.spec import Gate
from orchestrator.graph import Edge, as_json, label, mermaid, of_plan, of_rollout
from orchestrator.stages import Stage, Target
from orchestrator.views import as_json as plain_json

ERRORS = Gate("errors", "error_rate", max=0.05)
BLUE = {"blue": 1000}


def stage(index, name, kind, traffic=BLUE, mirror=None, **more):
    return Stage(index, name, kind, index, Target(traffic, mirror or {}), **more)


def plan(*, bootstrap=True, names=("deploy green", "shadow 10%", "canary 10%", "promote 100%", "delete blue")):
    made = [stage(0, "bootstrap blue", "bootstrap")] if bootstrap else []
    at = len(made)
    made += [
        stage(at, names[0], "deploy"),
        stage(at + 1, names[1], "shadow", mirror={"green": 100}, gates=(ERRORS,), hold=90.0),
        stage(at + 2, names[2], "canary", {"blue": 895, "green": 105}, gates=(ERRORS, replace(ERRORS, name="p95"))),
        stage(at + 3, names[3], "promote", {"green": 1000}, guards=(ERRORS,)),
        stage(at + 4, names[4], "delete", {"green": 1000}, irreversible=True),
    ]
    return tuple(made)


def nodes(text):
    """id -> lines of its label."""
    return {
        found[1]: found[2].split("<br/>") for found in re.finditer(r'^ +(\w+)\(?\["([^"]*)"\]\)?$', text, re.MULTILINE)
    }


def test_a_node_says_what_its_stage_does():
    text = mermaid(of_plan(plan(), BLUE))
    assert text.splitlines()[0] == "flowchart LR"
    assert nodes(text) == {
        "s1": ["1 bootstrap blue", "blue 100%"],
        "s2": ["2 deploy green"],
        "s3": ["3 shadow 10%", "blue 100%", "mirrored to green 10%", "gate: errors", "hold 1m30s"],
        "s4": ["4 canary 10%", "blue 89.5%, green 10.5%", "gates: errors, p95"],
        "s5": ["5 promote 100%", "green 100%", "guarded by errors"],
        "s6": ["6 delete blue", "from here no way back"],
        "done": ["succeeded"],
        "back": ["rolled back: blue 100%"],
    }


def test_arrows_go_on_and_the_way_back_is_drawn_once():
    text = mermaid(of_plan(plan(), BLUE))
    arrows = [line.strip() for line in text.splitlines() if re.search(r"-->|==>|\.->", line)]
    assert arrows == [
        "s1 --> s2",
        "s2 --> s3",
        "s3 --> s4",
        "s4 --> s5",
        's5 == "no way back" ==> s6',
        "s6 --> done",
        "revocable -..-> back",
    ]


def test_what_a_rollback_undoes_ends_at_the_point_of_no_return_and_leaves_out_the_bootstrap():
    drawn = of_plan(plan(), BLUE)
    assert drawn.revocable == ("s2", "s3", "s4", "s5")
    inside = re.search(r"subgraph revocable\[.*?\n(.*?)\n    end\n", mermaid(drawn), re.DOTALL)[1]
    assert list(nodes(inside)) == ["s2", "s3", "s4", "s5"]
    assert of_plan(plan(bootstrap=False), BLUE).revocable == ("s1", "s2", "s3", "s4")


def test_nothing_leads_back_where_nothing_can_be_undone():
    only = (stage(0, "delete blue", "delete", irreversible=True),)
    drawn = of_plan(only, BLUE)
    assert [node.id for node in drawn.nodes] == ["s1", "done"]
    assert drawn.edges == (Edge("s1", "done", "pass"),)
    assert "subgraph" not in mermaid(drawn)


def test_many_stages_are_drawn_from_top_to_bottom():
    many = tuple(stage(index, f"canary {index}%", "canary") for index in range(7))
    assert mermaid(of_plan(many, BLUE)).startswith("flowchart TD\n")


def classes(text):
    """Node -> class, of those that are defined."""
    defined = set(re.findall(r"classDef (\w+) fill:", text))
    found = {}
    for ids, name in re.findall(r"^    class ([\w,]+) (\w+)$", text, re.MULTILINE):
        assert name in defined
        found |= dict.fromkeys(ids.split(","), name)
    return found


def test_a_plan_has_one_class_and_its_point_of_no_return_another():
    found = classes(mermaid(of_plan(plan(), BLUE)))
    assert {name for node, name in found.items() if node != "s6"} == {"planned"}
    assert found["s6"] == "final"


def rollout(story, phase, states):
    records = tuple(replace(record, state=state) for record, state in zip(story.rollout.stages, states, strict=False))
    return replace(story.rollout, phase=phase, stages=records)


@pytest.mark.parametrize(
    ("phase", "states", "end", "back"),
    [
        ("running", ("passed", "passed", "running", "waiting", "waiting", "waiting"), "waiting", "waiting"),
        ("rolled_back", ("passed", "passed", "passed", "failed", "waiting", "waiting"), "waiting", "undone"),
        ("rolling_back", ("passed", "passed", "undone", "waiting", "waiting", "waiting"), "waiting", "running"),
        ("succeeded", ("passed", "passed", "skipped", "passed", "passed", "passed"), "passed", "waiting"),
        ("failed", ("passed", "passed", "failed", "waiting", "waiting", "waiting"), "failed", "waiting"),
    ],
)
def test_a_rollout_has_its_states_as_classes(story, phase, states, end, back):
    drawn = of_rollout(rollout(story, phase, states), plan())
    found = classes(mermaid(drawn))
    shown = ["final" if number == 5 and state == "waiting" else state for number, state in enumerate(states)]
    assert [found[f"s{number + 1}"] for number in range(6)] == shown
    assert (found["done"], found["back"]) == (end, back)


def test_without_the_compiled_plan_names_and_states_are_left(story):
    drawn = of_rollout(story.upto_canary().rollout, ())
    assert nodes(mermaid(drawn))["s5"] == ["5 canary 10%"]
    assert [node.state for node in drawn.nodes[:5]] == ["passed"] * 4 + ["running"]


def test_json_has_nodes_and_an_edge_back_from_each_stage_that_can_be_undone(story):
    drawn = of_rollout(rollout(story, "running", ("passed",) * 4 + ("running", "waiting")), plan())
    body = json.loads(json.dumps(plain_json(as_json(drawn)), allow_nan=False))
    assert set(body) == {"mermaid", "nodes", "edges"}
    assert body["mermaid"] == mermaid(drawn)
    canary = body["nodes"][3]
    assert canary == {
        "id": "s4",
        "index": 4,
        "name": "canary 10%",
        "kind": "canary",
        "state": "passed",
        "traffic": {"blue": 89.5, "green": 10.5},
        "mirror": {},
        "gates": ["errors", "p95"],
        "guards": [],
        "hold": 0.0,
        "deadline": None,
        "irreversible": False,
    }
    backs = [(edge["from"], edge["to"]) for edge in body["edges"] if edge["kind"] == "back"]
    assert backs == [("s2", "back"), ("s3", "back"), ("s4", "back"), ("s5", "back")]
    ids = {node["id"] for node in body["nodes"]}
    assert all({edge["from"], edge["to"]} <= ids for edge in body["edges"])


HOSTILE = [
    'say "hi"',
    "a] --> b[",
    "x\n    y --> z",
    "`md`",
    "<script>alert(1)</script>",
    "%%{init: {'theme': 'forest'}}%%",
    "#quot; &amp; #35;",
    "end",
    "click s1 href javascript:alert(1)",
    "a|b{c}(d);e\\",
    "\u202eabc\x1b[0m",
    "größer 🙂 日本",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_breaks_the_diagram(name):
    names = (name, "shadow", "canary", "promote", "delete")
    text = mermaid(of_plan(plan(names=names), BLUE))
    plain = mermaid(of_plan(plan(names=("x", *names[1:])), BLUE))
    assert len(text.splitlines()) == len(plain.splitlines())
    inside = nodes(text)["s2"]
    assert len(inside) == 1
    assert re.fullmatch(r"2 (?:[\w .,:%/+=()'!?-]|#\d+;)*", inside[0])
    assert "%%{" not in text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("canary 10%", "canary 10%"),
        ('"', "#34;"),
        ("a#b;", "a#35;b#59;"),
        ("<b>", "#60;b#62;"),
        ("[x]", "#91;x#93;"),
        ("`", "#96;"),
        ("a\n b\t", "a b"),
        ("🙂", "#128578;"),
        ("Größe", "Größe"),
    ],
)
def test_labels_are_escaped_character_by_character(given, shown):
    assert label(given) == shown


# --- the command ----------------------------------------------------------------------------------

PLAN = """
name: shop
provider: memory
endpoint: {file: endpoint.yml}
deployments: {blue: {file: blue.yml}, green: {file: green.yml}}
steps:
  - deploy: green
    name: 'green "arrives"'
  - promote: 100%
  - delete: blue
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.setenv("ROLLOUT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ROLLOUT_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "endpoint.yml").write_text("name: shop\n")
    for name in ("blue", "green"):
        (tmp_path / f"{name}.yml").write_text(f"name: {name}\nmodel: azureml:{name}:1\n")
    (tmp_path / "plan.yml").write_text(PLAN)
    return SimpleNamespace(home=tmp_path / "home")


def test_a_plan_file_is_drawn_offline(shop, capsys):
    assert main(["graph", "plan.yml"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("flowchart LR\n")
    assert nodes(text)["s2"] == ["2 green #34;arrives#34;"]
    assert main(["graph", "plan.yml", "-o", "json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["mermaid"] == text
    assert body["nodes"][0]["name"] == "bootstrap blue"
    assert not shop.home.exists(), "looking at a file leaves no trace"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone.yml"], "there is no file gone.yml"),
        (["gone"], "there is no rollout gone"),
        ([], "there is no rollout yet"),
        (["gone", "--var", "A=1"], "--var is for plan files"),
    ],
)
def test_what_is_not_there_is_said(shop, capsys, arguments, said):
    assert main(["graph", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_a_plan_that_is_wrong_is_told_as_by_validate(shop, capsys, tmp_path):
    (tmp_path / "plan.yml").write_text(PLAN.replace("delete: blue", "delete: grey"))
    assert main(["graph", "plan.yml"]) == 2
    assert "grey" in capsys.readouterr().err


def test_every_state_has_a_style():
    states = graph.StageState.__args__
    assert set(states) <= set(graph._STYLES)
