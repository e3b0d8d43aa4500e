"""Bad plans and what their authors are told: the text files beside this one.

The first block of a file says what it is about and what stands around each case (`HERE` is the case). Every other block
is one case: `--var NAME=VALUE` lines, what is written, and after `=> ` each complaint, as
`LINE:COLUMN: KEY: MESSAGE`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class BadPlan:
    """One case.

    Attributes:
        theme: the name of the file, without its ending.
        written: the case alone. text: the whole plan.
        overrides: values given for variables.
        complaints: what its author is told, in order, without the name of the plan's file.
    """

    theme: str
    written: str
    text: str
    overrides: dict[str, str]
    complaints: list[str]


def bad_plans() -> Iterator[BadPlan]:
    """All of them."""
    for path in sorted(HERE.glob("*.txt")):
        head, *blocks = path.read_text(encoding="utf-8").strip("\n").split("\n\n")
        around = "\n".join(line for line in head.split("\n") if not line.startswith("#"))
        for block in blocks:
            lines = block.split("\n")
            given = [line.removeprefix("--var ").split("=", 1) for line in lines if line.startswith("--var ")]
            written = "\n".join(line for line in lines if not line.startswith(("--var ", "=> ")))
            complaints = [line.removeprefix("=> ") for line in lines if line.startswith("=> ")]
            text = around.replace("HERE", written) + "\n"
            yield BadPlan(path.stem, written, text, dict(given), complaints)
