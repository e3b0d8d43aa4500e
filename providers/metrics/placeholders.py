"""`{{deployment}}` and its like in what a metric asks: one gate's words serve the candidate and stable alike.

They have two braces, so that they are neither references to secrets (`${env:NAME}`) nor variables of a plan.
"""

import re
from collections.abc import Callable

from providers.measurement import Source
from providers.metrics.base import Spec

NAMES = ("deployment", "endpoint", "leg", "source")
SUFFIXES: dict[Source, str] = {"live": "", "mirror": "~mirror", "direct": "~direct"}
"""What a leg's name adds to its deployment's, as Envoy's clusters are called."""
_PLACE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


def checked(text: str) -> str:
    """The text, in which every placeholder is one of NAMES. Raises ValueError."""
    for found in _PLACE.findall(text):
        if found.strip() not in NAMES:
            there = ", ".join(f"{{{{{name}}}}}" for name in NAMES)
            raise ValueError(f"{{{{{found.strip()[:40]}}}}} is no placeholder: there is {there}")
    return text


def filled(text: str, spec: Spec, write: Callable[[str], str] = lambda name: name) -> str:
    """The text with every placeholder replaced. `write`: how a name is written in this text, such as URL-encoded."""
    names = {
        "deployment": spec.deployment,
        "endpoint": spec.endpoint,
        "leg": spec.deployment + SUFFIXES[spec.source],
        "source": spec.source,
    }
    return _PLACE.sub(lambda place: write(names[place[1].strip()]), text)
