"""Where a local cluster keeps its objects: one JSON file each in a directory.

A directory may be used by several programs at a time: every change is made under a lock and replaces a whole file, and
nothing is remembered between two calls. So the command line can change a pipeline while the operator tends it.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from typing_extensions import override

from lakehouse_operator.cluster.errors import Refused

Key: TypeAlias = tuple[str, str, str, str]
"""Group, plural, namespace and name of an object."""
FieldPath: TypeAlias = tuple[str, ...]

_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9._]{0,251}[A-Za-z0-9])?")
_CORE = "core"


@dataclass
class Held:
    """An object in the store, and who owns which of its fields."""

    resource: dict[str, Any]
    owners: dict[str, set[FieldPath]] = field(default_factory=dict)


class Objects(Protocol):
    """All objects of a cluster by their keys. What is read is the reader's own: to change it changes nothing."""

    def find(self, key: Key) -> Held | None:
        """An object, if it is there."""
        ...

    def keys(self, group: str, plural: str) -> list[Key]:
        """The keys of all objects of a kind, sorted."""
        ...

    def put(self, key: Key, held: Held) -> None:
        """Create an object or put it in the place of the one that is there."""
        ...

    def remove(self, key: Key) -> None:
        """Remove an object that is there."""
        ...

    def next_number(self) -> int:
        """A number that is larger than all before it."""
        ...

    def changing(self) -> AbstractContextManager[None]:
        """Where objects are read and then changed: nobody else changes any meanwhile."""
        ...


class InFiles(Objects):
    """Objects as files: `<directory>/<group>/<plural>/<namespace>/<name>.json`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._number = directory / "version"
        directory.mkdir(parents=True, exist_ok=True)

    def version(self) -> int:
        """A number that has grown if anything has changed."""
        try:
            return int(self._number.read_text())
        except FileNotFoundError:
            return 0

    @override
    def find(self, key: Key) -> Held | None:
        try:
            return from_json(self._path(key).read_text())
        except FileNotFoundError:
            return None

    @override
    def keys(self, group: str, plural: str) -> list[Key]:
        kind = self._directory / (group or _CORE) / plural
        return sorted((group, plural, path.parent.name, path.stem) for path in kind.glob("*/*.json"))

    @override
    def put(self, key: Key, held: Held) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, to_json(held))

    @override
    def remove(self, key: Key) -> None:
        self._path(key).unlink()
        self.next_number()  # a removal is a change too

    @override
    def next_number(self) -> int:
        number = self.version() + 1
        _replace(self._number, str(number))
        return number

    @override
    @contextmanager
    def changing(self) -> Iterator[None]:
        with (self._directory / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _path(self, key: Key) -> Path:
        group, plural, namespace, name = key
        for part in (namespace, name):
            if not _NAME.fullmatch(part):
                raise Refused(f"{part!r} can't be a name: give lower-case letters, digits, dashes and dots")
        return self._directory / (group or _CORE) / plural / namespace / f"{name}.json"


def _replace(path: Path, text: str) -> None:
    """Write a file so that everybody sees the old one or the new one, and nothing in between."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text)
    new.replace(path)


def to_json(held: Held) -> str:
    """An object as the text of its file."""
    owners = {owner: sorted(paths) for owner, paths in held.owners.items()}
    return json.dumps({"object": held.resource, "owners": owners}, indent=1)


def from_json(text: str) -> Held:
    """The object of a file's text."""
    raw = json.loads(text)
    return Held(raw["object"], {owner: set(map(tuple, paths)) for owner, paths in raw["owners"].items()})
