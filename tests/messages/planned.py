"""What is said of a plan and its endpoint before anything is done: files, roles, steps, and files that were edited."""

from dataclasses import replace

from orchestrator.bundle import Bundle
from orchestrator.roles import cast
from orchestrator.standing import Roles, Split
from providers.actions import PutEndpoint
from providers.base import Capabilities, Fence
from providers.memory import DURATIONS, World
from providers.specs import EndpointSpec
from tests.messages.bench import PLAN, ROLES, STEPS, Bench, direct, shop
from tests.messages.entry import MEND, Message
from tests.unit.making import bundle, stages_of


def cloud(bench: Bench, **can: object) -> None:
    """Endpoints that can do less."""
    limited = replace(Capabilities(), **can)  # type: ignore[arg-type]
    bench.world = World("default", durations=dict.fromkeys(DURATIONS, 0.0), capabilities=limited)


def steps(text: str, *, head: str = "", **can: object) -> object:
    """A plan with these steps, where endpoints can do no more than this."""

    def arrange(bench: Bench) -> None:
        cloud(bench, **can)
        bench.plan(text, head=head)

    return arrange


def served(text: str = STEPS, *, head: str = "", base: str = PLAN, **meddled: object) -> object:
    """A plan on an endpoint that blue serves, and that somebody changed."""

    def arrange(bench: Bench) -> None:
        bench.served("  - deploy: green\n" if meddled.pop("with_green", False) else "  - wait: 0s\n")
        bench.plan(text, head=head, text=base)
        if meddled:
            bench.world.meddle("shop", **meddled)  # type: ignore[arg-type]

    return arrange


def empty(bench: Bench) -> None:
    """The endpoint exists, and nothing is deployed."""
    bench.plan(head="endpoint: shop\n")
    bench.do("endpoint create endpoint.yml --provider memory")


def taken(bench: Bench) -> None:
    """A rollout of another store drives the endpoint."""
    bench.served()
    bench.plan()
    spec = EndpointSpec(name="shop")
    bench.world.begin(PutEndpoint("shop", spec), "theirs", Fence("another-store", "shop-9", 1, steal=True), lambda: "t")


THREE = "deployments:\n  blue: {file: blue.yml}\n  green: {file: green.yml}\n  grey: {file: blue.yml}\n"
GATED = "  - deploy: green\n  - canary: 10%\n    gates: [errors]\n  - promote: 100%\n    gates: [errors]\n"
RELATIVE = "gates:\n  errors: {metric: error_rate, max_ratio: 2, max_increase: 1%}\n"


UNCHANGED = "1 mistake in the plan or its files; ‹nothing was changed›"

FILES = [
    Message(
        "bundle._text bundle.read cli.main._ended_by",
        "a file that the plan names is not there",
        shop("validate plan.yml", lambda b: (b.folder / "green.yml").unlink()),
        f"plan.yml:7:17: deployments.green.file: green.yml: there is no such file\n{UNCHANGED}",
        do=MEND,
    ),
    Message(
        "bundle._options offers.find",
        "the plan names a provider that is not installed",
        shop("validate plan.yml", lambda b: b.plan(head="provider: memry\n")),
        f"plan.yml:7:11: provider: Provider memry is not known («did you mean memory?»): there is local, "
        f"memory\n{UNCHANGED}",
    ),
    Message(
        "bundle.pin local.provider._resolved",
        "a registered model on the local provider",
        shop("validate plan.yml", lambda b: b.plan(head="provider: local\n")),
        "plan.yml:5:9: deployments.blue: Deployment blue: model: azureml:blue:1 is a registered model, and the local "
        "provider has none: «give model.path».\nplan.yml:6:10: deployments.green: Deployment green: model: "
        "azureml:green:1 "
        "is a registered model, and the local provider has none: «give model.path».\n"
        "2 mistakes in the plan or its files; ‹nothing was changed›",
    ),
    Message(
        "adoption.edits",
        "a file of the plan was edited after the rollout began",
        shop("resume", lambda b: (b.waiting(), b.write("green.yml", "name: green\nmodel: azureml:green:2\n"))),
        "green.yml changed since rollout <id> began: «undo the change to go on with what was pinned, or say --adopt to "
        "go on with what is there now»",
    ),
    Message(
        "adoption.edits",
        "a file of the plan was edited after the rollout began, and is not valid now",
        shop("resume", lambda b: (b.waiting(), b.write("green.yml", "name: green\nmodle: azureml:green:2\n"))),
        "the files of rollout <id> changed since it began, and are not valid now:\n<folder>/green.yml:2:1: modle: "
        "`modle` "
        "is no field here; did you mean `model`?\n«undo the change to go on with what was pinned, or abort it»",
    ),
    Message(
        "adoption.edits",
        "--adopt, and the edited plan does something else in a step that has passed",
        shop("resume --adopt", lambda b: (b.waiting(), b.plan("  - wait: 0s\n  - deploy: green\n  - approve: go?\n"))),
        "the edited plan cannot be adopted: what was done already (bootstrap blue, deploy green) must stay as it was, "
        "with "
        "its gates",
    ),
    Message(
        "adoption.edits",
        "--adopt, and the candidate is another one now",
        shop("resume --adopt", lambda b: (b.waiting(), b.write("green.yml", "name: green\nmodel: azureml:green:2\n"))),
        "the edited plan cannot be adopted: the candidate green is another one; «abort, and run the new plan»",
    ),
]

