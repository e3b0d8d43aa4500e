"""References become values at the last moment, and no message ever holds one."""

import pytest

from orchestrator.secrets import Resolver, has_reference
from providers.errors import Permanent


@pytest.fixture
def resolve(tmp_path):
    (tmp_path / "token").write_text("from-a-file\n")
    (tmp_path / "nested").mkdir()
    (tmp_path / "nested" / "crlf").write_bytes(b"windows\r\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfehidden")
    (tmp_path / "large").write_bytes(b"hidden" + b"x" * 65536)
    (tmp_path / "whole").write_bytes(b"x" * 65536)
    return Resolver({"TOKEN": "from-the-environment", "EMPTY": "", "TRICK": "${env:TOKEN}"}, tmp_path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("nothing here", "nothing here"),
        ("Bearer ${env:TOKEN}", "Bearer from-the-environment"),
        ("${file:token}", "from-a-file"),
        ("${file:nested/crlf}", "windows"),
        ("${env:TOKEN}:${file:token}", "from-the-environment:from-a-file"),
        ("${env:EMPTY}", ""),
        ("${env:TRICK}", "${env:TOKEN}"),
        ("${var:X} $TOKEN ${TOKEN}", "${var:X} $TOKEN ${TOKEN}"),
    ],
)
def test_references_become_values_once(resolve, text, value):
    assert resolve(text) == value


def test_a_file_by_absolute_path(resolve, tmp_path):
    assert resolve(f"${{file:{tmp_path}/token}}") == "from-a-file"
    assert len(resolve("${file:whole}")) == 65536


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("${env:GONE}", r"\$\{env:GONE\}: the environment has no GONE; set it and try again"),
        ("${file:gone}", r"\$\{file:gone\}: .*/gone cannot be read \(No such file or directory\)"),
        ("${file:nested}", r"\$\{file:nested\}: .*/nested cannot be read \(Is a directory\)"),
        ("${file:binary}", r"\$\{file:binary\}: .*/binary is not text in UTF-8"),
        ("${file:large}", r"\$\{file:large\}: .*/large is larger than 64 KiB, which is no secret"),
    ],
)
def test_what_cannot_be_resolved_is_named_without_its_value(resolve, text, sentence):
    with pytest.raises(Permanent, match=sentence) as caught:
        resolve(text)
    assert "hidden" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_whether_there_is_a_reference():
    assert has_reference("Bearer ${env:TOKEN}")
    assert has_reference("${file:a/b c}")
    assert not has_reference("${var:X} $HOME {env:X}")
