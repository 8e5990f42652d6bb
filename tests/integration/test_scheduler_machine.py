"""Whatever happens, in whatever order: the task that is started is the one that a slow, plain reading of the
rules would start.

The reference keeps every task in a list, goes through all of them, and shares nothing with the scheduler but
the words of the rules: fewest running for its weight, then least virtual time, then longest waiting.
"""

import asyncio
import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from gateway.db import deployments, work
from gateway.db.deployments import Health
from gateway.db.engine import Tx
from gateway.db.work import AttemptEnd, Lease
from gateway.families.lyria2 import LYRIA2
from gateway.families.musicgen import MUSICGEN
from gateway.families.registry import KINDS
from gateway.model import ApiKey, ModelKind, TaskState
from gateway.tasks.catalog import Catalog
from gateway.tasks.claiming import Claimer
from gateway.tasks.pipeline import Begun
from gateway.tasks.pool import EMULATOR, Pool, Room
from tests.clock import SetClock
from tests.databases import Store, copy_of_file, copy_of_template, open_store
from tests.factories import a_deployment, keep_key, keep_task, keep_tenant
from tests.postgres import Server

EXAMPLES = 25
STEPS = 40
LEASE_S = 600
WEIGHTS = (1, 1, 3, 2)
MOST = (None, 2, None, None)
TENANTS = st.integers(0, len(WEIGHTS) - 1)
# Mostly one, so that there is something to choose from.
LANES = [(LYRIA2, True)] * 3 + [(kind, test) for kind in (LYRIA2, MUSICGEN) for test in (False, True)]
# Of the second model there are two deployments, one of them small.
DEPLOYMENTS = (
    a_deployment(LYRIA2, name="lyria", concurrency=3),
    a_deployment(MUSICGEN, name="small", rpm=2),
    a_deployment(MUSICGEN, name="large", concurrency=2, weight=3),
)


@dataclass
class Waiting:
    """A task as the reference knows it."""

    id: str
    number: int
    tenant: int
    lane: tuple[ModelKind, bool]
    made_at_ms: int
    not_before_ms: int
    state: str = "queued"
    ran: bool = False


@dataclass
class Tag:
    """A line's place in virtual time."""

    next: int = 0
    last: int = 0


@dataclass
class Reference:
    """The rules, told plainly. Looks at everything each time."""

    tasks: list[Waiting] = field(default_factory=list)
    tags: dict[tuple[int, tuple[ModelKind, bool]], Tag] = field(default_factory=dict)
    suspended: set[int] = field(default_factory=set)
    calls: list[tuple[str, str, int]] = field(default_factory=list)
    cooling: dict[str, int] = field(default_factory=dict)

    def queued(self, tenant: int, lane: tuple[ModelKind, bool]) -> list[Waiting]:
        return [t for t in self.tasks if (t.tenant, t.lane, t.state) == (tenant, lane, "queued")]

    def joins(self, task: Waiting) -> None:
        """A line begins to wait no earlier than the time of its lane."""
        if not self.queued(task.tenant, task.lane):
            time = max((tag.last for (_, lane), tag in self.tags.items() if lane == task.lane), default=0)
            tag = self.tags.setdefault((task.tenant, task.lane), Tag())
            tag.next = max(tag.next, time)
        task.state = "queued"

    def starts(self, task: Waiting, deployment: str, now_ms: int) -> None:
        tag = self.tags[task.tenant, task.lane]
        tag.last, tag.next = tag.next, tag.next + 1_000_000 // WEIGHTS[task.tenant]
        task.state, task.ran = "running", True
        self.calls.append((task.id, deployment, now_ms))

    def running(self, tenant: int) -> int:
        return sum(task.tenant == tenant and task.state == "running" for task in self.tasks)

    def free(self, now_ms: int) -> dict[ModelKind, list[str]]:
        found: dict[ModelKind, list[str]] = {kind: [] for kind in KINDS}
        going = {task.id for task in self.tasks if task.state == "running"}
        for each in DEPLOYMENTS:
            mine = [(task_id, at_ms) for task_id, name, at_ms in self.calls if name == each.name]
            open_calls = sum(self.where(task_id) == each.name for task_id in going)
            recent = sum(at_ms > now_ms - 60_000 for _, at_ms in mine)
            fits = each.concurrency is None or open_calls < each.concurrency
            if fits and (each.rpm is None or recent < each.rpm) and self.cooling.get(each.name, 0) <= now_ms:
                found[each.kind].append(each.name)
        return found

    def where(self, task_id: str) -> str:
        """Where the task's newest call went."""
        return [name for id_, name, _ in self.calls if id_ == task_id][-1]

    def next(self, now_ms: int) -> Waiting | None:
        free = self.free(now_ms)
        ready = [
            task
            for task in self.tasks
            if task.state == "queued"
            and task.not_before_ms <= now_ms
            and (task.ran or task.tenant not in self.suspended)
            and (task.lane[1] or free[task.lane[0]])
        ]
        firsts: dict[tuple[int, tuple[ModelKind, bool]], Waiting] = {}
        for task in sorted(ready, key=lambda task: task.number):
            firsts.setdefault((task.tenant, task.lane), task)
        may = [task for task in firsts.values() if self.has_room(task.tenant)]
        return min(may, key=self.turn, default=None)

    def has_room(self, tenant: int) -> bool:
        most = MOST[tenant]
        return most is None or self.running(tenant) < most

    def turn(self, task: Waiting) -> tuple[Fraction, int, int, int, str, bool]:
        oldest = min(self.queued(task.tenant, task.lane), key=lambda each: each.number)
        share = Fraction(self.running(task.tenant), WEIGHTS[task.tenant])
        model, test = task.lane
        tag = self.tags[task.tenant, task.lane].next
        return share, tag, oldest.made_at_ms, task.tenant, model, test


