"""The directory of one world: everything that its engines write is below it."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,43}[a-z0-9])?")


class NameRefused(ValueError):
    """The name can't be one of a world."""


@dataclass(frozen=True, slots=True)
class WorldDirectory:
    """Where the parts of a world lie."""

    root: Path

    @property
    def warehouse(self) -> Path:
        """The tables' data and metadata."""
        return self.root / "warehouse"

    @property
    def catalog(self) -> Path:
        """The SQLite file that says which metadata file of a table is the current one."""
        return self.root / "catalog.db"

    @property
    def checkpoints(self) -> Path:
        """Flink's checkpoints."""
        return self.root / "checkpoints"

    @property
    def savepoints(self) -> Path:
        """Flink's savepoints."""
        return self.root / "savepoints"

    @property
    def records(self) -> Path:
        """One file for each process that runs."""
        return self.root / "processes"

    @property
    def logs(self) -> Path:
        """One file for each process."""
        return self.root / "logs"

    @property
    def kafka(self) -> Path:
        """The broker's data and configuration."""
        return self.root / "kafka"

    @property
    def flink(self) -> Path:
        """The Flink cluster's configuration and temporary files."""
        return self.root / "flink"

    @property
    def objects(self) -> Path:
        """The objects of the local cluster: pipelines, runs and their children."""
        return self.root / "objects"

    @property
    def broker(self) -> Path:
        """A file with the address of the broker, once it is there."""
        return self.root / "broker"

    @property
    def spark(self) -> Path:
        """Temporary files and results of the batch runs."""
        return self.root / "spark"

    def make(self) -> None:
        """Make the directories that engines expect to be there."""
        for path in (self.records, self.warehouse, self.checkpoints, self.savepoints, self.logs, self.spark):
            path.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Remove everything. Nothing of this world may run."""
        removed = self.root.with_suffix(".removed")
        shutil.rmtree(removed, ignore_errors=True)  # what an interrupted removal has left
        if self.root.exists():
            self.root.rename(removed)
            shutil.rmtree(removed)


def world_directory(home: Path, name: str) -> WorldDirectory:
    """The directory of the world `name`.

    Raises:
        NameRefused: The name can't be one of a world.
    """
    if not _NAME.fullmatch(name):
        raise NameRefused(f"{name!r} can't name a world: give lower-case letters, digits and dashes")
    directory = WorldDirectory(home / name)
    # A world is made afresh by removing the old one: that must never hit anything else.
    if directory.root.exists() and not directory.records.is_dir():
        raise NameRefused(f"{directory.root} is there, and is not a world: give another name")
    return directory
