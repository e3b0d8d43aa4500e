"""The `webhook` step: tell another system, at least once.

The same Idempotency-Key goes with every try, so that the other side can tell a repetition from a second message. With a
secret the body is signed: header `X-Rollout-Signature: sha256=<hex>` is the HMAC-SHA256 of the body (RFC 2104). No
redirect is followed, so nothing is told to another host.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from orchestrator.tasks.result import TaskResult
from plans.model import WebhookStep
from plans.units import show_duration
from providers.errors import ProviderError
from providers.http import Http


async def run_webhook(
    step: WebhookStep, *, key: str, resolve: Callable[[str], str], facts: dict[str, str]
) -> TaskResult:
    """Send it once. `facts` are the body when the step gives none. Messages name the host only: the rest of the address
    may be a secret.
    """
    try:
        url = resolve(step.webhook)
        body = (resolve(step.body) if step.body is not None else json.dumps(facts, sort_keys=True)).encode()
        headers = {
            "content-type": "application/json",
            **{name.lower(): resolve(value) for name, value in step.headers.items()},
        }
        secret = resolve(step.secret) if step.secret is not None else None
    except ProviderError as error:
        return TaskResult(False, str(error))
    headers["idempotency-key"] = key
    if secret is not None:
        headers["x-rollout-signature"] = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    host, problem = _address(url)
    problem = problem or _unsendable(headers)
    if problem:
        return TaskResult(False, problem)
    http = Http()
    try:
        answer = await http.send(step.method, url, body=body, headers=headers, timeout=step.timeout)
    except ProviderError:
        detail = f"{host} could not be reached, or gave no answer within {show_duration(step.timeout)}"
        return TaskResult(False, detail, retry=True)
    finally:
        await http.aclose()
    if 200 <= answer.status < 300:
        return TaskResult(True, f"{host} answered {answer.status}")
    return TaskResult(False, f"{host} answered {answer.status}", retry=answer.status >= 500 or answer.status == 429)


def _address(url: str) -> tuple[str, str | None]:
    """The host of a URL, and what is wrong with the URL, if anything; never the URL itself."""
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError:
        host = None
    if host is None:
        return "", "the webhook's address is no URL: it must be http:// or https://, a host and a path"
    return host, None


def _unsendable(headers: Mapping[str, str]) -> str | None:
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            return f"the value of header {name} cannot be sent: it must be one line of plain ASCII"
    return None
