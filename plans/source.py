"""YAML text into any pydantic model, with every error where the person who wrote it finds it.

A plan is written by hand, so the way to a right one matters as much as the right one: all errors at once, each with
its line and column, in plain words, with the name that was probably meant. Every scalar stays text (`17:00` is not
1020, `on` is not true), and each field reads its own. `plans.nodes` composes, `plans.explained` finds the words.
"""

import os
import stat
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from plans import nodes
from plans.errors import PlanError, Problem, did_you_mean
from plans.explained import explain
from plans.nodes import DEEPEST, LARGEST, MOST_NODES, Rewrite, whole

__all__ = ["DEEPEST", "LARGEST", "MOST_NODES", "Rewrite", "load", "loads", "problem_at", "read"]

M = TypeVar("M", bound=BaseModel)


def load(path: Path, model: type[M], *, rewrite: Rewrite | None = None) -> M:
    """The file as a `model`. Raises PlanError with everything that is wrong with it."""
    return loads(read(path), model, name=str(path), rewrite=rewrite)


def read(path: Path) -> str:
    """The text of a file. Raises PlanError when it is missing, no regular file, larger than LARGEST, or not UTF-8."""
    try:
        # Not Path.open: a named pipe without a writer would block for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise whole(path, "is not a regular file; name the file itself")
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise PlanError([Problem(str(path), 0, 0, "", "there is no such file", _neighbour(path))]) from None
    except IsADirectoryError:
        raise whole(path, "is a folder; name a file in it") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "its name is no file name"
        raise whole(path, f"cannot be read: {reason.lower()}") from None
    if len(data) > LARGEST:
        raise whole(path, "is larger than 1 MB, which is no file of this kind")
    if b"\0" in data:
        raise whole(path, "is a binary file; it must be text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise PlanError([Problem(str(path), line, column, "", "is not UTF-8 text; save it as UTF-8")]) from None


def loads(
    text: str,
    model: type[M],
    *,
    name: str,
    rewrite: Rewrite | None = None,
    at: nodes.Path = (),
    without: AbstractSet[str] = frozenset(),
    adding: Mapping[str, Any] = MappingProxyType({}),
) -> M:
    """The text, or a part of it, as a `model`.

    Args:
        text: YAML. name: what stands for the file in messages.
        model: what it is to be.
        rewrite: changes the nodes before they are read, and says what is wrong with them (see `plans.expand`).
        at: where the value is that is loaded; nothing there, or a single word, is an empty mapping. Keys in messages
            are told from the top of the file.
        without: keys of that mapping that are left out.
        adding: keys that it gets when it does not have them.

    Raises:
        PlanError: with everything that is wrong with the part; also with what is no YAML, and what the rewriting finds,
            in all of the file.
    """
    root, found = nodes.compose(text, name)
    if rewrite is not None:
        found += rewrite(root, name)
    node, _, exists = nodes.find(root, at)
    data = nodes.plain(node) if exists else {}
    if at and isinstance(node, yaml.ScalarNode):
        data = {}
    if isinstance(data, dict):
        data = {**adding, **{key: value for key, value in data.items() if key not in without}}
    try:
        loaded = model.model_validate(data)
    except ValidationError as error:
        found += explain(error, model, node, name, at)
    if found:
        raise PlanError(found)
    return loaded


def problem_at(
    text: str, path: nodes.Path, message: str, *, name: str, suggestion: str | None = None, at_key: bool = False
) -> Problem:
    """A problem at a path of keys and indices in a text that is known to be valid YAML.

    Line and column are those of the value (or, with `at_key` and where the value is empty, of its key); where the path
    does not exist, those of the nearest value above that does.
    """
    root, _ = nodes.compose(text, name)
    node, key, exists = nodes.find(root, path)
    if key is not None and (nodes.is_null(node) or (at_key and exists)):
        node = key
    return nodes.problem(node, path, name, message, suggestion)


def _neighbour(path: Path) -> str | None:
    try:
        names = [entry.name for entry in os.scandir(path.parent)]
    except OSError:
        return f"there is no folder {path.parent} either"
    return did_you_mean(path.name, names)
