"""Whole stories of a stream, round by round, as they were last looked at, in `tests/golden/stream`.

    python tests/planning/transcripts.py --write     # after a change that is meant; then look at the difference

Each line is what one round of the operator did; the world in which it happened is simulated.
"""

import re
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "stream"
if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER.parents[1]))

from lakehouse_operator.planning.explain import explain  # noqa: E402
from lakehouse_operator.planning.situation import RESTORE_ANNOTATION  # noqa: E402
from planning.stream_scenes import at_rest, world  # noqa: E402
from planning.world import World  # noqa: E402


def tell(made: World, rounds: int, *, seconds: int = 20) -> list[str]:
    """What happens in so many rounds, without those in which nothing does."""
    lines = []
    for _ in range(rounds):
        if made.gone:
            break
        made.produce(5)
        planned = made.reconcile()
        state = made.status["stream"]["state"]
        ready = made.condition("Ready")
        said = [sentence for sentence in explain(planned) if sentence != "Nothing to do."]
        if said:
            lines.append(f"{made.now:%H:%M:%S} {state}, Ready {ready['status']} ({ready['reason']})")
            lines += [f"    {sentence}" for sentence in said]
        made.flink_operator()
        made.flink()
        made.now += timedelta(seconds=seconds)
    lines.append(f"bronze: {made.missing_or_doubled() or 'each offset exactly once'}")
    return lines


def _text(lines: list[str]) -> str:
    """As text; revisions are numbered in the order in which they come, so that only behavior counts."""
    text, known = "\n".join(lines) + "\n", {}
    for revision in re.findall(r"\b(?:revision|to) ([0-9a-f]{12})\b", text):
        known.setdefault(revision, f"R{len(known) + 1}")
    for revision, short in known.items():
        text = text.replace(revision, short)
    return text


def first_deployment() -> str:
    return _text(tell(world(), 20))


def upgrade() -> str:
    made = at_rest()
    made.edit(image="flink:2")
    return _text(tell(made, 16))


def upgrade_that_crashes() -> str:
    made = at_rest()
    made.edit(image="flink:2-crashes")
    return _text(tell(made, 30))


def upgrade_whose_image_is_missing() -> str:
    made = at_rest()
    made.edit(image="flink:2-no-image")
    return _text(tell(made, 50))


def restore() -> str:
    made = at_rest()
    tell(made, 6)
    made.annotations[RESTORE_ANNOTATION] = made.record.points[0].name
    return _text(tell(made, 16))


def lost_deployment() -> str:
    made = at_rest()
    tell(made, 6)
    made.child.deleting = True
    return _text(tell(made, 16))


def failed_job() -> str:
    made = at_rest()
    made.fail_job(for_good=True)
    return _text(tell(made, 16))


def deletion_and_second_life() -> str:
    made = at_rest()
    made.delete()
    lines = tell(made, 10)
    made.flink_operator()
    made.create_again()
    return _text([*lines, "-- created again", *tell(made, 12)])


STORIES: dict[str, Callable[[], str]] = {
    "first-deployment": first_deployment,
    "upgrade": upgrade,
    "upgrade-that-crashes": upgrade_that_crashes,
    "upgrade-whose-image-is-missing": upgrade_whose_image_is_missing,
    "restore": restore,
    "lost-deployment": lost_deployment,
    "failed-job": failed_job,
    "deletion-and-second-life": deletion_and_second_life,
}


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, story in STORIES.items():
        (FOLDER / f"{name}.txt").write_text(story())