ROLES_FOUND = [
    Message(
        "roles.assign",
        "a plan with slots, and every slot serves",
        shop(
            "run plan.yml",
            served(ROLES.partition("steps:\n")[2], base=ROLES, with_green=True, traffic={"blue": 500, "green": 500}),
        ),
        "endpoint shop: every slot serves (blue 50%, green 50%), so the candidate has no place; «take one out of "
        "traffic, "
        "or add a name to `slots`»",
    ),
    Message(
        "roles.cast",
        "the plan only names an endpoint, and there is none of that name",
        shop("run plan.yml", lambda b: b.plan(head="endpoint: shop\n")),
        "endpoint shop does not exist, and the plan only names it: «give `endpoint: {file: endpoint.yml}` to have it "
        "created»",
    ),
    Message(
        "roles.cast",
        "no deployment of the endpoint gets traffic",
        shop("run plan.yml", served(traffic={})),
        "endpoint shop has blue, and none of them gets traffic: somebody switched it off. «Give one of them traffic, "
        "or "
        "run with --bootstrap to begin by giving it all to stable»",
    ),
    Message(
        "roles.cast",
        "somebody mirrors the endpoint's traffic already",
        shop("run plan.yml", served(with_green=True, mirror={"green": 100})),
        "endpoint shop mirrors traffic to green already: «clear the mirror first, then run again»",
    ),
    Message(
        "roles.cast",
        "the plan's stable gets no traffic",
        shop("run plan.yml", served("  - deploy: grey\n", head=f"stable: green\n{THREE}", with_green=True)),
        "endpoint shop: the plan says `stable: green`, but green has no traffic; ‹blue 100%›",
    ),
    Message(
        "roles.cast",
        "what the plan deploys serves already",
        shop("run plan.yml", served(with_green=True, traffic={"green": 1000})),
        "endpoint shop: green already serves 100% of the traffic, so there is nothing to roll out; «name the new "
        "version "
        "differently»",
    ),
    Message(
        "roles.cast",
        "what the plan deploys has some of the traffic already",
        shop("run plan.yml", served(head="stable: blue\n", with_green=True, traffic={"blue": 900, "green": 100})),
        "endpoint shop: the candidate green already has 10% of the traffic; «take it out of traffic first, then run "
        "again»",
    ),
    Message(
        "roles._only",
        "several deployments serve, and the plan does not say which is stable",
        shop("run plan.yml", served(with_green=True, traffic={"blue": 900, "green": 100})),
        "endpoint shop: several deployments serve (blue 90%, green 10%); «say in the plan which is `stable:`»",
    ),
    Message(
        "roles._adoptable",
        "a deployment of the candidate's name is there, and is another one",
        shop(
            "run plan.yml",
            lambda b: (b.served("  - deploy: green\n"), b.write("green.yml", "name: green\nmodel: azureml:green:2\n")),
        ),
        "endpoint shop has a deployment green already, and it is not the one of the plan (digest <digest> there, "
        "<digest> in "
        "the plan): «delete it, choose another name, or run with --replace»",
    ),
    Message(
        "roles._bootstrapped",
        "a plan with slots and a stable's name, on an endpoint that serves nothing",
        shop("run plan.yml", lambda b: b.write("plan.yml", "stable: blue\n" + ROLES)),
        "endpoint shop serves nothing yet, and the plan says `stable: blue`: «give `stable: {file: ...}` to bring one "
        "into "
        "service first, or remove it to begin with the candidate»",
    ),
    Message(
        "roles._bootstrapped",
        "the endpoint serves nothing, and several deployments could be stable",
        shop("run plan.yml", lambda b: b.plan(head=THREE)),
        "endpoint shop serves nothing yet, and which deployment shall serve first is not clear: «`deployments` must "
        "have "
        "exactly one that no step deploys (found: blue, grey); else say `stable:`»",
    ),
    Message(
        "roles._bootstrapped",
        "(second line of defence: such a plan is refused before) the plan's stable is what it deploys",
        direct(lambda: cast(_unchecked("stable", "green"), None, bootstrap=False, replace=False)),
        "`stable: green` is also what the plan deploys: «name the version that serves now»",
    ),
    Message(
        "roles.watched",
        "--advisory on an endpoint that does not exist",
        shop("run plan.yml --advisory"),
        "endpoint shop does not exist, so there is nothing to watch",
    ),
    Message(
        "roles.watched",
        "--advisory where nothing but the candidate serves",
        shop("run plan.yml --advisory", served(with_green=True, traffic={"green": 1000})),
        "endpoint shop: nothing but the candidate serves (green 100%), so there is nothing to judge",
    ),
    Message(
        "app.run",
        "another rollout owns the endpoint",
        shop("run plan.yml", lambda b: b.waiting()),
        "rollout <id> is running on endpoint shop: «resume it, or abort it, before another begins»",
    ),
    Message(
        "app._respect_claim",
        "a rollout of another store owns the endpoint",
        shop("run plan.yml", taken),
        "endpoint shop is claimed by rollout shop-9 of another store: «end it there, or take it over with --steal when "
        "that store is gone»",
    ),
]


