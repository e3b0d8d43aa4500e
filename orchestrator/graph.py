"""A plan, or a rollout, as a diagram: its stages from left to right, the one way back, and where that ends.

The diagram is Mermaid text, which the places where plans are discussed (reviews, wikis) draw by themselves. Whatever
comes from the plan is escaped character by character, so that a step's name can neither break the syntax nor become
markup or a directive. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from orchestrator.rollout import Rollout, StageState
from orchestrator.stages import Stage, Target
from orchestrator.views import percents
from plans.units import show_duration

Kind = Literal["pass", "back"]
DONE, BACK, WAY_BACK = "done", "back", "revocable"
MANY = 6
"""More stages than this are drawn from top to bottom."""
_PLAIN = frozenset(" .,:%/+-=()'!?")

# Fill, border and text of each state; dark text on light ground and a border of its own, on light pages and dark ones.
_STYLES: Mapping[str, str] = {
    "waiting": "fill:#eef1f4,stroke:#7b8794,color:#2b333e",
    "passed": "fill:#dcf5e3,stroke:#15803d,color:#0f3d20",
    "running": "fill:#dfeafd,stroke:#2160c4,color:#12305f,stroke-width:3px",
    "failed": "fill:#fde3e1,stroke:#b3261e,color:#5f1410,stroke-width:3px",
    "skipped": "fill:#f6f7f9,stroke:#7b8794,color:#55606e,stroke-dasharray:4 3",
    "undone": "fill:#fdf0cd,stroke:#a15c00,color:#543600",
    "planned": "fill:#eef1f4,stroke:#4a5563,color:#17202c",
    "final": "fill:#fde3e1,stroke:#b3261e,color:#5f1410,stroke-dasharray:6 3",
}


@dataclass(frozen=True, slots=True)
class Node:
    """A stage, the end, or the way back.

    Attributes:
        id: in the diagram.
        name: of the stage. kind: of its step, `done` or `back`; "" where that is not known.
        index: from 1, None for the end and the way back.
        traffic, mirror: deployment -> percent, where the stage sets or keeps them.
        gates, guards: names. hold, deadline: seconds.
        irreversible: from here there is no way back.
        state: of a rollout's stage, None in a plan.
    """

    id: str
    name: str
    kind: str
    index: int | None = None
    traffic: Mapping[str, float] | None = None
    mirror: Mapping[str, float] | None = None
    gates: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()
    hold: float = 0.0
    deadline: float | None = None
    irreversible: bool = False
    state: StageState | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow: `pass` to what comes next, `back` for the rollback, which every stage in `source` shares."""

    source: str
    target: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Graph:
    """What is drawn. `revocable`: ids of the stages that a rollback undoes."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    revocable: tuple[str, ...]


def of_plan(stages: Sequence[Stage], baseline: Mapping[str, int]) -> Graph:
    """The stages of a plan; `baseline` is the split that a rollback restores, in tenths of a percent."""
    return _connected([_node(stage) for stage in stages], baseline)


def of_rollout(rollout: Rollout, stages: Sequence[Stage]) -> Graph:
    """A rollout as it stands; `stages` are those of its pinned plan, or none where it cannot be compiled here."""
    nodes = []
    for index, record in enumerate(rollout.stages):
        node = _node(stages[index]) if index < len(stages) else Node(_id(index), record.name, "", index + 1)
        nodes.append(replace(node, state=record.state))
    ends: dict[str, StageState] = {"succeeded": "passed", "failed": "failed"}
    backs: dict[str, StageState] = {"rolled_back": "undone", "rolling_back": "running"}
    return _connected(
        nodes,
        rollout.roles.baseline.traffic,
        end=ends.get(rollout.phase, "waiting"),
        back=backs.get(rollout.phase, "waiting"),
    )


def mermaid(graph: Graph) -> str:
    """The diagram as Mermaid text."""
    stages = [node for node in graph.nodes if node.index is not None]
    lines = [f"flowchart {'LR' if len(stages) <= MANY else 'TD'}"]
    inside = [node for node in stages if node.id in graph.revocable]
    outside = [node for node in graph.nodes if node not in inside]
    if inside:
        lines.append(f'    subgraph {WAY_BACK}["a FAIL or an abort in here is rolled back"]')
        lines += [f"        {_drawn(node)}" for node in inside]
        lines.append("    end")
    lines += [f"    {_drawn(node)}" for node in outside]
    for edge in graph.edges:
        if edge.kind == "back":
            lines.append(f"    {edge.source} -..-> {edge.target}")
            continue
        target = next(node for node in graph.nodes if node.id == edge.target)
        arrow = '== "no way back" ==>' if target.irreversible else "-->"
        lines.append(f"    {edge.source} {arrow} {edge.target}")
    if inside:
        lines.append(f"    style {WAY_BACK} fill:none,stroke:#7b8794,stroke-dasharray:6 4")
    classes: dict[str, list[str]] = {}
    for node in graph.nodes:
        classes.setdefault(_style(node), []).append(node.id)
    for style, ids in classes.items():
        lines.append(f"    classDef {style} {_STYLES[style]}")
        lines.append(f"    class {','.join(ids)} {style}")
    return "\n".join(lines) + "\n"


def as_json(graph: Graph) -> dict[str, object]:
    """Nodes, edges and the text, for programs."""
    nodes = [
        {
            "id": node.id,
            "index": node.index,
            "name": node.name,
            "kind": node.kind,
            "state": node.state,
            "traffic": node.traffic,
            "mirror": node.mirror,
            "gates": node.gates,
            "guards": node.guards,
            "hold": node.hold,
            "deadline": node.deadline,
            "irreversible": node.irreversible,
        }
        for node in graph.nodes
    ]
    edges = []
    for edge in graph.edges:
        sources = graph.revocable if edge.source == WAY_BACK else (edge.source,)
        edges += [{"from": source, "to": edge.target, "kind": edge.kind} for source in sources]
    return {"mermaid": mermaid(graph), "nodes": nodes, "edges": edges}


def label(text: str) -> str:
    """A text as the inside of a quoted Mermaid label: letters, digits and some marks as they are, the rest as codes."""
    one_line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return "".join(char if char.isalnum() or char in _PLAIN else f"#{ord(char)};" for char in one_line)


def _id(index: int) -> str:
    return f"s{index + 1}"


def _node(stage: Stage) -> Node:
    target = stage.work if isinstance(stage.work, Target) else stage.standing
    shown = target is not None and stage.kind in ("bootstrap", "shadow", "canary", "promote")
    return Node(
        id=_id(stage.index),
        name=stage.name,
        kind=stage.kind,
        index=stage.index + 1,
        traffic=percents(target.traffic) if target is not None and shown else None,
        mirror=percents(target.mirror) if target is not None and shown else None,
        gates=tuple(gate.name for gate in stage.gates),
        guards=tuple(gate.name for gate in stage.guards),
        hold=stage.hold,
        deadline=stage.deadline,
        irreversible=stage.irreversible,
    )


def _connected(
    nodes: Sequence[Node],
    baseline: Mapping[str, int],
    *,
    end: StageState | None = None,
    back: StageState | None = None,
) -> Graph:
    # A bootstrap is not undone; what comes after the point of no return cannot be.
    final = next((number for number, node in enumerate(nodes) if node.irreversible), len(nodes))
    revocable = tuple(node.id for node in nodes[:final] if node.kind != "bootstrap")
    ways = [Edge(before.id, after.id, "pass") for before, after in pairwise(nodes)]
    if nodes:
        ways.append(Edge(nodes[-1].id, DONE, "pass"))
    ends = [Node(DONE, "succeeded", "done", state=end)]
    if revocable:
        ends.append(Node(BACK, "rolled back", "back", traffic=percents(baseline), state=back))
        ways.append(Edge(WAY_BACK, BACK, "back"))
    return Graph((*nodes, *ends), tuple(ways), revocable)


def _style(node: Node) -> str:
    if node.state is not None and (node.state != "waiting" or not node.irreversible):
        return node.state
    return "final" if node.irreversible else "planned"


def _drawn(node: Node) -> str:
    words = "<br/>".join(label(line) for line in _lines(node))
    opening, closing = ("([", "])") if node.index is None else ("[", "]")
    return f'{node.id}{opening}"{words}"{closing}'


def _lines(node: Node) -> list[str]:
    if node.index is None:
        split = _split(node.traffic)
        return [f"{node.name}: {split}" if split else node.name]
    lines = [f"{node.index} {node.name}", _split(node.traffic)]
    if node.mirror:
        lines.append(f"mirrored to {_split(node.mirror)}")
    if node.gates:
        lines.append(f"{'gate' if len(node.gates) == 1 else 'gates'}: {', '.join(node.gates)}")
    elif node.guards:
        lines.append(f"guarded by {', '.join(node.guards)}")
    if node.hold:
        lines.append(f"hold {show_duration(node.hold)}")
    if node.irreversible:
        lines.append("from here no way back")
    return [line for line in lines if line]


def _split(shares: Mapping[str, float] | None) -> str:
    return ", ".join(f"{name} {share:g}%" for name, share in (shares or {}).items())
