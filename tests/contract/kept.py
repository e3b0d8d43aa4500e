"""The snapshots: what is on disk, compared with what was printed just now.

    CONTRACT_SNAPSHOTS=write pytest tests/contract

writes them anew, and the tables of docs/json.md with them; nothing else ever does. Look at the difference before it is
kept: a key that went, was renamed, or has another type breaks programs that read it.
"""

import difflib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.contract.desk import Said
from tests.contract.shapes import MOMENT, misfits, scrubbed, shape

FOLDER = Path(__file__).with_name("snapshots")
WRITING = os.environ.get("CONTRACT_SNAPSHOTS") == "write"
NOTHING = "nothing"
"""The document of a command that failed before it had an answer."""
Json = Any


@dataclass(frozen=True)
class Snapshot:
    """One file.

    Attributes:
        name: of the file, without its ending. command: as it was typed. code: how it ended.
        document: which one stdout held; NOTHING where it held none.
        many: stdout held a list of such documents, or one a line.
        answer: stdout's shape. stderr: lines, of a command without an answer.
    """

    name: str
    command: str
    code: int
    document: str
    many: bool
    answer: Json
    stderr: tuple[str, ...]

    @staticmethod
    def read(path: Path) -> "Snapshot":
        """From its file."""
        found = json.loads(path.read_text("utf-8"))
        return Snapshot(
            path.stem,
            found["command"],
            found["exit_code"],
            found["document"],
            found.get("many", False),
            found["stdout"],
            tuple(found.get("stderr", ())),
        )

    @property
    def documents(self) -> list[Json]:
        """Each that stdout held."""
        if self.document == NOTHING:
            return []
        return list(self.answer) if self.many else [self.answer]

    def text(self) -> str:
        """As it stands in its file."""
        told = {"command": self.command, "exit_code": self.code, "document": self.document}
        told |= {"many": True} if self.many else {}
        told |= {"stdout": self.answer} | ({"stderr": list(self.stderr)} if self.document == NOTHING else {})
        return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def all_of_them() -> list[Snapshot]:
    """Every snapshot on disk."""
    return [Snapshot.read(path) for path in sorted(FOLDER.glob("*.json"))]


@dataclass
class Keeper:
    """Compares what is printed with the snapshots; all differences of a scene are told together."""

    places: Mapping[str, str]
    differences: list[str] = field(default_factory=list)

    def keep(
        self,
        name: str,
        said: Said,
        document: str,
        *,
        many: bool = False,
        lines: bool = False,
        pick: Callable[[list[Json]], list[Json]] | None = None,
        passing: tuple[str, ...] = (),
    ) -> Json:
        """What stdout held, after it was compared with the snapshot of that name.

        Args:
            name: of the snapshot. said: what was printed. document: which one that is.
            many: it is a list of such documents. lines: one a line.
            pick: those of the list that the snapshot has.
            passing: keys whose values are of that moment only, because another process works meanwhile.
        """
        found = [json.loads(line) for line in said.out.splitlines()] if lines else said.json
        for each in found if many or lines else [found]:
            self.differences += [f"{name}: {misfit}" for misfit in misfits(document, each)]
        chosen = pick(found) if pick is not None else found
        shaped = [shape(document, each, self.places) for each in chosen] if many or lines else None
        answer = shape(document, chosen, self.places) if shaped is None else shaped
        if passing:
            answer = {key: MOMENT if key in passing else each for key, each in answer.items()}
        self._compare(Snapshot(name, self._line(said), said.code, document, many or lines, answer, ()))
        return found

    def keep_error(self, name: str, said: Said) -> None:
        """The same for a command that has no answer: nothing on stdout, and sentences on stderr."""
        assert said.err.endswith("\n")
        lines = []
        for line in said.err.splitlines():
            if re.match(r"\d\d:\d\d:\d\d  ", line):
                continue  # the story of a rollout that was driven meanwhile
            head, colon, _ = line.partition(": ")
            lines.append(f"{scrubbed(head, self.places)}: <text>" if colon else "<text>")
        answer = said.out or None
        self._compare(Snapshot(name, self._line(said), said.code, NOTHING, False, answer, tuple(lines)))

    def _line(self, said: Said) -> str:
        return scrubbed(f"rollout {said.line}", self.places)

    def _compare(self, new: Snapshot) -> None:
        path = FOLDER / f"{new.name}.json"
        if WRITING:
            path.write_text(new.text(), "utf-8")
            return
        old = path.read_text("utf-8") if path.exists() else ""
        if old != new.text():
            lines = difflib.unified_diff(
                old.splitlines(), new.text().splitlines(), f"kept {new.name}", f"printed {new.name}", lineterm="", n=8
            )
            self.differences.append("\n".join(lines))

    def close(self) -> None:
        """Fails when something is different."""
        assert not self.differences, "\n\n".join(self.differences)
