"""A newcomer's way: docs/getting-started.md is typed from its first command to its last, in an empty folder.

Nothing of what is typed stands here. Code blocks of the page that begin with a file name become files; `sh` blocks go,
line by line, into one shell, so that `cd` and what was activated last; `text` blocks must be in what the line before
them printed. A block that begins with `# in a second terminal` is typed into another shell while the last command of
the block before it still runs.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.acceptance.conftest import PATIENCE, ROLLOUT, Site
from tests.unit.pages import ROOT, check_printed, file_block, sentences, text

PAGE = "getting-started.md"
SECOND = "# in a second terminal\n"
A_MINUTE = 200
"""Characters that somebody types."""
LONG = 180.0
"""Seconds for the longest command."""


@dataclass(frozen=True, slots=True)
class Block:
    """A code block: its language, its text, and the heading that it stands under."""

    language: str
    text: str
    section: str

    @property
    def file(self) -> str | None:
        """The name in its first line, when it is a file."""
        named = re.match(r"# ([\w/.-]+\.(?:py|yml|json))\n", self.text)
        return named[1] if named and self.language != "sh" else None

    @property
    def content(self) -> str:
        """What is typed."""
        head = self.file or (self.language == "sh" and self.text.startswith(SECOND))
        return self.text.partition("\n")[2] if head else self.text

    @property
    def commands(self) -> list[tuple[str, int]]:
        """(command, expected exit code); lines that end with a backslash are joined."""
        lines = self.content.replace("\\\n", " ").splitlines()
        split = [re.fullmatch(r"(.*?)(?:\s+#\s*(.*))?", line) for line in lines if line.strip()]
        codes = [re.search(r"exit code (\d+)", found[2] or "") for found in split if found]
        return [(found[1], int(code[1]) if code else 0) for found, code in zip(split, codes, strict=True) if found]


def blocks() -> list[Block]:
    found, section = [], ""
    for heading, language, body in re.findall(
        r"^## ([^\n]+)$|^```(\w+)\n(.*?)^```", text(PAGE), re.MULTILINE | re.DOTALL
    ):
        section = heading or section
        if language:
            found.append(Block(language, body, section))
    return found


BLOCKS = blocks()
JOURNEY = [block for block in BLOCKS if block.section != "1. Install"]


@dataclass
class Terminal:
    """A shell that is typed into; what one command changes (folder, environment) the next one finds."""

    folder: Path
    environment: dict[str, str]
    output: Path
    _input: int = field(init=False)
    popen: subprocess.Popen[bytes] = field(init=False)
    _typed: int = 0
    _read: int = 0

    def __post_init__(self) -> None:
        theirs, self._input = os.pipe()
        loop = 'while IFS= read -r -u "$0" -d "" line; do eval "$line" </dev/null; printf "\\n::%s\\n" "$?"; done'
        with self.output.open("wb") as output:
            self.popen = subprocess.Popen(
                ["bash", "-c", loop, str(theirs)],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs,),
            )
        os.close(theirs)

    def type(self, command: str) -> None:
        """A line and Return."""
        os.write(self._input, command.encode() + b"\0")
        self._typed += 1

    def answer(self, command: str, code: int, seconds: float = LONG) -> str:
        """Wait for the end of what was typed, which must be `code`; returns what it printed."""
        until = time.monotonic() + seconds
        while True:
            said = self.output.read_text("utf-8", "replace")[self._read :]
            ended = re.search(r"\n::(\d+)\n", said)
            if ended:
                self._read += ended.end()
                printed = said[: ended.start()]
                assert int(ended[1]) == code, f"`{command}` ended with {ended[1]}, not {code}:\n{printed}"
                return printed
            assert self.popen.poll() is None, f"`{command}`: the shell ended:\n{said}"
            assert time.monotonic() < until, f"`{command}` still runs after {seconds:g} s:\n{said}"
            time.sleep(0.05)

    def do(self, command: str, code: int) -> str:
        self.type(command)
        return self.answer(command, code)

    def close(self) -> None:
        os.close(self._input)
        try:
            self.popen.wait(5)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


def test_it_is_typed_in_under_ten_minutes() -> None:
    typed = sum(len(block.content) for block in BLOCKS if block.language == "sh" or block.file)
    minutes = typed / A_MINUTE
    assert minutes < 10
    said = re.search(r"([\d,]+) characters to type; at 200 a minute that is (\d+) minutes", sentences(PAGE))
    assert said, "the page does not say how long it takes"
    assert (int(said[1].replace(",", "")), int(said[2])) == (round(typed, -1), round(minutes))


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH where `rollout` is the one that is tested."""
    programs = tmp_path / "bin"
    programs.mkdir()
    script = programs / "rollout"
    script.write_text(f'#!/bin/sh\nexec {" ".join(map(repr, ROLLOUT))} "$@"\n')
    script.chmod(0o755)
    return f"{programs}:{os.environ['PATH']}"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """An empty folder, and a home that is cleaned up; the page's endpoint is called shop."""
    (tmp_path / "work").mkdir()
    with tempfile.TemporaryDirectory(prefix="ro") as runtime:
        site = Site(tmp_path / "home", Path(runtime), tmp_path / "work", "shop")
        try:
            yield site
        finally:
            site.close()


