"""Dotted paths into JSON documents, as in `predictions.0.label`: one rule for a test's `expect`, for gates on
predictions and for metrics over HTTP.
"""

import re
from typing import Any

_INDEX = re.compile(r"-?[0-9]{1,9}")


def value_at(document: Any, path: str) -> Any:
    """The value at a path; numbers index lists, from the end where they are negative. Raises LookupError."""
    for part in path.split("."):
        if isinstance(document, list) and _INDEX.fullmatch(part):
            document = document[int(part)]
        elif isinstance(document, dict):
            document = document[part]
        else:
            raise LookupError(path)
    return document
