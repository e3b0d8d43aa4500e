"""Every field of the plan language has a test that shows what it does: the list of them, and that it is whole.

A field that is new in a model fails here until a test of its effect is named, and so does a test that is gone.
"""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from types import ModuleType

import pytest
from pydantic import BaseModel

from plans.gates import KINDS, Tolerance
from plans.model import Budget, FileRef, InlineSpec, Load, Notification, OnRollback, Plan, ProviderRef
from plans.steps import STEPS, Expect, InlineRequest, Until

PARTS: tuple[type[BaseModel], ...] = (
    *(ProviderRef, FileRef, InlineSpec, Load, Budget, OnRollback, Notification),
    *(Expect, InlineRequest, Until, Tolerance),
)
MODELS: Mapping[str, type[BaseModel]] = {"plan": Plan, **STEPS, **KINDS, **{part.__name__: part for part in PARTS}}
GATED = ("shadow", "canary", "promote")
GUARDED = ("test", "wait", "approve", "load")

TOP, STEP, TASK, GATE, PAIRS = (f"engine.test_fields_{part}" for part in ("top", "steps", "tasks", "gates", "pairs"))
OF_LEGS = ("error_rate", "latency")
OTHERS = tuple(kind for kind in KINDS if kind not in OF_LEGS)
ROLES, HUMANS, BUDGET, NOTIFY = (f"engine.test_{part}" for part in ("roles", "humans", "budget", "notify"))
INHERITED = f"{GATE}:test_a_gates_own_word_counts_before_its_steps_and_that_before_the_plans"

