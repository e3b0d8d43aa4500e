"""What the local provider says of code, models and its own files, and what is said of providers that are installed."""

import json
import os
import subprocess
from collections.abc import Callable
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel

from providers import offers, registry
from providers.local import launch, operations, snapshot, state
from providers.local.state import Generation
from providers.specs import CodeConfiguration, Content, DeploymentSpec
from tests.engine.conftest import EPOCH
from tests.messages.bench import Bench, direct, shop
from tests.messages.carried import part
from tests.messages.entry import TRY, Message
from tests.messages.here import Here, at, resolved, rule


def gone_content(bench: Bench) -> Any:
    """Nothing is where it was."""
    snapshot.copy(Content(str(bench.folder / "model"), "c" * 64), bench.folder / "copy", "model")


def uncopied(bench: Bench) -> Any:
    """A file stands where the copy shall be."""
    bench.write("model/weights.json", "{}")
    bench.write("copy", "")
    snapshot.copy(Content(str(bench.folder / "model" / "weights.json"), "c" * 64), bench.folder / "copy", "model")


def unreadable(*_: object) -> Any:
    """Whoever runs the tests may be allowed everything."""
    raise PermissionError(13, "Permission denied")


def unreadable_folder(bench: Bench) -> Any:
    bench.write("model/weights.json", "{}")
    bench.patch(snapshot, "os", SimpleNamespace(scandir=unreadable))
    return snapshot.pin(bench.folder / "model", "model.path")


def unreadable_file(bench: Bench) -> Any:
    bench.write("model/weights.json", "{}")
    bench.patch(snapshot, "os", SimpleNamespace(fstat=unreadable, scandir=os.scandir))
    return snapshot.pin(bench.folder / "model", "model.path")


def linked(bench: Bench, to: str) -> Any:
    bench.write("model/inside/weights.json", "{}")
    (bench.folder / "model" / "link").symlink_to(to)
    return snapshot.pin(bench.folder / "model", "model.path")


def odd_file(bench: Bench) -> Any:
    bench.write("model/weights.json", "{}")
    os.mkfifo(bench.folder / "model" / "pipe")
    return snapshot.pin(bench.folder / "model", "model.path")


def no_snapshot(bench: Bench) -> Any:
    """A file stands where a folder of ours is to be."""
    bench.write("snapshots", "")
    job = operations._Copying()
    operations._copy(job, Generation("1", resolved("green"), EPOCH), bench.folder / "snapshots" / "green~1")
    assert job.error is not None
    raise job.error


async def scored(bench: Bench, *, code: str) -> Any:
    """A deployment with code."""
    spec = DeploymentSpec(name="green", code_configuration=CodeConfiguration(code=code, scoring_script="score.py"))
    return await Here(bench).provider.resolve(spec, base=str(bench.folder))


def unreadable_state(here: Here) -> Any:
    here.layout.state.unlink()
    here.layout.state.symlink_to("state.json")
    return state.load(here.layout)


def broken(here: Here, text: str) -> Any:
    here.layout.state.write_text(text)
    return state.load(here.layout)


def keys(here: Here, text: str | None) -> Any:
    here.layout.keys.unlink()
    if text is not None:
        here.layout.keys.write_text(text)
    return state.load_keys(here.layout)


