"""`--output json` of every command, typed at a real store: a public contract, one snapshot for each kind of answer.

What a program may rely on is written in docs/json.md. How to write the snapshots anew is said in `kept`.
"""

import pytest

from orchestrator import preview
from providers.memory import Behaviour
from tests.contract.desk import HEAD, STEPS, Desk
from tests.contract.kept import Keeper

ROLES = HEAD.replace(
    "deployments:\n  blue: {file: blue.yml}\n  green: {file: green.yml}\n",
    "slots: [blue, green]\ncandidate: {file: green.yml}\n",
)
ROLE_STEPS = """\
steps:
  - deploy: candidate
  - shadow: 10%
    gates: [errors]
    hold: 1m
  - promote: 100%
    gates: [errors, latency]
    hold: 1m
  - delete: stable
"""
LOAD = """\
load: {request: request.json, rate: 20/s}
budget: {bad_responses: 50}
"""
LIVE = """\
steps:
  - deploy: green
  - canary: 10%
    gates: [errors, latency]
    hold: 3m
  - promote: 100%
    gates: [errors]
"""
APPROVAL = """\
steps:
  - deploy: green
  - approve: the release is good
  - promote: 100%
"""
GUARDED = """\
steps:
  - deploy: green
  - canary: 20%
    gates: [errors, latency]
    hold: 10m
    deadline: 1h
  - promote: 100%
"""
MOVING = ("waiting",)
AT = "--provider memory"


# --- a rollout from end to end ----------------------------------------------------------------------


def test_a_rollout_that_succeeds(desk: Desk, keeper: Keeper) -> None:
    keeper.keep("validate", desk.do("validate plan.yml --traffic 20/s --output json"), "preview")
    keeper.keep("plan-of-a-new-endpoint", desk.do("plan plan.yml --output json"), "preview")
    keeper.keep("plan-expand", desk.do("plan plan.yml --expand --output json"), "expanded")
    keeper.keep("graph-of-a-plan", desk.do("graph plan.yml --output json"), "graph")
    keeper.keep("list-of-nothing", desk.do("list --output json"), "rollout", many=True)

    ran = desk.do("run plan.yml --output json")
    keeper.keep("run-succeeded", ran, "rollout")
    assert "step 2: deploy green" in ran.err, "people are told meanwhile, on stderr"

    status = desk.do("status --output json")
    keeper.keep("status-succeeded", status, "rollout")
    assert status.json.keys() == ran.json.keys()
    keeper.keep("watch-succeeded", desk.do("watch --output json"), "rollout")
    keeper.keep("explain-succeeded", desk.do("explain --output json"), "explanation")
    keeper.keep("list", desk.do("list --output json"), "rollout", many=True)
    keeper.keep("list-without-a-hit", desk.do("list --phase failed --output json"), "rollout", many=True)
    keeper.keep("graph-of-a-rollout", desk.do("graph --output json"), "graph")
    keeper.keep("report-md", desk.do("report --file report.md --output json"), "report")
    page = keeper.keep("report-html", desk.do("report --file report.html --output json"), "report")
    assert page["bytes"] == (desk.folder / "report.html").stat().st_size


def test_a_plan_on_recorded_traffic(desk: Desk, keeper: Keeper) -> None:
    desk.do("run plan.yml --output json")
    again = desk.do("backtest plan.yml --from shop --output json", code=None)
    keeper.keep("backtest-of-a-rollout", again, "backtest", passing=("notes",))

    desk.write("live.yml", HEAD + LIVE)
    rows = [
        f"2026-11-22T17:{minute:02}Z,{name},live,{requests},{bad}"
        for minute in range(5)
        for name, requests, bad in (("blue", 900, 3), ("green", 100, 30))
    ]
    desk.write("traffic.csv", "\n".join(["minute,deployment,source,requests,errors", *rows]))
    keeper.keep("backtest-of-a-file", desk.do("backtest live.yml --from traffic.csv --output json", code=1), "backtest")
    desk.write("wrong.csv", "minute,deployment,source,requests,errors\n2026-11-22T17:00Z,green,live,1,2\n")
    keeper.keep_error("error-backtest-row", desk.do("backtest live.yml --from wrong.csv --output json", code=2))


def test_a_plan_on_simulated_traffic(desk: Desk, keeper: Keeper) -> None:
    steps = "steps:\n  - deploy: green\n  - canary: 5%\n    gates: [errors, latency]\n    hold: 1s\n    deadline: 3s\n"
    desk.write("short.yml", HEAD + steps)
    rows = "--only --regression 'fine=errors+0%' --regression 'bad=errors 60%,from middle'"
    said = desk.do(f"simulate short.yml --traffic 2000/s --rollouts 20 {rows} --output json")
    keeper.keep("simulate", said, "simulation")
    keeper.keep_error("error-simulate-traffic", desk.do("simulate short.yml --output json", code=2))


