"""What a rollout costs beyond what its plan asks for, and how soon the command line answers.

Two promises, as ratios so that any machine can be compared with any other: the quickstart's time beyond its holds
against the 6 s that it may take, and `rollout --help` against twice the time of `python -c "import click"`. Only
printed: a busy machine is no defect.

    .venv/bin/python benchmarks/bench_rollout.py
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

PLAN = Path(__file__).parents[1] / "examples" / "quickstart" / "plan.yml"
SCRIPT = Path(sys.executable).with_name("rollout")
BEYOND_S = 6.0
TIMES = 15


def main() -> None:
    """Print both."""
    start_up()
    with tempfile.TemporaryDirectory(prefix="ro") as folder:
        quickstart(Path(folder))


def start_up() -> None:
    """Medians, taken in turn so that both meet the same machine."""
    took: dict[str, list[float]] = {"click": [], "help": []}
    for _ in range(TIMES):
        for name, command in (("click", [sys.executable, "-c", "import click"]), ("help", [str(SCRIPT), "--help"])):
            began = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            took[name].append(time.perf_counter() - began)
    click, helped = (statistics.median(took[name]) for name in ("click", "help"))
    print(f'python -c "import click"   {click * 1e3:6.0f} ms')
    print(f"rollout --help             {helped * 1e3:6.0f} ms   {helped / click:.2f} of it (promised: at most 2)\n")


def quickstart(folder: Path) -> None:
    """Run the plan in a home of its own and split its time by stage."""
    (folder / "run").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ROLLOUT_")}
    environment |= {"ROLLOUT_HOME": str(folder / "home"), "XDG_RUNTIME_DIR": str(folder / "run")}

    def rollout(*arguments: str) -> str:
        done = subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"rollout {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    try:
        began = time.perf_counter()
        rollout("run", str(PLAN))
        wall = time.perf_counter() - began
        report(wall, [json.loads(line) for line in rollout("history", "--output", "ndjson").splitlines()])
    finally:
        rollout("endpoint", "delete", "diabetes", "--yes")


def report(wall: float, events: list[dict[str, Any]]) -> None:
    """`held`: from a stage's target to its PASS, at least its hold; the rest of a stage is ours."""
    stages: list[dict[str, Any]] = []
    names = events[0]["body"]["stages"]
    for event in events:
        at, body = datetime.fromisoformat(event["at"]), event["body"]
        match body["kind"]:
            case "stage_entered":
                stages.append({"name": names[body["stage"]], "entered": at, "hold": 0.0, "held": 0.0, "reached": None})
            case "reached" if body["hold_until"]:
                hold = (datetime.fromisoformat(body["hold_until"]) - at).total_seconds()
                stages[-1] |= {"reached": at, "hold": hold}
            case "leaving" | "stage_ended" if stages[-1]["reached"] and not stages[-1]["held"]:
                stages[-1]["held"] = (at - stages[-1]["reached"]).total_seconds()
        if body["kind"] == "stage_ended":
            stages[-1]["took"] = (at - stages[-1]["entered"]).total_seconds()
    print(f"{'stage':<18}{'took':>8}{'hold':>8}{'evidence':>10}{'ours':>8}   seconds")
    for stage in stages:
        late = max(0.0, stage["held"] - stage["hold"])
        ours = stage["took"] - stage["held"]
        print(f"{stage['name']:<18}{stage['took']:>8.2f}{stage['hold']:>8.2f}{late:>10.2f}{ours:>8.2f}")
    first, last = (datetime.fromisoformat(event["at"]) for event in (events[0], events[-1]))
    total, held = (last - first).total_seconds(), sum(stage["held"] for stage in stages)
    holds = sum(stage["hold"] for stage in stages)
    print(f"\nrollout {total:.1f} s, of which holds {holds:.1f} s, and {held - holds:.1f} s more until there was proof")
    print(f"beyond holds and proof {total - held:.2f} s   {(total - held) / BEYOND_S:.2f} of the 6 s that it may take")
    print(f"the process, with its start and end, {wall:.1f} s   {wall / total:.2f} of the rollout")


if __name__ == "__main__":
    main()
