"""The journal as programs read it: one event of every kind that there is, made by real rollouts."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, get_args

import pytest

from orchestrator import events as ev
from providers.errors import Temporary
from providers.memory import Behaviour
from tests.contract.desk import HEAD, Desk
from tests.contract.kept import Keeper

EVENTFUL = """\
steps:
  - deploy: green
  - scale: {blue: 2}
  - test: green
  - shadow: 20%
    gates: [errors]
    hold: 200ms
  - canary: 20%
    gates: [errors]
    hold: 200ms
  - approve: the release is good
  - canary: 50%
    gates: [errors]
    hold: 1h
"""
KINDS = [body.__dataclass_fields__["kind"].default for body in get_args(get_args(ev.Body)[0])]
GONE = "delete_endpoint"
TOLD_APART = ("outcome", "ok", "accepted", "cause", "phase")


def label(event: dict[str, Any]) -> tuple[Any, ...]:
    """What kind of event it is, closely enough that two with the same label look alike."""
    body = event["body"]
    action = (body.get("intent") or body.get("operation") or {}).get("action", {}).get("kind", "")
    more = [str(body[name]) for name in TOLD_APART if name in body]
    more += ["clocks"] if body["kind"] == "reached" and body["hold_until"] else []
    return (KINDS.index(body["kind"]), action, *more)


def one_of_each(events: list[Any]) -> list[Any]:
    """The first event of each label, in the order of the vocabulary, whenever it happened.

    A poll without a judgement, and a wait that is over soon, may not happen at all.
    """

    def sure(body: dict[str, Any]) -> bool:
        if body["kind"] == "waited":
            return body["waiting"] is None or body["waiting"]["kind"] == "approval"
        return body["kind"] != "measured" or body["judgement"]["outcome"] in ("passed", "failed")

    first = {label(event): event for event in reversed(events) if sure(event["body"])}
    return [first[each] for each in sorted(first)]


def the_end_of_all(events: list[Any]) -> list[Any]:
    """The event that says that the endpoint shall go."""
    return [event for event in events if event["body"].get("intent", {}).get("action", {}).get("kind") == GONE]


def test_the_journal_has_every_kind_of_event(desk: Desk, keeper: Keeper, hook: str) -> None:
    head = HEAD + f"notify: [{{url: {hook}, events: [started]}}]\n"
    desk.write("plan.yml", head + EVENTFUL)
    desk.world.fail_next("set_traffic", Temporary("the provider is busy"))
    desk.world.fail_next("measure", Temporary("the provider is busy"))
    desk.do("run plan.yml --exit-on-pause", 4)
    desk.do("resume --extend 1h --exit-on-pause", 4)
    desk.do("pause --reason lunch")
    desk.do("pause", 2)
    desk.write("plan.yml", head + EVENTFUL.replace("the release is good", "the release is very good"))
    desk.do("resume --adopt --exit-on-pause", 4)
    desk.world.behave("shop", "green", Behaviour(error_rate=1.0))
    desk.do("approve", 1)
    told = desk.do("history --output ndjson")
    ndjson = keeper.keep("history-ndjson", told, "event", lines=True, pick=lambda events: events[:2])
    history = keeper.keep("history", desk.do("history --output json"), "event", many=True, pick=one_of_each)
    assert ndjson == history
    assert {event["body"]["kind"] for event in history} == set(KINDS)
    desk.write("last.yml", HEAD + "steps:\n  - deploy: green\n  - delete: endpoint\n")
    desk.do("run last.yml")
    keeper.keep("history-of-an-end", desk.do("history --output json"), "event", many=True, pick=the_end_of_all)


@pytest.fixture
def hook() -> Iterator[str]:
    """The address of a webhook that is content with everything."""

    class Content(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
