"""What it costs to see the bodies of mirrored answers, way by way: CPU a request and the client's latency.

A real Envoy and two real scoring hosts: blue gets all requests, green a copy of each. Answers are JSON of 1 KB and
32 KB. The ways:

    none         bodies go nowhere: the floor
    host         each scoring host hands its answer over; the receiver only counts
    compare      the same, and the comparing process of the local provider compares them
    lua          a script in Envoy's upstream filter chain sends each body; the receiver only counts
    ext_proc     Envoy's external processor, only observing; needs grpcio; the receiver does not even parse
    socket_tap   Envoy writes what its upstream connections carry into files under /dev/shm, and nobody reads them

Envoy's HTTP tap filter is missing: it cannot stand in the upstream chain, and copies are seen nowhere else.

What else the machine does only adds, so of several rounds the lowest figure counts.

    python benchmarks/bench_answers.py [--ways none,host,...] [--rounds 3] [--seconds 4] [--rate 200]
"""

import argparse
import asyncio
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from providers.local import envoy, launching, xds
from providers.local.scoring_host import Hand
from providers.measurement import Comparison

BLUE, GREEN = "blue", "green"
SCORE = """
import json
BODY = {size: json.dumps([0.123456789] * (size // 13)) for size in (1 << 10, 32 << 10)}
def init(): pass
def run(raw): return BODY[int(raw)]
"""
TAPPED = "/dev/shm/bench_answers"
TYPE = "type.googleapis.com/"
PROTOCOL = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
CODEC = {
    "name": "envoy.filters.http.upstream_codec",
    "typed_config": {"@type": TYPE + "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"},
}


def free() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def upstream_filter(way: str) -> dict[str, Any] | None:
    if way == "lua":
        name, config = "envoy.filters.http.lua", {"default_source_code": {"inline_string": LUA_UP}}
        return {"name": name, "typed_config": {"@type": TYPE + "envoy.extensions.filters.http.lua.v3.Lua", **config}}
    if way == "ext_proc":
        config = {
            "grpc_service": {"envoy_grpc": {"cluster_name": "answers"}, "timeout": "1s"},
            "observability_mode": True,
            "failure_mode_allow": True,
            "processing_mode": {
                "request_header_mode": "SEND",
                "response_header_mode": "SEND",
                "response_body_mode": "STREAMED",
            },
        }
        kind = TYPE + "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor"
        return {"name": "envoy.filters.http.ext_proc", "typed_config": {"@type": kind, **config}}
    return None


LUA_UP = """
function envoy_on_request(handle)
  if handle:headers():get("x-rollout-pair") == nil then return end
  handle:streamInfo():dynamicMetadata():set("answers", "id", handle:headers():get("x-request-id"))
end
function envoy_on_response(handle)
  local noted = handle:streamInfo():dynamicMetadata():get("answers")
  if noted == nil then return end
  local parts, size = {}, 0
  for chunk in handle:bodyChunks() do
    local n = chunk:length()
    size = size + n
    if size <= 262144 and n > 0 then parts[#parts + 1] = chunk:getBytes(0, n) end
  end
  handle:httpCall("answers", {[":method"] = "POST", [":path"] = "/", [":authority"] = "a",
    ["x-id"] = noted["id"], ["x-status"] = handle:headers():get(":status")}, table.concat(parts), 1000, true)
end
"""


def configuration(root: Path, way: str, ports: dict[str, int]) -> None:
    """Envoy's files, as the provider makes them, and what the way adds."""
    upstreams = tuple(xds.Upstream(name) for name in (BLUE, GREEN))
    clusters = xds.clusters(upstreams, root)
    extra = upstream_filter(way)
    for cluster in clusters["resources"]:
        if extra is not None:
            cluster["typed_extension_protocol_options"][PROTOCOL]["http_filters"] = [extra, CODEC]
        if way == "socket_tap":
            raw = {
                "name": "envoy.transport_sockets.raw_buffer",
                "typed_config": {"@type": TYPE + "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"},
            }
            cluster["transport_socket"] = {
                "name": "envoy.transport_sockets.tap",
                "typed_config": {
                    "@type": TYPE + "envoy.extensions.transport_sockets.tap.v3.Tap",
                    "transport_socket": raw,
                    "common_config": {
                        "static_config": {
                            "match": {"any_match": True},
                            "output_config": {
                                "streaming": True,
                                "max_buffered_tx_bytes": 262144,
                                "sinks": [{"format": "PROTO_BINARY", "file_per_tap": {"path_prefix": TAPPED}}],
                            },
                        }
                    },
                },
            }
    if way in {"lua", "ext_proc"}:
        options: dict[str, Any] = {
            "@type": TYPE + PROTOCOL,
            "explicit_http_config": {"http2_protocol_options" if way == "ext_proc" else "http_protocol_options": {}},
        }
        clusters["resources"].append(
            {
                "@type": TYPE + "envoy.config.cluster.v3.Cluster",
                "name": "answers",
                "type": "STATIC",
                "connect_timeout": "1s",
                "load_assignment": {
                    "cluster_name": "answers",
                    "endpoints": [
                        {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(root / "answers.sock")}}}}]}
                    ],
                },
                "typed_extension_protocol_options": {PROTOCOL: options},
            }
        )
    routing = xds.Routing(upstreams, {BLUE: 1000}, {GREEN: 1000}, ("key",))
    for folder, resource in {
        "cds": clusters,
        "rds": xds.routes(routing),
        **{f"eds-{name}": xds.members(name, [port]) for name, port in ports.items()},
    }.items():
        (root / folder).mkdir(exist_ok=True)
        (root / folder / "resource.json").write_text(json.dumps(resource))


