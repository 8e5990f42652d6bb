"""What callers may do with tasks: submit one, see one, wait for one. Always within their own tenant."""

from dataclasses import dataclass, replace

from gateway.db import alerts
from gateway.db.engine import Database, Tx
from gateway.db.idempotency import RequestName
from gateway.errors import ErrorCode, Forbidden, NotFound
from gateway.metrics import Metrics
from gateway.model import KeyMode, Principal, Task, TaskState
from gateway.ports import Clock, SignedUrl, Storage
from gateway.tasks.admission import Admitted, Defaults, Verdict, admit, consider
from gateway.tasks.availability import Availability
from gateway.tasks.catalog import Catalog
from gateway.tasks.ids import IdMaker
from gateway.tasks.planning import Plan, make_plan
from gateway.tasks.runner import Runner
from gateway.tasks.signals import Signals, Watch
from gateway.tasks.snapshots import Snapshot, Snapshots
from gateway.tasks.submission import Submission
from gateway.webhooks.addresses import AddressPolicy
from gateway.webhooks.outbox import Announcer


@dataclass(frozen=True, slots=True)
class TaskPolicy:
    """``emulated`` says that no model here is Google's, ``test_keys`` that test keys may ask for music.

    A task has ``timeout_s``, and ``further_call_s`` more for each call beyond its first.
    """

    defaults: Defaults
    timeout_s: float
    further_call_s: float
    emulated: bool
    test_keys: bool


@dataclass(frozen=True, slots=True)
class Quote:
    """The verdict on a request that was not made, and how it would be served."""

    verdict: Verdict
    plan: Plan


