"""Send a stream of the reference's events, slowly and steadily, until the file `finish` appears; then write the truth.

Runs in a pod. Its arguments: brokers, topic, dead letter topic, seed, records per second, and the folder to work in.
"""

import json
import sys
import threading
import time
from pathlib import Path

from lakehouse_operator.local.topics import Topics
from lakehouse_operator.reference.produce import generate_to_kafka
from lakehouse_operator.reference.traffic import DAY_MS, Traffic

PARTITIONS = 4
EVENTS = 240_000
"""More than are sent while the tests run."""
PATIENCE_SECONDS = 180.0


def main(arguments: list[str]) -> None:
    """Send."""
    brokers, topic, dead_letters, seed, rate, folder = arguments
    work = Path(folder)
    work.mkdir(parents=True, exist_ok=True)
    _create_topics(brokers, topic, dead_letters)
    finish = threading.Event()
    threading.Thread(target=_wait_for, args=(work / "finish", finish), daemon=True).start()
    sent = generate_to_kafka(
        # Arrivals end now and lie within the three days before: what "late" means is judged by Kafka's timestamps.
        Traffic(
            end_ms=time.time_ns() // 1_000_000, seed=int(seed), events=EVENTS, span_ms=3 * DAY_MS, partitions=PARTITIONS
        ),
        bootstrap_servers=brokers,
        topic=topic,
        truth_directory=work / "truth",
        # A broker that is killed is back before a record is given up.
        # It may remember only the last batch then, so there is never more than one that it may have to know again.
        client={"message.timeout.ms": "900000", "max.in.flight.requests.per.connection": "1"},
        rate=float(rate),
        stop=finish,
    )
    draft = work / "sent.tmp"
    draft.write_text(json.dumps({"records": sent.records}))
    draft.rename(work / "sent.json")


def _create_topics(brokers: str, topic: str, dead_letters: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            topics = Topics(brokers)
            topics.create(topic, partitions=PARTITIONS, timestamps="CreateTime")
            topics.create(dead_letters, partitions=1, timestamps="LogAppendTime")
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
        else:
            return


def _wait_for(path: Path, seen: threading.Event) -> None:
    while not path.exists():
        time.sleep(0.2)
    seen.set()


if __name__ == "__main__":
    main(sys.argv[1:])
