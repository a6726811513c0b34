"""A pipeline under load, and the proofs that nothing of it is lost, doubled or wrong."""

import json
from dataclasses import dataclass

import yaml

from e2e.cluster import Manifest
from e2e.platform import KEYS, LOGIN, TENANT, Platform
from e2e.reference import Client, Pipeline, differences


@dataclass(frozen=True, slots=True)
class Life:
    """The reference pipeline, with events on their way to it all the time.

    Attributes:
        platform: The cluster and what is installed.
        pipeline: The pipeline.
        client: Who sends events and judges.
        document: The pipeline's manifest as it was applied first.
    """

    platform: Platform
    pipeline: Pipeline
    client: Client
    document: Manifest

    @property
    def group(self) -> str:
        """The consumer group that bronze commits its offsets to."""
        return str(self.document["spec"]["source"]["consumerGroup"])

    def begin(self) -> None:
        """Send events, and create the pipeline as docs/install.md says."""
        documented = self.platform.documented
        is_new = not self.pipeline.seen  # else it is on a cluster that was kept
        if is_new:
            keys = {f"{name}=...": f"{name}='{value}'" for name, value in {**KEYS, **LOGIN}.items()}
            documented("install.md", "A first pipeline", keys)
        self.client.begin()
        self.client.start()
        if is_new:
            values = self.platform.folder / "pipeline-values.yaml"
            values.write_text(yaml.safe_dump({"spec": differences(self.pipeline.name, self.platform.images)}))
            documented("install.md", "A first pipeline", {"my-values.yaml": f"'{values}'"}, block=1)

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

    def rolled_back_to(self, good: str) -> None:
        """Wait until a change is taken back and the last good revision runs; see that nothing came of it."""
        cluster, pipeline = self.platform.cluster, self.pipeline
        cluster.until(
            lambda: pipeline.condition("Stalled").get("reason") == "RolledBack",
            "it is rolled back",
            seconds=420,
            tell=pipeline.tell,
        )
        cluster.until(lambda: pipeline.job, "the last good job runs", seconds=300, tell=pipeline.tell)
        assert pipeline.stream["revision"] == good
        self.goes_on()
        self.proven()

    def proven(self) -> None:
        """Let everything arrive and ask the oracle about bronze and the dead letters; then events flow on."""
        self.arrived()
        self._asked("bronze", at_least=8)
        self.client.start()

    def judged(self) -> None:
        """Let everything arrive, compute silver and gold, ask the oracle about every layer; then events flow on."""
        self.arrived()
        for stage in ("silver", "gold"):
            outcome = self.pipeline.run(stage)
            assert outcome["phase"] == "Succeeded", outcome
        self._asked("all", at_least=21)
        self.client.start()

    def _asked(self, layers: str, *, at_least: int) -> None:
        checks = self.client.judge(self.document, layers)
        assert len(checks) >= at_least, checks
        wrong = [check["report"] for check in checks if not check["passed"]]
        assert not wrong, "\n".join(wrong)

    def arrived(self) -> None:
        """Stop sending, and wait until bronze has everything."""
        assert self.client.finish() > 0
        self.platform.cluster.until(self._has_caught_up, "bronze has read everything", seconds=240, tell=self._tell)

    def backfilled(self, first: str, last: str) -> None:
        """Compute days anew, as docs/install.md says: propose it, look at the plan, approve it, wait for its end."""
        cluster, documented = self.platform.cluster, self.platform.documented
        said = documented("install.md", "Days computed again", {"FIRST": first, "LAST": last})
        name = said.split("proposed LakehouseBackfill ")[1].split()[0]

        def phase() -> str:
            return str((cluster.get(TENANT, "lhb", name) or {}).get("status", {}).get("phase"))

        def tell() -> str:
            return json.dumps((cluster.get(TENANT, "lhb", name) or {}).get("status", {}))

        cluster.until(lambda: phase() == "Proposed", "the backfill is planned", seconds=60, tell=tell)
        documented("install.md", "Days computed again", {"BACKFILL": name}, block=1)
        cluster.until(lambda: phase() in ("Succeeded", "Failed"), "the backfill is over", seconds=600, tell=tell)
        assert phase() == "Succeeded", tell()

    def _has_caught_up(self) -> bool:
        sent, committed = self.client.offsets(self.group)
        return sent == committed

    def _tell(self) -> str:
        return f"{self.pipeline.tell()}\n{self.client.log()}"
