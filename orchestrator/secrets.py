"""References to secrets, and their values at the last moment.

A plan, a bundle and a journal hold `${env:NAME}` and `${file:path}`; only the text that goes to a provider or a webhook
holds what they stand for.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from providers.errors import Permanent

_REFERENCE = re.compile(r"\$\{(env|file):([^}]*)\}")
_LARGEST = 64 * 1024


def has_reference(text: str) -> bool:
    """Whether there is a reference in the text."""
    return _REFERENCE.search(text) is not None


class Resolver:
    """Turns a text with references into the text with their values."""

    def __init__(self, environment: Mapping[str, str], base: Path) -> None:
        """`base` is where relative paths of `${file:path}` start from: the plan's folder."""
        self._environment = environment
        self._base = base

    def __call__(self, text: str) -> str:
        """The text with every reference replaced. Raises Permanent, naming the reference and never its value."""
        return _REFERENCE.sub(lambda match: self._value(match[1], match[2]), text)

    def _value(self, kind: str, name: str) -> str:
        if kind == "env":
            value = self._environment.get(name)
            if value is None:
                raise Permanent(f"${{env:{name}}}: the environment has no {name}; set it and try again")
            return value
        path = self._base / Path(name).expanduser()
        try:
            with path.open("rb") as file:
                data = file.read(_LARGEST + 1)
        except OSError as error:
            raise Permanent(f"${{file:{name}}}: {path} cannot be read ({error.strerror})") from None
        if len(data) > _LARGEST:
            raise Permanent(f"${{file:{name}}}: {path} is larger than 64 KiB, which is no secret")
        try:
            return data.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise Permanent(f"${{file:{name}}}: {path} is not text in UTF-8") from None