def test_a_rollout_that_is_rolled_back(desk: Desk, keeper: Keeper) -> None:
    desk.world.behave("shop", "green", Behaviour(error_rate=0.8))
    desk.write("plan.yml", HEAD + STEPS.replace("  - test: green\n", ""))
    keeper.keep("run-rolled-back", desk.do("run plan.yml --output json", 1), "rollout")
    keeper.keep("status-rolled-back", desk.do("status --output json"), "rollout")
    keeper.keep("explain-rolled-back", desk.do("explain --output json"), "explanation")
    keeper.keep("watch-rolled-back", desk.do("watch --output json", 1), "rollout")


def test_a_rollout_that_only_advises(desk: Desk, keeper: Keeper) -> None:
    desk.write("serve.yml", HEAD + "stable: blue\nsteps:\n  - deploy: green\n  - canary: 20%\n")
    desk.do("run serve.yml")
    desk.write("plan.yml", HEAD + GUARDED.replace("10m", "200ms").replace("  - promote: 100%\n", ""))
    keeper.keep("run-advisory", desk.do("run plan.yml --advisory --output json"), "rollout")


# --- where a human is needed ------------------------------------------------------------------------


def test_an_approval_that_nobody_drives(desk: Desk, keeper: Keeper) -> None:
    desk.write("plan.yml", HEAD + APPROVAL)
    keeper.keep("run-left-at-an-approval", desk.do("run plan.yml --exit-on-pause --output json", 4), "rollout")
    keeper.keep("status-at-an-approval", desk.do("status --output json"), "rollout")
    keeper.keep("explain-at-an-approval", desk.do("explain --output json"), "explanation")
    keeper.keep("pause-driving", desk.do("pause --reason lunch --output json"), "rollout")
    keeper.keep("status-paused", desk.do("status --output json"), "rollout")
    keeper.keep("pause-refused", desk.do("pause --output json", 2), "rollout")
    keeper.keep("resume-driving", desk.do("resume --exit-on-pause --output json", 4), "rollout")
    keeper.keep("approve-driving", desk.do("approve --reason looked --output json"), "rollout")


def test_an_abort_that_nobody_drives(desk: Desk, keeper: Keeper) -> None:
    desk.write("plan.yml", HEAD + APPROVAL)
    desk.do("run plan.yml --exit-on-pause", 4)
    keeper.keep("abort-driving", desk.do("abort --reason enough --output json"), "rollout")
    keeper.keep_error("error-abort-ended", desk.do("abort --output json", 2))


def test_drift_that_is_kept(desk: Desk, keeper: Keeper) -> None:
    desk.write("plan.yml", HEAD + APPROVAL)
    desk.do("run plan.yml --exit-on-pause", 4)
    desk.world.meddle("shop", traffic={"blue": 900, "green": 100})
    keeper.keep("resume-into-a-pause", desk.do("resume --exit-on-pause --output json", 4), "rollout")
    keeper.keep("explain-drift", desk.do("explain --output json"), "explanation")
    keeper.keep_error("error-resume-refused", desk.do("resume --exit-on-pause --output json", 2))
    keeper.keep("resume-failed", desk.do("resume --keep-theirs --output json", 5), "rollout")
    keeper.keep("status-failed", desk.do("status --output json"), "rollout")


def test_a_rollout_that_another_process_drives(desk: Desk, keeper: Keeper) -> None:
    desk.write("plan.yml", HEAD.replace('"delete_deployment": 0.0', '"delete_deployment": 1.5') + GUARDED)
    driver = desk.drive("run plan.yml")
    desk.until("it holds", lambda status: (status["waiting"] or {}).get("kind") == "hold" and status["gates"])
    keeper.keep("status-running", desk.do("status --output json"), "rollout")
    keeper.keep("explain-running", desk.do("explain --output json"), "explanation")
    keeper.keep("list-running", desk.do("list --active --output json"), "rollout", many=True)
    keeper.keep("approve-refused", desk.do("approve --output json", 2), "answer")
    set_aside = desk.do('approve --despite-gate latency --reason "it is a batch job" --output json')
    keeper.keep("approve-despite-a-gate", set_aside, "answer")
    keeper.keep("resume-extended", desk.do("resume --extend 1h --output json"), "rollout", passing=MOVING)
    keeper.keep("pause", desk.do("pause --reason lunch --output json"), "answer")
    desk.until("it waits for a human", lambda status: (status["waiting"] or {}).get("kind") == "human")
    keeper.keep("status-paused-and-guarded", desk.do("status --output json"), "rollout")
    keeper.keep("explain-paused", desk.do("explain --output json"), "explanation")
    keeper.keep("pause-refused-by-a-driver", desk.do("pause --output json", 2), "answer")
    keeper.keep("resume", desk.do("resume --output json"), "rollout", passing=MOVING)
    asking = desk.drive("abort --reason enough")
    desk.until("it rolls back", lambda status: status["phase"] == "rolling_back")
    keeper.keep("abort-refused", desk.do("abort --output json", 2), "answer")
    aborted, ended = asking.ends(), driver.ends()
    assert (aborted.code, ended.code) == (0, 1)
    keeper.keep("abort", aborted, "rollout")
    keeper.keep("run-aborted", ended, "rollout")