@pytest.mark.needs("linux", "envoy")
@pytest.mark.timeout(300)
def test_every_command_of_the_page_does_what_the_page_says(site: Site, path: str, tmp_path: Path) -> None:
    environment = site.environment | {"PATH": path, "COLUMNS": "200"}
    first = Terminal(site.files, environment, tmp_path / "first.log")
    printed = command = ""
    folder = site.files
    try:
        for number, block in enumerate(JOURNEY):
            follower = JOURNEY[number + 1] if number + 1 < len(JOURNEY) else None
            together = follower is not None and follower.text.startswith(SECOND)
            if block.file:
                (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
                (folder / block.file).write_text(block.content)
            elif block.language == "text":
                check_printed(block.text, printed, command)
            elif block.text.startswith(SECOND):
                continue  # typed with the block before
            elif block.language == "sh":
                *before, (command, code) = block.commands
                for earlier, expected in before:
                    printed = first.do(earlier, expected)
                    if earlier.startswith("cd "):
                        folder /= earlier.split()[1]
                known = rollouts(site)
                first.type(command)
                if together and follower is not None:
                    second = Terminal(folder, environment, tmp_path / "second.log")
                    try:
                        meanwhile(site, follower, known, second)
                    finally:
                        second.close()
                printed = first.answer(command, code)
        assert not site.directory.exists(), "the page does not clean up"
    finally:
        first.close()


def rollouts(site: Site) -> int:
    return int(site.query("SELECT count(*) FROM rollouts")[0][0]) if site.journal() else 0


def meanwhile(site: Site, block: Block, known: int, terminal: Terminal) -> None:
    """Type a block once the rollout of the first terminal measures."""
    site.wait("a new rollout", lambda: rollouts(site) > known, PATIENCE)
    site.reaches("measured")
    for command, code in block.commands:
        terminal.do(command, code)


def test_the_simulated_plan_of_the_page_on_providers_runs(site: Site) -> None:
    for name in ("simulated.yml", "endpoint.yml"):
        (site.files / name).write_text(file_block("providers.md", name))
    assert "simulated now serves green 100%" in site.rollout("run", "simulated.yml")
    assert site.status()["phase"] == "succeeded"


@pytest.mark.needs("linux")
@pytest.mark.timeout(600)
def test_the_commands_of_the_installation_install_it(tmp_path: Path) -> None:
    probe = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(tmp_path / "probe"),
        "click",
    ]
    if subprocess.run(probe, capture_output=True, timeout=120, check=False).returncode:
        pytest.skip("no package index can be reached")
    kept = shutil.ignore_patterns("__pycache__")
    for name in ("plans", "providers", "orchestrator"):
        shutil.copytree(ROOT / name, tmp_path / "rollout" / name, ignore=kept)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "rollout")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ROLLOUT_", "PYTHON"))}
    # Whatever else `python3` may be on this machine: the interpreter of the tests is new enough.
    python = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment |= {"ROLLOUT_HOME": str(tmp_path / "home"), "COLUMNS": "200", "PATH": python}
    terminal = Terminal(tmp_path, environment, tmp_path / "install.log")
    printed = command = ""
    try:
        for block in BLOCKS:
            if block.section == "1. Install":
                if block.language == "text":
                    check_printed(block.text, printed, command)
                for command, code in block.commands if block.language == "sh" else ():
                    terminal.type(command)
                    printed = terminal.answer(command, code, 500)
    finally:
        terminal.close()
    assert (tmp_path / "env" / "bin" / "rollout").exists()