def _unchecked(name: str, value: object) -> Bundle:
    """A bundle whose plan says something that no plan file could."""
    made = bundle("  - deploy: green\n")
    return replace(made, plan=made.plan.model_copy(update={name: value}))


def defended(where: str, roles: Roles, text: str, marked: str) -> Message:
    """Refused once more by the compiler, for roles that no check before it lets through."""
    when = f"(second line of defence: such a plan is refused before) {text.rpartition('- ')[2].strip()}"
    return Message(
        f"{where} compiler.compile_stages", when, direct(lambda: stages_of(text, roles=roles, top="")), marked
    )


CANARY = "  - deploy: green\n  - canary: 10%\n"


def misfit(where: str, when: str, place: str, marked: str, arrange: object, could_run: str = "") -> Message:
    """A step that cannot be carried out."""
    alternative = f"\n«this provider could run:\n\n{could_run}»" if could_run else ""
    cause = shop("plan plan.yml", arrange)  # type: ignore[arg-type]
    return Message(
        f"{where} compiler.compile_stages", when, cause, f"plan.yml:{place}: {marked}{alternative}\n{UNCHANGED}"
    )


STEPS_REFUSED = [
    misfit(
        "compiler._scale",
        "a step scales, and the provider cannot",
        "10:12: steps[1].scale",
        "this provider cannot change instance counts",
        steps("  - deploy: green\n  - scale: {green: 2}\n", scale=False),
        f"{PLAN}  - deploy: green\n",
    ),
    misfit(
        "compiler._scale",
        "a step scales what is not there yet",
        "9:12: steps[0].scale",
        "green does not exist at that point of the plan; «deploy it first»",
        steps("  - scale: {green: 2}\n  - deploy: green\n"),
    ),
    misfit(
        "compiler._shadow",
        "a shadow step, and the provider cannot mirror",
        "10:13: steps[1].shadow",
        "this provider cannot mirror traffic; «take this step out»",
        steps("  - deploy: green\n  - shadow: 10%\n", mirror_limit=0),
        f"{PLAN}  - deploy: green\n",
    ),
    misfit(
        "compiler._shadow",
        "a shadow step after the candidate got live traffic",
        "11:13: steps[2].shadow",
        "green has live traffic there, and a deployment cannot have live and mirrored traffic together; «shadow before "
        "the canary»",
        steps(CANARY + "  - shadow: 10%\n"),
    ),
    misfit(
        "compiler._shadow",
        "a shadow step asks for more than the provider can mirror",
        "10:13: steps[1].shadow",
        "80% is more than this provider can mirror; «write 50% or less»",
        steps("  - deploy: green\n  - shadow: 80%\n", mirror_limit=500),
        f"{PLAN}  - deploy: green\n  - shadow: 50%\n",
    ),
    misfit(
        "compiler._check_step_of_weight",
        "a share is finer than the provider's weights",
        "10:13: steps[1].canary",
        "12.5%: this provider's weights go in steps of 1%",
        steps("  - deploy: green\n  - canary: 12.5%\n", weight_step=10),
        f"{PLAN}  - deploy: green\n  - canary: 12%\n",
    ),
    misfit(
        "compiler._gate",
        "a gate that only compares, where stable has no traffic",
        "13:12: steps[1].gates",
        "gate errors only compares with stable, and stable has no live traffic there; «give it a `max`»",
        steps("  - deploy: green\n  - promote: 100%\n    gates: [errors]\n", head=RELATIVE),
    ),
    misfit(
        "compiler._delete",
        "a step deletes what still has traffic",
        "11:13: steps[2].delete",
        "blue still has 90% of the traffic there, so it is not deleted; «promote the candidate to 100% first»",
        steps(CANARY + "  - delete: blue\n"),
    ),
    misfit(
        "compiler._task",
        "a step tests what is not there yet",
        "9:11: steps[0].test",
        "green does not exist at that point of the plan; «deploy it first»",
        steps("  - test: green\n  - deploy: green\n"),
    ),
    misfit(
        "compiler._task",
        "a step tests without traffic, and the provider cannot address a deployment",
        "10:11: steps[1].test",
        "this provider cannot address a deployment without traffic; «take this step out»",
        steps("  - deploy: green\n  - test: green\n", direct=False),
        f"{PLAN}  - deploy: green\n",
    ),
    misfit(
        "compiler._named",
        "a plan with slots names the candidate and deploys none",
        "8:11: steps[0].test",
        "there is no candidate deployment there",
        lambda b: b.write("plan.yml", ROLES.partition("  - deploy")[0] + "  - test: candidate\n"),
    ),
    misfit(
        "compiler._candidate",
        "a canary after its candidate was deleted",
        "11:13: steps[2].canary",
        "green was deleted before",
        steps("  - deploy: green\n  - delete: green\n  - canary: 10%\n"),
    ),
    misfit(
        "compiler._step",
        "a step after the endpoint was deleted",
        "11:13: steps[2].deploy",
        "the endpoint is deleted by then; «make `delete: endpoint` the last of the steps that need it»",
        steps("  - deploy: green\n  - delete: endpoint\n  - deploy: green\n"),
    ),
    misfit(
        "compiler._delete",
        "a step deletes what was deleted before",
        "12:13: steps[3].delete",
        "blue does not exist at that point of the plan; «remove this step»",
        steps("  - deploy: green\n  - promote: 100%\n  - delete: blue\n  - delete: blue\n"),
    ),
    misfit(
        "compiler._shift",
        "a canary wants more than stable has, because a third deployment serves, too",
        "12:13: steps[1].canary",
        "60%: only blue gives weight before 100%, and there is 50% to give",
        served(
            "  - deploy: grey\n  - canary: 60%\n",
            head=f"stable: blue\n{THREE}",
            with_green=True,
            traffic={"blue": 500, "green": 500},
        ),
    ),
]

NOBODY = Roles("green", None, Split())
DEFENCE = [
    defended(
        "compiler._bootstrap",
        Roles("green", "grey", Split({"grey": 1000}), bootstrap=True),
        "  - deploy: green\n",
        "`stable: grey` is not among the plan's deployments, so it cannot be brought into service",
    ),
    defended(
        "compiler._shadow",
        NOBODY,
        "  - deploy: green\n  - shadow: 10%\n",
        "/plans/plan.yml:8:13: steps[1].shadow: no deployment has live traffic there, so there is nothing to mirror",
    ),
    defended(
        "compiler._shift",
        Roles("green", "blue", Split({"blue": 500, "green": 500})),
        "  - deploy: green\n  - canary: 10%\n",
        "/plans/plan.yml:8:13: steps[1].canary: 10% is less than the 50% that green has by then: exposure only grows",
    ),
    defended(
        "compiler._candidate",
        Roles("grey", "blue", Split({"blue": 1000})),
        "  - deploy: green\n  - canary: 10%\n",
        "/plans/plan.yml:8:13: steps[1].canary: canary before any `deploy`: «deploy the candidate first»",
    ),
]

ENTRIES = [*FILES, *ROLES_FOUND, *STEPS_REFUSED, *DEFENCE]