# --- plans ------------------------------------------------------------------------------------------


def test_plans(desk: Desk, keeper: Keeper) -> None:
    desk.patch.setattr(preview, "A_LOOK", 0.2)
    desk.write("roles.yml", ROLES + ROLE_STEPS)
    keeper.keep("validate-roles", desk.do("validate roles.yml --output json"), "preview")
    keeper.keep("plan-of-the-first-version", desk.do("plan roles.yml --output json"), "preview")
    desk.write("first.yml", ROLES + "steps:\n  - deploy: candidate\n  - promote: 100%\n")
    desk.do("run first.yml")
    desk.write("green.yml", "name: green\nmodel: azureml:green:2\n")
    counted = keeper.keep("plan-of-roles", desk.do("plan roles.yml --output json"), "preview")
    assert counted["requests_source"] == "measured"
    desk.write("loaded.yml", ROLES + LOAD + ROLE_STEPS)
    keeper.keep("plan-with-a-load", desk.do("plan loaded.yml --output json"), "preview")


def test_plans_that_are_wrong(desk: Desk, keeper: Keeper) -> None:
    desk.write(
        "wrong.yml", HEAD.replace("max_ratio", "max_ration", 1) + STEPS.replace("deploy: green", "deplyo: green")
    )
    wrong = keeper.keep("validate-invalid", desk.do("validate wrong.yml --output json", 2), "problems")
    assert len(wrong["problems"]) >= 2
    keeper.keep("plan-invalid", desk.do("plan wrong.yml --output json", 2), "problems")
    keeper.keep("plan-expand-invalid", desk.do("plan wrong.yml --expand --output json", 2), "problems")
    keeper.keep("validate-no-file", desk.do("validate nothing.yml --output json", 2), "problems")
    desk.cloud(mirror_limit=100)
    unfit = keeper.keep("validate-unfit", desk.do("validate plan.yml --output json", 2), "problems")
    assert "shadow: 10%" in unfit["alternative"]
    keeper.keep("plan-unfit", desk.do("plan plan.yml --output json", 2), "problems")
    keeper.keep_error("error-run-invalid", desk.do("run wrong.yml --output json", 2))
    keeper.keep_error("error-graph-invalid", desk.do("graph wrong.yml --output json", 2))


def test_a_first_plan(desk: Desk, keeper: Keeper) -> None:
    keeper.keep("init-list", desk.do("init --list --output json"), "stock", many=True)
    keeper.keep("init", desk.do("init made --output json"), "starter")
    keeper.keep("init-again", desk.do("init made --force --output json"), "starter")
    desk.write("plan.yml", HEAD + "steps:\n  - deploy: green\n")
    desk.do("run plan.yml")
    keeper.keep("init-from-endpoint", desk.do(f"init new --from-endpoint shop {AT} --output json"), "starter")


# --- endpoints --------------------------------------------------------------------------------------


def test_an_endpoint(desk: Desk, keeper: Keeper) -> None:
    desk.write("plan.yml", HEAD + "steps:\n  - deploy: green\n")
    keeper.keep("endpoint-create", desk.do(f"endpoint create endpoint.yml {AT} --output json"), "endpoint")
    desk.do("run plan.yml")
    keeper.keep("endpoint-show", desk.do(f"endpoint show shop {AT} --output json"), "endpoint")
    keeper.keep("endpoint-invoke", desk.do(f"endpoint invoke shop {AT} --output json"), "invoke")
    keeper.keep("endpoint-logs", desk.do(f"endpoint logs shop {AT} --output json"), "logs")
    keeper.keep("endpoint-keys", desk.do(f"endpoint keys shop {AT} --output json"), "keys")
    keeper.keep("endpoint-keys-shown", desk.do(f"endpoint keys shop --show {AT} --output json"), "keys")
    renewed = desk.do(f"endpoint keys shop --show --regenerate primary {AT} --output json")
    keeper.keep("endpoint-keys-renewed", renewed, "keys")
    keeper.keep("endpoint-scale", desk.do(f"endpoint scale shop green=2 {AT} --output json"), "scaled")
    moved = desk.do(f"endpoint traffic shop blue=100 --mirror green=12.5 --yes {AT} --output json")
    keeper.keep("endpoint-traffic", moved, "traffic")
    again = desk.do(f"endpoint traffic shop blue=100% --mirror green=12.5% {AT} --output json")
    keeper.keep("endpoint-traffic-unchanged", again, "traffic")
    keeper.keep_error("error-endpoint-delete-unasked", desk.do(f"endpoint delete shop {AT} --output json", 2))
    keeper.keep("endpoint-delete", desk.do(f"endpoint delete shop --yes {AT} --output json"), "deleted")
    keeper.keep("endpoint-delete-nothing", desk.do(f"endpoint delete shop --yes {AT} --output json"), "deleted")
    keeper.keep_error("error-no-endpoint", desk.do(f"endpoint show shop {AT} --output json", 2))


