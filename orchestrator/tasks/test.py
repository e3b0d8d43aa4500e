"""The `test` step: ask one deployment by name, without live traffic, and look at the answer."""

import json
from typing import Any

from orchestrator.tasks.result import TaskResult
from plans.steps import Expect, TestStep
from plans.units import show_latency
from providers.base import Invokes, Provider, Request, Response
from providers.errors import ProviderError
from providers.paths import value_at

TIMEOUT = 30.0
"""Seconds for an answer, unless `expect.max_latency` allows more."""


async def run_test(step: TestStep, body: bytes, *, provider: Provider, endpoint: str) -> TaskResult:
    """Send the request `repeat` times; the first answer that is not as expected ends it."""
    if not isinstance(provider, Invokes):
        return TaskResult(False, f"provider {provider.name} cannot send requests")
    timeout = max(TIMEOUT, (step.expect.max_latency or 0) / 1e6 * 2)
    request = Request(method=step.method, path=step.path, body=body)
    slowest = 0.0
    for number in range(1, step.repeat + 1):
        which = f"request {number} of {step.repeat}: " if step.repeat > 1 else ""
        try:
            response = await provider.invoke(endpoint, request, deployment=step.test, timeout=timeout)
        except ProviderError as error:
            return TaskResult(False, f"{which}{error}")
        problem = _problem(response, step.expect, step.test)
        if problem:
            return TaskResult(False, which + problem)
        slowest = max(slowest, response.seconds)
    times = f"{step.repeat} times, at most " if step.repeat > 1 else "in "
    return TaskResult(True, f"{step.test} answered {step.expect.status} {times}{show_latency(slowest * 1e6)}")


def _problem(response: Response, expect: Expect, deployment: str) -> str | None:
    if response.deployment not in (None, deployment):
        return f"{response.deployment} answered instead of {deployment}"
    if response.status != expect.status:
        said = response.body[:200].decode(errors="replace").strip()
        return f"{deployment} answered {response.status} instead of {expect.status}" + (f": {said}" if said else "")
    if expect.max_latency is not None and response.seconds * 1e6 > expect.max_latency:
        return f"{deployment} took {show_latency(response.seconds * 1e6)}, more than {show_latency(expect.max_latency)}"
    if not expect.json_:
        return None
    try:
        document = json.loads(response.body)
    except (ValueError, RecursionError):
        return f"{deployment} answered with something that is not JSON"
    for path, wanted in expect.json_.items():
        try:
            found = value_at(document, path)
        except LookupError:
            return f"{deployment}: the answer has no `{path}`"
        if not _matches(found, wanted):
            return f"{deployment}: `{path}` is {json.dumps(found)[:100]}, and {wanted} was expected"
    return None


def _matches(found: Any, wanted: str) -> bool:
    """Whether a value is what the plan wrote: numbers to as many decimals as were written, everything else exactly."""
    try:
        value = json.loads(wanted)
    except ValueError:
        return bool(found == wanted)
    if _is_number(found) and _is_number(value):
        decimals = len(wanted.partition(".")[2]) if "e" not in wanted.lower() else 12
        try:
            return bool(abs(found - value) <= 0.5 * 10.0**-decimals + 1e-12)
        except OverflowError:
            return False
    return found == wanted or (found == value and isinstance(found, bool) is isinstance(value, bool))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