class SchedulerMachine(RuleBasedStateMachine):
    """The claimer on a real database, and beside it the reference."""

    make_store: Callable[[], AbstractContextManager[Store]]

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._store = self._stack.enter_context(type(self).make_store())
        self._loop = asyncio.new_event_loop()
        self._clock = SetClock()
        self._names = itertools.count()
        self._leases: dict[str, Lease] = {}
        self._reference = Reference()
        self._database = self._run(open_store(self._store))
        self._claimer = Claimer(
            Pool(Catalog(DEPLOYMENTS), lambda: 0.5), self._open_call, self._clock, self._name, LEASE_S
        )
        self._keys = [self._run(self._make_key(n)) for n in range(len(WEIGHTS))]

    def teardown(self) -> None:
        self._run(self._database.close())
        self._loop.close()
        self._stack.close()

    async def _make_key(self, number: int) -> ApiKey:
        tenant = await keep_tenant(self._database, weight=WEIGHTS[number], max_concurrent=MOST[number])
        return await keep_key(self._database, tenant)

    def _name(self) -> str:
        return f"n{next(self._names)}"

    def _open_call(self, tx: Tx, lease: Lease, room: Room | None) -> Begun:
        assert room is not None
        assert room.deployment is not None
        attempt_id = self._name()
        work.begin_attempt(
            tx,
            lease.task.id,
            token=lease.token,
            attempt_id=attempt_id,
            deployment=room.name(test=lease.task.test),
            clips_asked=1,
            now_ms=self._clock.now_ms(),
        )
        return Begun(attempt_id, room, room.deployment)

    @rule(tenant=TENANTS, lane=st.sampled_from(LANES), times=st.integers(1, 5))
    def submit(self, tenant: int, lane: tuple[ModelKind, bool], times: int) -> None:
        for _ in range(times):
            number, now_ms = next(self._names), self._clock.now_ms()
            made = {"id": f"task_{number:06}", "model": lane[0], "test": lane[1], "created_at_ms": now_ms}
            task = self._run(keep_task(self._database, self._keys[tenant], **made))
            waiting = Waiting(task.id, number, tenant, lane, now_ms, now_ms, state="new")
            self._reference.tasks.append(waiting)
            self._reference.joins(waiting)

    @rule(times=st.integers(1, 4))
    def claim(self, times: int) -> None:
        for _ in range(times):
            now_ms = self._clock.now_ms()
            expected = self._reference.next(now_ms)
            claimed, idle = self._run(self._database.write(lambda tx: self._claimer.take_next(tx, 1)))
            assert [lease.task.id for lease, _ in claimed] == ([expected.id] if expected else [])
            if expected is None:
                assert idle == all(task.state != "queued" for task in self._reference.tasks)
                return
            ((lease, begun),) = claimed
            self._leases[lease.task.id] = lease
            name = begun.room.name(test=lease.task.test)
            assert (
                name == EMULATOR
                if expected.lane[1]
                else name in self._reference.free(now_ms)[lease.task.model]
            )
            self._reference.starts(expected, name, now_ms)

    def _running(self, data: Any) -> Waiting:
        return data.draw(st.sampled_from([t for t in self._reference.tasks if t.state == "running"]))

    @precondition(lambda self: self._leases)
    @rule(data=st.data(), state=st.sampled_from([TaskState.SUCCEEDED, TaskState.FAILED]))
    def finish(self, data: Any, state: TaskState) -> None:
        task = self._running(data)
        lease = self._leases.pop(task.id)

        def write(tx: Tx) -> None:
            self._end_calls(tx, task.id)
            work.finish(tx, task.id, token=lease.token, state=state, error=None, now_ms=self._clock.now_ms())

        self._run(self._database.write(write))
        task.state = "ended"

    @precondition(lambda self: self._leases)
    @rule(data=st.data(), delay_ms=st.sampled_from([0, 0, 5_000, 90_000]))
    def put_back(self, data: Any, delay_ms: int) -> None:
        task = self._running(data)
        lease, now_ms = self._leases.pop(task.id), self._clock.now_ms()
        self._run(
            self._database.write(
                lambda tx: work.requeue(
                    tx,
                    task.id,
                    token=lease.token,
                    not_before_ms=now_ms + delay_ms,
                    reason="busy",
                    now_ms=now_ms,
                )
            )
        )
        self._reference.joins(task)
        task.not_before_ms = now_ms + delay_ms

    @precondition(lambda self: any(task.state == "queued" for task in self._reference.tasks))
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        task = data.draw(st.sampled_from([t for t in self._reference.tasks if t.state == "queued"]))
        change = f"UPDATE tasks SET state = 'canceled' WHERE id = '{task.id}'"
        self._run(self._database.write(lambda tx: tx.exec_driver_sql(change)))
        task.state = "ended"

    @rule(seconds=st.sampled_from([0, 1, 6, 30, 61]))
    def wait(self, seconds: int) -> None:
        self._clock.advance(seconds)

    @rule(tenant=TENANTS)
    def suspend_or_resume(self, tenant: int) -> None:
        self._reference.suspended ^= {tenant}
        status = "suspended" if tenant in self._reference.suspended else "active"
        change = f"UPDATE tenants SET status = '{status}' WHERE id = '{self._keys[tenant].tenant_id}'"
        self._run(self._database.write(lambda tx: tx.exec_driver_sql(change)))

    @rule(name=st.sampled_from([each.name for each in DEPLOYMENTS]), seconds=st.integers(1, 40))
    def cool_down(self, name: str, seconds: int) -> None:
        until_ms = self._clock.now_ms() + seconds * 1000
        self._run(
            self._database.write(lambda tx: deployments.keep_health(tx, name, Health(until_ms, busy_count=1)))
        )
        self._reference.cooling[name] = until_ms

    def _end_calls(self, tx: Tx, task_id: str) -> None:
        for (attempt_id,) in tx.exec_driver_sql(
            f"SELECT id FROM attempts WHERE task_id = '{task_id}' AND state = 'started'"
        ).all():
            work.end_attempt(
                tx, task_id, AttemptEnd(attempt_id, "succeeded", ()), now_ms=self._clock.now_ms()
            )

    def _run(self, awaitable: Any) -> Any:
        return self._loop.run_until_complete(awaitable)


@contextmanager
def new_file(migrated: Path) -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as directory:
        yield copy_of_file(migrated, Path(directory))


def run(make_store: Callable[[], AbstractContextManager[Store]], examples: int) -> None:
    machine = type("Machine", (SchedulerMachine,), {"make_store": staticmethod(make_store)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
def test_the_task_that_is_started_is_the_one_whose_turn_it_is(migrated_file: Path) -> None:
    run(partial(new_file, migrated_file), EXAMPLES)


@pytest.mark.slow
def test_so_it_is_on_postgres_too(postgres_server: Server) -> None:
    run(partial(copy_of_template, postgres_server), EXAMPLES // 6)
