"""`rollout endpoint traffic`, as a user types it: what it shows, asks, refuses, and makes true."""

import json

import pytest

from orchestrator import app as use_cases
from orchestrator.cli import endpoint_traffic
from orchestrator.cli.endpoint_traffic import Wish, steps
from providers.base import Capabilities
from tests.unit.making import endpoint
from tests.unit.simulated import AT, Cloud, fresh, said, told

SUMS = "they must sum to 100%, or to 0% for no traffic at all; name every deployment that gets some"


@pytest.fixture
def shop(tmp_path, monkeypatch) -> Cloud:
    """blue serves, and a tenth is mirrored to green."""
    return fresh(monkeypatch, tmp_path).has({"blue": 1000}, {"green": 100}, counts={"blue": 1, "green": 2})


@pytest.fixture
def answer(monkeypatch):
    """What the human answers, and what happens before."""

    def put(text: str, meanwhile=lambda: None):
        def ask(_):
            meanwhile()
            return text

        monkeypatch.setattr("click.termui.visible_prompt_func", ask)

    return put


def split(cloud: Cloud) -> tuple[dict[str, int], dict[str, int]]:
    return dict(cloud.state.traffic), dict(cloud.state.mirror)


@pytest.mark.parametrize(
    ("words", "traffic", "mirror", "shown"),
    [
        (
            "blue=90 green=10",
            {"blue": 900, "green": 100},
            {},
            (
                "shop\n  traffic  blue 100%  ->  blue 90%, green 10%\n  mirror   green 10%  ->  nothing\n"
                "shop has blue 90%, green 10%\n"
            ),
        ),
        (
            "blue=99.5% green=0.5%",
            {"blue": 995, "green": 5},
            {},
            (
                "shop\n  traffic  blue 100%  ->  blue 99.5%, green 0.5%\n  mirror   green 10%  ->  nothing\n"
                "shop has blue 99.5%, green 0.5%\n"
            ),
        ),
        (
            "green=100 blue=0 --mirror blue=20%",
            {"green": 1000},
            {"blue": 200},
            (
                "shop\n  traffic  blue 100%  ->  green 100%\n  mirror   green 10%  ->  blue 20%\n"
                "shop has green 100%, mirror blue 20%\n"
            ),
        ),
        (
            "blue=100 --mirror green=0%",
            {"blue": 1000},
            {},
            "shop\n  traffic  blue 100%  ->  blue 100%\n  mirror   green 10%  ->  nothing\nshop has blue 100%\n",
        ),
        (
            "blue=100 --mirror green=10",
            {"blue": 1000},
            {"green": 100},
            "shop already has blue 100%, mirror green 10%\n",
        ),
    ],
)
def test_the_whole_split_is_set_and_seen(shop, capsys, words, traffic, mirror, shown):
    assert told(capsys, "endpoint", "traffic", "shop", *words.split(), "--yes", *AT) == shown
    assert split(shop) == (traffic, mirror)
    assert shop.state.claim is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "say who gets what, all of it. As it is now: rollout endpoint traffic shop blue=100% --mirror green=10%"),
        (
            "--mirror green=5",
            "say who gets what, all of it. As it is now: rollout endpoint traffic shop blue=100% --mirror green=10%",
        ),
        (
            "blue=90",
            f"the shares sum to 90%: {SUMS}",
        ),
        (
            "blue=90 green=10.5",
            f"the shares sum to 100.5% (90% + 10.5%): {SUMS}",
        ),
        ("blue=101", "blue: `101%` is more than 100%"),
        ("blue=99.95 green=0.05", "blue: `99.95%` is too fine: shares of traffic go in steps of 0.1%"),
        ("blue=most", "blue: `most%` is not a share of traffic: write a percentage such as 10% or 0.5%"),
        (
            "blue=90,green=10",
            "`blue=90,green=10` names more than one: write one word for each deployment, such as blue=90% and so on",
        ),
        ("blue", "`blue` is not DEPLOYMENT=PERCENT: write it without spaces, such as blue=90%"),
        ("blue=50 blue=50", "blue is given twice: say once what it gets"),
        ("blue=90 gren=10", "endpoint shop has no deployment gren; did you mean `green`?"),
        ("blue=100 --mirror gren=10", "endpoint shop has no deployment gren; did you mean `green`?"),
        ("blue=100 --mirror green=60", "--mirror green=60%: at most 50% can be mirrored here"),
        (
            "blue=100 --mirror green=5 --mirror blue=5",
            "--mirror names green and blue: traffic can be mirrored to one deployment at a time",
        ),
        (
            "blue=90 green=10 --mirror green=5",
            "green cannot have live and mirrored traffic together: give it one of them",
        ),
        ("blue=0 --mirror green=5 --yes", "without live traffic there is nothing to mirror: leave out --mirror"),
        (
            "blue=0",
            "this takes all live traffic from shop: its clients would get status 404; add --yes if that is meant",
        ),
    ],
)
def test_it_refuses_with_one_sentence_and_changes_nothing(shop, capsys, words, message):
    before = len(shop.world.effects)
    assert said(capsys, "endpoint", "traffic", "shop", *words.split(), *AT, code=2) == message
    assert len(shop.world.effects) == before


