"""What `rollout simulate` says of words, files and endpoints that it cannot make traffic of."""

from collections.abc import Callable

from orchestrator.simulate import endpoint
from tests.messages.bench import PLAN, Bench, shop
from tests.messages.entry import Message

GATED = """\
  - deploy: green
  - canary: 10%
    gates: [errors]
gates:
  errors: {metric: error_rate, max: 5%}
"""
COMMAND = "cli.simulate.simulate_command"
SIMULATE = "simulate plan.yml"


def gated(bench: Bench) -> None:
    """A plan with something to simulate."""
    bench.write("plan.yml", PLAN.replace("deployments:", "stable: blue\ndeployments:") + GATED)


def idle(bench: Bench) -> None:
    """An endpoint that gets no requests."""
    bench.served()
    gated(bench)
    bench.patch(endpoint, "A_LOOK", 0.2)


def blind(bench: Bench) -> None:
    """A provider that cannot measure."""
    idle(bench)
    bench.patch(endpoint, "Measures", type("Measures", (), {}))


def refused(
    line: str, marked: str, when: str, where: str = COMMAND, arrange: Callable[[Bench], None] = gated
) -> Message:
    """A command line that is refused."""
    return Message(where, when, shop(f"{SIMULATE} {line}", arrange), marked)


LIKE = (
    "«write for example `worse=errors+1%`, `errors x2`, `errors 3%`, `latency x1.2`, `answers 1%` or `missing 2%`, "
    "several with a comma between them, and `from middle` for one that begins in mid-rollout» (see rollout simulate "
    "--help)"
)
SAY = "«say --traffic, --errors and --latency»"
ENDPOINT = "simulate.endpoint.last_hour"
ENTRIES = [
    refused(
        "",
        "how many requests the endpoint gets is not known: «say --traffic 60/s, or --baseline with a file or "
        "`endpoint`»",
        "simulate, without any traffic",
        "simulate.given.baseline",
    ),
    refused(
        "--traffic many",
        "invalid value for --traffic: `many` is not a frequency: «write 200/s, 30/m or 600/h» (see rollout simulate "
        "--help)",
        "simulate, with a unit that is none",
        "cli.simulate._parsed",
    ),
    refused(
        "--traffic 1/s --picture x.png",
        "--picture x.png: «name a file that ends in .svg or .html» (see rollout simulate --help)",
        "simulate, with a picture of another kind",
    ),
    refused(
        "--traffic 1/s --only",
        "--only leaves no row: «give --regression NAME=CHANGE» (see rollout simulate --help)",
        "simulate, without a row",
    ),
    refused(
        "--traffic 1/s --regression worse",
        f"--regression: 'worse' is not NAME=CHANGE: {LIKE}",
        "simulate, with a row that is not NAME=CHANGE",
    ),
    refused(
        "--traffic 1/s --regression worse=speed",
        f"--regression: 'speed' is no change: {LIKE}",
        "simulate, with a change that is none",
    ),
    refused(
        "--traffic 1/s --regression 'worse=latency x0'",
        "--regression: 'latency x0': «a latency factor lies between 0.01 and 1000» (see rollout simulate --help)",
        "simulate, with a latency out of range",
    ),
    refused(
        "--traffic 1/s --regression 'worse=errors+99.9%'",
        "--regression: 'errors+99.9%' makes a share of 100.4%: «it must lie between 0% and 100%» (see rollout simulate "
        "--help)",
        "simulate, with a share out of range",
    ),
    Message(
        "cli.simulate._sources",
        "simulate, of a plan that judges nothing",
        shop(f"{SIMULATE} --traffic 1/s"),
        "plan.yml has no step with gates, so there is nothing to simulate; «add `gates` to one»",
    ),
    refused(
        "--baseline endpoint",
        f"endpoint shop does not exist yet, so nothing is known of its traffic: {SAY}",
        "simulate, of an endpoint that is not there",
        ENDPOINT,
    ),
    refused(
        "--baseline endpoint",
        f"endpoint shop got no requests in 200ms: {SAY}",
        "simulate, of an endpoint without requests",
        ENDPOINT,
        idle,
    ),
    refused(
        "--baseline endpoint",
        f"provider memory cannot measure requests: {SAY}",
        "simulate, where nothing can be measured",
        ENDPOINT,
        blind,
    ),
]
