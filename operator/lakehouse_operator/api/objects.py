"""What every kind has in common: the metadata that is read, references, and conditions."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from lakehouse_operator.api.parts import KeyedBy, Part, StatusPart
from lakehouse_operator.api.values import Instant, ObjectName, SecretKey, Text, anything


class Metadata(Part):
    """The part of Kubernetes' object metadata that is read here."""

    model_config = ConfigDict(extra="ignore")

    name: str
    """The object's name."""
    namespace: str = "default"
    """Its namespace."""
    uid: str = ""
    """Its identity; empty for a manifest that no server has seen."""
    generation: int = 0
    """Counts the changes of its spec."""
    labels: Mapping[str, str] = Field(default_factory=dict)
    """Its labels."""
    annotations: Mapping[str, str] = Field(default_factory=dict)
    """Its annotations."""


class SecretRef(Part):
    """A Secret in the pipeline's namespace."""

    name: ObjectName
    """The Secret's name."""


class ConfigMapKey(Part):
    """One key of a ConfigMap in the pipeline's namespace."""

    config_map: ObjectName
    """The ConfigMap's name."""
    key: SecretKey
    """The key in its data."""


class PipelineRef(Part):
    """A LakehousePipeline in the same namespace."""

    name: ObjectName
    """The pipeline's name."""


class Condition(StatusPart):
    """One condition, as the Kubernetes API conventions describe it."""

    type: Annotated[str, Text(r"[A-Z][A-Za-z]*", "a condition's type", 64)]
    """What it is about, such as `Ready`."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Text(r"[A-Z][A-Za-z]*", "a reason", 128)]
    """Why, in one CamelCase word, for programs."""
    message: Annotated[str, Text("", "a text", 32_768, min_length=0)] = ""
    """Why, in a sentence, for people."""
    last_transition_time: Instant
    """When `status` changed last."""
    observed_generation: int = Field(default=0, ge=0)
    """The generation of the spec that it speaks of."""


Conditions = Annotated[tuple[Condition, ...], KeyedBy("type"), Field(max_length=16)]

Message = Annotated[str, Text("", "a text", 4096, min_length=0)]
"""A sentence for people; never holds a secret."""

Name = Annotated[str, anything("a name", 253)]
