"""Keeps the log of mirrored requests from growing without end, also while nobody measures.

One older file is kept beside the one that is written, so that who reads now and then misses nothing. Envoy goes on
writing to a renamed file until it is told to open its logs again; where it cannot be told, it is told again later, and
where it has died, it begins a new file by itself. Both are seen from the files alone: a keeper that was killed in
between leaves nothing undone.

The keeper runs this, hence: the standard library only.
"""

# Why not pathlib: it would add a third to the start of every process.
# ruff: noqa: PTH105, PTH110, PTH116, PTH202

import os
import socket

LIMIT = 32 << 20
"""Bytes of one file."""
ANSWER_S = 0.5
_ASK = b"POST /reopen_logs HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def rotated(path: str) -> str:
    """The older file."""
    return path + ".1"


class Rotation:
    """Of one log.

    Args:
        path: the log.
        admin: unix socket of Envoy's admin interface.
        limit: bytes of one file.
    """

    def __init__(self, path: str, admin: str, limit: int = LIMIT) -> None:
        self.path, self.admin, self.limit = path, admin, limit
        self.asked = 0  # inode of the older file that Envoy was told to leave: it begins the next with its next line

    def turn(self) -> str:
        """Put the log aside when it is too long, and see to it that Envoy begins another one.

        Returns:
            what was done, or why it could not be, as a clause; "" when there was nothing to do. Raises OSError.
        """
        older = rotated(self.path)
        try:
            size = os.path.getsize(self.path)
        except FileNotFoundError:
            if not os.path.exists(older):
                return ""
        else:
            if size <= self.limit:
                return ""
            os.replace(self.path, older)
        inode = os.stat(older).st_ino
        if inode == self.asked:
            return ""
        problem = _reopen(self.admin)
        if problem:
            return problem
        self.asked = inode
        return "another file is begun"


def _reopen(admin: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(ANSWER_S)
        try:
            client.connect(admin)
            client.sendall(_ASK)
            answer = client.recv(64)
        except OSError as error:
            return f"the proxy cannot be told to begin another file: {error}"
    return "" if b" 200 " in answer else f"the proxy does not begin another file: {answer!r}"
