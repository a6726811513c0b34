"""What every cluster does, the one in memory and the real API server. The fake is trusted because it passes this.

No controller manager runs beside the API server: nothing is collected because its owner is gone.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cluster.worlds import World, deployment
from lakehouse_operator.cluster.errors import Conflict, NotFound, Refused
from lakehouse_operator.cluster.kinds import CONFIG_MAP, EVENT, FLINK_DEPLOYMENT, SPARK_APPLICATION
from lakehouse_operator.cluster.port import Event, Resource

FINALIZER = "lakehouse.dev/recovery-point"
ANOTHER_UID = "00000000-0000-4000-8000-000000000000"


def version(resource: Resource) -> str:
    return str(resource["metadata"]["resourceVersion"])


def application(namespace: str, name: str, **spec: Any) -> Resource:
    return {
        "apiVersion": SPARK_APPLICATION.api_version,
        "kind": SPARK_APPLICATION.name,
        "metadata": {"namespace": namespace, "name": name, "labels": {"lakehouse.dev/run": name}},
        "spec": {
            "type": "Python",
            "sparkVersion": "4.1.4",
            "driver": {},
            "executor": {},
            "mainApplicationFile": "local:///jobs/silver.py",
            **spec,
        },
    }


class TestReading:
    async def test_what_was_applied_can_be_read(self, world: World) -> None:
        applied = await world.deployment(image="lakehouse/flink:1")
        seen = await world.read()
        assert seen == applied
        assert (seen["apiVersion"], seen["kind"]) == ("flink.apache.org/v1beta1", "FlinkDeployment")
        assert seen["spec"] == {"flinkVersion": "v1_20", "image": "lakehouse/flink:1"}
        assert seen["metadata"]["uid"]
        assert seen["metadata"]["generation"] == 1

    async def test_what_does_not_exist_is_not_found(self, world: World) -> None:
        with pytest.raises(NotFound):
            await world.read("nothing")

    async def test_a_list_holds_the_objects_with_all_labels_by_name(self, world: World) -> None:
        mine = {"lakehouse.dev/pipeline": "roman", "lakehouse.dev/stage": "silver"}
        for name in ("c", "a", "e", "b", "d"):
            await world.cluster.apply(deployment(world.namespace, name, labels=mine))
        await world.cluster.apply(deployment(world.namespace, "half", labels={"lakehouse.dev/pipeline": "roman"}))
        await world.cluster.apply(deployment(world.other_namespace, "elsewhere", labels=mine))

        found = await world.cluster.list_labelled(FLINK_DEPLOYMENT, world.namespace, mine)

        assert [each["metadata"]["name"] for each in found] == ["a", "b", "c", "d", "e"]
        assert {(each["apiVersion"], each["kind"]) for each in found} == {
            ("flink.apache.org/v1beta1", "FlinkDeployment")
        }
        assert found[0] == await world.read("a")

    async def test_listed_objects_say_what_they_are(self, world: World) -> None:
        place = {"namespace": world.namespace, "name": "roman-record"}
        record = await world.cluster.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": place, "data": {"a": "1"}}
        )
        assert (record["apiVersion"], record["kind"]) == ("v1", "ConfigMap")
        found = await world.cluster.list_labelled(CONFIG_MAP, world.namespace, {})
        assert record in found

    async def test_a_list_of_all_namespaces(self, world: World) -> None:
        label = {"lakehouse.dev/test": world.namespace}
        await world.cluster.apply(deployment(world.other_namespace, "a", labels=label))
        await world.cluster.apply(deployment(world.namespace, "b", labels=label))
        found = await world.cluster.list_labelled(FLINK_DEPLOYMENT, None, label)
        places = [(each["metadata"]["namespace"], each["metadata"]["name"]) for each in found]
        assert places == sorted([(world.other_namespace, "a"), (world.namespace, "b")])

    async def test_a_list_without_labels_holds_everything(self, world: World) -> None:
        await world.deployment("a")
        await world.deployment("b")
        assert len(await world.cluster.list_labelled(FLINK_DEPLOYMENT, world.namespace, {})) == 2

    async def test_a_list_may_be_empty(self, world: World) -> None:
        assert await world.cluster.list_labelled(FLINK_DEPLOYMENT, world.namespace, {"a": "b"}) == []


class TestApplying:
    async def test_an_unchanged_apply_is_no_write(self, world: World) -> None:
        first = await world.deployment(image="lakehouse/flink:1", flinkConfiguration={"parallelism.default": "2"})
        again = await world.deployment(image="lakehouse/flink:1", flinkConfiguration={"parallelism.default": "2"})
        assert again == first

    async def test_a_changed_spec_raises_the_generation(self, world: World) -> None:
        await world.deployment(image="lakehouse/flink:1")
        changed = await world.deployment(image="lakehouse/flink:2")
        assert changed["spec"]["image"] == "lakehouse/flink:2"
        assert changed["metadata"]["generation"] == 2

    async def test_changed_labels_do_not_raise_the_generation(self, world: World) -> None:
        await world.cluster.apply(deployment(world.namespace, labels={"a": "1"}))
        changed = await world.cluster.apply(deployment(world.namespace, labels={"a": "2"}))
        assert changed["metadata"]["labels"] == {"a": "2"}
        assert changed["metadata"]["generation"] == 1

    async def test_fields_of_others_stay(self, world: World) -> None:
        await world.deployment(image="lakehouse/flink:1", flinkConfiguration={"ours": "1"})
        theirs = deployment(world.namespace, labels={"team": "data"}, flinkConfiguration={"theirs": "1"})
        await world.outsider.apply(theirs)
        changed = await world.deployment(image="lakehouse/flink:2", flinkConfiguration={"ours": "2"})
        assert changed["metadata"]["labels"] == {"team": "data"}
        assert changed["spec"]["flinkConfiguration"] == {"ours": "2", "theirs": "1"}

    async def test_drift_of_our_fields_is_repaired(self, world: World) -> None:
        await world.deployment(image="lakehouse/flink:1")
        await world.outsider.apply(deployment(world.namespace, image="somebody/else:9"))
        assert (await world.read())["spec"]["image"] == "somebody/else:9"
        repaired = await world.deployment(image="lakehouse/flink:1")
        assert repaired["spec"]["image"] == "lakehouse/flink:1"

    async def test_a_field_that_is_no_longer_named_is_removed(self, world: World) -> None:
        await world.deployment(image="lakehouse/flink:1", flinkConfiguration={"a": "1", "b": "2"})
        changed = await world.deployment(flinkConfiguration={"a": "1"})
        assert changed["spec"] == {"flinkVersion": "v1_20", "flinkConfiguration": {"a": "1"}}

    async def test_a_group_of_fields_that_is_no_longer_named_is_removed(self, world: World) -> None:
        await world.deployment(flinkConfiguration={"a": "1"})
        assert (await world.deployment())["spec"] == {"flinkVersion": "v1_20"}

    async def test_a_group_that_was_empty_keeps_what_others_put_into_it(self, world: World) -> None:
        metadata: dict[str, Any] = {"name": "a", "namespace": world.namespace}
        plain = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}}
        before = await world.cluster.apply(plain)
        metadata["annotations"] = {"a": "b"}
        after = await world.cluster.apply(plain)
        assert (after["metadata"]["uid"], after["metadata"]["annotations"]) == (before["metadata"]["uid"], {"a": "b"})

    async def test_a_field_that_both_named_stays_with_the_other(self, world: World) -> None:
        await world.deployment(image="lakehouse/flink:1")
        await world.outsider.apply(deployment(world.namespace, image="lakehouse/flink:1"))
        assert (await world.deployment())["spec"]["image"] == "lakehouse/flink:1"

    async def test_a_field_that_the_other_took_over_is_not_removed(self, world: World) -> None:
        await world.deployment(image="lakehouse/flink:1")
        await world.outsider.apply(deployment(world.namespace, image="somebody/else:9"))
        assert (await world.deployment())["spec"]["image"] == "somebody/else:9"

    async def test_a_list_is_applied_as_a_whole(self, world: World) -> None:
        await world.deployment(job={"args": ["--settings", "1"]})
        changed = await world.deployment(job={"args": ["--settings", "2", "--more"]})
        assert changed["spec"]["job"]["args"] == ["--settings", "2", "--more"]

    async def test_a_dry_run_says_what_would_be_and_changes_nothing(self, world: World) -> None:
        before = await world.deployment(image="lakehouse/flink:1")
        changed = deployment(world.namespace, image="lakehouse/flink:2")
        would_be = await world.cluster.apply(changed, dry_run=True)
        assert would_be["spec"]["image"] == "lakehouse/flink:2"
        assert await world.read() == before
        await world.cluster.apply(deployment(world.namespace, "new"), dry_run=True)
        with pytest.raises(NotFound):
            await world.read("new")

    async def test_a_status_in_the_manifest_is_ignored(self, world: World) -> None:
        manifest = {**deployment(world.namespace), "status": {"error": "made up"}}
        assert "status" not in await world.cluster.apply(manifest)

    async def test_a_missing_namespace_is_not_found(self, world: World) -> None:
        with pytest.raises(NotFound):
            await world.cluster.apply(deployment("there-is-no-such-place"))

    async def test_another_object_of_the_same_name_is_a_conflict(self, world: World) -> None:
        await world.deployment()
        manifest = deployment(world.namespace, image="lakehouse/flink:2")
        manifest["metadata"]["uid"] = ANOTHER_UID
        with pytest.raises(Conflict):
            await world.cluster.apply(manifest)
        assert "image" not in (await world.read())["spec"]

    async def test_the_object_of_the_uid_that_is_given_is_changed(self, world: World) -> None:
        seen = await world.deployment(mode="standalone")
        manifest = deployment(world.namespace, image="lakehouse/flink:2")
        manifest["metadata"]["uid"] = seen["metadata"]["uid"]
        assert "mode" not in (await world.cluster.apply(manifest))["spec"]
        again = await world.cluster.apply(manifest)
        assert (again["spec"]["image"], again["metadata"]["uid"]) == ("lakehouse/flink:2", seen["metadata"]["uid"])
        assert again["metadata"]["generation"] == 2

    @pytest.mark.parametrize("given", [("uid",), ("uid", "resourceVersion")], ids="-and-".join)
    async def test_a_deleted_object_does_not_come_back_if_its_uid_is_given(
        self, world: World, given: tuple[str, ...]
    ) -> None:
        gone = await world.deployment()
        await world.cluster.delete(FLINK_DEPLOYMENT, world.namespace, "bronze", gone["metadata"]["uid"])
        manifest = deployment(world.namespace)
        manifest["metadata"] |= {each: gone["metadata"][each] for each in given}
        with pytest.raises(Conflict):
            await world.cluster.apply(manifest)
        with pytest.raises(NotFound):
            await world.read()

    async def test_a_version_that_is_not_the_newest_is_a_conflict(self, world: World) -> None:
        record: Resource = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"namespace": world.namespace, "name": "roman-record"},
            "data": {"points": "1"},
        }
        first = await world.cluster.apply(record)
        record["metadata"]["resourceVersion"] = version(first)
        record["data"] = {"points": "2"}
        second = await world.cluster.apply(record)
        assert second["data"] == {"points": "2"}
        record["data"] = {"points": "lost update"}
        with pytest.raises(Conflict):
            await world.cluster.apply(record)
        assert await world.cluster.read(CONFIG_MAP, world.namespace, "roman-record") == second

    async def test_a_kind_that_is_not_ours_to_touch_is_refused(self, world: World) -> None:
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}
        with pytest.raises(Refused, match="'Role'"):
            await world.cluster.apply({**role, "metadata": {"namespace": world.namespace, "name": "a"}})


class TestCreatingOnce:
    async def test_the_first_creates_and_the_second_gets_what_is_there(self, world: World) -> None:
        first = await world.cluster.create_once(application(world.namespace, "run", sparkVersion="4.1.4"))
        second = await world.cluster.create_once(application(world.namespace, "run", sparkVersion="3.5.0"))
        assert (first.is_new, second.is_new) == (True, False)
        assert first.resource["spec"]["sparkVersion"] == "4.1.4"
        assert second.resource == first.resource
        assert await world.cluster.read(SPARK_APPLICATION, world.namespace, "run") == first.resource

    async def test_of_many_at_once_one_is_new(self, world: World) -> None:
        manifest = application(world.namespace, "run")
        outcomes = await asyncio.gather(*(world.cluster.create_once(manifest) for _ in range(8)))
        assert [each.is_new for each in outcomes].count(True) == 1
        assert len({each.resource["metadata"]["uid"] for each in outcomes}) == 1

    async def test_owner_and_labels_are_kept(self, world: World) -> None:
        owner = await world.deployment("owner")
        reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": True}
        reference |= {"name": "owner", "uid": owner["metadata"]["uid"]}
        manifest = application(world.namespace, "run")
        manifest["metadata"]["ownerReferences"] = [reference]
        created = await world.cluster.create_once(manifest)
        assert created.resource["metadata"]["ownerReferences"] == [reference]
        assert created.resource["metadata"]["labels"] == {"lakehouse.dev/run": "run"}

    async def test_a_missing_namespace_is_not_found(self, world: World) -> None:
        with pytest.raises(NotFound):
            await world.cluster.create_once(application("there-is-no-such-place", "run"))


class TestDeleting:
    async def test_a_deleted_object_is_gone(self, world: World) -> None:
        seen = await world.deployment()
        await world.cluster.delete(FLINK_DEPLOYMENT, world.namespace, "bronze", seen["metadata"]["uid"])
        with pytest.raises(NotFound):
            await world.read()

    async def test_deleting_what_is_gone_is_no_mistake(self, world: World) -> None:
        await world.cluster.delete(FLINK_DEPLOYMENT, world.namespace, "bronze", ANOTHER_UID)

    async def test_another_object_of_the_same_name_is_spared(self, world: World) -> None:
        seen = await world.deployment()
        with pytest.raises(Conflict):
            await world.cluster.delete(FLINK_DEPLOYMENT, world.namespace, "bronze", ANOTHER_UID)
        assert await world.read() == seen


class TestFinalizers:
    async def test_a_finalizer_holds_up_the_deletion(self, world: World) -> None:
        uid = (await world.deployment())["metadata"]["uid"]
        place = (FLINK_DEPLOYMENT, world.namespace, "bronze")
        await world.cluster.add_finalizer(*place, uid=uid, finalizer=FINALIZER)
        await world.outsider.delete(*place, uid)
        waiting = await world.read()
        assert waiting["metadata"]["deletionTimestamp"]
        assert waiting["metadata"]["finalizers"] == [FINALIZER]
        await world.outsider.delete(*place, uid)
        assert await world.read() == waiting

        await world.cluster.remove_finalizer(*place, uid=uid, finalizer=FINALIZER)
        with pytest.raises(NotFound):
            await world.read()

    async def test_what_is_being_deleted_can_still_be_written(self, world: World) -> None:
        uid = (await world.deployment())["metadata"]["uid"]
        place = (FLINK_DEPLOYMENT, world.namespace, "bronze")
        await world.cluster.add_finalizer(*place, uid=uid, finalizer=FINALIZER)
        await world.cluster.delete(*place, uid)
        changed = await world.deployment(job={"state": "suspended"})
        assert changed["spec"]["job"] == {"state": "suspended"}
        assert changed["metadata"]["deletionTimestamp"]
        reported = await world.outsider.write_status(*place, uid=uid, status={"lifecycleState": "SUSPENDED"})
        assert reported["status"] == {"lifecycleState": "SUSPENDED"}

    async def test_a_finalizer_that_is_there_is_no_write(self, world: World) -> None:
        uid = (await world.deployment())["metadata"]["uid"]
        place = (FLINK_DEPLOYMENT, world.namespace, "bronze")
        await world.cluster.add_finalizer(*place, uid=uid, finalizer=FINALIZER)
        before = await world.read()
        await world.cluster.add_finalizer(*place, uid=uid, finalizer=FINALIZER)
        assert await world.read() == before
        assert before["metadata"]["generation"] == 1

    async def test_finalizers_of_others_stay(self, world: World) -> None:
        uid = (await world.deployment())["metadata"]["uid"]
        place = (FLINK_DEPLOYMENT, world.namespace, "bronze")
        await asyncio.gather(
            world.cluster.add_finalizer(*place, uid=uid, finalizer=FINALIZER),
            world.outsider.add_finalizer(*place, uid=uid, finalizer="example.org/theirs"),
        )
        assert sorted((await world.read())["metadata"]["finalizers"]) == ["example.org/theirs", FINALIZER]
        await world.cluster.remove_finalizer(*place, uid=uid, finalizer=FINALIZER)
        assert (await world.read())["metadata"]["finalizers"] == ["example.org/theirs"]

    async def test_an_apply_keeps_the_finalizer(self, world: World) -> None:
        uid = (await world.deployment())["metadata"]["uid"]
        await world.cluster.add_finalizer(FLINK_DEPLOYMENT, world.namespace, "bronze", uid=uid, finalizer=FINALIZER)
        changed = await world.deployment(image="lakehouse/flink:2")
        assert changed["metadata"]["finalizers"] == [FINALIZER]

    async def test_the_last_finalizer_leaves_no_trace(self, world: World) -> None:
        uid = (await world.deployment())["metadata"]["uid"]
        place = (FLINK_DEPLOYMENT, world.namespace, "bronze")
        await world.cluster.add_finalizer(*place, uid=uid, finalizer=FINALIZER)
        await world.cluster.remove_finalizer(*place, uid=uid, finalizer=FINALIZER)
        assert "finalizers" not in (await world.read())["metadata"]

    async def test_what_is_being_deleted_gets_no_new_finalizer(self, world: World) -> None:
        uid = (await world.deployment())["metadata"]["uid"]
        place = (FLINK_DEPLOYMENT, world.namespace, "bronze")
        await world.outsider.add_finalizer(*place, uid=uid, finalizer="example.org/theirs")
        await world.outsider.delete(*place, uid)
        with pytest.raises(Refused):
            await world.cluster.add_finalizer(*place, uid=uid, finalizer=FINALIZER)

    async def test_removing_one_that_is_not_there_is_no_mistake(self, world: World) -> None:
        seen = await world.deployment()
        place = (FLINK_DEPLOYMENT, world.namespace, "bronze")
        await world.cluster.remove_finalizer(*place, uid=seen["metadata"]["uid"], finalizer=FINALIZER)
        await world.cluster.remove_finalizer(
            FLINK_DEPLOYMENT, world.namespace, "gone", uid=ANOTHER_UID, finalizer=FINALIZER
        )
        assert await world.read() == seen

    async def test_another_object_of_the_same_name_is_left_alone(self, world: World) -> None:
        uid = (await world.deployment())["metadata"]["uid"]
        place = (FLINK_DEPLOYMENT, world.namespace, "bronze")
        with pytest.raises(Conflict):
            await world.cluster.add_finalizer(*place, uid=ANOTHER_UID, finalizer=FINALIZER)
        await world.cluster.add_finalizer(*place, uid=uid, finalizer=FINALIZER)
        await world.cluster.remove_finalizer(*place, uid=ANOTHER_UID, finalizer=FINALIZER)
        assert (await world.read())["metadata"]["finalizers"] == [FINALIZER]

    async def test_adding_to_what_is_gone_is_not_found(self, world: World) -> None:
        with pytest.raises(NotFound):
            await world.cluster.add_finalizer(
                FLINK_DEPLOYMENT, world.namespace, "gone", uid=ANOTHER_UID, finalizer=FINALIZER
            )


class TestStatus:
    async def test_the_status_is_written_and_nothing_else(self, world: World) -> None:
        before = await world.deployment(image="lakehouse/flink:1")
        status = {"lifecycleState": "STABLE", "jobStatus": {"state": "RUNNING", "jobId": "abc"}}
        after = await self._report(world, before, status)
        assert after["status"] == status
        assert after["spec"] == before["spec"]
        assert after["metadata"]["generation"] == 1
        assert version(after) != version(before)

    async def test_an_unchanged_status_is_no_write(self, world: World) -> None:
        before = await world.deployment()
        first = await self._report(world, before, {"lifecycleState": "STABLE"})
        assert await self._report(world, before, {"lifecycleState": "STABLE"}) == first

    async def test_what_is_no_longer_in_the_status_is_removed(self, world: World) -> None:
        before = await world.deployment()
        await self._report(world, before, {"lifecycleState": "STABLE", "error": "x", "jobStatus": {"jobId": "abc"}})
        after = await self._report(world, before, {"lifecycleState": "STABLE"})
        assert after["status"] == {"lifecycleState": "STABLE"}

    async def test_an_apply_keeps_the_status(self, world: World) -> None:
        before = await world.deployment()
        await self._report(world, before, {"lifecycleState": "STABLE"})
        changed = await world.deployment(image="lakehouse/flink:2")
        assert changed["status"] == {"lifecycleState": "STABLE"}

    async def test_the_status_of_another_object_of_the_same_name_is_a_conflict(self, world: World) -> None:
        before = await world.deployment()
        with pytest.raises(Conflict):
            await world.cluster.write_status(
                FLINK_DEPLOYMENT, world.namespace, "bronze", uid=ANOTHER_UID, status={"error": "x"}
            )
        assert await world.read() == before

    async def test_the_status_of_what_is_gone_is_not_found(self, world: World) -> None:
        with pytest.raises(NotFound):
            await world.cluster.write_status(
                FLINK_DEPLOYMENT, world.namespace, "gone", uid=ANOTHER_UID, status={"error": "x"}
            )

    async def test_a_status_for_an_older_version_is_a_conflict(self, world: World) -> None:
        before = await world.deployment(image="lakehouse/flink:1")
        await world.deployment(image="lakehouse/flink:2")
        with pytest.raises(Conflict):
            await self._report(world, before, {"lifecycleState": "STABLE"}, resource_version=version(before))
        newest = await world.read()
        assert "status" not in newest
        after = await self._report(world, newest, {"lifecycleState": "STABLE"}, resource_version=version(newest))
        assert after["status"] == {"lifecycleState": "STABLE"}

    @staticmethod
    async def _report(
        world: World, seen: Resource, status: dict[str, Any], resource_version: str | None = None
    ) -> Resource:
        return await world.cluster.write_status(
            FLINK_DEPLOYMENT,
            world.namespace,
            seen["metadata"]["name"],
            uid=seen["metadata"]["uid"],
            status=status,
            resource_version=resource_version,
        )


class TestEvents:
    NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)

    def _event(self, seen: Resource, *, minutes: int = 0, message: str = "no proven point") -> Event:
        return Event(
            kind=FLINK_DEPLOYMENT,
            namespace=seen["metadata"]["namespace"],
            name=seen["metadata"]["name"],
            uid=seen["metadata"]["uid"],
            type="Warning",
            reason="UpgradeHeld",
            message=message,
            at=self.NOON + timedelta(minutes=minutes),
        )

    async def test_an_event_says_what_happened_to_what(self, world: World) -> None:
        seen = await world.deployment()
        await world.cluster.announce(self._event(seen))
        (event,) = await world.cluster.list_labelled(EVENT, world.namespace, {})
        assert (event["type"], event["reason"], event["note"]) == ("Warning", "UpgradeHeld", "no proven point")
        assert event["eventTime"] == "2026-06-01T12:00:00.000000Z"
        assert event["regarding"] == {
            "apiVersion": "flink.apache.org/v1beta1",
            "kind": "FlinkDeployment",
            "namespace": world.namespace,
            "name": "bronze",
            "uid": seen["metadata"]["uid"],
        }

    async def test_the_same_event_again_is_counted(self, world: World) -> None:
        seen = await world.deployment()
        for minutes in (0, 1, 2):
            await world.cluster.announce(self._event(seen, minutes=minutes))
        (event,) = await world.cluster.list_labelled(EVENT, world.namespace, {})
        assert event["series"] == {"count": 3, "lastObservedTime": "2026-06-01T12:02:00.000000Z"}
        assert event["eventTime"] == "2026-06-01T12:00:00.000000Z"

    async def test_another_message_is_another_event(self, world: World) -> None:
        seen = await world.deployment()
        await world.cluster.announce(self._event(seen, message="savepoint failed"))
        await world.cluster.announce(self._event(seen, message="savepoint timed out"))
        notes = [event["note"] for event in await world.cluster.list_labelled(EVENT, world.namespace, {})]
        assert sorted(notes) == ["savepoint failed", "savepoint timed out"]

    async def test_a_long_message_is_cut(self, world: World) -> None:
        seen = await world.deployment()
        await world.cluster.announce(self._event(seen, message="é" * 2000))
        (event,) = await world.cluster.list_labelled(EVENT, world.namespace, {})
        assert event["note"].endswith("é...")
        assert 1020 <= len(event["note"].encode()) <= 1024


async def test_capabilities_are_those_of_the_installed_operators(world: World) -> None:
    seen = await world.cluster.capabilities()
    assert seen.flink
    assert {"v1_18", "v1_20"} <= seen.flink_versions
    assert seen.savepoint_redeploy
    assert seen.state_snapshots
    assert seen.spark_applications