@pytest.mark.parametrize(
    ("capabilities", "words", "message"),
    [
        (
            Capabilities(mirror_limit=0),
            "blue=100 --mirror green=1",
            "endpoint shop cannot mirror traffic: leave out --mirror",
        ),
        (Capabilities(weight_step=10), "blue=99.5 green=0.5", "blue=99.5%: shares go in steps of 1% here"),
        (
            Capabilities(mirror_targets=2),
            "blue=100 --mirror green=1 --mirror red=1 --mirror grey=1",
            "--mirror names green and red and grey: traffic can be mirrored to 2 deployments at a time",
        ),
    ],
)
def test_it_knows_what_the_provider_can_do(tmp_path, monkeypatch, capsys, capabilities, words, message):
    counts = dict.fromkeys(("blue", "green", "red", "grey"), 1)
    fresh(monkeypatch, tmp_path, capabilities).has({"blue": 1000}, counts=counts)
    assert said(capsys, "endpoint", "traffic", "shop", *words.split(), *AT, code=2) == message


def test_no_traffic_at_all_is_set_when_it_is_meant_and_clients_get_what_was_said(shop, capsys):
    from orchestrator.cli.main import main

    assert main(["endpoint", "traffic", "shop", "blue=0", "--yes", *AT]) == 0
    shown = capsys.readouterr()
    assert shown.out.endswith("shop has no live traffic\n")
    assert "clients of shop get status 404 from now on" in shown.err
    assert split(shop) == ({}, {})
    answered = json.loads(told(capsys, "endpoint", "invoke", "shop", *AT, "--output", "json", code=3))
    assert answered["status"] == endpoint_traffic.WITHOUT_TRAFFIC
    assert said(capsys, "endpoint", "traffic", "shop", *AT, code=2).endswith(
        "Such as: rollout endpoint traffic shop blue=100%"
    )


def test_it_asks_and_a_no_changes_nothing(shop, capsys, answer):
    answer("n")
    assert said(capsys, "endpoint", "traffic", "shop", "green=100", *AT, code=130).endswith("nothing was changed")
    assert split(shop) == ({"blue": 1000}, {"green": 100})
    answer("y")
    told(capsys, "endpoint", "traffic", "shop", "green=100", *AT)
    assert split(shop) == ({"green": 1000}, {})


def test_where_nobody_can_be_asked_it_says_so(shop, capsys, monkeypatch):
    def ended(_):
        raise EOFError

    monkeypatch.setattr("click.termui.visible_prompt_func", ended)
    assert said(capsys, "endpoint", "traffic", "shop", "green=100", *AT, code=2).endswith(
        "nobody is there to be asked, so nothing was done: add --yes to agree beforehand"
    )
    assert split(shop) == ({"blue": 1000}, {"green": 100})


def test_what_somebody_else_changed_while_it_asked_is_not_undone(shop, capsys, answer):
    answer("y", lambda: shop.world.meddle("shop", traffic={"blue": 500, "green": 500}, mirror={}))
    assert said(capsys, "endpoint", "traffic", "shop", "green=100", *AT, code=2).endswith(
        "the traffic of shop was changed meanwhile, to blue 50%, green 50%; nothing was done: look, and ask again"
    )
    assert split(shop) == ({"blue": 500, "green": 500}, {})


