"""Which savepoints count as readable."""

import struct
from pathlib import Path
from uuid import UUID

import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO

from lakehouse_operator.observation.savepoints import SavepointObserver, SavepointUnreadable, check_files, read_metadata

IO = PyArrowFileIO()
BESIDE, ELSEWHERE, INLINE, BACKEND = (str(UUID(int=number)) for number in (1, 2, 3, 4))


def utf(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def beside(name: str = BESIDE) -> bytes:
    """A file beside the metadata, as Flink writes a relative handle after the offset 0 of a list state."""
    return struct.pack(">q", 0) + b"\x06" + utf(name) + struct.pack(">q", 4711)


def elsewhere(path: str) -> bytes:
    return b"\x02" + struct.pack(">q", 4711) + utf(path)


def inline(path: str) -> bytes:
    """State in the metadata itself: its name is where a file would have been."""
    return struct.pack(">q", 0) + b"\x01" + utf(path) + struct.pack(">I", 3) + b"abc"


def backend(checkpoint: int) -> bytes:
    """The state backend's name, as an incremental checkpoint has it."""
    return b"\x05" + struct.pack(">q", checkpoint) + utf(BACKEND) + struct.pack(">ii", 0, 128)


def savepoint(tmp_path: Path, *, checkpoint: int = 12, magic: int = 0x4960672D) -> Path:
    """A savepoint with a reference of each kind, and all of its files."""
    directory, shared = tmp_path / "savepoint-abc", tmp_path / "shared"
    for folder in (directory, shared):
        folder.mkdir()
    (directory / BESIDE).write_bytes(b"state")
    (shared / ELSEWHERE).write_bytes(b"state")
    body = beside() + elsewhere(f"{shared.as_uri()}/{ELSEWHERE}") + inline(f"{directory.as_uri()}/{INLINE}")
    body += backend(checkpoint)
    (directory / "_metadata").write_bytes(struct.pack(">IIq", magic, 6, checkpoint) + body)
    return directory


@pytest.mark.parametrize("checkpoint", [12, 6, 6 + 256])
def test_the_files_of_a_savepoint_are_told_from_names_that_only_look_like_files(
    tmp_path: Path, checkpoint: int
) -> None:
    path = savepoint(tmp_path, checkpoint=checkpoint)
    metadata = read_metadata(IO, path.as_uri())
    assert metadata.checkpoint == checkpoint
    assert metadata.files == (f"{path.as_uri()}/{BESIDE}", f"{(tmp_path / 'shared').as_uri()}/{ELSEWHERE}")
    check_files(IO, metadata)


@pytest.mark.parametrize("missing", [f"savepoint-abc/{BESIDE}", f"shared/{ELSEWHERE}"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    path = savepoint(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(SavepointUnreadable, match=f"{missing} is missing"):
        check_files(IO, read_metadata(IO, path.as_uri()))


def test_something_else_is_no_savepoint(tmp_path: Path) -> None:
    with pytest.raises(SavepointUnreadable, match="is not Flink's"):
        read_metadata(IO, savepoint(tmp_path, magic=1).as_uri())


def test_metadata_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = savepoint(tmp_path)
    (path / "_metadata").write_bytes(b"\x49\x60")
    with pytest.raises(SavepointUnreadable, match="cut short"):
        read_metadata(IO, path.as_uri())


def test_of_several_those_that_can_be_read_are_told(tmp_path: Path) -> None:
    path = savepoint(tmp_path).as_uri()
    assert SavepointObserver(lambda: 0.0).readable(IO, (path, f"{tmp_path.as_uri()}/gone")) == {path: 12}


def test_a_savepoint_that_vanishes_is_missed_at_once_and_one_of_its_files_within_minutes(tmp_path: Path) -> None:
    now = 0.0
    observer, path = SavepointObserver(lambda: now), savepoint(tmp_path)
    uri = path.as_uri()
    assert observer.readable(IO, [uri]) == {uri: 12}
    (path / BESIDE).unlink()
    now = 299.0
    assert observer.readable(IO, [uri]) == {uri: 12}
    now = 301.0
    assert observer.readable(IO, [uri]) == {}
    (path / BESIDE).write_bytes(b"state")
    assert observer.readable(IO, [uri]) == {uri: 12}
    (path / "_metadata").unlink()
    assert observer.readable(IO, [uri]) == {}
