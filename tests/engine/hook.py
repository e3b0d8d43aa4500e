"""A small HTTP server that hears what webhooks are told: it answers as it is told to, and remembers."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class Heard:
    """One request, as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Hook:
    """A server.

    Attributes:
        status, headers: of every answer; `headers` as lines. first: statuses of the first answers.
        moved: path -> (status, location) of paths that lead elsewhere.
        delay: seconds before it answers. resets: connections that it breaks off first, after they were heard.
    """

    port: int = 0
    status: int = 200
    headers: str = ""
    delay: float = 0.0
    first: list[int] = field(default_factory=list)
    moved: dict[str, tuple[int, str]] = field(default_factory=dict)
    resets: int = 0
    heard: list[Heard] = field(default_factory=list)
    more: asyncio.Condition = field(default_factory=asyncio.Condition)
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def hears(self, count: int) -> None:
        """Wait until that many requests were heard."""
        async with asyncio.timeout(30), self.more:
            await self.more.wait_for(lambda: len(self.heard) >= count)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            method, path, _ = first.split(" ")
            self.heard.append(Heard(method, path, headers, body))
            async with self.more:
                self.more.notify_all()
            if self.resets:
                self.resets -= 1
                made = writer.get_extra_info("socket")
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return
            await asyncio.sleep(self.delay)
            status, more = self.first.pop(0) if self.first else self.status, self.headers
            if path in self.moved:
                status, location = self.moved[path]
                more += f"location: {location}\r\n" if location else ""
            writer.write(f"HTTP/1.1 {status} X\r\n{more}connection: close\r\ncontent-length: 2\r\n\r\nok".encode())
            await writer.drain()


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Hook]:
    """A server on a free port of this machine's loopback."""
    made = Hook()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in made.serving:
            task.cancel()
        await asyncio.gather(*made.serving, return_exceptions=True)
