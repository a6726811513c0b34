"""Whatever order the rows come in, and however they are cut into batches: the same silver and gold."""

import random

import pytest

from jobs.spark.lakehouse_world import BRONZE, DAY, HOUR, START, Event, World, event

PEOPLE = [f"person {number}" for number in range(15)]


def rows(rng: random.Random) -> list[Event]:
    """A few days of people who change and change back, with repeats, bad rows, and several events at one instant.

    What one person does concerns no other, so each of them is an example of its own.
    """
    found: list[Event] = []
    for number in range(240):
        at = START + rng.randrange(3) * DAY + rng.randrange(24) * HOUR
        plan = rng.choice(["free", "free", "pro", "pro", "gold"])
        values = {"who": rng.choice(PEOPLE), "plan": plan, "city": rng.choice([None, "Riga"])}
        found.append(event(number, at, amount=rng.choice([1, 2, None, -1]), **values))
    for copy in rng.sample(found, 80):
        arrived = copy.kafka_timestamp + rng.choice([-1, 0, 1]) * HOUR
        # Copies of another content, too: nobody may tell by it which one came to silver first.
        found.append(
            Event(
                id=copy.id,
                at=copy.at,
                who=copy.who,
                plan=rng.choice(["free", "pro", "gold"]),
                offset=1000 + len(found),
                partition=rng.randrange(2),
                arrived=arrived,
            )
        )
    return found


@pytest.mark.parametrize("seed", range(3))
def test_silver_and_gold_depend_on_what_came_and_not_on_when(world: World, seed: int) -> None:
    rng = random.Random(seed)
    everything = rows(rng)
    rng.shuffle(everything)
    cuts = sorted(rng.sample(range(1, len(everything)), 3))
    batches = [everything[i:j] for i, j in zip([0, *cuts], [*cuts, len(everything)], strict=True)]
    come: list[Event] = []
    for number, batch in enumerate(batches):
        again = rng.sample(come, min(len(come), 12))  # bronze itself may hold a row twice after a rewind
        middle = len(batch) // 2
        rest = batch
        if middle and rng.random() < 0.5:
            world.arrive(*batch[:middle])
            rest = batch[middle:]
        world.arrive(*rest, *again)
        come += everything[len(come) : len(come) + len(batch)]
        world.silver()
        wanted = world.check_silver(come)
        if number % 2:
            world.gold()
            world.check_gold(wanted)
    if seed == 0:  # and a computation of everything in one go agrees
        days = {"first": "2026-01-01", "last": "2026-02-28"}
        world.silver(run_more={"days": days})
        world.check_gold(world.check_silver(come))
    assert len(world.snapshots(BRONZE)) >= 4
