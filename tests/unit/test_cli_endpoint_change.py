"""`rollout endpoint create`, `scale` and `token`, as a user types them, also with mistakes."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.cli.endpoint import masked
from providers.base import Capabilities, Context, HasTokens, Token
from providers.errors import NotFound, Permanent, Unsupported
from providers.memory import MemoryProvider, World
from tests.unit.simulated import AT, Cloud, fresh, said, told
from tests.unit.stored import put


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return fresh(monkeypatch, tmp_path / "home")


@pytest.fixture
def shop(cloud) -> Cloud:
    return cloud.has({"blue": 1000}, counts={"blue": 1, "green": 2})


# --- create


def test_create_makes_the_endpoint_and_says_how_to_go_on(cloud, capsys):
    Path("endpoint.yml").write_text("name: shop\nauth_mode: key\n")
    assert told(capsys, "endpoint", "create", "endpoint.yml", *AT) == (
        "shop is created: memory://default/shop\n"
        "  rollout endpoint keys shop --show --provider memory  what clients send as `Authorization: Bearer ...`\n"
        "  rollout endpoint show shop --provider memory         how it stands\n"
        "  rollout init                                         writes a plan, which brings it a deployment\n"
    )
    assert (cloud.state.traffic, cloud.state.deployments, cloud.state.claim) == ({}, {}, None)
    assert said(capsys, "endpoint", "create", "endpoint.yml", *AT, code=2) == (
        "endpoint shop exists already at memory://default/shop (traffic empty); nothing was changed: "
        "rollout endpoint show shop --provider memory tells more"
    )
    assert [effect.kind for effect in cloud.world.effects] == ["put_endpoint"]


def test_create_refuses_what_exists_and_says_what_it_has(shop, capsys):
    Path("endpoint.yml").write_text("name: shop\ndescription: another\n")
    assert "(traffic blue 100%; blue 1 of 1 healthy; green 2 of 2 healthy)" in said(
        capsys, "endpoint", "create", "endpoint.yml", *AT, code=2
    )
    assert shop.world.endpoints["shop"].spec.description is None


def test_create_in_json_is_as_show(cloud, capsys):
    Path("endpoint.yml").write_text("name: shop\ntraffic: {blue: 100}\n")
    made = json.loads(told(capsys, "endpoint", "create", "endpoint.yml", *AT, "--output", "json"))
    assert made == json.loads(told(capsys, "endpoint", "show", "shop", *AT, "--output", "json"))
    assert made["url"] == "memory://default/shop"


def test_create_says_that_traffic_in_the_file_is_left_out(cloud, capsys):
    Path("endpoint.yml").write_text("name: shop\ntraffic: {blue: 100}\n")
    assert "its file's traffic is left out" in told(capsys, "endpoint", "create", "endpoint.yml", *AT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: shop\nauth_mod: key\n",
            "endpoint.yml:2:1: auth_mod: `auth_mod` is no field here; did you mean `auth_mode`?",
        ),
        ("name: s\n", "endpoint.yml:1:7: name: "),
        (
            "name: shop\nauth_mode: keys\n",
            "endpoint.yml:2:12: auth_mode: `keys` is not allowed; write key, aml_token or aad_token; did you",
        ),
        (
            "version: 1\nendpoint: shop\nsteps: []\n",
            "endpoint.yml is a plan, not an endpoint's file: rollout run endpoint.yml carries it out",
        ),
        (
            "name: blue\nendpoint_name: shop\nmodel: {path: m}\n",
            "endpoint.yml is a deployment's file, not an endpoint's: name it in a plan, and rollout run deploys it",
        ),
    ],
)
def test_create_tells_what_is_wrong_with_the_file(cloud, capsys, text, message):
    Path("endpoint.yml").write_text(text)
    assert message in said(capsys, "endpoint", "create", "endpoint.yml", *AT, code=2)
    assert cloud.world.endpoints == {}


def test_create_suggests_the_file_that_is_there(cloud, capsys):
    Path("endpoint.yml").write_text("name: shop\n")
    assert said(capsys, "endpoint", "create", "endpiont.yml", *AT, code=2).startswith(
        "endpiont.yml: there is no such file; did you mean `endpoint.yml`?"
    )


def test_create_refuses_what_the_provider_cannot_be_and_leaves_nothing(cloud, capsys, tmp_path):
    Path("endpoint.yml").write_text("name: shop\nauth_mode: aml_token\n")
    assert said(capsys, "endpoint", "create", "endpoint.yml", code=2) == (
        "endpoint.yml: auth_mode: aml_token is not available on the local provider: use key."
    )
    assert not (tmp_path / "home" / "local").exists()


def test_create_is_refused_while_a_rollout_is_about_to_make_it(cloud, capsys):
    put(("shop-20241120-aaaaa", "shop", "shop", "paused"))
    Path("endpoint.yml").write_text("name: shop\n")
    assert said(capsys, "endpoint", "create", "endpoint.yml", *AT, code=2) == (
        "rollout shop-20241120-aaaaa owns endpoint shop (paused): let it end, or rollout abort shop-20241120-aaaaa"
    )


# --- scale


def test_scale_takes_several_and_says_what_it_did(shop, capsys):
    assert told(capsys, "endpoint", "scale", "shop", "blue=3", "green=2", *AT) == (
        "blue: 1 -> 3 instances, all healthy\ngreen: 2 instances as before, all healthy\n"
    )
    assert {name: each.healthy for name, each in shop.state.deployments.items()} == {"blue": 3, "green": 2}
    assert told(capsys, "endpoint", "scale", "shop", "blue=1", *AT) == "blue: 3 -> 1 instance, all healthy\n"
    found = json.loads(told(capsys, "endpoint", "scale", "shop", "blue=2", *AT, "--output", "json"))
    assert (found["endpoint"], found["before"]) == ("shop", {"blue": 1})
    assert (found["deployments"]["blue"]["healthy"], found["deployments"]["blue"]["desired"]) == (2, 2)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("blue", "`blue` is not DEPLOYMENT=COUNT: write it without spaces, such as blue=2"),
        ("blue=", "`blue=` is not DEPLOYMENT=COUNT: write it without spaces, such as blue=2"),
        ("=2", "`=2` is not DEPLOYMENT=COUNT: write it without spaces, such as blue=2"),
        (
            "blue=2,green=3",
            "`blue=2,green=3` names more than one: write one word for each deployment, such as blue=2 and so on",
        ),
        (
            "blue=0",
            (
                "blue=0: a deployment has at least 1 instance; to take it out of use, give its traffic to another with "
                "`rollout endpoint traffic`"
            ),
        ),
        ("blue=51", "blue=51: a deployment has at most 50 instances"),
        ("blue=two", "blue=two: write a whole number, such as blue=2"),
        ("blue=1.5", "blue=1.5: write a whole number, such as blue=2"),
        ("blue=-1", "blue=-1: write a whole number, such as blue=2"),
        ("blue=2 blue=3", "blue is given twice: say once what it gets"),
        ("bleu=2", "endpoint shop has no deployment bleu; did you mean `blue`?"),
        ("red=2", "endpoint shop has no deployment red; there is blue, green"),
        ("blue=2 gren=2", "endpoint shop has no deployment gren; did you mean `green`?"),
    ],
)
def test_scale_refuses_with_one_sentence_and_does_nothing(shop, capsys, counts, message):
    before = len(shop.world.effects)
    assert said(capsys, "endpoint", "scale", "shop", *counts.split(), *AT, code=2) == message
    assert len(shop.world.effects) == before


def test_scale_says_so_where_the_provider_cannot(tmp_path, monkeypatch, capsys):
    fresh(monkeypatch, tmp_path, Capabilities(scale=False)).has({"blue": 1000}, counts={"blue": 1})
    assert said(capsys, "endpoint", "scale", "shop", "blue=2", *AT, code=2) == (
        "deployments of shop cannot be scaled: memory decides how many instances run"
    )


def test_scale_says_what_was_done_before_it_failed(shop, capsys):
    original = shop.world.begin

    def begin(action, key, fence, token):
        if getattr(action, "deployment", None) == "green":
            raise Permanent("There is no room for more.")
        return original(action, key, fence, token)

    shop.world.begin = begin
    assert said(capsys, "endpoint", "scale", "shop", "blue=2", "green=5", *AT, code=3) == (
        "green is not scaled to 5, blue to 2 is: There is no room for more."
    )
    assert shop.state.deployments["blue"].desired == 2


@pytest.mark.parametrize(
    "change", [("scale", "shop", "blue=2"), ("traffic", "shop", "green=100", "--yes"), ("delete", "shop", "--yes")]
)
def test_nothing_is_changed_while_a_rollout_owns_the_endpoint(shop, capsys, change):
    put(("shop-20241120-aaaaa", "shop", "shop", "running"))
    before = len(shop.world.effects)
    assert said(capsys, "endpoint", *change, *AT, code=2) == (
        "rollout shop-20241120-aaaaa owns endpoint shop (running): let it end, or rollout abort shop-20241120-aaaaa"
    )
    assert len(shop.world.effects) == before


def test_a_rollout_that_has_ended_owns_nothing(shop, capsys):
    put(("shop-20241120-aaaaa", "shop", "shop", "failed"))
    told(capsys, "endpoint", "scale", "shop", "blue=2", *AT)


def test_a_rollout_that_only_advises_owns_nothing(shop, capsys):
    put(("shop-20241120-aaaaa", "shop", "shop", "running"), advisory=True)
    told(capsys, "endpoint", "traffic", "shop", "green=100", "--yes", *AT)
    assert json.loads(told(capsys, "endpoint", "show", "shop", *AT, "--output", "json"))["rollout"] is None


def test_nothing_is_changed_while_another_stores_rollout_claims_the_endpoint(shop, capsys):
    from providers.base import Claim

    shop.world.meddle("shop", claim=Claim("elsewhere", "their-20241120-aaaaa", 3))
    assert said(capsys, "endpoint", "scale", "shop", "blue=2", *AT, code=2) == (
        "endpoint shop is claimed by rollout their-20241120-aaaaa of another store: let it end there (ROLLOUT_HOME and "
        "ROLLOUT_STORE say which store is used)"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("show", "shpo"),
        ("invoke", "shpo"),
        ("logs", "shpo"),
        ("keys", "shpo"),
        ("token", "shpo"),
        ("scale", "shpo", "blue=2"),
        ("traffic", "shpo", "blue=100"),
    ],
    ids=lambda words: words[0],
)
def test_an_endpoint_that_is_not_there_is_told_in_the_same_words_everywhere(shop, capsys, words):
    assert said(capsys, "endpoint", *words, *AT, code=2) == (
        "there is no endpoint shpo at memory; `rollout endpoint create FILE` makes one, or a plan with "
        "`endpoint: {file: ...}`"
    )


def test_an_endpoint_of_this_machine_that_was_probably_meant_is_suggested(cloud, capsys, tmp_path):
    folder = tmp_path / "home" / "local" / "shop"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    assert said(capsys, "endpoint", "show", "shpo", code=2) == (
        "there is no endpoint shpo at local; did you mean `shop`?"
    )


def test_a_misspelled_command_of_the_group_is_answered_with_the_one_that_is_meant(capsys):
    assert said(capsys, "endpoint", "craete", code=2) == "there is no command craete: did you mean create?"


# --- token


def test_a_token_is_shown_only_when_asked_for(cloud, capsys):
    cloud.has({}, counts={}, auth_mode="aml_token")
    shown = json.loads(told(capsys, "endpoint", "token", "shop", "--show", *AT, "--output", "json"))
    hidden = json.loads(told(capsys, "endpoint", "token", "shop", *AT, "--output", "json"))
    assert hidden == {"token": masked(shown["token"]), "expires": shown["expires"]}
    assert datetime.fromisoformat(shown["expires"]).tzinfo == UTC
    text = told(capsys, "endpoint", "token", "shop", *AT)
    assert text.startswith(f"token  {masked(shown['token'])}  (until ")
    assert shown["token"] not in text


def test_an_endpoint_with_keys_has_no_token_and_says_what_it_has(shop, capsys):
    assert said(capsys, "endpoint", "token", "shop", *AT, code=2) == (
        "Endpoint shop has no tokens (auth_mode: key): rollout endpoint keys shop --provider memory"
    )


def test_a_created_endpoint_with_tokens_names_the_command_for_them(cloud, capsys):
    Path("endpoint.yml").write_text("name: shop\nauth_mode: aml_token\n")
    assert "rollout endpoint token shop --show --provider memory" in told(
        capsys, "endpoint", "create", "endpoint.yml", *AT
    )


def test_a_token_never_shows_in_a_repr():
    assert "secret" not in repr(Token("secret"))


@pytest.mark.looptime
async def test_the_simulated_cloud_gives_one_token_until_it_expires(tmp_path):
    from providers.actions import PutEndpoint
    from providers.base import Fence
    from providers.specs import EndpointSpec

    began, numbers = datetime(2026, 1, 1, tzinfo=UTC), iter(range(100))
    context = Context(
        tmp_path,
        lambda: began + timedelta(seconds=asyncio.get_running_loop().time()),
        lambda: f"token-{next(numbers)}",
    )
    provider = MemoryProvider.in_world(World(), context)
    assert isinstance(provider, HasTokens)
    with pytest.raises(NotFound):
        await provider.token("shop")
    for name, mode in (("shop", "aml_token"), ("cart", "key")):
        spec = EndpointSpec.model_validate({"name": name, "auth_mode": mode})
        await provider.begin(PutEndpoint(name, spec), key=name, fence=Fence("s", "r", 1))
    with pytest.raises(Unsupported, match="auth_mode: key"):
        await provider.token("cart")
    first = await provider.token("shop")
    await asyncio.sleep(3599)
    assert await provider.token("shop") == first
    await asyncio.sleep(2)
    second = await provider.token("shop")
    assert second.value != first.value
    assert (second.expires - first.expires).total_seconds() > 3600
