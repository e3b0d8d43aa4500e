"""Asking somebody else's HTTP server for figures, and taking only an answer that can be trusted.

Secrets are resolved here, at the last moment, and nowhere else: what is shown of a question, also in an error, is what
the plan says. An answer that is late, too large, redirected, refused or no JSON is a problem in words, never a figure.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from providers.base import Context
from providers.errors import ProviderError
from providers.http import Http

LARGEST = 4 * 1024 * 1024
"""Bytes of an answer, at most."""
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SECRET = re.compile(r"authorization|cookie|token|secret|password|api[-_]?key|credential|signature", re.IGNORECASE)
_REFERENCE = re.compile(r"\$\{(?:env|file):[^}]*\}")
_LOOPBACK = re.compile(r"https?://(localhost|127(\.\d+){3}|\[::1\])(?=[:/?#]|$)")
_SHOWN = 200


def _seconds(value: Any) -> Any:
    if isinstance(value, str):
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)", value)
        if found is None:
            raise ValueError("write a duration such as 500ms, 30s or 5m")
        return float(found[1]) * _UNITS[found[2]]
    return value


Seconds = Annotated[float, BeforeValidator(_seconds)]
"""A duration: seconds as a number, or 500ms, 30s, 5m, 1h."""


class DoorOptions(BaseModel):
    """Whom to ask.

    Attributes:
        url: http or https; a secret in it stands as a reference.
        headers: sent with every question; those that carry secrets as references.
        timeout: for an answer to its last byte, seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    url: str
    headers: Mapping[str, str] = {}
    timeout: Seconds = Field(5.0, gt=0, le=30)

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        bare = _REFERENCE.sub("\0", url)
        if not url.startswith("${") and not re.match(r"https?://[^/?#]", url):
            raise ValueError("must begin with http:// or https://")
        user = re.match(r"\w+://([^/?#]*)@", bare)
        password = user[1].partition(":")[2] if user else ""
        pairs = [pair.partition("=") for pair in bare.partition("?")[2].split("&")]
        plain = any(_SECRET.search(name) and value and "\0" not in value for name, _, value in pairs)
        if (password and "\0" not in password) or plain:
            raise ValueError("a secret would be stored and shown; write ${env:NAME} or ${file:path} in its place")
        return url

    @field_validator("headers")
    @classmethod
    def _no_plain_secret(cls, headers: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in headers.items():
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
                raise ValueError("the name of a header has a character that none may have")
            if _SECRET.search(name) and not _REFERENCE.search(value):
                raise ValueError(
                    f"{name} would be stored and shown; write ${{env:NAME}} or ${{file:path}} as its value"
                )
        return headers


class Unusable(Exception):
    """An answer that holds no figure; its text is a clause."""


class Door:
    """One server, asked with one set of headers."""

    def __init__(self, options: DoorOptions, context: Context) -> None:
        self._options = options
        self._resolve = context.resolve
        self._http = Http(direct=_LOOPBACK.match(options.url) is not None, connections=8)

    async def ask(
        self,
        method: str,
        url: str,
        *,
        body: str = "",
        headers: Mapping[str, str] | None = None,
        reason: Callable[[Any], str] | None = None,
    ) -> Any:
        """The JSON of an answer with a status of 2xx.

        Args:
            url, body: with references; these are resolved now.
            reason: what a JSON document that came with another status says about it, or "".

        Raises:
            Unusable: there is no such answer.
        """
        try:
            sent = {name: self._resolve(value) for name, value in {**(headers or {}), **self._options.headers}.items()}
            hidden = self._hidden(url, body, *self._options.headers.values())
            answer = await self._http.send(
                method,
                self._resolve(url),
                body=self._resolve(body).encode(),
                headers=sent,
                timeout=self._options.timeout,
                limit=LARGEST,
                shown=url,
            )
        except ProviderError as error:
            raise Unusable(str(error).rstrip(".")) from None
        try:
            document = json.loads(answer.body)
        except (ValueError, RecursionError):
            document = None
        if not 200 <= answer.status < 300:
            said = _clean(reason(document), hidden) if reason and isinstance(document, dict) else ""
            redirected = ", and a redirect is not followed" if 300 <= answer.status < 400 else ""
            raise Unusable(f"the server answered {answer.status}{redirected}{f': {said}' if said else ''}")
        if document is None:
            kind = answer.headers.get("content-type", "").partition(";")[0]
            raise Unusable(f"the answer is no JSON{f' but {_clean(kind, hidden)}' if kind else ''}")
        return document

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _hidden(self, *texts: str) -> list[str]:
        """What must not be shown though a server repeats it: the values of every reference."""
        return [self._resolve(found) for text in texts for found in _REFERENCE.findall(text)]


def _clean(text: str, hidden: list[str]) -> str:
    for secret in hidden:
        if secret:
            text = text.replace(secret, "...")
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
