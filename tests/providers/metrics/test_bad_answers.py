"""Whatever a server answers that is no figure is told in words, with the query, and never as a figure or a secret."""

import json
import socket
from typing import Any

import pytest

from providers.errors import Permanent
from providers.registry import metric_form
from tests.providers.metrics.conftest import NOW, SECRET, SPEC, later

AT = NOW.timestamp()
BAD = 'sum(bad{cluster="{{leg}}"})'
COUNTS = {"total": "sum(all)", "bad": BAD}


def matrix(*series: tuple[str, Any], kind: str = "matrix", **more: Any) -> dict[str, Any]:
    result = [{"metric": {"rollout_side": side}, "values": [[AT, value]]} for side, value in series]
    return {"status": "success", "data": {"resultType": kind, "result": result}, **more}


GOOD = matrix(("total", "10"), ("bad", "1"))
EMPTY = matrix()
UNEVEN = {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": [[AT]]}]}}
NATIVE = {
    "status": "success",
    "data": {"resultType": "matrix", "result": [{"metric": {"rollout_side": "bad"}, "histograms": [[AT, {}]]}]},
}
ERROR = {"status": "error", "errorType": "timeout", "error": f"query timed out\x1b[2J for {SECRET}"}

ANSWERS = [
    pytest.param(EMPTY, {}, "nothing", "the query for total and bad found no series", id="empty"),
    pytest.param(matrix(("total", "10")), {}, "nothing", "the query for bad found no series", id="one is missing"),
    pytest.param(matrix(("total", "NaN"), ("bad", "1")), {}, "problem", "total is nan, and must be a number", id="NaN"),
    pytest.param(matrix(("total", "+Inf"), ("bad", "1")), {}, "problem", "total is inf, and must be", id="+Inf"),
    pytest.param(matrix(("total", "10"), ("bad", "-1")), {}, "problem", "bad is -1: a counter is never", id="negative"),
    pytest.param(
        matrix(("total", "1"), ("total", "2"), ("bad", "0")),
        {},
        "problem",
        "the query for total found several",
        id="several",
    ),
    pytest.param(
        matrix(("total", 10), ("bad", 1)), {}, "problem", "the answer is not made as", id="numbers, not texts"
    ),
    pytest.param(matrix(("total", "ten"), ("bad", "1")), {}, "problem", "the answer is not made as", id="a word"),
    pytest.param(UNEVEN, {}, "problem", "the answer is not made as Prometheus makes it", id="half a point"),
    pytest.param(NATIVE, {}, "problem", "the query found a histogram, and a number is needed", id="histogram"),
    pytest.param(
        matrix(kind="vector"), {}, "problem", "the answer is a vector, and a matrix was asked for", id="vector"
    ),
    pytest.param({"status": "success"}, {}, "problem", "the answer is not made as Prometheus makes it", id="no data"),
    pytest.param([1], {}, "problem", "the answer is none of Prometheus", id="a list"),
    pytest.param(
        {"status": "error", "error": "x"}, {}, "problem", "the answer is none of Prometheus: x", id="200, error"
    ),
    pytest.param(
        {**GOOD, "warnings": ["store a did not answer"]},
        {},
        "problem",
        "the answer comes with a warning: store a did not answer",
        id="warnings",
    ),
    pytest.param(
        b"<html>Sign in</html>",
        {"kind": "text/html; charset=utf-8"},
        "problem",
        "the answer is no JSON but text/html",
        id="HTML",
    ),
    pytest.param(b"", {}, "problem", "the answer is no JSON but application/json", id="no body"),
    pytest.param(b"[" * 100_000, {}, "problem", "the answer is no JSON", id="too deep"),
    pytest.param(
        ERROR, {"status": 503}, "problem", "the server answered 503: timeout: query timed out [2J for ...", id="503"
    ),
    pytest.param(ERROR, {"status": 422}, "problem", "the server answered 422: timeout: query timed out", id="422"),
    pytest.param(b"no", {"status": 401, "kind": "text/plain"}, "problem", "the server answered 401", id="401"),
    pytest.param(GOOD, {"status": 302}, "problem", "the server answered 302, and a redirect is not followed", id="302"),
    pytest.param(b" " * 5_000_000, {}, "problem", "answered with more than 4194304 bytes: ask for less", id="large"),
]


@pytest.mark.parametrize(("answer", "how", "kind", "words"), ANSWERS)
async def test_prometheus(web: Any, opened: Any, answer: Any, how: dict[str, Any], kind: str, words: str) -> None:
    web.says(answer, **how)
    metric = opened("prometheus", url=f"{web.url}/prom", headers={"Authorization": "Bearer ${env:SECRET}"}, **COUNTS)
    reading = await metric.query(SPEC, None)
    assert words in getattr(reading, kind)
    assert (reading.count, reading.values, dict(reading.mark)) == (None, (), {})
    assert reading.query == 'bad: sum(bad{cluster="green~mirror"}); total: sum(all)'
    assert SECRET not in repr(reading)
    assert "\x1b" not in repr(reading.problem + reading.nothing).replace("\\x1b", "\x1b")
    mark = {"total": 5.0, "bad": 0.0, "series": {"total": {}, "bad": {}}, "at": round(AT - 1) * 1000}
    again = await metric.query(SPEC, mark)
    assert again.count is None
    assert again.mark == mark, "what cannot be used moves nothing"


async def test_what_is_sent_to_prometheus(web: Any, opened: Any) -> None:
    web.says(GOOD)
    url = web.url + "/prom/?dedup=true&token=${env:SECRET}"
    metric = opened("prometheus", url=url, headers={"Authorization": "Bearer ${env:SECRET}"}, **COUNTS)
    reading = await metric.query(SPEC, None)
    assert (reading.problem, reading.nothing, reading.mark["total"]) == ("", "", 10)
    method, path, headers, body = web.asked[0]
    assert (method, path) == ("POST", f"/prom/api/v1/query_range?dedup=true&token={SECRET}")
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert b"green%7Emirror" in body or b"green~mirror" in body
    assert SECRET not in repr(reading)


@pytest.mark.parametrize("name", ["prometheus", "http"])
async def test_nobody_answers(web: Any, opened: Any, name: str) -> None:
    web.delay = 1.0
    web.says(GOOD)
    words = COUNTS if name == "prometheus" else {"value": "a", "step": "1s"}
    late = opened(name, url=f"{web.url}/${{env:SECRET}}", timeout="200ms", **words)
    mark = {"at": 0} if name == "http" else None
    reading = await late.query(SPEC, mark)
    assert reading.problem.endswith("got no answer within 0.2 s")
    assert "${env:SECRET}" in reading.problem
    assert SECRET not in repr(reading)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/${{env:SECRET}}"
        reading = await opened(name, url=nobody, **words).query(SPEC, mark)
    assert reading.problem.endswith("failed: connect error")
    assert SECRET not in repr(reading)


@pytest.mark.parametrize("name", ["prometheus", "http"])
async def test_a_secret_that_is_not_there(web: Any, opened: Any, name: str) -> None:
    words = COUNTS if name == "prometheus" else {"total": "a", "bad": "b"}
    metric = opened(name, url=web.url, headers={"X-Api-Key": "${env:MISSING}"}, **words)
    assert "the environment has no MISSING" in (await metric.query(SPEC, None)).problem
    assert web.asked == []


@pytest.mark.parametrize(
    ("document", "options", "kind", "words"),
    [
        ({"a": "NaN"}, {}, "problem", "`a` is a text ('NaN'), and must be a number"),
        ({"a": "1.5"}, {}, "problem", "`a` is a text ('1.5'), and must be a number"),
        (b'{"a": NaN}', {}, "problem", "`a` is nan, and must be a number"),
        (b'{"a": 1e999}', {}, "problem", "`a` is inf, and must be a number"),
        ({"a": True}, {}, "problem", "`a` is true or false, and must be a number"),
        ({"a": None}, {}, "problem", "`a` is null, and must be a number"),
        ({"a": [1]}, {}, "problem", "`a` is a list, and must be a number"),
        ({"b": 1}, {}, "problem", "the answer has no `a`"),
        ([], {}, "problem", "the answer has no `a`"),
        ({"a": {"b": [1]}}, {"value": "a.b.1"}, "problem", "the answer has no `a.b.1`"),
        (b"<html>", {}, "problem", "the answer is no JSON"),
        ({"a": 1, "t": AT - 400}, {"at": "t"}, "nothing", "its figures are 400 s old"),
        ({"a": 1, "t": "2026-01-01T11:00:00Z"}, {"at": "t"}, "nothing", "its figures are 3630 s old"),
        ({"a": 1, "t": AT + 400}, {"at": "t"}, "problem", "its figures are of 400 s from now; the clocks disagree"),
        ({"a": 1, "t": "2026-01-01T12:00:00"}, {"at": "t"}, "problem", "`t` has no time zone"),
        ({"a": 1, "t": "noon"}, {"at": "t"}, "problem", "`t` is no time"),
        ({"a": 1}, {"at": "t"}, "problem", "the answer has no `t`"),
    ],
)
async def test_a_value_from_json(
    web: Any, opened: Any, document: Any, options: dict[str, Any], kind: str, words: str
) -> None:
    web.says(document)
    metric = opened("http", url=f"{web.url}/q", **{"value": "a", **options})
    assert metric.form == "values"
    assert dict((await metric.query(SPEC, None)).mark) == {"at": AT - 30}
    assert web.asked == [], "the first look needs no answer"
    reading = await metric.query(SPEC, {"at": AT - 90})
    assert getattr(reading, kind).startswith(words)
    assert (reading.values, reading.mark) == ((), {"at": AT - 90})
    assert reading.query == f"GET {web.url}/q: value {options.get('value', 'a')}"


async def test_a_value_is_one_point_a_step(web: Any, opened: Any, look: Any) -> None:
    web.says({"rows": [{"n": 7.5}], "t": AT})
    ask = look(opened("http", url=web.url, value="rows.0.n", at="t", stale="10m"))
    assert (await ask(NOW)).values == ()
    assert (await ask(later(20))).nothing == "the next point is due at 12:01:00 UTC"
    reading = await ask(later(31))
    assert reading.values == ((later(30), 7.5),)
    assert (await ask(later(95))).nothing == "the value is still the one of the last point"
    web.says({"rows": [{"n": 8}], "t": AT + 60})
    assert (await ask(later(99))).values == ((later(90), 8.0),)


async def test_counts_from_json(web: Any, opened: Any, look: Any) -> None:
    metric = opened(
        "http",
        url=web.url + "/stats/{{leg}}?of={{endpoint}}&key=${env:SECRET}",
        method="POST",
        body='{"who": "{{deployment}}", "key": "${env:SECRET}"}',
        total="r.all",
        good="r.ok",
    )
    assert metric.form == "counts"
    ask = look(metric)
    web.says({"r": {"all": 100, "ok": 90}})
    first = await ask(NOW)
    assert (first.count, first.problem, first.nothing) == (None, "", "")
    method, path, headers, body = web.asked[0]
    assert (method, path) == ("POST", f"/stats/green~mirror?of=shop&key={SECRET}")
    assert json.loads(body) == {"who": "green", "key": SECRET}
    assert headers["content-type"] == "application/json"
    web.says({"r": {"all": 130, "ok": 115}})
    reading = await ask(later(10))
    assert (reading.count.bad, reading.count.total) == (5, 30)
    assert SECRET not in repr(reading)
    web.says({"r": {"all": 20, "ok": 20}})
    reading = await ask(later(20))
    assert (reading.count, reading.nothing[:36]) == (None, "the counter total fell from 130 to 2")
    for wrong, words in [
        ({"all": 20, "ok": -1}, "ok is -1"),
        ({"all": 21, "ok": 25}, "good grew by 5 and total by 1"),
        ({"all": 30}, "the answer has no `r.ok`"),
    ]:
        web.says({"r": wrong})
        reading = await ask(later(30))
        assert reading.count is None
        assert words.replace("ok is", "good is") in reading.problem
    web.says({"r": {"all": 30, "ok": 30}})
    assert (await ask(later(40))).count.total == 10


OPTIONS = [
    ("prometheus", {}, "option url is missing"),
    ("prometheus", {"url": "http://x"}, "give it either value, or total with good or bad"),
    ("prometheus", {"url": "http://x", "total": "a"}, "total needs one of good and bad beside it"),
    ("prometheus", {"url": "http://x", "total": "a", "good": "b", "bad": "c"}, "total needs one of good and bad"),
    ("prometheus", {"url": "http://x", "value": " "}, "option value: is empty; write a PromQL expression"),
    ("prometheus", {"url": "http://x", "value": "{{pod}}"}, "option value: {{pod}} is no placeholder"),
    ("prometheus", {"url": "http://x", "total": "a", "bad": "b", "step": "1m"}, "step and stale are for value"),
    ("prometheus", {"url": "http://x", "value": "a", "timeout": "soon"}, "option timeout: write a duration such as"),
    ("prometheus", {"url": "http://x", "value": "a", "timeout": "1h"}, "option timeout: Input should be less than"),
    ("prometheus", {"url": "x", "value": "a"}, "option url: must begin with http:// or https://"),
    ("prometheus", {"url": f"http://u:{SECRET}@x", "value": "a"}, "option url: a secret would be stored and shown"),
    ("http", {"url": f"http://x?token={SECRET}", "value": "a"}, "option url: a secret would be stored and shown"),
    ("http", {"url": "http://x", "value": "a", "headers": {"Cookie": SECRET}}, "Cookie would be stored and shown"),
    ("http", {"url": "http://x", "value": "a", "headers": {"a b": "c"}}, "the name of a header has a character"),
    ("http", {"url": "http://x/{{pod}}", "value": "a"}, "option url: {{pod}} is no placeholder"),
    ("http", {"url": "http://x", "value": "a..b"}, "option value: write a dotted path"),
    ("http", {"url": "http://x", "value": "a", "stale": "1m"}, "stale needs at"),
    ("http", {"url": "http://x", "value": "a", "body": "{}"}, "a body is sent with method POST"),
    ("http", {"url": "http://x", "total": "a", "bad": "b", "step": 60}, "step is for value; counters need none"),
    ("http", {"url": "http://x", "valeu": "a"}, "option valeu is not known (did you mean value?)"),
]


@pytest.mark.parametrize(("name", "options", "words"), OPTIONS)
def test_options_are_refused_in_a_sentence(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(Permanent) as error:
        metric_form(name, options)
    assert words in str(error.value)
    assert SECRET not in str(error.value)
    assert "\n" not in str(error.value)
