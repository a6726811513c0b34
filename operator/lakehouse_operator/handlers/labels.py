"""The label by which a round finds the runs and backfills that people created. Without it nobody ever sees them."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from lakehouse_operator.cluster.errors import ClusterError, Conflict, NotFound
from lakehouse_operator.cluster.port import Cluster, Manifest
from lakehouse_operator.handlers.bells import Bells
from lakehouse_operator.planning import names

RETRY_SECONDS = 30.0
_log = logging.getLogger(__name__)


class Labels:
    """Puts the label on them. What fails is tried again: no further event of the object need come.

    Args:
        cluster: where the objects are.
        bells: what is rung once a label was put there late.
    """

    def __init__(self, cluster: Cluster, bells: Bells) -> None:
        self._cluster = cluster
        self._bells = bells
        self._missing: dict[str, Manifest] = {}

    async def see(self, body: Mapping[str, Any], pipeline: str, *, gone: bool = False) -> None:
        """Label a run or backfill with its pipeline, now or later, unless it is so already."""
        metadata = body["metadata"]
        if gone or metadata.get("labels", {}).get(names.PIPELINE_LABEL) == pipeline:
            self._missing.pop(metadata["uid"], None)
            return
        manifest = {
            "apiVersion": body["apiVersion"],
            "kind": body["kind"],
            "metadata": {
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
                "labels": {names.PIPELINE_LABEL: pipeline},
            },
        }
        if not await self._is_settled(manifest):
            self._missing[metadata["uid"]] = manifest

    async def again(self) -> None:
        """Try once more what has failed."""
        for uid, manifest in tuple(self._missing.items()):
            if await self._is_settled(manifest):
                self._missing.pop(uid, None)
                metadata = manifest["metadata"]
                self._bells.ring((metadata["namespace"], metadata["labels"][names.PIPELINE_LABEL]))

    async def keep(self) -> None:
        """Try again and again."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            await self.again()

    async def _is_settled(self, manifest: Manifest) -> bool:
        """Whether the object has its label now, or needs none any more."""
        try:
            await self._cluster.apply(manifest)
        except (NotFound, Conflict):
            return True
        except ClusterError as error:
            metadata = manifest["metadata"]
            _log.warning(
                "%s %s/%s can't be labelled: %s", manifest["kind"], metadata["namespace"], metadata["name"], error
            )
            return False
        return True
