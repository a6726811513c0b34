"""Scenes from a stream's life, set in the simulated world, for tests that look at one decision."""

from typing import Any

from lakehouse_operator.planning.explain import explain
from lakehouse_operator.planning.plan import ApplyChild, Plan
from lakehouse_operator.planning.reconcile import reconcile
from lakehouse_operator.planning.situation import RESTORE_ANNOTATION
from planning.world import Child, World, spec

QUICK = {"soak": {"duration": "1m", "maxRestarts": 2}}


def world(
    *, upgrade: dict[str, Any] | None = None, observing: bool = True, keeps_job_id: bool = False, **bronze: Any
) -> World:
    """A world with a pipeline that nobody has looked at yet. Its soak takes a minute."""
    wanted = spec(upgrade={**QUICK, **(upgrade or {})}, **bronze)
    made = World(spec=wanted, observing=observing, keeps_job_id=keeps_job_id)
    made.produce(100)
    return made


def at_rest(**how: Any) -> World:
    """A world whose stream runs a good revision, with one proven recovery point where it is observed."""
    made = world(**how)
    made.go(rounds=20)
    assert made.record.good is not None
    made.produce(50)
    made.go(rounds=2)
    return made


def rewindable(**how: Any) -> World:
    """A world whose stream has committed a good deal since its first recovery point."""
    made = at_rest(**how)
    for _ in range(6):
        made.produce(20)
        made.go()
    return made


def rolled_back(made: World, *, most: int = 20) -> World:
    """Go back to the first recovery point, until bronze is rolled back and nothing more has been done."""
    made.annotations[RESTORE_ANNOTATION] = made.record.points[0].name
    for _ in range(most):
        made.reconcile()
        if "BronzeRolledBack" in reasons(made):
            return made
        made.flink_operator()
        made.flink()
    raise AssertionError(f"bronze is not rolled back: {made.status.get('conditions')}")


def replace_child(made: World) -> None:
    """Somebody replaces the deployment by a copy of it, of which nothing has run."""
    kept = made.child
    assert kept is not None
    kept.deleting = True
    made.flink_operator()
    assert made.child is None
    made.child = Child(uid="put-back", spec=kept.spec, annotations=kept.annotations, labels=kept.labels)


def until(made: World, state: str, *, most: int = 60, seconds: float = 20) -> World:
    """Let everybody go on until the stream is in a state."""
    made.reconcile()
    for _ in range(most):
        if made.status.get("stream", {}).get("state") == state:
            return made
        made.produce(1)
        made.go(seconds)
    raise AssertionError(f"it never is {state}: {made.status.get('stream')}")


def upgraded(image: str, **how: Any) -> World:
    """A world in which another image was asked for and has been told to run."""
    made = at_rest(**how)
    made.edit(image=image)
    until(made, "Deploying")
    return made


def plan(made: World) -> Plan:
    """What would be done now."""
    return reconcile(made.see())


def sentences(made: World) -> tuple[str, ...]:
    """What would be done now, in words."""
    return explain(plan(made))


def child(made: World) -> Any:
    """The FlinkDeployment's spec that would be applied now; None if it stays as it is."""
    return next((action.manifest["spec"] for action in plan(made).actions if isinstance(action, ApplyChild)), None)


def stalled(made: World) -> str:
    """The reason of the condition Stalled after a round; empty if it is not true."""
    made.reconcile()
    return str(made.condition("Stalled").get("reason", ""))


def reasons(made: World) -> list[str]:
    """The events so far, by reason."""
    return [event.reason for event in made.events]
