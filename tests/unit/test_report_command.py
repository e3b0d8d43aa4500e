"""`rollout report` as people type it: real store, real engine, the simulated provider; and the file that it writes."""

import json
import os
from types import SimpleNamespace

import pytest

from orchestrator.cli.main import main
from orchestrator.errors import UsageError
from orchestrator.report import file as files
from orchestrator.report.file import MARKER, write
from providers.memory import DURATIONS, World
from providers.memory import provider as memory

PLAN = """
name: shop
provider: memory
endpoint: {file: endpoint.yml}
deployments: {blue: {file: blue.yml}, green: {file: green.yml}}
steps:
  - deploy: green
  - promote: 100%
  - webhook: https://hooks.example/${env:HOOK_TOKEN}
    retries: 0
    timeout: 1s
    on_fail: rollback
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A rollout that has ended: rolled back, because a webhook's secret is not there."""
    monkeypatch.setenv("ROLLOUT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ROLLOUT_ACTOR", "ada")
    monkeypatch.delenv("ROLLOUT_STORE", raising=False)
    monkeypatch.delenv("HOOK_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(memory._WORLDS, "default", World("default", durations=dict.fromkeys(DURATIONS, 0.0)))
    (tmp_path / "endpoint.yml").write_text("name: shop\n")
    for name in ("blue", "green"):
        (tmp_path / f"{name}.yml").write_text(f"name: {name}\ntags: {{side: {name}}}\nmodel: azureml:{name}:1\n")
    (tmp_path / "plan.yml").write_text(PLAN)
    assert main(["run", "plan.yml"]) == 1
    return SimpleNamespace(path=tmp_path)


def output(capsys, *arguments, code=0):
    capsys.readouterr()
    assert main(list(arguments)) == code, capsys.readouterr().err
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def test_markdown_goes_to_stdout(shop, capsys):
    text = output(capsys, "report", "shop")
    assert text.splitlines()[0] == MARKER
    assert "# shop: rolled back" in text
    assert "| Started |" in text
    assert "UTC by ada |" in text
    assert "webhook: https://hooks.example/${env:HOOK_TOKEN}" in text
    assert "Nobody did anything but start it." in text


def test_a_secret_that_is_set_by_now_is_not_in_it(shop, capsys, monkeypatch):
    monkeypatch.setenv("HOOK_TOKEN", "s3cr3t-t0k3n")
    for form in ("md", "html"):
        text = output(capsys, "report", "--format", form)
        assert "s3cr3t-t0k3n" not in text
        assert "${env:HOOK_TOKEN}" in text


@pytest.mark.parametrize(
    ("arguments", "form"),
    [
        (["--file", "r.html"], "html"),
        (["--file", "r.HTM"], "html"),
        (["--file", "r.md"], "md"),
        (["--file", "r"], "md"),
        (["--file", "r.html", "--format", "md"], "md"),
        (["--file", "r.txt", "--format", "html"], "html"),
    ],
)
def test_a_file_has_the_format_that_its_name_says(shop, capsys, arguments, form):
    told = json.loads(output(capsys, "report", *arguments, "--output", "json"))
    path = shop.path / arguments[1]
    assert told == {"id": told["id"], "format": form, "file": arguments[1], "bytes": path.stat().st_size}
    assert told["id"].startswith("shop-")
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>" if form == "html" else MARKER)


def test_a_report_is_written_over_an_older_one_and_says_where_it_is(shop, capsys):
    told = output(capsys, "report", "--file", "r.txt", "--format", "html")
    assert told.startswith("the report of shop-")
    assert " is in r.txt (" in told
    assert told.endswith(" kB)\n")
    before = {path.name for path in shop.path.iterdir()}
    output(capsys, "report", "--file", "r.txt")
    assert (shop.path / "r.txt").read_text("utf-8").startswith(f"{MARKER}\n\n# shop")
    assert {path.name for path in shop.path.iterdir()} == before


def test_json_without_a_file_is_refused_with_what_to_do(shop, capsys):
    said = output(capsys, "report", "--output", "json", code=2)
    assert "name a file with --file PATH" in said
    assert "rollout status --output json" in said


def test_a_rollout_that_is_not_there_writes_nothing(shop, capsys):
    assert "there is no rollout gone" in output(capsys, "report", "gone", "--file", "r.html", code=2)
    assert not (shop.path / "r.html").exists()


def test_a_file_of_somebody_else_stays_without_force(shop, capsys):
    (shop.path / "plan.yml").chmod(0o640)
    said = output(capsys, "report", "--file", "plan.yml", code=2)
    assert "plan.yml is there already, and is no report of ours: name another file, or say --force" in said
    assert (shop.path / "plan.yml").read_text() == PLAN
    output(capsys, "report", "--file", "plan.yml", "--force")
    assert (shop.path / "plan.yml").read_text("utf-8").startswith(MARKER)
    assert (shop.path / "plan.yml").stat().st_mode & 0o777 == 0o640


# --- the file -------------------------------------------------------------------------------------


def put(path, text=f"{MARKER}\nnew\n", *, force=False):
    return write(path, text, force=force, token="t")


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_is_written_whole_with_the_usual_mode(tmp_path):
    before = os.umask(0o027)
    try:
        assert put(tmp_path / "r.md", "größe\n") == 8
    finally:
        os.umask(before)
    assert (tmp_path / "r.md").read_text("utf-8") == "größe\n"
    assert (tmp_path / "r.md").stat().st_mode & 0o777 == 0o640
    assert left(tmp_path) == ["r.md"]


@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_written_through_a_symbolic_link(tmp_path, force):
    target = tmp_path / "target"
    target.write_text(f"{MARKER}\nold\n")
    (tmp_path / "r.md").symlink_to(target)
    (tmp_path / "dangling.md").symlink_to(tmp_path / "nowhere")
    for name in ("r.md", "dangling.md"):
        with pytest.raises(UsageError, match="is a symbolic link"):
            put(tmp_path / name, force=force)
    assert target.read_text() == f"{MARKER}\nold\n"
    assert left(tmp_path) == ["dangling.md", "r.md", "target"]


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_regular_file_is_refused(tmp_path, force):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(UsageError, match="is not a regular file"):
            put(tmp_path / name, force=force)


@pytest.mark.parametrize(
    ("content", "ours"),
    [
        (f"{MARKER}\n", True),
        (f"<!DOCTYPE html>{MARKER}\n<html>", True),
        (f"text\n{MARKER}\n", False),
        ("", False),
        ("\0" * 5000, False),
        ("x" * 500 + MARKER, False),
    ],
)
def test_ours_is_what_says_so_in_its_first_line(tmp_path, content, ours):
    path = tmp_path / "r.md"
    path.write_text(content)
    if ours:
        put(path)
        assert path.read_text() == f"{MARKER}\nnew\n"
    else:
        with pytest.raises(UsageError, match="no report of ours"):
            put(path)
        assert path.read_text() == content


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UsageError, match=r"gone/r\.md cannot be written \(No such file or directory\)"):
        put(tmp_path / "gone" / "r.md")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be"):
        put(tmp_path / "file" / "r.md")


def test_a_write_that_fails_leaves_the_old_file_and_no_half_one(tmp_path, monkeypatch):
    path = tmp_path / "r.md"
    path.write_text(f"{MARKER}\nold\n")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        put(path)
    assert path.read_text() == f"{MARKER}\nold\n"
    assert left(tmp_path) == ["r.md"]


def test_somebody_elses_unfinished_file_is_left_alone(tmp_path):
    (tmp_path / ".r.md.t.part").write_text("theirs")
    with pytest.raises(UsageError, match="File exists"):
        put(tmp_path / "r.md")
    assert (tmp_path / ".r.md.t.part").read_text() == "theirs"
