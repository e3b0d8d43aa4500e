"""Secrets in plans: a reference to one (`${env:NAME}`, `${file:path}`) where a secret may be, plain text nowhere.

A plan is stored, shown and sent about, so a secret never stands in it: only where it is to be found does. These are
checks of text for the types in `plans.units`; the value is looked up when it is sent, by whoever sends it.
"""

import re

from plans.errors import problem, quoted, raise_all, refuse

_REFERENCE = re.compile(r"\$\{(?:env:[A-Za-z_][A-Za-z0-9_]*|file:[^}\0]+)\}")
SECRET_NAME = re.compile(r"authorization|cookie|token|secret|password|api[-_]?key|credential|signature", re.IGNORECASE)
"""Names of headers and of a URL's parameters whose values are secret."""
_WRITE = "write ${env:NAME} or ${file:path}"


def has_reference(text: str) -> bool:
    """Whether there is a reference in the text."""
    return _REFERENCE.search(text) is not None


def no_reference(text: str) -> str:
    """The text, which must not have any. Raises PydanticCustomError."""
    if re.search(r"\$\{(env|file):", text):
        where = "the urls, headers and secrets of webhooks, notifications and metrics"
        refuse("reference", f"a reference to a secret is allowed only in {where}; write the text itself here")
    if "${var:" in text:
        refuse("variable", "a variable such as ${var:NAME} has no value here; write the text itself")
    return text


def good_references(text: str) -> str:
    """The text, in which everything that looks like a reference is one. Raises PydanticCustomError."""
    rest = _REFERENCE.sub("", text)
    if "${" in rest:
        found = quoted(rest[rest.index("${") :].partition("}")[0] + "}")
        refuse("reference", f"{found} is no reference: write ${{env:NAME}} or ${{file:path}}")
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        refuse("control", "control characters and line breaks are not allowed here; remove them")
    return text


def no_plain_password(url: str) -> str:
    """The URL, which must not carry a secret in plain text. Raises PydanticCustomError, without the secret."""
    # A path in a reference may hold whatever separates the parts of a URL.
    bare = _REFERENCE.sub("\0", url)
    user = re.match(r"\w+://([^/?#]*)@", bare)
    password = user[1].partition(":")[2] if user else ""
    if password and "\0" not in password:
        refuse("plain_secret", f"a password in a URL would be stored and shown; {_WRITE} in its place")
    for pair in bare.partition("#")[0].partition("?")[2].split("&"):
        name, _, value = pair.partition("=")
        if SECRET_NAME.search(name) and value and "\0" not in value:
            refuse("plain_secret", f"{quoted(name)} in a URL would be stored and shown; {_WRITE} as its value")
    return url


def no_plain_secrets(headers: dict[str, str]) -> dict[str, str]:
    """The headers, of which those that carry secrets must have references. Raises ValidationError."""
    message = f"a header that carries a secret would be stored and shown in plain text; {_WRITE}"
    raise_all(
        problem("plain_secret", message, name)
        for name, value in headers.items()
        if SECRET_NAME.search(name) and not has_reference(value)
    )
    return headers
