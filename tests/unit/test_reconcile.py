"""From whatever stands to a target: the order of actions, the rules that no step may break, and what is drift."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orchestrator.errors import Invariant
from orchestrator.reconcile import Unready, after, check_split, drift, next_action, same, standing
from orchestrator.stages import Target
from orchestrator.standing import Intent, Snapshot
from providers.actions import Action, DeleteDeployment, DeleteEndpoint, PutDeployment, PutEndpoint, Scale, SetTraffic
from providers.base import Capabilities, DeploymentState, EndpointState
from providers.specs import EndpointSpec
from tests.unit.making import deployment, endpoint, resolved

SPEC = EndpointSpec(name="shop")
NAMES = ("blue", "green", "red")


def following(
    observed: EndpointState | None, target: Target, *, replacing: bool = False, **able: object
) -> Action | Unready | None:
    return next_action(
        observed,
        target,
        endpoint="shop",
        replace_existing=replacing,
        capabilities=Capabilities(**able),  # type: ignore[arg-type]
    )


# --- one step at a time ---


def test_nothing_to_do():
    assert following(endpoint({"blue": 1000}), Target({"blue": 1000})) is None
    assert following(None, Target({}, gone=True)) is None


def test_the_endpoint_first():
    target = Target({"blue": 1000}, endpoint=SPEC, deployments={"blue": resolved("blue")}, instances={"blue": 2})
    assert following(None, target) == PutEndpoint("shop", SPEC)
    put = following(endpoint({}), target)
    assert isinstance(put, PutDeployment)
    assert (put.deployment.name, put.deployment.spec.instance_count, put.replace) == ("blue", 2, False)


def test_an_endpoint_that_has_disappeared():
    with pytest.raises(Invariant, match="endpoint shop has disappeared"):
        following(None, Target({"blue": 1000}))
    with pytest.raises(Invariant, match="deployment blue has disappeared"):
        following(endpoint({}), Target({}, instances={"blue": 2}))
    with pytest.raises(Invariant, match="deployment green has disappeared"):
        following(endpoint({"blue": 1000}), Target({"green": 1000}))


def test_deploying_takes_the_count_of_the_target():
    target = Target({}, deployments={"blue": resolved("blue", count=2)}, instances={"blue": 5})
    put = following(endpoint({}), target, replacing=True)
    assert isinstance(put, PutDeployment)
    assert (put.deployment.spec.instance_count, put.replace) == (5, True)
    assert put.deployment.digest == "blue-digest"


def test_no_weight_before_every_instance_is_healthy():
    half = endpoint({"blue": 1000}, {}, deployment("green", healthy=1))
    assert following(half, Target({"green": 1000})) == Unready("green: 1 of 2 instances are healthy")
    assert isinstance(following(half, Target({"blue": 1000}, {"green": 100})), Unready)
    broken = endpoint({"blue": 1000}, {}, deployment("green", healthy=0, problem="exited 3 times"))
    assert following(broken, Target({"green": 1000})) == Unready(
        "green: 0 of 2 instances are healthy", "exited 3 times"
    )


def test_what_loses_weight_may_be_ill():
    ill = endpoint({"blue": 900, "green": 100}, {}, deployment("green", healthy=0))
    assert following(ill, Target({"blue": 1000})) == SetTraffic("shop", {"blue": 1000}, {})


def test_up_before_weight_and_down_after():
    target = Target({"green": 1000}, instances={"green": 4, "blue": 1})
    observed = endpoint({"blue": 1000}, {}, deployment("green"))
    assert following(observed, target) == Scale("shop", "green", 4)
    grown = endpoint({"blue": 1000}, {}, deployment("green", healthy=4, desired=4))
    assert following(grown, target) == SetTraffic("shop", {"green": 1000}, {})
    moved = endpoint({"green": 1000}, {}, deployment("green", healthy=4, desired=4), deployment("blue"))
    assert following(moved, target) == Scale("shop", "blue", 1)


def test_the_mirror_is_cleared_before_the_same_deployment_gets_weight():
    mirrored = endpoint({"blue": 1000}, {"green": 100})
    canary = Target({"blue": 900, "green": 100})
    assert following(mirrored, canary) == SetTraffic("shop", {"blue": 1000}, {})
    assert following(mirrored, canary, live_xor_mirror=False) == SetTraffic("shop", {"blue": 900, "green": 100}, {})


def test_where_split_and_mirror_cannot_change_together():
    mirrored = endpoint({"red": 1000}, {"green": 100}, deployment("blue"))
    assert following(mirrored, Target({"blue": 1000}), atomic_shift=False) == SetTraffic("shop", {"red": 1000}, {})
    plain = endpoint({"red": 1000}, {}, deployment("blue"), deployment("green"))
    both = Target({"blue": 1000}, {"green": 100})
    assert following(plain, both, atomic_shift=False) == SetTraffic("shop", {"blue": 1000}, {})
    assert following(plain, both) == SetTraffic("shop", {"blue": 1000}, {"green": 100})


def test_deleting():
    assert following(endpoint({"green": 1000}, {}, deployment("blue")), Target({"green": 1000}, absent=("blue",))) == (
        DeleteDeployment("shop", "blue")
    )
    assert following(endpoint({"green": 1000}), Target({"green": 1000}, absent=("blue",))) is None
    with pytest.raises(Invariant, match="deployment blue still has traffic, so it is not deleted"):
        following(endpoint({"blue": 1000}), Target({"blue": 1000}, absent=("blue",)))
    assert following(endpoint({"blue": 1000}), Target({}, gone=True)) == DeleteEndpoint("shop")


@pytest.mark.parametrize(
    ("traffic", "mirror", "sentence"),
    [
        ({"blue": 900}, {}, "weights sum to 90%, not to 0% or 100%"),
        ({"blue": 1000}, {"green": 600}, "mirror 60% to green is more than 50%"),
        ({"blue": 1000}, {"blue": 100}, "blue would have live and mirrored traffic together"),
        ({"blue": 1000}, {"green": 10, "red": 10}, "mirror to green, red: this provider mirrors to 1 at most"),
        ({"gone": 1000}, {}, "deployment gone does not exist, so it gets no traffic"),
    ],
)
def test_splits_that_nobody_may_set(traffic, mirror, sentence):
    observed = endpoint({"blue": 1000}, {}, deployment("green"), deployment("red"))
    with pytest.raises(Invariant) as caught:
        check_split(SetTraffic("shop", traffic, mirror), observed, Capabilities())
    assert str(caught.value) == sentence


def test_zeros_do_not_make_a_split_another():
    assert same({"blue": 1000, "green": 0}, {"blue": 1000})
    assert not same({"blue": 1000}, {"green": 1000})


def test_what_stands_where():
    assert standing(None) == "the endpoint does not exist"
    assert standing(endpoint({"blue": 900, "green": 100}, {"red": 10}, deployment("green", healthy=1))) == (
        "traffic blue 90%, green 10%; mirror red 1%; blue 2 of 2 healthy; green 1 of 2 healthy; red 2 of 2 healthy"
    )
    assert standing(endpoint({})) == "traffic empty"


# --- the whole way ---


def effect(observed: EndpointState | None, action: Action) -> EndpointState | None:
    """The endpoint after the action, done perfectly."""
    if isinstance(action, PutEndpoint):
        return EndpointState("shop")
    if isinstance(action, DeleteEndpoint):
        return None
    assert observed is not None
    there = dict(observed.deployments)
    match action:
        case PutDeployment(deployment=made):
            count = made.spec.instance_count
            there[made.name] = deployment(made.name, healthy=count, desired=count, digest=made.digest)
        case Scale(deployment=name, instances=count):
            there[name] = replace(there[name], healthy=count, desired=count)
        case DeleteDeployment(deployment=name):
            del there[name]
        case SetTraffic(traffic=traffic, mirror=mirror):
            return replace(observed, traffic=dict(traffic), mirror=dict(mirror))
    return replace(observed, deployments=there)


def obey(action: Action, observed: EndpointState | None, capabilities: Capabilities) -> None:
    """The rules that hold for every action, whatever it is for."""
    match action:
        case SetTraffic(traffic=traffic, mirror=mirror):
            assert observed is not None
            assert sum(traffic.values()) in (0, 1000)
            assert len(mirror) <= 1
            assert all(share <= capabilities.mirror_limit for share in mirror.values())
            if capabilities.live_xor_mirror:
                assert not set(traffic) & set(mirror)
                for name in observed.mirror:
                    gained = traffic.get(name, 0) > observed.traffic.get(name, 0)
                    assert not gained, f"{name} got weight while it was mirrored to"
            if not capabilities.atomic_shift:
                assert same(traffic, observed.traffic) or same(mirror, observed.mirror) or not observed.mirror
            for name in (*traffic, *mirror):
                state = observed.deployments[name]
                grows = max(traffic.get(name, 0) - observed.traffic.get(name, 0), 0) + max(
                    mirror.get(name, 0) - observed.mirror.get(name, 0), 0
                )
                assert not grows or state.healthy == state.desired > 0, f"{name} got weight before it was whole"
        case DeleteDeployment(deployment=name):
            assert observed is not None
            assert not observed.traffic.get(name), "deleted with traffic"
            assert not observed.mirror.get(name), "deleted with a mirror"


@st.composite
def splits(draw: st.DrawFn, names: tuple[str, ...]) -> dict[str, int]:
    """A split over some of the names that sums to 1000, or nothing."""
    chosen = draw(st.lists(st.sampled_from(names), unique=True, max_size=len(names))) if names else []
    if not chosen:
        return {}
    cuts = sorted(draw(st.lists(st.integers(1, 999), unique=True, min_size=len(chosen) - 1, max_size=len(chosen) - 1)))
    edges = [0, *cuts, 1000]
    return {name: high - low for name, low, high in zip(chosen, edges, edges[1:], strict=False)}


@st.composite
def endpoints(draw: st.DrawFn) -> EndpointState | None:
    """Any endpoint that a provider may show."""
    if not draw(st.integers(0, 9)):
        return None
    names = tuple(draw(st.lists(st.sampled_from(NAMES), unique=True)))
    there: dict[str, DeploymentState] = {}
    for name in names:
        desired = draw(st.integers(1, 4))
        there[name] = deployment(
            name,
            healthy=draw(st.integers(0, desired)),
            desired=desired,
            digest=draw(st.sampled_from([f"{name}-digest", "another"])),
        )
    traffic = draw(splits(names))
    idle = [name for name in names if name not in traffic]
    mirror = {draw(st.sampled_from(idle)): draw(st.integers(1, 500))} if idle and draw(st.booleans()) else {}
    return EndpointState("shop", there, traffic, mirror)


@st.composite
def targets(draw: st.DrawFn) -> Target:
    """Any target that stages may ask for; each deployment that it needs is named."""
    if not draw(st.integers(0, 19)):
        return Target({}, gone=True)
    traffic = draw(splits(NAMES))
    idle = [name for name in NAMES if name not in traffic]
    mirror = {draw(st.sampled_from(idle)): draw(st.integers(1, 500))} if idle and draw(st.booleans()) else {}
    used = [*traffic, *mirror]
    absent = tuple(name for name in NAMES if name not in used and draw(st.booleans()))
    counts = {name: draw(st.integers(1, 4)) for name in used}
    return Target(traffic, mirror, SPEC, {name: resolved(name) for name in used}, counts, absent)


@given(observed=endpoints(), target=targets(), together=st.booleans(), exclusive=st.booleans())
def test_every_target_is_reached_by_lawful_steps(observed, target, together, exclusive):
    able = {"atomic_shift": together, "live_xor_mirror": exclusive}
    actions: list[Action] = []
    for _ in range(30):
        action = following(observed, target, replacing=True, **able)
        if action is None:
            break
        if isinstance(action, Unready):
            # What is not healthy yet becomes so.
            assert observed is not None
            healed = {name: replace(state, healthy=state.desired) for name, state in observed.deployments.items()}
            assert healed != observed.deployments, "it waits for what is healthy already"
            observed = replace(observed, deployments=healed)
            continue
        obey(action, observed, Capabilities(**able))
        observed = effect(observed, action)
        actions.append(action)
    assert action is None, f"not there after {len(actions)} actions"
    assert len(actions) <= 13
    if target.gone:
        assert observed is None
        return
    assert observed is not None
    assert same(observed.traffic, target.traffic)
    assert same(observed.mirror, target.mirror)
    assert not set(target.absent) & set(observed.deployments)
    for name, count in target.instances.items():
        there = observed.deployments[name]
        assert (there.digest, there.desired, there.healthy) == (f"{name}-digest", count, count)


@given(observed=endpoints(), target=targets())
def test_after_says_what_an_action_leads_to(observed, target):
    action = following(observed, target, replacing=True)
    assume(action is not None and not isinstance(action, Unready))
    counted = frozenset(NAMES)
    told = after(Snapshot.of(observed, counted), action)
    seen = Snapshot.of(effect(observed, action), counted)
    assert told == seen
    intent = Intent("k", 0, 1, action, Snapshot.of(observed, counted), told)
    for stands in (observed, effect(observed, action)):
        assert drift(Snapshot.of(observed, counted), [intent], stands) == (), "before and after are both ours"


# --- drift ---


def left_at(observed: EndpointState | None, *counted: str) -> Snapshot:
    return Snapshot.of(observed, frozenset(counted))


def doing(action: Action, observed: EndpointState | None, *counted: str, state: str = "begun") -> Intent:
    before = left_at(observed, *counted)
    return Intent("k", 0, 1, action, before, after(before, action), state=state)  # type: ignore[arg-type]


def changed(observed: EndpointState, **states: Mapping[str, object]) -> EndpointState:
    there = {**observed.deployments}
    for name, changes in states.items():
        there[name] = replace(there[name], **changes)  # type: ignore[arg-type]
    return replace(observed, deployments=there)


BLUE = endpoint({"blue": 1000}, {}, deployment("green"))


def test_health_and_counts_that_nobody_set_are_not_drift():
    ill = changed(BLUE, blue={"healthy": 0, "problem": "x"}, green={"desired": 7})
    assert drift(left_at(BLUE), [], ill) == ()


@pytest.mark.parametrize(
    ("found", "sentences"),
    [
        (
            endpoint({"blue": 900, "green": 100}),
            ["traffic is blue 90%, green 10%, and was left at blue 100%"],
        ),
        (
            endpoint({"blue": 1000}, {"green": 50}),
            ["the mirror is green 5%, and was left at empty"],
        ),
        (endpoint({"blue": 1000}), ["deployment green is gone"]),
        (
            endpoint({"blue": 1000}, {}, deployment("green"), deployment("red")),
            ["deployment red was created by someone else"],
        ),
        (
            endpoint({"blue": 1000}, {}, deployment("green", digest="0123456789abcdef")),
            ["deployment green was replaced (digest 0123456789ab, and was green-digest)"],
        ),
        (changed(BLUE, blue={"desired": 5}), ["blue has 5 instances, and was set to 2"]),
        (None, ["the endpoint is gone"]),
    ],
)
def test_what_somebody_else_changed(found, sentences):
    assert list(drift(left_at(BLUE, "blue"), [], found)) == sentences


def test_an_endpoint_out_of_nowhere():
    assert drift(Snapshot(), [], BLUE) == ("the endpoint was created by someone else",)
    assert drift(Snapshot(), [], None) == ()


def test_an_open_intent_makes_both_ends_ours_and_a_finished_one_does_not():
    shift = SetTraffic("shop", {"blue": 900, "green": 100}, {})
    moved = effect(BLUE, shift)
    assert drift(left_at(BLUE), [doing(shift, BLUE)], moved) == ()
    assert drift(left_at(BLUE), [doing(shift, BLUE)], BLUE) == ()
    for ended in ("done", "failed", "superseded"):
        assert drift(left_at(BLUE), [doing(shift, BLUE, state=ended)], moved)
    third = endpoint({"blue": 300, "green": 700})
    assert "traffic is blue 30%, green 70%" in drift(left_at(BLUE), [doing(shift, BLUE)], third)[0]


def test_a_count_that_is_set_for_the_first_time():
    scale = Scale("shop", "blue", 4)
    for desired in (2, 3, 4, 9):
        seen = changed(BLUE, blue={"desired": desired})
        assert drift(left_at(BLUE), [doing(scale, BLUE)], seen) == (), "nobody had set it before"


def test_a_count_on_its_way():
    scale = Scale("shop", "blue", 4)
    intent = doing(scale, BLUE, "blue")
    for desired in (2, 3, 4):
        assert drift(left_at(BLUE, "blue"), [intent], changed(BLUE, blue={"desired": desired})) == ()
    beyond = drift(left_at(BLUE, "blue"), [intent], changed(BLUE, blue={"desired": 5}))
    assert beyond == ("blue has 5 instances, and was set to 2",)


def test_adopting_a_candidate_with_another_count():
    found = endpoint({"blue": 1000}, {}, deployment("green", desired=1, healthy=1))
    assert drift(left_at(found), [doing(Scale("shop", "green", 2), found, state="open")], found) == ()


def test_a_replacement_may_be_away_for_a_moment():
    old = endpoint({"blue": 1000}, {}, deployment("green", digest="old"))
    put = doing(PutDeployment("shop", resolved("green"), replace=True), old)
    assert drift(left_at(old), [put], endpoint({"blue": 1000})) == ()
    assert drift(left_at(old), [put], BLUE) == ()
    other = endpoint({"blue": 1000}, {}, deployment("green", digest="third"))
    assert drift(left_at(old), [put], other) == ("deployment green was replaced (digest third, and was old)",)


def test_deleting_and_creating_endpoints():
    assert drift(left_at(BLUE), [doing(DeleteEndpoint("shop"), BLUE)], None) == ()
    assert drift(left_at(BLUE), [doing(DeleteEndpoint("shop"), BLUE)], endpoint({})) == ()
    assert drift(Snapshot(), [doing(PutEndpoint("shop", SPEC), None)], endpoint({})) == ()
    assert drift(Snapshot(), [doing(PutEndpoint("shop", SPEC), None)], None) == ()
