"""What deployments print: read while they live, kept when they are deleted, copied where a rollout wants to keep them.

Each generation of a deployment has a folder whose name sorts by its birth; it outlives the deployment, so that "why
did it fail" can be asked afterwards. Only the newest few folders of a deployment stay.
"""

import re
import shutil
from collections import deque
from pathlib import Path

from providers.errors import NotFound
from providers.local.state import Generation, Layout, State

KEPT = 5
_INSTANCE = re.compile(r"instance-(\d+)\.log")


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a file, without their ends; none when it is not there."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n") for line in deque(file, maxlen=max(lines, 0))]
    except FileNotFoundError:
        return []


def of_instance(layout: Layout, deployment: str, generation: Generation, number: int) -> Path:
    """The log of one instance."""
    return layout.log_folder(deployment, generation) / f"instance-{number}.log"


def read(layout: Layout, state: State, deployment: str, *, instance: int | None, lines: int) -> str:
    """The last lines of one instance, or of all: then the lines of several are told apart by a prefix.

    Raises:
        NotFound: there is no such deployment or instance, and none whose logs were kept.
    """
    files = _files(_folder(layout, state, deployment))
    if instance is not None:
        if instance not in files:
            there = ", ".join(str(number) for number in sorted(files)) or "none"
            raise NotFound(f"Deployment {deployment} has no log of instance {instance}: there is {there}.")
        found = tail(files[instance], lines)
    else:
        found = []
        for number, path in sorted(files.items()):
            prefix = f"[{number}] " if len(files) > 1 else ""
            found += [prefix + line for line in tail(path, max(lines // max(len(files), 1), 1))]
        found = found[-lines:] if lines > 0 else []
    return "".join(f"{line}\n" for line in found)


def save(layout: Layout, state: State, deployment: str, rollout: str) -> Path:
    """Copy the logs to where nothing removes them while the endpoint exists. Raises NotFound."""
    source = _folder(layout, state, deployment)
    target = layout.saved / re.sub(r"[^A-Za-z0-9._-]", "_", rollout) / deployment
    shutil.copytree(source, target / source.name, dirs_exist_ok=True)
    return target


def prune(layout: Layout, state: State) -> None:
    """Remove the oldest folders of each deployment, never one in use."""
    used = {layout.log_folder(d.name, g) for d in state.deployments.values() for g in d.generations}
    by_name: dict[str, list[Path]] = {}
    for path in sorted(layout.logs.glob("*~*")):
        by_name.setdefault(path.name.partition("~")[0], []).append(path)
    for folders in by_name.values():
        for path in folders[:-KEPT]:
            if path not in used:
                shutil.rmtree(path, ignore_errors=True)


def _folder(layout: Layout, state: State, deployment: str) -> Path:
    """Of the deployment that is there, else of the last one of that name, else what was saved last."""
    there = state.deployments.get(deployment)
    if there is not None:
        return layout.log_folder(deployment, there.wanted)
    folders = sorted(layout.logs.glob(f"{deployment}~*")) or sorted(
        layout.saved.glob(f"*/{deployment}/{deployment}~*"), key=lambda path: path.name
    )
    if not folders:
        raise NotFound(f"Deployment {deployment} does not exist on endpoint {state.name}, and no logs of it were kept.")
    return folders[-1]


def _files(folder: Path) -> dict[int, Path]:
    return {int(match[1]): path for path in folder.glob("*.log") if (match := _INSTANCE.fullmatch(path.name))}
