"""The whole catalogue, by what a message is about; and what is not in it, with the reason for each."""

from collections.abc import Mapping, Sequence

from tests.messages import (
    asked,
    carried,
    changed,
    content,
    doctored,
    driven,
    ended,
    here,
    imagined,
    judged,
    kept,
    planned,
    recorded,
    shifted,
    simulated,
    tried,
    typed,
)
from tests.messages.entry import Message

THEMES: Mapping[str, Sequence[Message]] = {
    "Plans, files and endpoints, before anything is done": planned.ENTRIES,
    "Pause, resume, abort, approve": asked.ENTRIES,
    "Why a rollout was paused, rolled back or ended": (*ended.ENTRIES, *judged.ENTRIES),
    "Steps that are tried once": tried.ENTRIES,
    "The store, the lease, the settings": (*kept.ENTRIES, *driven.ENTRIES),
    "Commands and their words": typed.ENTRIES,
    "Traffic for rollout simulate": imagined.ENTRIES,
    "Recordings for rollout backtest": recorded.ENTRIES,
    "Endpoints, changed by hand": (*changed.ENTRIES, *shifted.ENTRIES),
    "This machine, and providers that are installed": (*here.ENTRIES, *carried.ENTRIES, *content.ENTRIES),
    "The simulated provider": simulated.ENTRIES,
    "rollout doctor": doctored.ENTRIES,
}
ENTRIES: Sequence[Message] = [entry for entries in THEMES.values() for entry in entries]

UNCOVERED: Mapping[str, str] = {
    "tasks.load_child._main: provider {} cannot send requests": (
        "both providers that come with rollout can; another distribution's would have to be installed for the process "
        "that "
        "sends"
    ),
    "undo.undo: rolled back": "it stands for a reason that is missing, and every rollback has one",
}
"""`where: words` of a site -> why no situation here causes it."""

AWAITED: frozenset[str] = frozenset(
    {
        "adoption.edits: --adopt, and the edited plan does something else in a step that has passed",
        "cli.checks.names: rollout is not installed as a distribution",
        "compiler._bootstrap: (second line of defence: such a plan is refused before) deploy: green",
        "compiler._candidate: a canary after its candidate was deleted",
        "compiler._named: a plan with slots names the candidate and deploys none",
        "compiler._shadow: (second line of defence: such a plan is refused before) shadow: 10%",
        "compiler._shift: (second line of defence: such a plan is refused before) canary: 10%",
        "compiler._shift: a canary wants more than stable has, because a third deployment serves, too",
        "decide._drifted: somebody else changes the endpoint while stable is being deleted",
        "driver._begin: a rollout of another store takes the endpoint over",
        "driver._measure: the evidence of a rollout is gone from the store",
        "holding.consequence: stable cannot start, while the endpoint is brought into service",
        "http.send: an HTTP request to an address that is none",
        "local.envoy.executable: Envoy is not installed",
        "local.processes.runtime_directory: no folder for sockets can be used",
        "local.provider._check_script: the code is a file",
        "local.provider._check_script: the scoring script is not in the code",
        "local.snapshot._count: a file of the model may not be read",
        "local.snapshot._files: a folder of the model cannot be read",
        "local.snapshot._files: the model holds what is no file",
        "local.snapshot.copy: the model is gone since the rollout began",
        "local.snapshot.pin: the model is not there",
        "local.state.load: the endpoint's file cannot be read",
        "local.state.load_keys: the endpoint's keys are gone",
        "measuring._measure: a gate, and the provider cannot count requests",
        "offers._load: a provider's code cannot be imported",
        "roles.cast: the plan's stable gets no traffic",
        "roles.watched: --advisory on an endpoint that does not exist",
        "roles.watched: --advisory where nothing but the candidate serves",
        "secrets._value: a secret's file is large",
        "secrets._value: a secret's file is no text",
        "secrets._value: a secret's file is not there",
        "starter.kits.existing: init for an endpoint that does not exist",
        "store.rules.over: a driver writes to what another one has ended",
        "store.rules.unknown_bundle: the bundle of a rollout is gone",
    }
)
"""Ids of messages whose words are to be mended: they do not say what to do, or are no clean sentence."""
