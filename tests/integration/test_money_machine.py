"""Whatever happens, in whatever order: the books add up, nothing is below zero, no budget is overshot."""

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.accounts.authentication import Authenticator
from gateway.accounts.books import Books
from gateway.accounts.keyring import Keyring
from gateway.accounts.tenants import Tenants
from gateway.db import sweeps, work
from gateway.db.engine import Tx
from gateway.db.idempotency import RequestName
from gateway.db.locks import lock_tenant, lock_tenants_of_tasks
from gateway.db.work import AttemptEnd, Lease
from gateway.errors import BudgetSpent, Conflict, Forbidden, GatewayError, LimitReached
from gateway.model import ApiKey, BudgetWindow, MusicSpec, Principal, TaskError, TaskState
from gateway.tasks import charging
from gateway.tasks.admission import Defaults, admit
from gateway.tasks.archive import TaskArchive
from gateway.tasks.budget import CancelCharge
from gateway.tasks.ids import IdMaker
from tests.canceling import a_canceler
from tests.clock import SetClock
from tests.databases import Store, copy_of_file, copy_of_template, open_store
from tests.factories import ACT, a_clip, a_task, keep_key, keep_tenant
from tests.postgres import Server
from tests.queueing import claim_next

LEASE_MS = 60_000
EXAMPLES = 40
STEPS = 30
WAIT_MS = 600_000
ENDS = (TaskState.SUCCEEDED, TaskState.FAILED)
AMOUNT = st.integers(0, 2_000_000)


