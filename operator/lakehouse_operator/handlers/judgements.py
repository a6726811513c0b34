"""What `validate` said, remembered while the pipeline lives: a spec is judged in each round and seldom changes."""

import hashlib
import json
import pickle
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from lakehouse_operator.cluster.gather import referenced_config_maps
from lakehouse_operator.handlers.bells import Key
from lakehouse_operator.planning.pipeline import Problems, ValidPipeline
from lakehouse_operator.planning.validate import ConfigMaps, Judge, validate

_Case: TypeAlias = bytes
"""Stands for everything that a judgement depends on."""
_Verdict: TypeAlias = bytes
"""A judgement, pickled and packed: a small part of the memory that the objects would take, and nobody can change it."""


class Judgements:
    """Remembers, for each pipeline, the judgements that its last round asked for.

    Args:
        judge: what is asked where nothing is remembered.
    """

    def __init__(self, judge: Judge = validate) -> None:
        self._judge = judge
        self._known: dict[Key, dict[_Case, _Verdict]] = {}

    @contextmanager
    def of(self, key: Key) -> Iterator[Judge]:
        """The judge for one round of a pipeline. What a round that succeeds has not asked for is forgotten."""
        known, asked = self._known.get(key, {}), dict[_Case, _Verdict]()

        def judge(raw: Mapping[str, Any], config_maps: ConfigMaps) -> ValidPipeline | Problems:
            case = _case(raw, config_maps)
            verdict = asked.get(case) or known.get(case) or _packed(self._judge(raw, config_maps))
            asked[case] = verdict
            found: ValidPipeline | Problems = pickle.loads(zlib.decompress(verdict))  # noqa: S301 - written a few lines above
            return found

        yield judge
        self._known[key] = asked

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a pipeline that is gone."""
        self._known.pop(key, None)

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))


def _packed(judgement: ValidPipeline | Problems) -> _Verdict:
    return zlib.compress(pickle.dumps(judgement), level=1)


def _case(raw: Mapping[str, Any], config_maps: ConfigMaps) -> _Case:
    """The object, with its UID and generation, and the ConfigMaps that it takes SQL from."""
    named = referenced_config_maps(raw.get("spec") or {})
    case = [raw, {name: dict(config_maps[name]) for name in sorted(named & config_maps.keys())}]
    return hashlib.sha256(json.dumps(case).encode()).digest()
