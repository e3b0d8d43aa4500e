"""Telling another system over HTTP: the `webhook` step, and the one function that sends, which notifications share.

The same Idempotency-Key goes with every try, so that the other side can tell a repetition from a second message. With a
secret the body is signed: header `X-Rollout-Signature: sha256=<hex>` is the HMAC-SHA256 of the body (RFC 2104). A
redirect is followed to the own host only, with the same method and body, so nothing is ever told to another host.
"""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urljoin, urlsplit

from orchestrator.tasks.result import TaskResult
from plans.steps import WebhookStep
from plans.units import show_duration
from providers.errors import ProviderError
from providers.http import Http

MOST_REDIRECTS = 3
# 303 is no redirect of the message: it says where an answer can be read.
_REDIRECTS = frozenset({301, 302, 307, 308})
_TRY_AGAIN = frozenset({408, 425, 429})
_PORTS = {"http": 80, "https": 443}
_NO_URL = "the webhook's address is no URL: it must be http:// or https://, a host and a path"


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent, with the values of its secrets: never stored, never shown.

    Attributes:
        url: where to. body: as it goes over the wire, and as it is signed.
        key: the Idempotency-Key, the same with every try.
        secret: signs the body, or None.
        headers: besides our own; names in lower case.
        timeout: seconds for one try, redirects included.
    """

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    key: str
    secret: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    method: str = "POST"
    timeout: float = 10.0


async def run_webhook(
    step: WebhookStep, *, key: str, resolve: Callable[[str], str], facts: dict[str, str]
) -> TaskResult:
    """Send it once. `facts` are the body when the step gives none."""
    try:
        body = resolve(step.body) if step.body is not None else json.dumps(facts, sort_keys=True)
        message = Message(
            url=resolve(step.webhook),
            body=body.encode(),
            key=key,
            secret=resolve(step.secret) if step.secret is not None else None,
            headers={name.lower(): resolve(value) for name, value in step.headers.items()},
            method=step.method,
            timeout=step.timeout,
        )
    except ProviderError as error:
        return TaskResult(False, str(error))
    http = Http()
    try:
        return await send(message, http)
    finally:
        await http.aclose()


async def send(message: Message, http: Http) -> TaskResult:
    """Send a message once, following redirects to its own host, and say how it went.

    Another try makes sense when there was no answer, or one of 408, 425, 429 or 5xx. What is said names the host only:
    the rest of the address may be a secret.
    """
    headers = {"content-type": "application/json", **message.headers, "idempotency-key": message.key}
    if message.secret is not None:
        signature = hmac.new(message.secret.encode(), message.body, hashlib.sha256).hexdigest()
        headers["x-rollout-signature"] = f"sha256={signature}"
    host = host_of(message.url)
    if host is None:
        return TaskResult(False, _NO_URL)
    problem = _unsendable(headers)
    if problem or message.secret == "":
        return TaskResult(False, problem or "the webhook's secret is empty: a signature with it would prove nothing")
    loop = asyncio.get_running_loop()
    until, url = loop.time() + message.timeout, message.url
    for _ in range(1 + MOST_REDIRECTS):
        left = max(0.0, until - loop.time())
        try:
            answer = await http.send(message.method, url, body=message.body, headers=headers, timeout=left)
        except UnicodeError:  # an international name that is none
            return TaskResult(False, _NO_URL)
        except ProviderError:
            detail = f"{host} could not be reached, or gave no answer within {show_duration(message.timeout)}"
            return TaskResult(False, detail, retry=True)
        said = f"{host} answered {answer.status}"
        if answer.status not in _REDIRECTS:
            again = answer.status >= 500 or answer.status in _TRY_AGAIN
            return TaskResult(200 <= answer.status < 300, said, retry=again)
        found = _own_address(url, answer.headers.get("location", ""))
        if found is None:
            return TaskResult(False, f"{said}: a redirect is followed to the same host and port only, or to its https")
        url = found
    return TaskResult(False, f"{host} redirected more than {MOST_REDIRECTS} times")


def host_of(url: str) -> str | None:
    """The host of a URL, or None when it is no URL that a message can be sent to."""
    try:
        parts = urlsplit(url)
        _port(parts)
    except ValueError:
        return None
    # urlsplit silently leaves out line breaks and tabs, which would then be sent.
    proper = url.isprintable() and not any(c.isspace() for c in url)
    return parts.hostname if proper and parts.scheme in _PORTS else None


def _port(parts: SplitResult) -> int | None:
    return parts.port if parts.port is not None else _PORTS.get(parts.scheme)


def _own_address(url: str, location: str) -> str | None:
    """Where a redirect leads, with our own user and password, or None when that is not the host itself: the same host
    and port, or from http to https.
    """
    # What is neither plain nor sure to be read alike by everybody could hide another host.
    if not location or not location.isascii() or not location.isprintable() or any(c in " \\" for c in location):
        return None
    try:
        here, there = urlsplit(url), urlsplit(urljoin(url, location))
        same_port = (here.scheme, _port(here)) == (there.scheme, _port(there))
    except ValueError:
        return None
    upgraded = (here.scheme, there.scheme) == ("http", "https")
    if here.hostname != there.hostname or not (same_port or upgraded):
        return None
    user, at, _ = here.netloc.rpartition("@")
    return there._replace(netloc=user + at + there.netloc.rpartition("@")[2]).geturl()


def _unsendable(headers: Mapping[str, str]) -> str | None:
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            return f"the value of header {name} cannot be sent: it must be one line of plain ASCII"
    return None
