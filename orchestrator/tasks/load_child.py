"""The process that sends a stream of requests: `python -m orchestrator.tasks.load_child`, told what to send on its
standard input.
"""

import asyncio
import json
import sys
from pathlib import Path

from orchestrator import ids
from orchestrator.secrets import Resolver
from orchestrator.settings import from_environment, utc_now
from orchestrator.tasks.load import Stream, send
from providers.base import Context, Invokes
from providers.errors import ProviderError
from providers.registry import open_provider


async def _main() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    stream = Stream(**json.loads(await reader.readline()))
    resolver = Resolver(from_environment().environment, Path(stream.base))
    context = Context(Path(stream.home), utc_now, ids.token, resolver, Path(stream.runtime) if stream.runtime else None)
    provider = open_provider(stream.provider, stream.options, context)
    if not isinstance(provider, Invokes):
        raise SystemExit(f"provider {stream.provider} cannot send requests")
    sending = asyncio.create_task(send(provider, stream.endpoint, stream.body.encode(), rate=stream.rate, count=None))
    orphaned = asyncio.create_task(reader.read())
    done, pending = await asyncio.wait((sending, orphaned), return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    await provider.aclose()
    for task in done:
        task.result()


if __name__ == "__main__":
    try:
        asyncio.run(_main())
    except (KeyboardInterrupt, ProviderError) as stopped:
        raise SystemExit(str(stopped)) from None
