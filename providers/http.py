"""The only module that imports httpx: whoever needs HTTP gets a small client with our errors.

One client is kept by each provider, so that connections are reused; it never follows a redirect and never retries,
because a repeated POST is somebody's second prediction.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from providers.errors import Temporary

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `seconds` is the time until its last byte; header names are lower-case."""

    status: int
    body: bytes
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)


class Http:
    """A pool of connections.

    Args:
        direct: never use a proxy that the environment names, as is right for this machine's own addresses.
        connections: at most this many at once.
    """

    def __init__(self, *, direct: bool = False, connections: int = 256) -> None:
        self._direct = direct
        self._connections = connections
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float,
        limit: int | None = None,
        shown: str | None = None,
    ) -> Answer:
        """Send one request and read the whole answer, of any status.

        Args:
            timeout: seconds for everything, from connecting to the last byte.
            limit: bytes that a body may have; reading stops beyond. None for any size.
            shown: what stands for an address that holds a secret, in errors.

        Raises:
            Temporary: no answer in that time, or a larger one, or the connection failed; the sentence holds neither
                headers nor body.
        """
        # Imported where it is first needed: most commands send nothing, and start in less time without it.
        import httpx  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        began = loop.time()
        name = f"{method} {shown or url}"
        try:
            async with asyncio.timeout(timeout):
                request = self._pool().stream(method, url, content=body, headers=dict(headers or {}))
                async with request as response:
                    read = bytearray()
                    async for some in response.aiter_bytes():
                        read += some
                        if limit is not None and len(read) > limit:
                            raise Temporary(f"{name} was answered with more than {limit} bytes: ask for less.")
        except TimeoutError:
            raise Temporary(f"{name} got no answer within {timeout:g} s.") from None
        except httpx.InvalidURL as error:
            raise Temporary(f"{name} is no valid address{'' if shown else f': {error}'}.") from None
        except UnicodeEncodeError:
            raise Temporary(
                f"{name} cannot be sent: a header holds a character that none may: check the secret in it."
            ) from None
        except httpx.HTTPError as error:
            raise Temporary(f"{name} failed: {_why(error, private=shown is not None)}.") from None
        return Answer(response.status_code, bytes(read), loop.time() - began, dict(response.headers))

    async def aclose(self) -> None:
        """Close every connection; the next request opens new ones."""
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    def _pool(self) -> "httpx.AsyncClient":
        import httpx  # noqa: PLC0415 - see send

        # Connections belong to the loop that opened them.
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            limits = httpx.Limits(max_connections=self._connections, max_keepalive_connections=self._connections)
            self._client = httpx.AsyncClient(limits=limits, timeout=None, trust_env=not self._direct)  # noqa: S113
            self._loop = loop
        return self._client


def _why(error: Exception, *, private: bool) -> str:
    """What went wrong; without its words, which may repeat a part of the address, where that is private."""
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    return kind if private else str(error) or type(error).__name__