# What differs is what the field says; where the test is in words of its own, it is in the module that knows it best.
EFFECTS: dict[str, str] = {
    "plan.version": f"{TOP}:test_version_is_1_and_no_other",
    "plan.name": f"{TOP}:test_name_is_what_its_rollouts_are_called_else_the_files_name",
    "plan.provider": f"{TOP}:test_provider_is_where_endpoints_live",
    "ProviderRef.name": f"{TOP}:test_the_name_of_the_provider_says_which_one",
    "plan.endpoint": f"{TOP}:test_endpoint_by_name_must_be_there_and_from_a_file_is_created",
    "plan.deployments": f"{TOP}:test_deployments_are_known_by_the_plans_names",
    "FileRef.file": f"{TOP}:test_file_is_what_is_read",
    "plan.candidate": f"{TOP}:test_candidate_is_what_comes_into_the_free_slot",
    "plan.slots": f"{TOP}:test_slots_are_the_names_to_be_had",
    "plan.stable": f"{TOP}:test_stable_is_who_gives_weight_where_several_serve",
    "plan.vars": f"{TOP}:test_vars_are_put_in_their_places",
    "plan.defaults": f"{TOP}:test_defaults_are_what_steps_and_gates_do_not_say_themselves",
    "plan.gates": f"{TOP}:test_gates_are_tolerances_by_name",
    "plan.steps": f"{TOP}:test_steps_are_done_in_order",
    **{f"plan.{field}": INHERITED for field in ("on_fail", "on_no_data", "on_undecided", "on_error")},
    **{
        f"plan.{field}": f"{GATE}:test_a_gates_own_alpha_and_beta_count_before_the_plans" for field in ("alpha", "beta")
    },
    "plan.pause_limit": f"{TOP}:test_pause_limit_is_how_long_a_pause_may_last",
    "plan.load": "acceptance.test_fields_load:test_every_field_of_load",
    **{f"Load.{f}": "acceptance.test_fields_load:test_every_field_of_load" for f in ("request", "rate", "until")},
    "plan.budget": f"{BUDGET}:test_where_no_gate_looks",
    "Budget.bad_responses": f"{BUDGET}:test_what_is_within_it_is_let_through",
    "plan.on_rollback": f"{TOP}:test_on_rollback_says_what_becomes_of_the_candidate",
    "OnRollback.candidate": f"{TOP}:test_on_rollback_says_what_becomes_of_the_candidate",
    "plan.notify": f"{NOTIFY}:test_a_rollout_is_not_held_up_by_webhooks_that_fail_and_says_so",
    "Notification.url": f"{NOTIFY}:test_a_rollout_is_not_held_up_by_webhooks_that_fail_and_says_so",
    "Notification.events": f"{NOTIFY}:test_a_webhook_hears_in_order_of_what_it_asked_for",
    "Notification.secret": f"{NOTIFY}:test_whoever_knows_the_secret_can_tell_that_it_is_from_us",
    # every step
    **{f"{kind}.name": f"{STEP}:test_a_name_is_shown_instead_of_the_steps_own_words[{kind}]" for kind in STEPS},
    **{
        f"{kind}.on_fail": f"{STEP}:test_on_fail_of_a_step_that_fails[{kind}]"
        for kind in ("deploy", "scale", "test", *GATED, "load", "delete")
    },
    **{
        f"{kind}.on_fail": (f"{STEP}:test_on_fail_of_a_step_whose_traffic_cannot_be_given_back_after_a_stop[{kind}]")
        for kind in ("wait", "approve")
    },
    "webhook.on_fail": f"{TASK}:test_on_fail_of_a_webhook",
    **{
        f"{kind}.on_error": f"{STEP}:test_on_error_of_a_step_that_the_gates_before_it_guard[{kind}]" for kind in GUARDED
    },
    "webhook.on_error": f"{TASK}:test_on_error_of_a_webhook_that_the_gates_before_it_guard",
    # steps with gates
    **{
        f"{kind}.{field}": f"{STEP}:{test}[{kind}]"
        for kind in GATED
        for field, test in {
            "gates": "test_gates_are_what_stops_it",
            "hold": "test_hold_is_how_long_it_lasts_at_least",
            "deadline": "test_deadline_is_when_it_is_undecided",
            "interval": "test_interval_is_the_time_between_measurements",
            "decide": "test_decide_is_what_it_takes_to_go_on",
            "on_no_data": "test_on_no_data_when_nothing_came_until_the_deadline",
            "on_undecided": "test_on_undecided_when_the_evidence_was_not_enough",
            "on_error": "test_on_error_when_measuring_failed_five_times",
        }.items()
    },
    "shadow.shadow": f"{STEP}:test_shadow_is_the_share_that_is_mirrored",
    "canary.canary": f"{STEP}:test_canary_is_the_share_of_live_traffic_or_several_that_grow",
    "promote.promote": f"{STEP}:test_promote_is_the_share_that_the_candidate_ends_with",
    # the others
    "deploy.deploy": f"{STEP}:test_deploy_says_which_one",
    "deploy.deadline": f"{STEP}:test_deadline_of_a_deploy",
    "deploy.ready": f"{STEP}:test_ready_is_full_healthy_count_and_nothing_less",
    "scale.scale": f"{STEP}:test_scale_says_how_many",
    "scale.deadline": f"{STEP}:test_deadline_of_a_scale",
    "delete.delete": f"{STEP}:test_delete_says_what_goes",
    "test.test": f"{TASK}:test_test_says_which_deployment_is_asked",
    **{f"test.{field}": f"{TASK}:test_what_a_test_asks[{field}]" for field in ("request", "method", "path")},
    "InlineRequest.body": f"{TASK}:test_what_a_test_asks[body]",
    "test.repeat": f"{TASK}:test_repeat_is_how_often",
    "test.expect": f"{TASK}:test_expect_is_what_the_answer_must_be",
    **{
        f"Expect.{field}": f"{TASK}:test_expect_is_what_the_answer_must_be[{field}]"
        for field in ("status", "json", "max_latency")
    },
    "wait.wait": f"{TASK}:test_wait_is_how_long",
    **{f"Until.{f}": f"{TASK}:test_wait_until_a_time_of_day_somewhere[{f}]" for f in ("until", "tz")},
    "approve.approve": f"{TASK}:test_approve_is_what_the_human_is_asked",
    "approve.timeout": f"{TASK}:test_timeout_is_how_long_an_approval_waits",
    "approve.on_timeout": f"{TASK}:test_on_timeout_is_what_happens_then",
    "approve.not_by_starter": f"{HUMANS}:test_not_by_starter_wants_another_person",
    "webhook.webhook": f"{TASK}:test_webhook_says_where_to",
    **{f"webhook.{field}": f"{TASK}:test_{field}_of_a_webhook" for field in ("method", "body", "headers")},
    "webhook.secret": f"{TASK}:test_secret_of_a_webhook_signs_the_body",
    **{f"webhook.{field}": f"{TASK}:test_{field}_of_a_webhook" for field in ("timeout", "retries")},
    "load.load": f"{TASK}:test_load_is_a_count_or_a_frequency",
    "load.request": f"{TASK}:test_request_is_what_a_load_sends",
    "load.for": f"{TASK}:test_for_is_how_long_a_frequency_is_sent",
    # gates
    **{
        f"{metric}.{field}": f"{GATE}:{test}[{metric}]"
        for metric in OF_LEGS
        for field, test in {
            "max": "test_max_is_an_absolute_bound",
            "max_ratio": "test_max_ratio_is_how_many_times_what_stable_has",
            "blame": "test_blame_excuses_what_stable_suffers_as_well",
            "source": "test_source_is_which_of_the_candidates_requests_are_judged",
            "min_requests": "test_min_requests_come_before_pass",
            "warm_up": "test_warm_up_is_discarded_at_the_candidates_birth_and_only_there",
            "interval": "test_interval_is_the_time_between_measurements",
            "settle": "test_settle_holds_back_the_clocks_of_the_stage",
            "alpha": "test_alpha_is_how_sure_a_fail_must_be",
            "beta": "test_beta_is_how_sure_a_pass_must_be",
            "dispersion": "test_dispersion_makes_clustered_errors_count_less",
            "on_fail": "test_on_fail_of_a_gate",
            "on_no_data": "test_on_no_data_of_a_gate",
            "on_undecided": "test_on_undecided_of_a_gate",
            "on_error": "test_on_error_of_a_gate",
        }.items()
    },
    **{f"{metric}.metric": f"{GATE}:test_metric_is_what_is_looked_at" for metric in OF_LEGS},
    "error_rate.max_increase": f"{GATE}:test_max_increase_is_what_comes_on_top_of_it",
    "error_rate.codes": f"{GATE}:test_codes_are_what_counts_as_an_error",
    "latency.quantile": f"{GATE}:test_quantile_is_how_slow_the_slowest_may_be",
    **{f"{m}.guard": f"{PAIRS}:test_guard_compares_stable_with_itself_before_the_step[{m}]" for m in OF_LEGS},
    **{
        f"{metric}.{field}": f"{PAIRS}:{test}[{metric}]"
        for metric in OTHERS
        for field, test in {
            "min_requests": "test_min_requests_come_before_pass",
            "warm_up": "test_warm_up_is_discarded_at_the_candidates_birth_and_only_there",
            "interval": "test_interval_is_the_time_between_measurements",
            "settle": "test_settle_holds_back_the_clocks_of_the_stage",
            "alpha": "test_alpha_is_how_sure_a_fail_must_be",
            "beta": "test_beta_is_how_sure_a_pass_must_be",
            "dispersion": "test_dispersion_makes_what_comes_in_clusters_count_less",
            "on_fail": "test_on_fail_of_a_gate",
            "on_no_data": "test_on_no_data_of_a_gate",
            "on_undecided": "test_on_undecided_of_a_gate",
            "on_error": "test_on_error_of_a_gate",
        }.items()
    },
    **{f"{metric}.metric": f"{PAIRS}:test_metric_is_what_is_looked_at" for metric in OTHERS},
    **{
        f"{metric}.max": f"{PAIRS}:test_max_is_an_absolute_bound[{metric}]" for metric in OTHERS if metric != "slowdown"
    },
    "slowdown.max_ratio": f"{PAIRS}:test_max_ratio_of_a_slowdown_is_how_much_longer_the_typical_request_may_take",
    "prediction.tolerance": f"{PAIRS}:test_tolerance_is_how_far_apart_numbers_count_as_the_same",
    **{
        f"Tolerance.{part}": f"{PAIRS}:test_either_part_of_a_tolerance_is_enough[{part}]"
        for part in ("absolute", "relative")
    },
    "prediction.path": f"{PAIRS}:test_path_is_the_part_that_is_compared",
    "prediction.examples": f"{PAIRS}:test_examples_is_how_many_differing_answers_are_shown",
    "external.max_ratio": f"{PAIRS}:test_max_ratio_from_elsewhere_is_how_many_times_what_stable_has",
    "external.max_increase": f"{PAIRS}:test_max_increase_from_elsewhere_is_what_comes_on_top_of_it",
    "external.blame": f"{PAIRS}:test_blame_of_a_metric_from_elsewhere",
    "external.source": f"{PAIRS}:test_source_is_which_requests_a_metric_is_asked_about",
}
"""Field -> the test that shows its effect."""