def test_an_endpoint_in_trouble(desk: Desk, keeper: Keeper) -> None:
    desk.write("plan.yml", HEAD + APPROVAL)
    desk.do("run plan.yml --exit-on-pause", 4)
    desk.world.behave("shop", "blue", Behaviour(error_rate=1.0))
    failed = desk.do(f"endpoint invoke shop {AT} --output json", 3)
    keeper.keep("endpoint-invoke-failed", failed, "invoke")
    assert "status 500" in failed.err
    keeper.keep("endpoint-show-owned", desk.do(f"endpoint show shop {AT} --output json"), "endpoint")
    keeper.keep_error("error-endpoint-owned", desk.do(f"endpoint scale shop blue=2 {AT} --output json", 2))
    keeper.keep_error("error-endpoint-start", desk.do(f"endpoint start shop {AT} --output json", 3))


def test_the_token_of_an_endpoint(desk: Desk, keeper: Keeper) -> None:
    desk.write("endpoint.yml", "name: shop\nauth_mode: aml_token\n")
    desk.do(f"endpoint create endpoint.yml {AT}")
    keeper.keep("endpoint-token", desk.do(f"endpoint token shop {AT} --output json"), "token")
    keeper.keep("endpoint-token-shown", desk.do(f"endpoint token shop --show {AT} --output json"), "token")


def test_load(desk: Desk, keeper: Keeper) -> None:
    desk.write("plan.yml", HEAD + "steps:\n  - deploy: green\n")
    desk.do("run plan.yml")
    sent = desk.do(f"load shop --request request.json --rate 100/s --count 20 {AT} --output json")
    keeper.keep("load", sent, "load")
    desk.world.behave("shop", "green", Behaviour(error_rate=1.0))
    direct = f"load shop --request request.json --rate 100/s --for 1m --count 10 --deployment green {AT}"
    failed = desk.do(f"{direct} --output json", 3)
    keeper.keep("load-failed", failed, "load")
    assert "not answered with 2xx" in failed.err


# --- the machine ------------------------------------------------------------------------------------


@pytest.mark.needs("linux", "envoy")
def test_this_machine(desk: Desk, keeper: Keeper) -> None:
    desk.home.mkdir(mode=0o755)
    desk.home.chmod(0o755)
    keeper.keep("doctor", desk.do("doctor --output json"), "checks", many=True)
    desk.patch.setenv("ROLLOUT_STORE", f"sqlite:///{desk.folder}/request.json")
    keeper.keep("doctor-fail", desk.do("doctor --output json", 3), "checks", many=True)


def test_completion(desk: Desk, keeper: Keeper) -> None:
    keeper.keep("completion", desk.do("completion bash --output json"), "completion")


# --- errors -----------------------------------------------------------------------------------------

ERRORS = {
    "error-option": ("status --nonsense", 2),
    "error-command": ("stauts", 2),
    "error-rollout": ("status nonsense", 2),
    "error-no-rollout": ("explain", 2),
    "error-no-plan": ("run nothing.yml", 2),
    "error-report-without-a-file": ("report", 2),
    "error-load-without-an-end": ("load shop --request request.json --rate 1/s", 2),
    "error-provider": ("endpoint show shop --provider memmory", 3),
    "error-validate-nothing": ("validate", 2),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error(name: str, desk: Desk, keeper: Keeper) -> None:
    line, code = ERRORS[name]
    said = desk.do(f"{line} --output json", code)
    assert said.out == ""
    keeper.keep_error(name, said)


def test_a_store_that_cannot_be_read(desk: Desk, keeper: Keeper) -> None:
    desk.patch.setenv("ROLLOUT_STORE", f"sqlite:///{desk.folder}/request.json")
    keeper.keep_error("error-store", desk.do("status --output json", 3))


def test_the_schema_is_json_whatever_the_output(desk: Desk) -> None:
    schema = desk.json("validate --schema")
    assert schema == desk.do("validate --schema").json
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