def receive(way: str, path: str) -> None:
    """A process that takes answers and counts them; prints the count when told to end."""
    seen = [0, 0]

    def end(*_: object) -> None:
        print(*seen, flush=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    if way == "ext_proc":
        from concurrent import futures

        import grpc

        def process(stream: Any, context: Any) -> Any:
            for message in stream:
                seen[0] += 1
                seen[1] += len(message)
            return iter(())

        class Handler(grpc.GenericRpcHandler):
            def service(self, details: Any) -> Any:
                return grpc.stream_stream_rpc_method_handler(process)

        server = grpc.server(futures.ThreadPoolExecutor(64), handlers=[Handler()])
        server.add_insecure_port(f"unix:{path}")
        server.start()
        server.wait_for_termination()
    elif way == "lua":
        import httptools

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                self.transport, self.parser = transport, httptools.HttpRequestParser(self)

            def data_received(self, data: bytes) -> None:
                self.parser.feed_data(data)

            def on_body(self, body: bytes) -> None:
                seen[1] += len(body)

            def on_message_complete(self) -> None:
                seen[0] += 1
                self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")

        async def serve() -> None:
            server = await asyncio.get_running_loop().create_unix_server(Protocol, path)
            await server.serve_forever()

        import uvloop

        uvloop.run(serve())
    else:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(path)
        listener.listen(64)
        chosen, buffer = selectors.DefaultSelector(), bytearray(512 << 10)
        chosen.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in chosen.select():
                if key.fileobj is listener:
                    chosen.register(listener.accept()[0], selectors.EVENT_READ)
                    continue
                number = key.fileobj.recv_into(buffer)
                if number == 0:
                    chosen.unregister(key.fileobj)
                    continue
                _head, _, body = bytes(memoryview(buffer)[:number]).partition(b"\n")
                seen[0] += 1
                seen[1] += len(body)


async def load(port: int, size: int, rate: float, seconds: float) -> list[float]:
    """Requests at a steady pace over kept connections; their latencies, seconds."""
    body = str(size).encode()
    request = (
        b"POST /score HTTP/1.1\r\nhost: a\r\nauthorization: Bearer key\r\ncontent-length: %d\r\n\r\n" % len(body)
    ) + body
    idle: list[Any] = []
    found: list[float] = []

    async def one() -> None:
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        started = time.perf_counter()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert head.startswith("http/1.1 200"), head
        await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        found.append(time.perf_counter() - started)
        idle.append((reader, writer))

    loop, tasks = asyncio.get_running_loop(), []
    begin = loop.time()
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0, begin + number / rate - loop.time()))
        tasks.append(asyncio.ensure_future(one()))
    await asyncio.gather(*tasks)
    for _, writer in idle:
        writer.close()
    return found


def cpu(processes: dict[str, Any]) -> dict[str, float]:
    """Seconds on a processor so far, to the nanosecond (proc(5), schedstat), over all threads."""
    found = {}
    for name, process in processes.items():
        tasks = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
        found[name] = sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
    return found


