"""A pipeline that passed validation: what everything after `validate` works with.

Only `validate` makes one. What the user left open is decided in it, SQL from ConfigMaps is in its place, and models
stand in an order in which each reads only what stands before it.
"""

from dataclasses import dataclass
from typing import Any, Literal

from typing_extensions import override

from lakehouse_contract import layout
from lakehouse_contract.decoding import Problem
from lakehouse_contract.domain import Dimension, KeyedTable, Model, PayloadColumn
from lakehouse_contract.names import split
from lakehouse_operator.api.pipeline import Gold, Maintenance, PipelineSpec, Silver

BatchStageName = Literal["silver", "gold", "maintenance"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SilverTables:
    """What the built-in silver job computes."""

    columns: tuple[PayloadColumn, ...]
    tables: tuple[KeyedTable, ...]
    dimensions: tuple[Dimension, ...]

    @property
    def results(self) -> tuple[str, ...]:
        """The tables that say what rules and audits found, two in each namespace of tables."""
        spaces = sorted({split(table.name).namespace for table in self.tables})
        return tuple(f"{space}.{name}" for space in spaces for name in (layout.QUALITY_TABLE, layout.AUDITS_TABLE))

    @property
    def writes(self) -> tuple[str, ...]:
        """The tables that gold may read."""
        return (*(table.name for table in self.tables), *(dimension.name for dimension in self.dimensions))


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldModels:
    """What the built-in gold job computes: models in the order in which they are run."""

    sources: tuple[str, ...]
    models: tuple[Model, ...]

    @property
    def results(self) -> tuple[str, ...]:
        """The tables that say what models were computed from and what audits found, two in each namespace of models."""
        spaces = sorted({split(model.name).namespace for model in self.models})
        return tuple(f"{space}.{name}" for space in spaces for name in (layout.REFRESHES_TABLE, layout.AUDITS_TABLE))

    @property
    def writes(self) -> tuple[str, ...]:
        """The models' own tables."""
        return tuple(model.name for model in self.models)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnJob:
    """A job of the user's own."""

    entry_point: str
    arguments: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidPipeline:
    """A LakehousePipeline that can be carried out. `uid` and `generation` are empty for a manifest from a file."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec: PipelineSpec
    bronze_table: str
    dead_letter_topic: str
    consumer_group: str
    silver: SilverTables | OwnJob | None
    gold: GoldModels | OwnJob | None
    warnings: tuple[Problem, ...] = ()

    @property
    def stages(self) -> tuple[BatchStageName, ...]:
        """The batch stages that it has, in their order."""
        named: tuple[tuple[BatchStageName, object], ...] = (
            ("silver", self.spec.silver),
            ("gold", self.spec.gold),
            ("maintenance", self.spec.maintenance),
        )
        return tuple(name for name, stage in named if stage is not None)

    def stage(self, name: BatchStageName) -> Silver | Gold | Maintenance:
        """The settings of one of its `stages`.

        Raises:
            KeyError: The pipeline has no such stage.
        """
        found: Silver | Gold | Maintenance | None = getattr(self.spec, name)
        if found is None:
            raise KeyError(name)
        return found

    def image(self, name: BatchStageName) -> str:
        """The image of one of its batch stages: its own, or silver's."""
        for stage in (self.stage(name), self.spec.silver):
            image: str | None = getattr(stage, "image", None)
            if image is not None:
                return image
        raise KeyError(name)


def pinned_spec(pipeline: ValidPipeline) -> dict[str, Any]:
    """The pipeline's spec with every default and all SQL written out. Validating it gives the same pipeline."""
    spec = pipeline.spec.to_raw()
    if isinstance(pipeline.gold, GoldModels):
        sql = {model.name: model.sql for model in pipeline.gold.models}
        for model in spec["gold"]["models"]:
            model.pop("sqlFrom", None)
            model["sql"] = sql[model["name"]]
    return spec


@dataclass(frozen=True, slots=True)
class Problems:
    """Why an object is refused: everything that is wrong with it, in the order of the file as far as there is one."""

    problems: tuple[Problem, ...]

    @override
    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)