def test_json_keeps_stdout_for_the_result(shop, capsys, answer):
    answer("y")
    found = json.loads(told(capsys, "endpoint", "traffic", "shop", "blue=99.5", "green=0.5", *AT, "--output", "json"))
    assert found == {
        "endpoint": "shop",
        "changed": True,
        "before": {"traffic": {"blue": 100}, "mirror": {"green": 10}},
        "after": {"traffic": {"blue": 99.5, "green": 0.5}, "mirror": {}},
    }
    again = ("endpoint", "traffic", "shop", "blue=99.5", "green=0.5", *AT, "--output", "json")
    assert json.loads(told(capsys, *again))["changed"] is False


@pytest.mark.parametrize("words", ["green=100", "blue=100 --mirror green=20"])
def test_a_deployment_that_is_not_whole_gets_nothing_unless_forced(shop, capsys, words):
    shop.world.meddle("shop", healthy={"green": 1})
    assert said(capsys, "endpoint", "traffic", "shop", *words.split(), "--yes", *AT, code=2) == (
        "green has 1 of 2 instances healthy, so it gets no traffic: wait until it is, or add --force"
    )
    told(capsys, "endpoint", "traffic", "shop", *words.split(), "--yes", "--force", *AT)
    assert "green" in {**split(shop)[0], **split(shop)[1]}


def test_what_the_provider_refuses_is_refused_also_when_forced(shop, capsys):
    shop.world.meddle("shop", healthy={"green": 0})
    assert said(capsys, "endpoint", "traffic", "shop", "green=100", "--yes", "--force", *AT, code=3) == (
        "Deployment green has no healthy instance, so it cannot get traffic: it is not ready."
    )


def test_it_looks_whether_it_is_so(shop, capsys, monkeypatch):
    async def lost(*_):
        pass

    monkeypatch.setattr(use_cases, "carry_out", lost)
    monkeypatch.setattr(endpoint_traffic, "PATIENCE", 0.0)
    assert said(capsys, "endpoint", "traffic", "shop", "green=100", "--yes", *AT, code=3) == (
        "shop was to have green 100%, and has blue 100%, mirror green 10%: see rollout endpoint show shop"
    )


MIRRORED = ({"blue": 1000}, {"green": 100})


@pytest.mark.parametrize(
    ("before", "wish", "capabilities", "expected"),
    [
        # What was mirrored to gets live traffic: the mirror goes first.
        (MIRRORED, Wish({"green": 1000}, {}), Capabilities(), [(*MIRRORED[:1], {}), ({"green": 1000}, {})]),
        (MIRRORED, Wish({"blue": 1000}, {}), Capabilities(), [({"blue": 1000}, {})]),
        (MIRRORED, Wish({"blue": 900, "red": 100}, {}), Capabilities(), [({"blue": 900, "red": 100}, {})]),
        (
            MIRRORED,
            Wish({"green": 1000}, {}),
            Capabilities(live_xor_mirror=False),
            [({"green": 1000}, {})],
        ),
        # Nothing in one step.
        (
            MIRRORED,
            Wish({"red": 1000}, {"blue": 50}),
            Capabilities(atomic_shift=False),
            [({"blue": 1000}, {}), ({"red": 1000}, {}), ({"red": 1000}, {"blue": 50})],
        ),
        (
            ({"blue": 1000}, {}),
            Wish({"blue": 1000, "green": 0}, {"green": 50}),
            Capabilities(atomic_shift=False),
            [({"blue": 1000}, {"green": 50})],
        ),
    ],
)
def test_the_steps_to_a_split(before, wish, capabilities, expected):
    assert [
        (dict(step.traffic), dict(step.mirror)) for step in steps(endpoint(*before), wish, capabilities)
    ] == expected


def test_a_provider_that_does_nothing_in_one_step_is_led_there(tmp_path, monkeypatch, capsys):
    cloud = fresh(monkeypatch, tmp_path, Capabilities(atomic_shift=False))
    cloud.has({"blue": 1000}, counts={"blue": 1, "green": 1})
    told(capsys, "endpoint", "traffic", "shop", "blue=100", "--mirror", "green=10", "--yes", *AT)
    told(capsys, "endpoint", "traffic", "shop", "green=100", "--mirror", "blue=10", "--yes", *AT)
    assert split(cloud) == ({"green": 1000}, {"blue": 100})