def measure(way: str, sizes: tuple[int, ...], rate: float, seconds: float) -> dict[int, dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="ba") as folder:
        root, children = Path(folder), {}
        (root / "score.py").write_text(SCORE)
        ports = {BLUE: free(), GREEN: free()}
        port = free()
        try:
            (root / "runtime").write_text(str(root))
            (root / "answers.json").write_text(json.dumps({"specs": {"a": asdict(Comparison("0", 1e-6))}}))
            if way in {"lua", "ext_proc", "host", "compare"}:
                command = [sys.executable, __file__, "--receive", way, str(root / "answers.sock")]
                if way == "compare":
                    command = [sys.executable, "-P", "-m", "providers.local.comparer", folder]
                children["receiver"] = subprocess.Popen(command, stdout=subprocess.PIPE)
                while not (root / "answers.sock").exists():
                    time.sleep(0.02)
            for name, where in ports.items():
                environment = {
                    **os.environ,
                    "PORT": str(where),
                    "ROLLOUT_CODE": folder,
                    "ROLLOUT_INSTANCE": f"{name}.0.x",
                }
                if way in {"host", "compare"}:
                    environment["ROLLOUT_RUNTIME"] = str(root / "runtime")
                children[name] = subprocess.Popen([sys.executable, str(launching.HOST)], env=environment)
            configuration(root, way, ports)
            boot = xds.bootstrap(port=port, admin=root / "a.sock", xds=root, pairs=Path("/dev/null"))
            (root / "boot.json").write_text(json.dumps(boot))
            children["envoy"] = subprocess.Popen(
                (*envoy.arguments(envoy.executable(), root / "boot.json", 1)[:-1], "error")
            )
            admin, give_up = envoy.Admin(root / "a.sock"), time.monotonic() + 20
            while True:
                try:
                    if all(admin.view().members[name].healthy == 1 for name in ports):
                        break
                except (envoy.Away, KeyError):
                    pass
                if time.monotonic() > give_up:
                    raise SystemExit(f"{way}: not up")
                time.sleep(0.05)
            watched = dict(children)
            asyncio.run(load(port, 1 << 10, rate, 1))
            found = {}
            for size in sizes:
                before = cpu(watched)
                latencies = sorted(asyncio.run(load(port, size, rate, seconds)))
                spent = {name: (after - before[name]) / len(latencies) * 1e6 for name, after in cpu(watched).items()}
                found[size] = {
                    "p50": latencies[len(latencies) // 2] * 1e6,
                    "p99": latencies[len(latencies) * 99 // 100] * 1e6,
                    "hosts": spent.pop(BLUE) + spent.pop(GREEN),
                    **spent,
                }
            return found
        finally:
            for child in children.values():
                child.terminate()
            for child in children.values():
                out = child.communicate(timeout=20)[0]
                if out:
                    print(f"  {way}: answers and bytes that came: {out.decode().strip()}")
            for path in Path(TAPPED).parent.glob(Path(TAPPED).name + "*"):
                path.unlink()


def hand_over() -> None:
    """What an instance itself spends on one answer, with the proxy's mark and without: too little to be seen below."""
    with tempfile.TemporaryDirectory(prefix="ba") as folder:
        root = Path(folder)
        (root / "runtime").write_text(folder)
        command = [sys.executable, __file__, "--receive", "host", str(root / "answers.sock")]
        receiver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not (root / "answers.sock").exists():
                time.sleep(0.02)
            hand = Hand(root / "runtime", b"blue.0.x")
            others = [(b"name-%d" % number, b"value") for number in range(10)]
            for size in (1 << 10, 32 << 10):
                body, found = b"x" * size, {}
                for mark in (b"x-rollout-pair", b"x-another"):
                    rounds = []
                    for _ in range(5):
                        spent = 0
                        for number in range(300):
                            headers = [*others, (mark, b"1"), (b"x-request-id", b"%d" % number)]
                            started = time.thread_time_ns()
                            hand.give(headers, 200, body)
                            spent += time.thread_time_ns() - started
                            time.sleep(0.002)
                        rounds.append(spent / 300 / 1000)
                    found[mark] = min(rounds)
                marked, other = found.values()
                print(f"an answer of {size >> 10} KB handed over {marked:.1f} us, not asked for {other:.1f} us")
        finally:
            receiver.terminate()
            receiver.wait(timeout=20)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--receive", nargs=2)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--ways", default="none,host,compare,lua")
    arguments = parser.parse_args()
    if arguments.receive:
        receive(*arguments.receive)
        return
    hand_over()
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for _ in range(arguments.rounds):
        for way in arguments.ways.split(","):
            for size, figures in measure(way, (1 << 10, 32 << 10), arguments.rate, arguments.seconds).items():
                found.setdefault((way, size), []).append(figures)
    print("CPU a request and latencies, us; the lowest of", arguments.rounds, "rounds")
    for (way, size), rounds in found.items():
        lowest = {name: min(one[name] for one in rounds) for name in rounds[0]}
        total = sum(value for name, value in lowest.items() if name not in {"p50", "p99"})
        parts = "  ".join(f"{name} {value:.0f}" for name, value in lowest.items())
        print(f"{way:10} {size >> 10:3} KB  CPU {total:5.0f}  {parts}", flush=True)


if __name__ == "__main__":
    main()
