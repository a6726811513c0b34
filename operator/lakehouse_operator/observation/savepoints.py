"""Which savepoints can still be read. A savepoint is proven by reading its metadata and finding its files.

Flink's `_metadata` begins with a magic number, a version and the checkpoint's id, big-endian (Flink `Checkpoints`,
`MetadataV3Serializer`). The files of a canonical or native savepoint lie beside it and are named by UUIDs.
"""

import re
import struct
from collections.abc import Iterable

from pyiceberg.io import FileIO

_HEADER = struct.Struct(">IIq")
_MAGIC = 0x4960672D
_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class SavepointUnreadable(Exception):
    """The savepoint can't be restored from; the message says what is missing."""


def checkpoint_id(io: FileIO, path: str) -> int:
    """The checkpoint id of the savepoint at `path`, once its metadata and its files are found.

    Raises:
        SavepointUnreadable: Something is missing, or it is no savepoint.
    """
    directory = path.rstrip("/")
    try:
        with io.new_input(f"{directory}/_metadata").open() as stream:
            content = stream.read()
    except (OSError, ValueError) as error:
        raise SavepointUnreadable(f"{directory}/_metadata can't be read: {error}") from error
    if len(content) < _HEADER.size:
        raise SavepointUnreadable(f"{directory}/_metadata is cut short")
    magic, _, number = _HEADER.unpack_from(content)
    if magic != _MAGIC:
        raise SavepointUnreadable(f"{directory}/_metadata is not Flink's")
    for name in sorted({found.decode() for found in _UUID.findall(content)}):
        if not io.new_input(f"{directory}/{name}").exists():
            raise SavepointUnreadable(f"{directory}/{name} is missing")
    return int(number)


def readable(io: FileIO, paths: Iterable[str]) -> dict[str, int]:
    """The checkpoint ids of those savepoints that can be read. Each is looked at anew: files can be deleted."""
    found = {}
    for path in paths:
        try:
            found[path] = checkpoint_id(io, path)
        except SavepointUnreadable:
            continue
    return found
