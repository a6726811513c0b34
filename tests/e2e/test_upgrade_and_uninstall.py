"""The life of a release on a real cluster: upgraded, removed, installed again, while streams run on."""

import shutil
from pathlib import Path

import pytest

from e2e.cluster import rolled_out
from e2e.life import Life
from e2e.platform import OPERATOR, PODS, RELEASE, SYSTEM, TENANT
from e2e.second import Story
from helm.chart import CHART
from lakehouse_operator.planning.plan import FINALIZER

pytestmark = pytest.mark.timeout(2400)


@pytest.fixture(autouse=True)
def alone(second: Story) -> None:
    """Nothing else happens meanwhile: without an operator nobody cares for a second pipeline."""
    second.is_over()


def test_an_upgrade_brings_crds_up_to_date_and_leaves_streams_alone(well: Life, tmp_path: Path) -> None:
    platform, cluster = well.platform, well.platform.cluster
    job, uid = well.pipeline.job, well.pipeline.seen["metadata"]["uid"]
    old = tmp_path / "old"
    shutil.copytree(CHART, old)
    crd = old / "files" / "crds" / "lakehousebackfills.lakehouse.dev.yaml"
    chart = old / "Chart.yaml"
    for file, now, then in ((crd, "    - lhb\n", "    - oldname\n"), (chart, "version: 0.1.0", "version: 0.0.9")):
        assert now in file.read_text()
        file.write_text(file.read_text().replace(now, then))
    platform.helm("upgrade", RELEASE, str(old), "--reuse-values")
    assert _short_names(well) == ["oldname"]

    platform.documented("install.md", "Upgrade")

    assert _short_names(well) == ["lhb"]
    rolled_out(cluster, SYSTEM, (OPERATOR,))
    well.goes_on()
    assert (well.pipeline.job, well.pipeline.seen["metadata"]["uid"]) == (job, uid)


def test_streams_run_on_without_a_release_and_the_next_one_takes_them_up(well: Life) -> None:
    platform, cluster, pipeline = well.platform, well.platform.cluster, well.pipeline
    job, seen = pipeline.job, pipeline.seen
    assert seen["metadata"]["finalizers"] == [FINALIZER]
    child = cluster.get(TENANT, "flinkdeployment", "roman-numerals-bronze")
    assert child

    platform.documented("install.md", "Uninstall")

    assert cluster.pods(SYSTEM, **PODS) == []
    left = pipeline.seen
    assert left["metadata"]["uid"] == seen["metadata"]["uid"]
    assert left["metadata"].get("finalizers", []) == []
    assert cluster.get(TENANT, "configmap", "roman-numerals-record")
    well.goes_on()
    same = cluster.get(TENANT, "flinkdeployment", "roman-numerals-bronze")
    assert same
    assert (same["metadata"]["uid"], same["spec"]) == (child["metadata"]["uid"], child["spec"])
    platform.documented("install.md", "Letting go by hand")  # what the Job has done already does no harm

    told = platform.release()

    assert "ok: 2 pipelines in lakehouse-e2e-data" in told
    cluster.until(
        lambda: pipeline.seen["metadata"].get("finalizers") == [FINALIZER],
        "the pipeline is taken up",
        seconds=120,
        tell=pipeline.tell,
    )
    pipeline.until_ready()
    well.goes_on()
    assert pipeline.job == job
    well.proven()


def _short_names(life: Life) -> list[str]:
    path = "--output=jsonpath={.spec.names.shortNames[*]}"
    return life.platform.cluster.kubectl("get", "crd", "lakehousebackfills.lakehouse.dev", path).split()
