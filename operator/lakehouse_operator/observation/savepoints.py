"""Which savepoints can still be read. A savepoint is proven by reading its metadata and finding its files.

Flink's `_metadata` begins with a magic number, a version and the checkpoint's id, big-endian (Flink `Checkpoints`,
`MetadataV3Serializer`). After that it is not read as a whole, because its form changes with Flink's versions; the
references to files in it have kept theirs (`MetadataV2V3SerializerBase.serializeStreamStateHandle`):

    06  <UTF: name>  <8 bytes: size>     a file beside the metadata
    02  <8 bytes: size>  <UTF: path>     a file elsewhere, as incremental checkpoints have them
    01  <UTF: name>  <state>             state that stands in the metadata itself; its name looks like a path

where a file's name is a random UUID, and `UTF` is a length in two bytes and then the text.
"""

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from pyiceberg.io import FileIO

_HEADER = struct.Struct(">IIq")
_MAGIC = 0x4960672D
_UUID = rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_BESIDE = re.compile(rb"\x06\x00\x24(?=(" + _UUID + rb")([\x00-\xff]{8}))")
_ELSEWHERE = re.compile(rb"\x02\x00\x00[\x00-\xff]{6}(?=([\x00-\xff]{2})[a-z][a-z0-9+.-]*:/)")
_ENDS_IN_UUID = re.compile(_UUID + rb"$")
_KEY_GROUPS = 1 << 15
"""The most that Flink has."""
_TRUSTED_SECONDS = 300.0
"""For how long files that were all there are not looked for again, one by one."""


class SavepointUnreadable(Exception):
    """The savepoint can't be restored from; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the metadata of a savepoint or checkpoint says: its id and the files that it needs."""

    checkpoint: int
    files: tuple[str, ...]


def read_metadata(io: FileIO, path: str) -> Metadata:
    """Read the metadata of the savepoint at `path`.

    Raises:
        SavepointUnreadable: They are not there, or are no such thing.
    """
    directory = path.rstrip("/")
    try:
        with io.new_input(f"{directory}/_metadata").open() as stream:
            content = stream.read()
    except (OSError, ValueError) as error:
        raise SavepointUnreadable(f"{directory}/_metadata can't be read: {error}") from error
    if len(content) < _HEADER.size:
        raise SavepointUnreadable(f"{directory}/_metadata is cut short")
    magic, _, checkpoint = _HEADER.unpack_from(content)
    if magic != _MAGIC:
        raise SavepointUnreadable(f"{directory}/_metadata is not Flink's")
    beside = (f"{directory}/{name}" for name in _names_beside(content, checkpoint))
    return Metadata(int(checkpoint), tuple(sorted({*beside, *_paths_elsewhere(content)})))


def _names_beside(content: bytes, checkpoint: int) -> Iterator[str]:
    for match in _BESIDE.finditer(content):
        # An incremental checkpoint also names the state backend by a UUID, between the kind of the state (never 0), the
        # checkpoint's id and a range of key groups. If that id ends in 06 it looks like a file's name.
        kind, before = content[match.start() - 8], content[match.start() - 7 : match.start() + 1]
        first, count = struct.unpack(">ii", match.group(2))
        in_range = 0 <= first < _KEY_GROUPS and 0 < count <= _KEY_GROUPS
        is_backend = kind != 0 and before == struct.pack(">q", checkpoint) and in_range
        if not is_backend:
            yield match.group(1).decode()


def _paths_elsewhere(content: bytes) -> Iterator[str]:
    for match in _ELSEWHERE.finditer(content):
        begin = match.end() + 2
        text = content[begin : begin + int.from_bytes(match.group(1))]
        if _ENDS_IN_UUID.search(text):
            yield text.decode()


def check_files(io: FileIO, metadata: Metadata) -> None:
    """Look for every file.

    Raises:
        SavepointUnreadable: One is missing.
    """
    for file in metadata.files:
        if not io.new_input(file).exists():
            raise SavepointUnreadable(f"{file} is missing")


@dataclass(slots=True)
class SavepointObserver:
    """Looks at the same savepoints again and again. What they consist of never changes; whether it is there may.

    Attributes:
        monotonic: A clock, in seconds.
    """

    monotonic: Callable[[], float]
    _known: dict[str, tuple[Metadata, float]] = field(default_factory=dict)

    def readable(self, io: FileIO, paths: Iterable[str]) -> dict[str, int]:
        """The checkpoint ids of those savepoints that can be read.

        The metadata are looked for each time, and each file of a savepoint once in five minutes.
        """
        wanted = set(paths)
        self._known = {path: known for path, known in self._known.items() if path in wanted}
        found = {}
        for path in sorted(wanted):
            try:
                found[path] = self._look(io, path)
            except SavepointUnreadable:
                self._known.pop(path, None)
        return found

    def _look(self, io: FileIO, path: str) -> int:
        now = self.monotonic()
        metadata, checked = self._known.get(path, (None, 0.0))
        if metadata is None:
            metadata = read_metadata(io, path)
        elif now - checked < _TRUSTED_SECONDS:
            if not io.new_input(f"{path.rstrip('/')}/_metadata").exists():
                raise SavepointUnreadable(f"{path} is gone")
            return metadata.checkpoint
        check_files(io, metadata)
        self._known[path] = (metadata, now)
        return metadata.checkpoint
