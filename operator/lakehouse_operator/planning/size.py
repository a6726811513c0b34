"""How large a pipeline may be: whatever is kept of it, or handed to a job, has to fit where it goes."""

import json
from collections.abc import Iterator

from lakehouse_contract.decoding import Problem
from lakehouse_operator.planning.child import wanted_revision
from lakehouse_operator.planning.image_layout import settings_argument
from lakehouse_operator.planning.pipeline import ValidPipeline, pinned_spec
from lakehouse_operator.planning.record import canonical

MOST_KEPT = 400_000
"""Bytes that a spec and its stream's revision may take in the record. It holds two of each: the accepted spec and the
one before it, the deployed revision and the last good one. The API server takes a mebibyte; the rest is for points and
days."""
LONGEST_SETTINGS = 120_000
"""Bytes of a job's settings. They are one argument, of which Linux passes on 128 KiB; what a run adds comes on top."""


def too_large_to_keep(pipeline: ValidPipeline) -> Iterator[Problem]:
    """A problem if the record could not hold the pipeline."""
    size = _in_record(canonical(pinned_spec(pipeline))) + _in_record(wanted_revision(pipeline).spec)
    if size > MOST_KEPT:
        yield Problem(
            "spec",
            f"takes {size} bytes in the pipeline's record, with its SQL and what Flink is given; at most {MOST_KEPT} "
            "can be kept. Split the pipeline",
        )


def too_long_to_hand_over(settings: object, path: str) -> Iterator[Problem]:
    """A problem if a job could not be started with its settings."""
    size = len(settings_argument(settings))
    if size > LONGEST_SETTINGS:
        yield Problem(
            path,
            f"its job's settings are {size} bytes; at most {LONGEST_SETTINGS} can be handed to a process. Split the "
            "pipeline",
        )


def _in_record(text: str) -> int:
    """The bytes of a text that stands as a string in the record's JSON."""
    return len(json.dumps(text, ensure_ascii=False).encode())
