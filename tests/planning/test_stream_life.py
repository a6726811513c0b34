"""Whatever happens, and wherever the operator dies: no event is lost or doubled, and everything settles.

A Hypothesis state machine drives the simulated world: people, failures and the passing of time in any order, with a
crash between any two writes.
"""

import os
from copy import deepcopy
from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lakehouse_operator.planning.observed import Capabilities
from lakehouse_operator.planning.situation import (
    FORCE_DELETE_ANNOTATION,
    RESTORE_ANNOTATION,
    RETRY_ANNOTATION,
    SAVEPOINT_ANNOTATION,
)
from planning.world import Crash, World

IMAGES = ("flink:1", "flink:2", "flink:3-crashes", "flink:4-never-runs", "flink:5-no-image")
FAULTS = ("catalog down", "savepoints fail", "store down", "flink operator down")
ROUNDS = st.sampled_from((0, 0, 1, 2, 3, 4, 6, 10, 40))
"""How long everybody goes on after something happened: not at all, a step or two, or until it is over."""


class StreamLife(RuleBasedStateMachine):
    """A pipeline's stream, from its creation to its deletion and beyond."""

    @initialize(
        observing=st.booleans(),
        redeploy=st.booleans(),
        snapshots=st.booleans(),
        policy=st.sampled_from(("Retain", "Block", "Force")),
        unhealthy=st.sampled_from(("hold", "lastState")),
        mode=st.sampled_from(("savepoint", "savepoint", "lastState")),
        rollback=st.sampled_from(("automatic", "automatic", "manual")),
        keeps_job_id=st.booleans(),
    )
    def begin(self, *, observing, redeploy, snapshots, policy, unhealthy, mode, rollback, keeps_job_id):
        self.world = World(observing=observing, keeps_job_id=keeps_job_id)
        self.world.capabilities = Capabilities(
            flink_versions=frozenset({"v2_1"}), savepoint_redeploy=redeploy, state_snapshots=snapshots
        )
        self.capabilities = self.world.capabilities
        upgrade = {"whenUnhealthy": unhealthy, "mode": mode, "rollback": rollback}
        self.world.edit(deletion={"policy": policy}, upgrade=upgrade, recoveryPoints={"interval": "2h", "keep": 2})
        self.tokens = self.round_number = 0
        self.fragile = False

    # --- time and the operators ---------------------------------------------------------------------------------------

    @rule(rounds=st.integers(1, 40), seconds=st.sampled_from((5, 20, 60)))
    def everybody_goes_on(self, rounds, seconds):
        self._go(rounds, seconds)

    def _go(self, rounds, seconds=20):
        for _ in range(rounds):
            self.world.produce(3)
            self.round_number += 1
            self._round(self.round_number % 5 if self.fragile else None)
            self.world.flink_operator()
            self.world.flink()
            self.world.now += timedelta(seconds=seconds)

    @rule(crash_after=st.integers(0, 6), then=ROUNDS)
    def the_operator_dies_in_a_round(self, crash_after, then):
        self._round(crash_after)
        self._go(then)

    @rule(fragile=st.booleans())
    def the_operator_dies_again_and_again(self, fragile):
        """From now on (or no longer) each round ends after another number of writes."""
        self.fragile = fragile

    def _round(self, crash_after=None):
        if self.world.gone:
            return
        try:
            self.world.reconcile(crash_after=crash_after)
        except Crash:
            return

    @rule()
    def a_plan_is_applied_twice(self):
        if self.world.gone:
            return
        try:
            planned = self.world.reconcile()
            once = deepcopy(self.world)
            for action in planned.actions:
                self.world._do(action)
        except Crash:
            return
        self.world.writes, self.world.events = once.writes, once.events
        mine = {key: value for key, value in vars(self.world).items() if key != "_numbers"}
        assert mine == {key: value for key, value in vars(once).items() if key != "_numbers"}

    @rule()
    def the_flink_operator_goes_on(self):
        self.world.flink_operator()

    @rule()
    def flink_goes_on(self):
        self.world.flink()

    @rule(minutes=st.sampled_from((1, 12, 45, 180)))
    def time_passes(self, minutes):
        self.world.now += timedelta(minutes=minutes)

    # --- people -------------------------------------------------------------------------------------------------------

    @rule(image=st.sampled_from(IMAGES), then=ROUNDS)
    def somebody_changes_the_image(self, image, then):
        self.world.edit(image=image)
        self._go(then)

    @rule(value=st.booleans(), then=ROUNDS)
    def somebody_suspends_or_resumes(self, value, then):
        self.world.suspend(value)
        self._go(then)

    @rule(then=ROUNDS)
    def somebody_writes_nonsense(self, then):
        self.world.edit(parallelism=0)
        self._go(then)

    @rule(then=ROUNDS)
    def somebody_mends_the_nonsense(self, then):
        self.world.edit(parallelism=1)
        self._go(then)

    @rule(then=ROUNDS)
    def somebody_asks_for_a_savepoint(self, then):
        self.tokens += 1
        self.world.annotations[SAVEPOINT_ANNOTATION] = f"token-{self.tokens}"
        self._go(then)

    @rule(which=st.integers(0, 5), then=ROUNDS)
    def somebody_restores(self, which, then):
        points = self.world.record.points
        if points:
            self.tokens += 1
            self.world.annotations[RESTORE_ANNOTATION] = f"{points[which % len(points)].name}/{self.tokens}"
        self._go(then)

    @rule(then=ROUNDS)
    def somebody_asks_for_another_try(self, then):
        self.tokens += 1
        self.world.annotations[RETRY_ANNOTATION] = f"token-{self.tokens}"
        self._go(then)

    @rule(then=ROUNDS)
    def somebody_deletes_the_pipeline(self, then):
        self.world.delete()
        self._go(then)

    @precondition(lambda self: self.world.gone)
    @rule(then=ROUNDS)
    def somebody_creates_it_again(self, then):
        self.world.create_again()
        self._go(then)

    # --- other hands --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.child is not None)
    @rule(then=ROUNDS)
    def somebody_deletes_the_child(self, then):
        self.world.child.deleting = True
        self._go(then)

    @precondition(lambda self: self.world.child is not None and not self.world.child.before_first_deployment)
    @rule(mode=st.sampled_from(("savepoint", "last-state")), then=ROUNDS)
    def somebody_suspends_the_child(self, mode, then):
        self.world.change_child(state="suspended", upgradeMode=mode)
        self._go(then)

    def _rests_on_what_its_child_names(self):
        """Bronze tells later whether it has run. Of a child that names what a rewind discarded, nobody could say."""
        world, record = self.world, self.world.record
        resting = record.resting_point
        if not world.observing or not world.spec.get("suspend") or record.operation is not None:
            return False
        known = resting is not None and resting.resolved
        return known and world.child is not None and world.child.savepoint_path == resting.path

    @precondition(_rests_on_what_its_child_names)
    @rule(unseen=st.integers(0, 6), then=ROUNDS)
    def somebody_starts_the_child(self, unseen, then):
        self.world.change_child(state="running")
        for _ in range(unseen):
            self.world.flink_operator()
            self.world.flink()
        self._go(then)

    @precondition(lambda self: self.world.child is not None)
    @rule(then=ROUNDS)
    def another_manager_sets_a_field_of_its_own(self, then):
        child = self.world.child
        child.foreign["ingress"] = {"template": "x"}
        if "ingress" not in child.spec:
            child.spec = {**child.spec, "ingress": {"template": "x"}}
            child.generation += 1
        self._go(then)

    @rule(then=ROUNDS)
    def the_status_is_lost(self, then):
        self.world.status = {}
        self._go(then)

    # --- failures -----------------------------------------------------------------------------------------------------

    @rule(for_good=st.booleans(), then=ROUNDS)
    def the_job_fails(self, for_good, then):
        self.world.fail_job(for_good=for_good)
        self._go(then)

    @rule(then=ROUNDS)
    def the_job_manager_is_killed(self, then):
        self.world.kill_job_manager()
        self._go(then)

    @rule(fault=st.sampled_from(FAULTS), then=ROUNDS)
    def something_breaks(self, fault, then):
        self.world.faults ^= {fault}
        self._go(then)

    @rule(then=ROUNDS)
    def the_flink_crds_come_and_go(self, then):
        if self.world.capabilities == Capabilities():
            self.world.capabilities = self.capabilities
        else:
            self.world.remove_flink_crds()
        self._go(then)

    # --- what must always be true -------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_lost(self):
        if not hasattr(self, "world"):
            return
        world = self.world
        assert world.missing_or_doubled() is None, "bronze holds each offset exactly once"
        assert world.stateless_starts == [], "no stream that had state is started without it"
        for point in world.record.points:
            assert point.path in world.store
            if point.proven and point.bronze_snapshot is not None:
                assert world.tags.get(f"recovery-{point.name}") == point.bronze_snapshot, "a proven point is tagged"

    def teardown(self):
        """Once everything works again it settles; and a deletion that is forced is never stuck."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.faults, world.capabilities = set(), self.capabilities
        world.settle()
        self.nothing_is_lost()
        if not world.gone:
            world.delete()
            world.annotations[FORCE_DELETE_ANNOTATION] = "true"
            world.go(rounds=4)
        assert world.gone


EXAMPLES = int(os.environ.get("LAKEHOUSE_EXAMPLES", "0"))
"""How many lives to try at random; without it, always the same few, so that a failure is one of the change at hand."""

StreamLife.TestCase.settings = settings(
    max_examples=EXAMPLES or 100,
    derandomize=not EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
TestStreamLife = StreamLife.TestCase
