"""Which savepoints count as readable."""

import struct
from pathlib import Path
from uuid import UUID

import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO

from lakehouse_operator.observation.savepoints import SavepointUnreadable, checkpoint_id, readable

IO = PyArrowFileIO()
FILE = str(UUID(int=7))


def savepoint(tmp_path: Path, *, checkpoint: int = 12, magic: int = 0x4960672D, with_file: bool = True) -> str:
    directory = tmp_path / "savepoint-abc"
    directory.mkdir()
    body = b"\x00\x06" + FILE.encode() + b"\x00"
    (directory / "_metadata").write_bytes(struct.pack(">IIq", magic, 6, checkpoint) + body)
    if with_file:
        (directory / FILE).write_bytes(b"state")
    return directory.as_uri()


def test_a_whole_savepoint_tells_its_checkpoint(tmp_path: Path) -> None:
    assert checkpoint_id(IO, savepoint(tmp_path)) == 12


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SavepointUnreadable, match=f"{FILE} is missing"):
        checkpoint_id(IO, savepoint(tmp_path, with_file=False))


def test_something_else_is_no_savepoint(tmp_path: Path) -> None:
    with pytest.raises(SavepointUnreadable, match="is not Flink's"):
        checkpoint_id(IO, savepoint(tmp_path, magic=1))


def test_metadata_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = savepoint(tmp_path)
    (tmp_path / "savepoint-abc" / "_metadata").write_bytes(b"\x49\x60")
    with pytest.raises(SavepointUnreadable, match="cut short"):
        checkpoint_id(IO, path)


def test_of_several_those_that_can_be_read_are_told(tmp_path: Path) -> None:
    path = savepoint(tmp_path)
    assert readable(IO, (path, f"{tmp_path.as_uri()}/gone")) == {path: 12}
