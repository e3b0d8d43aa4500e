"""The parts of the local provider that need no proxy: configuration, copies, the state's lock, HTTP errors."""

import socket
from pathlib import Path

import pytest

from providers.errors import Conflict, NotFound, Permanent, Temporary
from providers.http import Http
from providers.local import snapshot, xds
from providers.local.state import KeyFile, Layout, load_keys, locked, save_keys

BLUE, GREEN = xds.Upstream("blue"), xds.Upstream("green", timeout_ms=1500)


def routes(**routing: object) -> list[dict]:
    resource = xds.routes(xds.Routing((BLUE, GREEN), **routing))  # type: ignore[arg-type]
    return resource["resources"][0]["virtual_hosts"][0]["routes"]


def test_split_and_mirror_have_different_moduli() -> None:
    """Envoy takes one random number for both (facts: with one modulus all or none of green's requests are mirrored)."""
    live = routes(traffic={"blue": 990, "green": 10}, mirror={"green": 5})[-2]["route"]
    total = sum(cluster["weight"] for cluster in live["weighted_clusters"]["clusters"])
    fraction = live["request_mirror_policies"][0]["runtime_fraction"]["default_value"]
    assert (total, fraction) == (1000, {"numerator": 5_000, "denominator": "MILLION"})


def test_routes_come_in_the_one_safe_order() -> None:
    names = [route["name"] for route in routes(traffic={"blue": 1000}, keys=("k.1", "k2"))]
    assert names == ["unauthorized", "direct-blue", "direct-green", "unknown", "live"]
    pattern = routes(keys=("k.1", "k2"))[0]["match"]["headers"][0]["string_match"]["safe_regex"]["regex"]
    assert pattern == r"(?i:bearer) +(k\.1|k2)"
    assert routes()[-1]["direct_response"]["status"] == 404
    assert all("request_mirror_policies" not in route.get("route", {}) for route in routes(mirror={"blue": 5})[:-1])


def test_a_version_is_the_content() -> None:
    folder = Path("/x")
    first, again = xds.clusters((BLUE,), folder), xds.clusters((BLUE,), folder)
    assert xds.version(first) == xds.version(again) != xds.version(xds.clusters((BLUE, GREEN), folder))
    assert xds.version(xds.members("blue", (1, 2))) != xds.version(xds.members("blue", (1,)))


def test_a_digest_knows_names_bytes_and_the_mode_that_runs(tmp_path: Path) -> None:
    (tmp_path / "a" / "sub").mkdir(parents=True)
    (tmp_path / "a" / "sub" / "run.sh").write_text("x")
    (tmp_path / "a" / "z.txt").write_text("z")
    digests = [snapshot.pin(tmp_path / "a", "code").sha256]
    (tmp_path / "a" / "__pycache__").mkdir()
    (tmp_path / "a" / "__pycache__" / "x.pyc").write_text("cache")
    (tmp_path / "a" / "sub" / "run.sh").chmod(0o644)
    assert snapshot.pin(tmp_path / "a", "code").sha256 == digests[0]
    (tmp_path / "a" / "sub" / "run.sh").chmod(0o755)
    digests.append(snapshot.pin(tmp_path / "a", "code").sha256)
    (tmp_path / "a" / "z.txt").rename(tmp_path / "a" / "y.txt")
    digests.append(snapshot.pin(tmp_path / "a", "code").sha256)
    (tmp_path / "a" / "y.txt").write_text("y")
    digests.append(snapshot.pin(tmp_path / "a", "code").sha256)
    assert len(set(digests)) == 4
    (tmp_path / "a" / "more").symlink_to(tmp_path / "a" / "sub")
    with pytest.raises(Permanent, match="link to a folder"):
        snapshot.pin(tmp_path / "a", "code")


def test_a_copy_is_whole_or_not_there(tmp_path: Path) -> None:
    source = tmp_path / "code"
    source.mkdir()
    (source / "score.py").write_text("1")
    (source / "link.py").symlink_to("score.py")
    content, model = snapshot.pin(source, "code"), snapshot.pin(source / "score.py", "model")
    snapshot.copy_all(content, model, tmp_path / "good", tmp_path / "scratch")
    assert (tmp_path / "good" / "code" / "code" / "link.py").read_text() == "1"
    assert not (tmp_path / "good" / "code" / "code" / "link.py").is_symlink()
    assert (tmp_path / "good" / "model" / "score.py").read_text() == "1"
    (source / "score.py").write_text("2")
    with pytest.raises(Permanent, match="changed since the rollout was started"):
        snapshot.copy_all(content, None, tmp_path / "bad", tmp_path / "scratch")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code", "good"]
    snapshot.copy_all(content, None, tmp_path / "good", tmp_path / "scratch")


def test_the_lock_is_one_and_goes_with_its_endpoint(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "shop")
    with pytest.raises(NotFound), locked(layout):
        pass
    layout.directory.mkdir()
    with locked(layout), pytest.raises(Conflict, match="another process"), locked(layout, patience=0.05):
        pass
    with locked(layout):
        pass


def test_keys_are_for_their_user_only_and_never_shown(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    with pytest.raises(NotFound):
        load_keys(layout)
    file = KeyFile("first-key", "second-key", ("renewed",))
    save_keys(layout, file)
    assert load_keys(layout) == file
    assert "first-key" not in f"{file!r} {file.keys!r}"
    assert layout.keys.stat().st_mode & 0o777 == 0o600
    layout.keys.write_text("{}")
    with pytest.raises(Permanent, match="damaged"):
        load_keys(layout)


async def test_no_answer_is_temporary_and_tells_no_secret() -> None:
    http = Http(direct=True)
    try:
        with socket.create_server(("127.0.0.1", 0)) as nobody_accepts:
            url = f"http://127.0.0.1:{nobody_accepts.getsockname()[1]}/score"
            with pytest.raises(Temporary, match=r"no answer within 0\.1 s") as caught:
                await http.send("POST", url, headers={"authorization": "Bearer secret"}, body=b"private", timeout=0.1)
        assert "secret" not in str(caught.value)
        assert "private" not in str(caught.value)
        with pytest.raises(Temporary, match="failed"):
            await http.send("GET", url, timeout=2.0)
    finally:
        await http.aclose()