class MoneyMachine(RuleBasedStateMachine):
    """A gateway's transactions, one after another, with a worker that may die between any two."""

    make_store: Callable[[], AbstractContextManager[Store]]

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._store = self._stack.enter_context(type(self).make_store())
        self._loop = asyncio.new_event_loop()
        self._clock = SetClock()
        self._leases: list[Lease] = []
        self._suspended = [False, False]
        # What was made under a name, by tenant: the task, and how many clips it was asked for.
        self._made: dict[tuple[int, str], tuple[str, int]] = {}
        self._database = self._run(open_store(self._store))
        self._keys = [self._run(self._make_key(zone)) for zone in ("Europe/Berlin", "Pacific/Pago_Pago")]

    def teardown(self) -> None:
        self._run(self._database.close())
        self._loop.close()
        self._stack.close()

    # What may happen

    @initialize()
    def begin(self) -> None:
        """Each tenant has two tasks, one of them running, so that anything may come first."""
        for tenant in (0, 1):
            self.submit(tenant, 4)
            self.claim()
            self.submit(tenant, 1)

    @rule(tenant=st.integers(0, 1), clips=st.integers(1, 4), name=st.none() | st.sampled_from("ab"))
    def submit(self, tenant: int, clips: int, name: str | None = None) -> None:
        now_ms = self._clock.now_ms()
        task = a_task(
            self._keys[tenant],
            created_at_ms=now_ms,
            spec=MusicSpec("x", sample_count=clips),
            price_micros=clips * 60_000,
        )
        limits, before = self._limits(task.tenant_id), self._used(task.tenant_id)
        named = RequestName(name, str(clips)) if name is not None else None
        made = self._made.get((tenant, name)) if name is not None else None
        try:
            admitted = self._write(
                lambda tx: admit(
                    tx, task, deadline_at_ms=now_ms + WAIT_MS, defaults=Defaults(8, 5), name=named
                )
            )
        except LimitReached:
            return
        except Forbidden:
            assert self._suspended[tenant]  # noqa: PT017 - any step may be refused; this says why
            return
        except Conflict:
            assert made is not None  # noqa: PT017
            assert made[1] != clips  # noqa: PT017
            return
        except BudgetSpent as refusal:
            told = BudgetWindow(refusal.budget.window)
            held, spent = self._used(task.tenant_id)[told]
            fits = held + spent + refusal.budget.price_micros <= limits[told]
            assert not fits  # noqa: PT017 - any step may be refused; this says that it was rightly
            return
        if admitted.joined:
            assert (admitted.task.id, clips) == made
            assert self._used(task.tenant_id) == before
            return
        assert made is None
        assert not self._suspended[tenant]
        if name is not None:
            self._made[tenant, name] = (task.id, clips)
        for window, limit_micros in limits.items():
            assert sum(self._used(task.tenant_id)[window]) <= limit_micros

    @rule()
    def claim(self) -> None:
        now_ms = self._clock.now_ms()

        def write(tx: Tx) -> Lease | None:
            return claim_next(tx, secrets.token_hex(8), now_ms, LEASE_MS)

        lease = self._write(write)
        if lease is not None:
            self._leases.append(lease)

    @rule()
    def work(self) -> None:
        """An uneventful life, so that there are ends enough."""
        self.claim()
        if self._leases:
            self._write(partial(self._finish, self._leases.pop(), TaskState.SUCCEEDED, 1))

    @precondition(lambda self: self._leases)
    @rule(data=st.data(), state=st.sampled_from(ENDS), dies=st.booleans())
    def end(self, data: st.DataObject, state: TaskState, *, dies: bool) -> None:
        """A worker ends a task, twice if it hears no answer; if it dies half way, nothing has happened."""
        lease = data.draw(st.sampled_from(self._leases))
        count = lease.task.spec.sample_count
        clips = data.draw(st.integers(1, count)) if state is TaskState.SUCCEEDED else 0

        def write(tx: Tx) -> None:
            self._finish(lease, state, clips, tx)
            if dies:
                raise GatewayError("the lights went out")

        self._leases.remove(lease)
        for _ in range(2):
            with contextlib.suppress(GatewayError):
                self._write(write)

    @precondition(lambda self: self._leases)
    @rule(data=st.data(), forgets=st.booleans())
    def give_back(self, data: st.DataObject, *, forgets: bool) -> None:
        lease = data.draw(st.sampled_from(self._leases))
        if forgets:
            self._leases.remove(lease)
        now_ms = self._clock.now_ms()
        self._write(
            lambda tx: work.requeue(
                tx, lease.task.id, token=lease.token, not_before_ms=now_ms, reason="drain", now_ms=now_ms
            )
        )

    @rule(sleeps=st.booleans())
    def kill(self, *, sleeps: bool) -> None:
        """Every worker is gone and its leases run out; one that only slept will try its own all the same."""
        if not sleeps:
            self._leases.clear()
        self._clock.advance(LEASE_MS / 1000 + 1)
        self._write(lambda tx: work.expire_leases(tx, now_ms=self._clock.now_ms()))

    @rule(data=st.data(), charge=st.sampled_from(CancelCharge))
    def cancel(self, data: st.DataObject, charge: CancelCharge) -> None:
        """Somebody does not want a task any more, whatever has become of it; a second time costs nothing.

        Whoever works on it may not have heard yet, and will try to go on.
        """
        tenant = data.draw(st.integers(0, 1))
        key = self._keys[tenant]
        ids = self._store.fetch_now(f"SELECT id FROM tasks WHERE key_id = '{key.id}' ORDER BY tenant_seq")
        if not ids:
            return
        ((task_id,), principal) = data.draw(st.sampled_from(ids)), Principal(key.tenant_id, key.id)
        before, story = self._used(key.tenant_id), self._run(self._archive.tell(task_id))
        canceler = a_canceler(self._database, self._clock, charge)
        try:
            task = self._run(canceler.cancel(principal, task_id))
        except Conflict:
            assert story.task.state.terminal  # noqa: PT017 - any step may be refused; this says why
            assert self._used(key.tenant_id) == before
            return
        assert task.state is TaskState.CANCELED
        if story.task.state is TaskState.CANCELED:
            assert task == story.task
        elif charge is CancelCharge.FREE or not story.attempts:
            assert task.charged_micros == 0
        elif charge is CancelCharge.FULL and story.task.state is TaskState.RUNNING:
            assert task.charged_micros == task.price_micros
        else:
            assert task.charged_micros == task.price_micros // task.spec.sample_count * len(task.clips)
        after = self._used(key.tenant_id)
        assert self._run(canceler.cancel(principal, task_id)) == task
        assert self._used(key.tenant_id) == after

    @precondition(lambda self: self._leases)
    @rule(data=st.data(), delivers=st.booleans())
    def call(self, data: st.DataObject, *, delivers: bool) -> None:
        """A call is begun, and perhaps it gives a clip and others follow."""
        lease = data.draw(st.sampled_from(self._leases))
        task, now_ms, attempt = lease.task, self._clock.now_ms(), secrets.token_hex(8)

        def write(tx: Tx) -> None:
            stored = work.count_clips(tx, task.id)
            if not work.begin_attempt(
                tx,
                task.id,
                token=lease.token,
                attempt_id=attempt,
                deployment="d",
                clips_asked=1,
                now_ms=now_ms,
            ):
                return
            if delivers and stored + 1 < task.spec.sample_count:
                end = AttemptEnd(attempt, "succeeded", (a_clip(task, stored),))
                work.end_attempt(tx, task.id, end, now_ms=now_ms)

        self._write(write)

    @rule(dies=st.booleans())
    def sweep(self, *, dies: bool) -> None:
        """What waited too long ends; two sweepers at it end it once."""
        self._clock.advance(WAIT_MS / 1000)
        now_ms = self._clock.now_ms()
        ids = self._run(self._database.read(lambda tx: sweeps.list_overdue(tx, now_ms=now_ms, at_most=100)))

        def write(tx: Tx) -> None:
            lock_tenants_of_tasks(tx, ids)
            for task_id in ids:
                task = sweeps.expire_waiting(tx, task_id, error=TaskError("expired", "x"), now_ms=now_ms)
                if task is not None:
                    charging.conclude(tx, task, TaskState.EXPIRED, delivered=0, now_ms=now_ms)
            if dies:
                raise GatewayError("the lights went out")

        for _ in range(2):
            with contextlib.suppress(GatewayError):
                self._write(write)

    @rule(tenant=st.integers(0, 1))
    def suspend_or_activate(self, tenant: int) -> None:
        tenant_id = self._keys[tenant].tenant_id
        change = self._tenants.activate if self._suspended[tenant] else self._tenants.suspend
        self._run(change(ACT, tenant_id))
        self._suspended[tenant] = not self._suspended[tenant]

    @rule(
        tenant=st.integers(0, 1), name=st.none() | st.sampled_from("ab"), overlap_s=st.sampled_from([0, 60])
    )
    def rotate(self, tenant: int, name: str | None, overlap_s: int) -> None:
        """Whatever its secret is, a key is the same key: what it used and may use does not change."""
        key = self._keys[tenant]
        before = self._used(key.tenant_id)
        with contextlib.suppress(Conflict):
            rotated = self._run(self._keyring.rotate(ACT, key.id, overlap_s=overlap_s, name=name))
            authenticator = Authenticator(self._database, self._clock, lambda _: None)
            assert self._run(authenticator.authenticate(rotated.text)).key_id == key.id
        assert self._used(key.tenant_id) == before

    @rule()
    def restart(self) -> None:
        self._run(self._database.close())
        self._database = self._run(open_store(self._store))

    @rule(tenant=st.integers(0, 1), micros=st.integers(-200_000, 200_000))
    def adjust(self, tenant: int, micros: int) -> None:
        tenant_id = self._keys[tenant].tenant_id
        spent = self._used(tenant_id)[BudgetWindow.TOTAL][1]
        try:
            self._run(self._books.adjust(ACT, tenant_id, micros, reason="machine"))
        except GatewayError:
            assert micros == 0 or spent + micros < 0
        else:
            assert self._used(tenant_id)[BudgetWindow.TOTAL][1] == spent + micros

    @rule(tenant=st.integers(0, 1), window=st.sampled_from(BudgetWindow), limit=st.none() | AMOUNT)
    def set_budget(self, tenant: int, window: BudgetWindow, limit: int | None) -> None:
        tenant_id = self._keys[tenant].tenant_id
        before = self._used(tenant_id)
        self._run(self._tenants.set_budgets(ACT, tenant_id, {window: limit}))
        assert self._used(tenant_id) == before

    @rule(hours=st.sampled_from([1, 11, 24, 24 * 20]))
    def pass_time(self, hours: int) -> None:
        self._clock.advance(hours * 3600)

    # What must hold

    @invariant()
    def the_books_add_up(self) -> None:
        assert self._run(self._books.reconcile()) == ()

    @invariant()
    def nothing_is_below_zero(self) -> None:
        ((held,),) = self._store.fetch_now("SELECT min(held_micros) FROM balances")
        ((spent,),) = self._store.fetch_now("SELECT min(spent_micros) FROM balances WHERE period = 'total'")
        assert min(held or 0, spent or 0) >= 0

    @invariant()
    def no_task_is_ended_twice(self) -> None:
        ends = "SELECT task_id FROM ledger WHERE kind IN ('settle', 'release')"
        assert self._store.fetch_now(f"{ends} GROUP BY task_id HAVING count(*) > 1") == []

    # Help

    @property
    def _keyring(self) -> Keyring:
        return Keyring(self._database, self._clock, secrets.choice, b"r" * 32, lambda _: None)

    @property
    def _tenants(self) -> Tenants:
        return Tenants(self._database, self._clock, IdMaker(self._clock, secrets.token_bytes))

    @property
    def _books(self) -> Books:
        return Books(self._database, self._clock)

    @property
    def _archive(self) -> TaskArchive:
        return TaskArchive(self._database)

    async def _make_key(self, zone: str) -> ApiKey:
        tenant = await keep_tenant(self._database, zone=zone, price_ppm=1_234_567)
        await self._tenants.set_budgets(ACT, tenant.id, {BudgetWindow.MONTH: 6 * 74_074})
        return await keep_key(self._database, tenant)

    def _finish(self, lease: Lease, state: TaskState, clips: int, tx: Tx) -> None:
        """As the pipeline does it: whoever lost the lease writes nothing."""
        lock_tenant(tx, lease.task.tenant_id)
        if not work.holds(tx, lease.task.id, lease.token):
            return
        now_ms, task = self._clock.now_ms(), lease.task
        attempt = secrets.token_hex(8)
        work.begin_attempt(
            tx, task.id, token=lease.token, attempt_id=attempt, deployment="d", clips_asked=1, now_ms=now_ms
        )
        stored = tuple(a_clip(task, index) for index in range(work.count_clips(tx, task.id), clips))
        work.end_attempt(tx, task.id, AttemptEnd(attempt, "succeeded", stored), now_ms=now_ms)
        work.finish(tx, task.id, token=lease.token, state=state, error=None, now_ms=now_ms)
        charging.conclude(tx, task, state, delivered=work.count_clips(tx, task.id), now_ms=now_ms)

    def _limits(self, tenant_id: str) -> dict[BudgetWindow, int]:
        budgets = self._run(self._tenants.list_budgets(tenant_id))
        return {each.window: each.limit_micros for each in budgets if each.limit_micros is not None}

    def _used(self, tenant_id: str) -> dict[BudgetWindow, tuple[int, int]]:
        budgets = self._run(self._tenants.list_budgets(tenant_id))
        return {each.window: (each.used.held_micros, each.used.spent_micros) for each in budgets}

    def _run(self, awaitable: Any) -> Any:
        return self._loop.run_until_complete(awaitable)

    def _write(self, function: Any) -> Any:
        return self._run(self._database.write(function))


@contextmanager
def new_file(migrated: Path) -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as directory:
        yield copy_of_file(migrated, Path(directory))


def run(make_store: Callable[[], AbstractContextManager[Store]], examples: int) -> None:
    machine = type("Machine", (MoneyMachine,), {"make_store": staticmethod(make_store)})
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
def test_the_books_add_up_whatever_happens(migrated_file: Path) -> None:
    run(partial(new_file, migrated_file), EXAMPLES)


@pytest.mark.slow
def test_the_books_add_up_on_postgres_too(postgres_server: Server) -> None:
    run(partial(copy_of_template, postgres_server), EXAMPLES // 8)
