"""Whatever is missing for good is said until a person knows of it: what Kafka dropped, and lost dead letters."""

from dataclasses import replace

from lakehouse_operator.planning.observed import PartitionProgress
from lakehouse_operator.planning.reconcile import reconcile
from lakehouse_operator.planning.record import Gap
from lakehouse_operator.planning.situation import ACCEPT_LOSS_ANNOTATION, START_FRESH_ANNOTATION
from lakehouse_operator.planning.source import MOST_GAPS
from planning.stream_scenes import at_rest, reasons, stalled, until
from planning.world import World


def told(made: World, kind: str) -> tuple[str, str, str]:
    """What a condition says after a round."""
    made.reconcile()
    condition = made.condition(kind)
    return condition.get("status", ""), condition.get("reason", ""), condition.get("message", "")


def test_while_nothing_is_missing_both_conditions_are_true_and_nothing_is_written_twice() -> None:
    made = at_rest()
    assert told(made, "SourceIntact")[:2] == ("True", "Intact")
    assert told(made, "DeadLettersComplete")[:2] == ("True", "Complete")
    writes = made.writes
    made.reconcile()
    assert made.writes == writes


def test_without_observation_nothing_is_claimed() -> None:
    made = at_rest(observing=False)
    made.reconcile()
    assert not made.condition("SourceIntact")
    assert not made.condition("DeadLettersComplete")


def test_records_that_kafka_dropped_before_bronze_read_them_are_told_until_a_person_knows() -> None:
    made = at_rest()
    first = made.group
    made.produce(1_000)
    made.kafka_start = first + 345
    status, reason, message = told(made, "SourceIntact")
    assert (status, reason) == ("False", "OffsetsGone")
    assert f"up to 400 of partition 0 from offset {first} on" in message
    assert reasons(made).count("OffsetsGone") == 1

    made.kafka_start = first + 390  # the same in one digit: nothing is written
    writes = made.writes
    made.reconcile()
    assert made.writes == writes
    made.kafka_start = first + 401
    assert "up to 500 of partition 0" in told(made, "SourceIntact")[2]

    made.group = made.kafka_end  # the stream has gone on: nothing but the record still knows
    assert told(made, "SourceIntact")[1] == "OffsetsGone"
    assert made.condition("Ready")["status"] == "True"
    made.annotations[ACCEPT_LOSS_ANNOTATION] = "1"
    assert told(made, "SourceIntact")[:2] == ("True", "Intact")
    assert reasons(made).count("OffsetsGone") == 1


def test_what_to_do_about_it_depends_on_whether_the_stream_goes_on_by_itself() -> None:
    made = at_rest()
    made.produce(1_000)
    made.kafka_start = made.group + 10
    assert "offsetsGone" not in told(made, "SourceIntact")[2]
    made.fail_job(for_good=True)
    made.flink_operator()
    assert "set spec.source.offsetsGone to skip" in told(made, "SourceIntact")[2]


def test_gaps_are_bounded_however_many_partitions_there_are() -> None:
    made = at_rest()
    seen = made.see()
    parts = tuple(PartitionProgress(partition=n, committed=9, start=9, end=9, gone=5) for n in range(300))
    seen = replace(seen, observation=replace(seen.observation, kafka=parts))
    plan = reconcile(seen)
    [record] = [action.record for action in plan.actions if hasattr(action, "record")]
    assert len(record.gaps) == MOST_GAPS
    assert record.gaps[7] == Gap(7, 4, 5, record.gaps[7].since)
    [condition] = [each for each in plan.statuses[0].status["conditions"] if each["type"] == "SourceIntact"]
    assert "and in 95 more places" in condition["message"]