class TaskService:
    """Tasks as callers see them."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        catalog: Catalog,
        runner: Runner,
        signals: Signals,
        metrics: Metrics,
        clock: Clock,
        new_id: IdMaker,
        addresses: AddressPolicy,
        announcer: Announcer,
        policy: TaskPolicy,
    ) -> None:
        self._database = database
        self._storage = storage
        self._catalog = catalog
        self._runner = runner
        self._signals = signals
        self._metrics = metrics
        self._clock = clock
        self._new_id = new_id
        self._addresses = addresses
        self._announcer = announcer
        self._policy = policy
        self._snapshots = Snapshots(database)
        self._availability = Availability(database, clock)

    async def submit(self, principal: Principal, submission: Submission, *, wait_s: float = 0.0) -> Admitted:
        """Accept a request: when this returns, the task is on disk and will be run, whatever happens here.

        With ``wait_s`` it returns when the task has ended, or at the latest after so many seconds.
        Raises `InvalidRequest`, `LimitReached`, `BudgetSpent`, `Forbidden`, `Conflict`, `Unauthorized` or
        `Unavailable`; then nothing was kept.
        """
        plan = await self._plan(principal, submission)
        task, deadline_at_ms = self._planned(principal, submission, plan)
        name = submission.name(principal.mode)
        if wait_s <= 0:
            return await self._admit(task, deadline_at_ms, name)
        # Watched from before it is there, so that its end cannot be missed.
        with self._signals.watch(task.id) as watch:
            admitted = await self._admit(task, deadline_at_ms, name)
            if not admitted.joined:
                watch.admitted()
                ended = await self._until_ended(watch, principal, admitted.task, wait_s)
                return replace(admitted, task=ended)
        return replace(admitted, task=await self.wait(principal, admitted.task.id, timeout_s=wait_s))

    async def _plan(self, principal: Principal, submission: Submission) -> Plan:
        """Raises `Forbidden` for a test key where those are switched off."""
        if principal.mode is KeyMode.TEST and not self._policy.test_keys:
            raise _test_keys_off()
        # The emulator, which serves test keys, is never broken; and whoever names a model means it.
        choosing = principal.mode is KeyMode.LIVE and submission.model is None and self._catalog.has_choice
        return make_plan(
            self._catalog,
            submission.spec,
            submission.route,
            model=submission.model,
            allowed=principal.allowed_models,
            broken=await self._availability.broken() if choosing else (),
        )

    def _planned(self, principal: Principal, submission: Submission, plan: Plan) -> tuple[Task, int]:
        """The task that a request would become, at list price, and its deadline; a test key's is free."""
        test = principal.mode is KeyMode.TEST
        if submission.webhook_url is not None:
            self._addresses.check_url(submission.webhook_url, "webhook_url")
        now_ms = self._clock.now_ms()
        task = Task(
            id=self._new_id("task"),
            tenant_id=principal.tenant_id,
            key_id=principal.key_id,
            route=submission.route,
            model=plan.deployment.kind,
            state=TaskState.QUEUED,
            spec=plan.spec,
            metadata=dict(submission.metadata),
            price_micros=0 if test else plan.price_micros,
            created_at_ms=now_ms,
            start_by_at_ms=_after(now_ms, submission.start_within_s),
            emulated=test or self._policy.emulated,
            test=test,
            webhook_url=submission.webhook_url,
            request_id=submission.request_id,
            traceparent=submission.traceparent,
        )
        timeout_s = self._policy.timeout_s + (plan.calls - 1) * self._policy.further_call_s
        return task, now_ms + round(timeout_s * 1000)

    async def _admit(self, task: Task, deadline_at_ms: int, name: RequestName | None) -> Admitted:
        defaults = self._policy.defaults
        async with self._database.turn(task.tenant_id):
            admitted = await self._runner.admit(
                task,
                lambda tx: self._tell_of_budgets(
                    tx, admit(tx, task, deadline_at_ms=deadline_at_ms, defaults=defaults, name=name)
                ),
            )
        if not admitted.joined:
            self._metrics.task_changed(task.model, TaskState.QUEUED, task.mode)
        return admitted

    def _tell_of_budgets(self, tx: Tx, admitted: Admitted) -> Admitted:
        """A budget near its end is told of once for each share of it, with the task that brought it there."""
        tenant_id, now_ms = admitted.task.tenant_id, admitted.task.created_at_ms
        for alert in admitted.alerts:
            if alerts.note_alert(tx, tenant_id, period=alert.period, percent=alert.percent, now_ms=now_ms):
                self._announcer.announce_budget(tx, tenant_id, alert, now_ms=now_ms)
        return admitted

    async def quote(self, principal: Principal, submission: Submission) -> Quote:
        """What `submit` would do with this request now; nothing is kept, held or counted.

        Raises `InvalidRequest`, `Forbidden`, `Unauthorized` or `Unavailable`; a limit that would refuse it is
        told in the quote.
        """
        plan = await self._plan(principal, submission)
        task, _ = self._planned(principal, submission, plan)
        verdict = await self._database.read(lambda tx: consider(tx, task, defaults=self._policy.defaults))
        return Quote(verdict, plan)

    async def get(self, principal: Principal, task_id: str) -> Task:
        """Raises `NotFound` for an unknown task and for another tenant's alike."""
        return (await self.snapshot(principal, task_id)).task

    async def snapshot(self, principal: Principal, task_id: str) -> Snapshot:
        """As `get`, with what was made of the task before."""
        snapshot = await self._snapshots.get(task_id)
        if snapshot is None or snapshot.task.tenant_id != principal.tenant_id:
            raise not_yours()
        return snapshot

    async def wait(self, principal: Principal, task_id: str, *, timeout_s: float) -> Task:
        """The task once it has ended, or as it stands when the time is up or the process is going away."""
        with self._signals.watch(task_id) as watch:
            task = await self.get(principal, task_id)
            return await self._until_ended(watch, principal, task, timeout_s)

    async def _until_ended(self, watch: Watch, principal: Principal, task: Task, timeout_s: float) -> Task:
        give_up_at_s = self._clock.monotonic_s() + timeout_s
        while True:
            left_s = give_up_at_s - self._clock.monotonic_s()
            if task.state.terminal or left_s <= 0 or self._signals.draining.is_set():
                return task
            # Whatever happens to the task is told, not its end alone.
            ended = await watch.wait(left_s)
            task = ended or await self.get(principal, task.id)

    async def links(self, task: Task) -> tuple[SignedUrl, ...]:
        """A signed URL for each clip, the same one until half of its life is gone. Raises `StorageError`."""
        return tuple([await self._storage.signed_url(clip.object_name) for clip in task.clips])


def _after(now_ms: int, seconds: int | None) -> int | None:
    return None if seconds is None else now_ms + seconds * 1000


def not_yours() -> NotFound:
    """What a caller is told of a task that there is not, and of another tenant's."""
    return NotFound("There is no such task of yours. Check the id you were given.")


def _test_keys_off() -> Forbidden:
    return Forbidden(
        "Test keys are switched off here; nothing was made. Use an `mg_live_` key, or ask your platform team "
        "to switch them on. What was made before can still be read with this key.",
        code=ErrorCode.TEST_KEYS_OFF,
    )