def launched(bench: Bench, spec: dict[str, Any] | None) -> str:
    """What the launcher says."""
    procs = bench.folder / "procs"
    procs.mkdir(exist_ok=True)
    if spec is not None:
        spec["log"] = str(bench.folder / spec["log"])
        (procs / "green.0.json").write_text(json.dumps(spec))
    done = subprocess.run(
        [*launch.PYTHON, launch.__file__, str(procs), "green.0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode
    return done.stderr + (bench.folder / "log").read_text() if (bench.folder / "log").exists() else done.stderr


def already_running(bench: Bench) -> str:
    """This process holds the lock."""
    (bench.folder / "procs").mkdir()
    lock = str(bench.folder / "procs" / "green.0.lock")
    descriptor = launch.take(lock)
    start = launch.start_time(os.getpid())
    assert descriptor is not None
    assert start is not None
    try:
        launch.Holder(os.getpid(), start).write(descriptor)
        return launched(bench, None)
    finally:
        os.close(descriptor)


def offered(*values: str) -> Callable[..., Any]:
    """A provider `other` is offered by these."""

    def look(bench: Bench) -> Any:
        points = [EntryPoint("other", value, registry.GROUP) for value in values]
        bench.patch(offers, "entry_points", lambda **_: points)
        return registry.find("other")

    return direct(look)


class Curves:
    """A metric of somebody's, with a form of its own."""

    class Options(BaseModel):
        """None."""

    form = "curves"

    def __init__(self, options: BaseModel, context: Any) -> None:
        pass


class Hasty(Curves):
    """A metric of somebody's that looks for its secret too early."""

    def __init__(self, options: BaseModel, context: Any) -> None:
        super().__init__(options, context)
        self.key = {}["key"]


def metric(offered: type) -> Callable[..., Any]:
    """A plan names a metric of somebody's."""

    def look(bench: Bench) -> Any:
        point = EntryPoint("other", f"{__name__}:{offered.__name__}", registry.METRICS_GROUP)
        bench.patch(offers, "entry_points", lambda **_: [point])
        return registry.metric_form("other", {})

    return direct(look)


def options(**given: Any) -> Callable[..., Any]:
    """The simulated provider is opened with these."""
    return direct(lambda: registry.open_provider("memory", given, None))  # type: ignore[arg-type]


CONTENT = [
    rule(
        "snapshot.pin",
        "the model is not there",
        direct(lambda bench: snapshot.pin(bench.folder / "model", "model.path")),
        "model.path: <folder>/model does not exist.",
    ),
    rule(
        "snapshot.copy",
        "the model is gone since the rollout began",
        direct(gone_content),
        "model: <folder>/model is gone since the rollout was started.",
    ),
    rule(
        "snapshot.copy",
        "the model cannot be copied",
        direct(uncopied),
        "model: <folder>/copy cannot be copied: File exists.",
        do=TRY,
    ),
    rule(
        "snapshot._files",
        "a folder of the model cannot be read",
        direct(unreadable_folder),
        "model.path: <folder>/model cannot be read: Permission denied.",
    ),
    rule(
        "snapshot._files",
        "a link leads out of the model",
        direct(lambda bench: linked(bench, "../plan.yml")),
        "model.path: the link <folder>/model/link leads out of <folder>/model: «put what it points to into the "
        "folder».",
    ),
    rule(
        "snapshot._files",
        "a folder is linked into the model",
        direct(lambda bench: linked(bench, "inside")),
        "model.path: <folder>/model/link is a link to a folder: «only links to files are copied».",
    ),
    rule(
        "snapshot._files",
        "the model holds what is no file",
        direct(odd_file),
        "model.path: <folder>/model/pipe is neither a file nor a folder.",
    ),
    rule(
        "snapshot._count",
        "a file of the model may not be read",
        direct(unreadable_file),
        "<folder>/model/weights.json cannot be read: permission denied.",
    ),
    rule(
        "operations._copy",
        "the disk refuses the copy of a model",
        direct(no_snapshot),
        "The snapshot of green cannot be made: Not a directory.",
        do=TRY,
    ),
    rule(
        "provider._check_script",
        "the code is a file",
        direct(lambda bench: scored(bench, code="plan.yml")),
        "code_configuration.code: <folder>/plan.yml is not a folder.",
    ),
    rule(
        "provider._check_script",
        "the scoring script is not in the code",
        direct(lambda bench: scored(bench, code=".")),
        "code_configuration.scoring_script: score.py is not a file in <folder>.",
    ),
]

FILES = [
    rule(
        "state.load",
        "the endpoint's file cannot be read",
        at(unreadable_state),
        "<folder>/there/local/shop/state.json cannot be read: Too many levels of symbolic links.",
    ),
    rule(
        "state._parse",
        "the endpoint's file is damaged",
        at(lambda here: broken(here, "{")),
        "<folder>/there/local/shop/state.json is damaged: «restore it, or stop the endpoint's processes and remove "
        "its directory, then create it again».",
    ),
    rule(
        "state._parse",
        "the endpoint's file is of another version",
        at(lambda here: broken(here, '{"format": 9}')),
        "<folder>/there/local/shop/state.json has format 9 and this version knows 1: «use the version that wrote it».",
    ),
    rule(
        "state.load_keys",
        "the endpoint's keys are gone",
        at(lambda here: keys(here, None)),
        "Endpoint shop has no keys.",
    ),
    rule(
        "state.load_keys",
        "the endpoint's keys are damaged",
        at(lambda here: keys(here, "{")),
        "<folder>/there/local/shop/keys.json is damaged: «remove it and begin a change of the endpoint to get new "
        "keys».",
    ),
]

STARTED = [
    part("launch.main", "an instance runs already", direct(already_running), "green.0 is not started: it already runs"),
    part(
        "launch.main",
        "an instance is not wanted any more",
        direct(lambda bench: launched(bench, None)),
        "green.0 is not started: it is no longer wanted",
    ),
    part(
        "launch.main",
        "an instance's folder is not there",
        direct(lambda bench: launched(bench, {"argv": ["true"], "log": "log", "cwd": "nowhere"})),
        "green.0 is not started: nowhere: No such file or directory",
    ),
    part(
        "launch.main",
        "an instance's program is not there",
        direct(lambda bench: launched(bench, {"argv": ["no-such-program"], "log": "log"})),
        "no-such-program cannot be run: No such file or directory",
    ),
]

INSTALLED = [
    Message(
        "offers.find",
        "--provider names none that is installed",
        shop("endpoint show shop --provider memry"),
        "Provider memry is not known («did you mean memory?»): there is local, memory.",
        3,
    ),
    Message(
        "offers.find",
        "two distributions offer a provider of one name",
        offered("one.provider:A", "other.provider:B"),
        "Provider other is offered by one.provider:A and by other.provider:B: «uninstall all but one».",
        3,
    ),
    Message(
        "offers._load",
        "a provider's code cannot be imported",
        offered("nowhere.provider:A"),
        "Provider other cannot be loaded from nowhere.provider:A: No module named 'nowhere'.",
        3,
    ),
    Message(
        "offers._load",
        "what a distribution offers as a provider is none",
        offered("json:dumps"),
        "Provider other is not one: json:dumps has no Options «(see providers.base.Provider)».",
        3,
    ),
    Message(
        "offers.read",
        "an option that the provider does not have",
        options(raet=3),
        "Provider memory: option raet is not known («did you mean rate?»): there is capabilities, durations, rate, "
        "seed, world.",
        3,
    ),
    Message(
        "offers.read",
        "an option with a wrong value",
        options(rate=-3),
        "Provider memory: option rate: «Input should be greater than or equal to 0».",
        3,
    ),
    Message(
        "registry.open_metric",
        "a gate names a metric of somebody's that cannot be opened",
        metric(Hasty),
        "Metric other cannot be opened: it failed by a mistake of its own (KeyError); «tell its author».",
        3,
    ),
    Message(
        "registry.metric_form",
        "a gate names a metric of somebody's whose answers have no form that there is",
        metric(Curves),
        "Metric other is not one: its form is neither counts nor values «(see providers.metrics.base.Metric)».",
        3,
    ),
]

ENTRIES = [*CONTENT, *FILES, *STARTED, *INSTALLED]
