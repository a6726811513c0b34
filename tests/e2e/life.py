"""A pipeline under load, and the proofs that nothing of it is lost, doubled or wrong."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from e2e.cluster import Manifest
from e2e.platform import TENANT, Platform
from e2e.reference import Client, Pipeline

DAYS_SENT = 3
"""The sender's events arrive within so many days before it starts."""


@dataclass(slots=True)
class Life:
    """The reference pipeline, with events on their way to it all the time.

    Attributes:
        platform: The cluster and what is installed.
        pipeline: The pipeline.
        client: Who sends events and judges.
        document: The pipeline's manifest as it was applied first.
        senders: How many senders were started.
        first_day: An event day that has events from the start.
    """

    platform: Platform
    pipeline: Pipeline
    client: Client
    document: Manifest
    senders: int = field(default=0)
    first_day: str = field(default="")

    @property
    def group(self) -> str:
        """The consumer group that bronze commits its offsets to."""
        return str(self.document["spec"]["source"]["consumerGroup"])

    def begin(self) -> None:
        """Send events, and create the pipeline."""
        self.first_day = (datetime.now(UTC) - timedelta(days=DAYS_SENT)).date().isoformat()  # noqa: TID251 - as the sender does
        self.client.start(self.senders)
        self.pipeline.apply(self.document)

    def restored(self) -> None:
        """Bring the spec back to the document, and wait until the pipeline does well."""
        self.pipeline.set_spec(self.document["spec"])
        self.pipeline.until_ready()

    def goes_on(self, seconds: float = 240) -> None:
        """Wait until bronze has committed what was sent after now."""
        sent, _ = self.client.offsets(self.group)

        def has_committed() -> bool:
            _, committed = self.client.offsets(self.group)
            return committed > sent

        self.platform.cluster.until(has_committed, "bronze goes on", seconds=seconds, tell=self._tell)

    def proven(self) -> None:
        """Each record that bronze has read is in bronze, in the dead letters, or a repeat."""
        told = self.client.verify(self.document)
        assert "Everything is there" in told, told

    def judged(self) -> None:
        """Let everything arrive, compute silver and gold, ask the oracle about every layer; then events flow on."""
        assert self.client.finish(self.senders) > 0
        self.platform.cluster.until(self._has_caught_up, "bronze has read everything", seconds=240, tell=self._tell)
        for stage in ("silver", "gold"):
            outcome = self.pipeline.run(stage)
            assert outcome["phase"] == "Succeeded", outcome
        checks = self.client.judge(self.document)
        assert len(checks) > 20, checks
        wrong = [check["report"] for check in checks if not check["passed"]]
        assert not wrong, "\n".join(wrong)
        self.senders += 1
        self.client.start(self.senders)

    def backfilled(self, first: str, last: str) -> None:
        """Compute days anew: propose it, look at the plan, approve it, wait for its end."""
        cluster, pipeline = self.platform.cluster, self.pipeline
        name = pipeline.lakehouse("backfill", pipeline.name, "--from", first, "--to", last).split()[-1]

        def phase() -> str:
            return str((cluster.get(TENANT, "lhb", name) or {}).get("status", {}).get("phase"))

        def tell() -> str:
            return json.dumps((cluster.get(TENANT, "lhb", name) or {}).get("status", {}))

        cluster.until(lambda: phase() == "Proposed", "the backfill is planned", seconds=60, tell=tell)
        pipeline.lakehouse("approve", name)
        cluster.until(lambda: phase() in ("Succeeded", "Failed"), "the backfill is over", seconds=900, tell=tell)
        assert phase() == "Succeeded", tell()

    def _has_caught_up(self) -> bool:
        sent, committed = self.client.offsets(self.group)
        return sent == committed

    def _tell(self) -> str:
        return f"{self.pipeline.tell()}\n{self.client.log()}"