NEVER = frozenset(
    [f"{kind}.on_error" for kind in ("deploy", "scale", "delete")]
    + [
        f"{kind}.{field}"
        for kind in ("deploy", "scale", "test", "wait", "approve", "webhook", "load", "delete")
        for field in ("on_no_data", "on_undecided")
    ]
)
"""Answers to what cannot happen in these steps: nothing is judged in them, or not even measured."""

BESIDES: dict[str, str] = {
    "${var:NAME} by --var, pinned": f"{TOP}:test_what_is_given_with_var_wins_and_is_pinned",
    "${var:NAME} in the plan's files": f"{TOP}:test_vars_reach_the_files_that_the_plan_names",
    "a provider's own options": f"{TOP}:test_a_providers_own_options",
    "capabilities": f"{TOP}:test_what_the_provider_cannot_do_is_refused_with_the_plan_that_it_could_run",
    "a deployment in place": f"{TOP}:test_a_deployment_may_be_written_in_place",
    "stable from a file": f"{ROLES}:test_stable_from_a_file_is_brought_into_service_first",
    "a slot for every version": f"{ROLES}:test_the_same_file_alternates_between_its_slots",
    "on_fail of a step that says nothing": f"{TOP}:test_on_fail_counts_where_a_step_says_nothing",
    "pause_limit unless told": f"{TOP}:test_without_a_pause_limit_it_is_a_day",
    "deadline unless told": f"{STEP}:test_without_a_deadline_it_is_an_hour_after_the_hold",
    "interval unless told": f"{GATE}:test_of_several_gates_the_smallest_interval_counts_and_a_steps_own_before_all",
    "the mirror after a list": f"{STEP}:test_of_several_shadows_the_mirror_is_cleared_after_the_last",
    "the name of several stages": f"{STEP}:test_a_name_of_several_stages_is_shown_beside_each",
    "a webhook's answer": f"{TASK}:test_only_2xx_is_well",
    "source: direct": f"{GATE}:test_source_direct_is_what_is_addressed_by_name",
    "max_ratio unless told": f"{GATE}:test_without_max_ratio_it_is_one",
    "blame where there is no stable": f"{ROLES}:test_a_gate_of_the_first_promote_can_still_fail",
    "bounds of values": f"{PAIRS}:test_bounds_of_values_are_numbers",
    "groups of on_fail": f"{GATE}:test_gates_fail_in_groups_that_ask_for_the_same",
    "decide: no_fail wants its requests": f"{HUMANS}:test_no_fail_still_wants_its_requests",
    "a budget over all steps": f"{BUDGET}:test_it_counts_across_steps_and_what_came_between_them",
}
"""What the language promises besides its fields -> the test that shows it."""