def test_a_topic_that_was_made_again_stalls_the_pipeline_and_holds_changes() -> None:
    made = at_rest()
    assert made.record.topic_id == "topic-1"
    made.topic_id = "topic-2"
    assert stalled(made) == "TopicRecreated"
    assert told(made, "SourceIntact")[:2] == ("False", "TopicRecreated")
    deployed = made.record.deployed
    made.edit(image="flink:2")
    for _ in range(5):
        made.go()
    assert made.record.deployed == deployed
    assert stalled(made) == "TopicRecreated"

    made.topic_id = "topic-1"  # it was the wrong address
    until(made, "Soaking")
    assert made.record.deployed != deployed


def test_a_topic_that_was_made_again_is_read_without_state_if_a_person_says_so() -> None:
    made = at_rest()
    made.topic_id = "topic-2"
    made.reconcile()
    made.annotations[START_FRESH_ANNOTATION] = "1"
    until(made, "Running")
    assert made.record.topic_id == "topic-2"
    assert made.stateless_starts
    assert told(made, "SourceIntact")[:2] == ("True", "Intact")


def test_what_is_started_without_state_then_is_what_the_spec_asks_for() -> None:
    made = at_rest()
    made.topic_id = "topic-2"
    made.edit(image="flink:2")
    made.reconcile()
    assert stalled(made) == "TopicRecreated"
    made.annotations[START_FRESH_ANNOTATION] = "1"
    until(made, "Soaking")
    assert made.record.deployed is not None
    assert made.record.deployed.content["image"] == "flink:2"
    assert "UpgradeStarted" not in reasons(made)


def test_a_pipeline_with_another_topic_can_still_be_deleted() -> None:
    made = at_rest()
    made.topic_id = "topic-2"
    made.delete()
    for _ in range(30):
        if made.gone:
            break
        made.go()
    assert made.gone


def test_lost_dead_letters_are_told_until_a_person_knows_and_again_when_more_are_lost() -> None:
    made = at_rest()
    made.lost_transactions = 2
    status, reason, message = told(made, "DeadLettersComplete")
    assert (status, reason) == ("False", "TransactionsLost")
    assert "could not commit 2 transactions" in message
    assert "lakehouse verify" in message
    made.lost_transactions = 0  # Flink counts from the job's last start
    assert told(made, "DeadLettersComplete")[1] == "TransactionsLost"
    made.lost_transactions = 2
    made.annotations[ACCEPT_LOSS_ANNOTATION] = "1"
    assert told(made, "DeadLettersComplete")[:2] == ("True", "Complete")
    made.lost_transactions = 3
    status, reason, message = told(made, "DeadLettersComplete")
    assert (status, reason) == ("False", "TransactionsLost")
    assert "could not commit 1 transactions" in message
    assert reasons(made).count("DeadLettersLost") == 2


def test_as_many_lost_dead_letters_as_were_accepted_are_told_when_the_job_was_started_again_in_place() -> None:
    made = at_rest()
    made.lost_transactions = 2
    told(made, "DeadLettersComplete")
    made.annotations[ACCEPT_LOSS_ANNOTATION] = "1"
    assert told(made, "DeadLettersComplete")[:2] == ("True", "Complete")
    job = made.child.job_id if made.child else None
    made.fail_job()  # Flink counts from 0 again
    made.flink_operator()
    until(made, "Running")
    assert made.child is not None
    assert made.child.job_id == job
    assert told(made, "DeadLettersComplete")[:2] == ("True", "Complete")

    made.lost_transactions = 2
    assert told(made, "DeadLettersComplete")[:2] == ("False", "TransactionsLost")
    assert reasons(made).count("DeadLettersLost") == 2
    writes = made.writes
    made.reconcile()
    assert made.writes == writes


def test_what_several_attempts_of_a_job_have_lost_is_told_together() -> None:
    made = at_rest()
    made.lost_transactions = 2
    told(made, "DeadLettersComplete")
    made.fail_job()
    until(made, "Running")
    made.lost_transactions = 1
    assert "could not commit 3 transactions" in told(made, "DeadLettersComplete")[2]
    assert reasons(made).count("DeadLettersLost") == 1
