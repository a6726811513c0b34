"""Ports on the loopback interface."""

import random
import socket

_RANGE = range(20_000, 32_000)
"""Below Linux's range for outgoing connections, so that no connection takes a port between choosing and using it."""


def free(host: str, port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def listening(host: str, port: int) -> bool:
    """Whether a server accepts connections on the port."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def choose(preferred: int | None = None, *, host: str = "127.0.0.1", taken: frozenset[int] = frozenset()) -> int:
    """A free port: the preferred one if it is free, else one at random.

    Args:
        preferred: The port to take if it can be had.
        host: The address that the server will listen on.
        taken: Ports already chosen for servers that do not listen yet.
    """
    if preferred is not None and preferred not in taken and free(host, preferred):
        return preferred
    for port in random.sample(_RANGE, len(_RANGE)):
        if port not in taken and free(host, port):
            return port
    raise OSError(f"no free port between {_RANGE.start} and {_RANGE.stop - 1} on {host}")