def fields() -> Iterator[str]:
    for name, model in MODELS.items():
        for field, info in model.model_fields.items():
            yield f"{name}.{info.alias or field}"


def parts(model: type[BaseModel]) -> set[type[BaseModel]]:
    """The models that a model's fields may hold, at whatever depth."""
    found: set[type[BaseModel]] = set()
    left: list[object] = [info.annotation for info in model.model_fields.values()]
    while left:
        each = left.pop()
        if inspect.isclass(each) and issubclass(each, BaseModel):
            if each not in found:
                found.add(each)
                left += [info.annotation for info in each.model_fields.values()]
        else:
            left += getattr(each, "__args__", ())
    return found


def test_every_part_of_a_plan_is_looked_at() -> None:
    assert parts(Plan) | {Plan} == set(MODELS.values())


def test_every_field_has_a_test_of_its_effect() -> None:
    known = set(fields())
    assert known - EFFECTS.keys() - NEVER == set(), "name the test that shows what each of these does"
    assert EFFECTS.keys() - known == set(), "no model has these"
    assert NEVER - known == set(), "no model has these"
    assert NEVER & EFFECTS.keys() == set(), "these have an effect"


@pytest.mark.parametrize("test", sorted({*EFFECTS.values(), *BESIDES.values()}))
def test_the_test_is_there(test: str) -> None:
    module, _, name = test.partition(":")
    name, _, case = name.rstrip("]").partition("[")
    found = importlib.import_module(f"tests.{module}")
    assert name in vars(found), f"there is no {name} in {module}"
    assert not case or case in _cases(found, name), f"{name} has no case {case}"


def _cases(module: ModuleType, name: str) -> list[str]:
    """What the one parametrization of a test calls its cases."""
    (mark,) = [mark for mark in getattr(module, name).pytestmark if mark.name == "parametrize"]
    ids = mark.kwargs.get("ids")
    return [str(each) for each in (ids or mark.args[1])]
