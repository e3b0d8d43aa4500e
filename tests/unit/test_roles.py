"""Who is who on an endpoint as it stands, and the sentence for each endpoint on which that is not clear."""

import pytest

from orchestrator.errors import Refused
from orchestrator.roles import cast
from orchestrator.standing import Roles, Split
from providers.base import EndpointState
from tests.unit.making import bundle, deployment, endpoint

DEPLOY = "  - deploy: green\n"
ALL = ("blue", "green", "red")


def roles(observed, *, bootstrap: bool = False, replace: bool = False, steps: str = DEPLOY, **making: object) -> Roles:
    return cast(bundle(steps, **making), observed, bootstrap=bootstrap, replace=replace)


def refusal(observed, **making: object) -> str:
    with pytest.raises(Refused) as caught:
        roles(observed, **making)
    return str(caught.value)


def test_what_serves_is_stable():
    observed = endpoint({"blue": 1000}, {}, deployment("blue", healthy=1, desired=3))
    assert roles(observed) == Roles("green", "blue", Split({"blue": 1000}), {"blue": 3})


def test_a_plan_without_a_candidate():
    assert roles(endpoint({"blue": 1000}), steps="  - scale: {blue: 3}\n").candidate is None


def test_zero_shares_are_no_traffic():
    observed = EndpointState("shop", endpoint({"blue": 1, "red": 1}).deployments, {"blue": 1000, "red": 0})
    assert roles(observed).baseline == Split({"blue": 1000})


def test_several_serve():
    observed = endpoint({"blue": 700, "red": 300})
    assert refusal(observed, names=ALL) == (
        "endpoint shop: several deployments serve (blue 70%, red 30%); say in the plan which is `stable:`"
    )
    chosen = roles(observed, names=ALL, top="stable: red")
    assert (chosen.stable, dict(chosen.baseline.traffic)) == ("red", {"blue": 700, "red": 300})


def test_stable_that_does_not_serve():
    assert refusal(endpoint({"blue": 1000}), names=ALL, top="stable: red") == (
        "endpoint shop: the plan says `stable: red`, but red has no traffic; blue 100%"
    )


def test_a_candidate_that_serves():
    assert refusal(endpoint({"green": 1000})) == (
        "endpoint shop: green already serves 100% of the traffic, so there is nothing to roll out; "
        "name the new version differently"
    )
    assert refusal(endpoint({"blue": 900, "green": 100}), top="stable: blue") == (
        "endpoint shop: the candidate green already has 10% of the traffic; take it out of traffic first, "
        "then run again"
    )


def test_a_mirror_of_somebody_else():
    assert refusal(endpoint({"blue": 1000}, {"red": 100})) == (
        "endpoint shop mirrors traffic to red already: clear the mirror first, then run again"
    )


def test_a_candidate_that_exists():
    observed = endpoint({"blue": 1000}, {}, deployment("green", desired=1))
    assert roles(observed) == Roles("green", "blue", Split({"blue": 1000}), {"blue": 2, "green": 1}, existed=True)
    other = endpoint({"blue": 1000}, {}, deployment("green", digest="someone-elses-work"))
    assert refusal(other) == (
        "endpoint shop has a deployment green already, and it is not the one of the plan "
        "(digest someone-else there, green-digest in the plan): delete it, choose another name, or run with --replace"
    )
    assert roles(other, replace=True).existed


# --- bootstrap ---


@pytest.mark.parametrize("observed", [None, endpoint({})], ids=["no endpoint", "no deployment"])
def test_an_endpoint_that_serves_nothing_is_bootstrapped(observed):
    made = roles(observed, counts={"blue": 3})
    assert made == Roles("green", "blue", Split({"blue": 1000}), {"blue": 3}, bootstrap=True)


def test_a_bare_name_is_never_created():
    assert refusal(None, endpoint="shop") == (
        "endpoint shop does not exist, and the plan only names it: "
        "give `endpoint: {file: endpoint.yml}` to have it created"
    )
    assert roles(endpoint({}), endpoint="shop").bootstrap


def test_which_one_serves_first():
    question = (
        "endpoint shop serves nothing yet, and which deployment shall serve first is not clear: "
        "`deployments` must have exactly one that no step deploys (found: {}); else say `stable:`"
    )
    assert refusal(None, names=("green",)) == question.format("none")
    assert refusal(None, names=ALL) == question.format("blue, red")
    assert roles(None, names=ALL, top="stable: red").stable == "red"


def test_switched_off_is_not_empty():
    off = EndpointState("shop", endpoint({"blue": 1, "red": 1}).deployments)
    assert refusal(off) == (
        "endpoint shop has blue, red, and none of them gets traffic: somebody switched it off. "
        "Give one of them traffic, or run with --bootstrap to begin by giving it all to stable"
    )
    made = roles(off, bootstrap=True)
    assert (made.bootstrap, made.stable, made.existed) == (True, "blue", False)


@pytest.mark.parametrize("name", ["blue", "green"])
def test_a_bootstrap_replaces_nothing_unasked(name):
    off = EndpointState("shop", {name: deployment(name, digest="someone-elses-work")})
    assert f"has a deployment {name} already, and it is not the one of the plan" in refusal(off, bootstrap=True)
    assert roles(off, bootstrap=True, replace=True).existed is (name == "green")


def test_a_bootstrap_goes_on_with_what_an_earlier_one_left():
    left = EndpointState("shop", {"blue": deployment("blue", healthy=0)})
    assert roles(left, bootstrap=True).counts == {"blue": 2}
