"""Whether everything that the stream has yet to read is there, and whether its dead letters have arrived.

What is missing for good is written down: the stream goes on, and soon nothing would show any more that something was
passed over. It stands in the record, and in the conditions SourceIntact and DeadLettersComplete, until a person accepts
it.
"""

from dataclasses import replace

from lakehouse_operator.planning.observed import PartitionProgress
from lakehouse_operator.planning.plan import Announce, Hold
from lakehouse_operator.planning.record import Gap, LostLetters, Record
from lakehouse_operator.planning.situation import ACCEPT_LOSS_ANNOTATION, START_FRESH_ANNOTATION, Situation

MOST_GAPS = 100
"""How many gaps are written down."""
_SHOWN = 5


def noted(s: Situation) -> Situation:
    """Write down which topic the stream reads, what is gone of it, and what its dead letters may lack."""
    return _letters_noted(_gaps_noted(_topic_noted(_accepted(s))))


def _accepted(s: Situation) -> Situation:
    token = s.request(ACCEPT_LOSS_ANNOTATION)
    if token is None:
        return s
    lost = s.record.lost_letters
    s = replace(s, record=s.record.handling(ACCEPT_LOSS_ANNOTATION, token))
    return s.but(gaps=(), lost_letters=replace(lost, accepted=True) if lost else None)


def _topic_noted(s: Situation) -> Situation:
    seen = s.seen.observation.topic_id
    return s.but(topic_id=seen) if s.record.started and s.record.topic_id is None and seen is not None else s


def _gaps_noted(s: Situation) -> Situation:
    kafka = s.seen.observation.kafka
    if not s.record.started or kafka is None or is_another_topic(s):
        return s
    gaps = {(gap.partition, gap.first): gap for gap in s.record.gaps}
    for part in kafka:
        if part.gone:
            gap = _gap(s, part)
            known = gaps.get((gap.partition, gap.first), gap)
            gaps[gap.partition, gap.first] = replace(gap, since=known.since)
    return s.but(gaps=tuple(gaps.values())[:MOST_GAPS])


def _gap(s: Situation, part: PartitionProgress) -> Gap:
    """What is gone of a partition now; in coarse steps, so that not every record that Kafka drops is written down."""
    return Gap(part.partition, part.start - part.gone, coarse(part.gone), s.stamp)


def _letters_noted(s: Situation) -> Situation:
    """What the counter says beyond what is known of it, together with what nobody has accepted yet."""
    job, child, known = s.seen.observation.job, s.child, s.record.lost_letters
    if job is None or child is None or child.job_id is None or not job.lost_transactions:
        return s
    same = known is not None and (known.job_id, known.counter) == (child.job_id, job.counter)
    new = job.lost_transactions - (known.counted if known is not None and same else 0)
    if new <= 0:
        return s
    open_ = known if known is not None and not known.accepted else None
    letters = LostLetters(
        job_id=child.job_id,
        counter=job.counter,
        counted=job.lost_transactions,
        transactions=new + (open_.transactions if open_ else 0),
        since=open_.since if open_ else s.stamp,
    )
    return s.but(lost_letters=letters)


def coarse(count: int) -> int:
    """Rounded up to one digit, so that a message does not change with every record that Kafka drops."""
    step = int(10 ** (len(str(count)) - 1))
    return -(-count // step) * step


def events(before: Record, after: Record) -> tuple[Announce, ...]:
    """What has become known."""
    new = len(after.gaps) > len(before.gaps)
    lost, was = after.lost_letters, before.lost_letters
    letters = lost is not None and not lost.accepted and (was is None or was.accepted)
    found = []
    if new:
        found.append(Announce("Warning", "OffsetsGone", _gaps(after.gaps)))
    if letters and lost is not None:
        found.append(Announce("Warning", "DeadLettersLost", _letters(lost)))
    return tuple(found)


# --- another topic ----------------------------------------------------------------------------------------------------


def is_another_topic(s: Situation) -> bool:
    """Whether the topic of that name is not the one that the stream's offsets belong to."""
    seen, known = s.seen.observation.topic_id, s.record.topic_id
    return seen is not None and known is not None and seen != known


def made_again(s: Situation) -> Hold | None:
    """The topic must be the one that the stream's offsets belong to."""
    if not is_another_topic(s):
        return None
    source = s.pipeline.spec.source
    return Hold(
        reason="TopicRecreated",
        message=f"{source.topic} at {source.bootstrap_servers} is not the topic that the stream has read: Kafka's id "
        f"of it was {s.record.topic_id} and is {s.seen.observation.topic_id}. Its offsets mean other records, so the "
        "stream may pass over some. If spec.source.bootstrapServers is wrong, set it right. If this is the topic to "
        f"read from now on, delete what the consumer group {s.pipeline.consumer_group} has committed for it, and start "
        f"without state: {s.annotate(START_FRESH_ANNOTATION)}. Repeats of events from before are not recognized then",
        stalled=True,
    )


# --- what the conditions say ------------------------------------------------------------------------------------------


def missing_records(s: Situation) -> str | None:
    """What bronze lacks because Kafka no longer held it, and what to do; None if nothing is known to be missing."""
    if not s.record.gaps:
        return None
    stuck = s.pipeline.spec.source.offsets_gone == "fail" and not s.running
    go_on = (
        "The stream does not pass over them by itself: to go on from the oldest record that is there, set "
        "spec.source.offsetsGone to skip (and, while the job does not run, bronze.upgrade.whenUnhealthy to lastState). "
        if stuck
        else ""
    )
    return f"{_gaps(s.record.gaps)}. {go_on}Once you know of it: {s.annotate(ACCEPT_LOSS_ANNOTATION)}"


def _gaps(gaps: tuple[Gap, ...]) -> str:
    shown = ", ".join(
        f"up to {gap.records} of partition {gap.partition} from offset {gap.first} on" for gap in gaps[:_SHOWN]
    )
    more = f", and in {len(gaps) - _SHOWN} more places" if len(gaps) > _SHOWN else ""
    return (
        f"Kafka no longer held records when bronze came to them, so bronze lacks {shown}{more} (seen {gaps[0].since})"
    )


def missing_letters(s: Situation) -> str | None:
    """What the dead letters may lack, and what to do; None if nothing is known to be missing."""
    lost = s.record.lost_letters
    if lost is None or lost.accepted:
        return None
    return f"{_letters(lost)}. Then: {s.annotate(ACCEPT_LOSS_ANNOTATION)}"


def _letters(lost: LostLetters) -> str:
    return (
        f"the stream could not commit {lost.transactions} transactions with dead letters (seen {lost.since}): Kafka "
        "had ended them, as it does when it, or the stream, is away for longer than bronze.transactionTimeout. Which "
        "records lack their letter, lakehouse verify finds out; with --repair it writes them again"
    )
