"""What follows a call to a model: come back later, or end. Pure; the one place where retries are decided."""

from dataclasses import dataclass

from gateway.errors import AttemptFault, ErrorCode, UpstreamError
from gateway.model import Task, TaskError, TaskState

_SHORTEST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0
#: These never reached a model, so they cost nothing and are not held against the task.
UNCOUNTED = frozenset({AttemptFault.BUSY, AttemptFault.NOT_SENT, AttemptFault.MISCONFIGURED})
_WAITS_FOR_SUPPLY = frozenset({AttemptFault.BUSY, AttemptFault.MISCONFIGURED})


@dataclass(frozen=True, slots=True)
class Finish:
    """The task ends. ``error`` explains a failure, or a success with clips missing."""

    state: TaskState
    error: TaskError | None


@dataclass(frozen=True, slots=True)
class Again:
    """Give the task back; it may be claimed again after ``delay_s``."""

    delay_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a task stands after a call. ``spent`` counts calls that may have been paid; ``tried`` all."""

    task: Task
    stored: int
    spent: int
    spent_limit: int
    tried: int
    left_s: float


@dataclass(frozen=True, slots=True)
class Supply:
    """What a model's deployments can do now: in how many seconds one takes a call again.

    ``another`` says that one other than that of the last call is not broken.
    """

    wait_s: float = 0.0
    another: bool = False


def after_call(
    progress: Progress, error: UpstreamError | None, jitter: float, supply: Supply = Supply()
) -> Finish | Again:
    """Decide. ``jitter`` is in [0, 1): full jitter keeps many tasks from coming back together.

    Called when clips are missing or all are there; ``error`` None with clips missing means that the model
    gave fewer than asked without a word.
    """
    if progress.stored == progress.task.spec.sample_count:
        return Finish(TaskState.SUCCEEDED, None)
    reason = error or missing()
    if _is_final(progress, reason, supply):
        return _end(progress, reason)
    delay_s = _delay_s(progress, reason, jitter, supply)
    if delay_s >= progress.left_s:
        return _end(progress, reason)
    return Again(delay_s, reason.fault.value)


def _is_final(progress: Progress, reason: UpstreamError, supply: Supply) -> bool:
    if reason.fault is AttemptFault.MISCONFIGURED:
        return not supply.another
    if reason.fault is AttemptFault.REFUSED:
        return True
    if reason.fault is AttemptFault.RECITATION and progress.task.spec.seed is not None:
        return True
    return reason.fault not in UNCOUNTED and progress.spent >= progress.spent_limit


def _end(progress: Progress, reason: UpstreamError) -> Finish:
    error = TaskError(reason.code.value, reason.detail)
    # What passed is delivered (and only that is charged); the reason for the rest goes with it.
    return Finish(TaskState.SUCCEEDED if progress.stored else TaskState.FAILED, error)


def _delay_s(progress: Progress, reason: UpstreamError, jitter: float, supply: Supply) -> float:
    ceiling = min(_LONGEST_DELAY_S, _SHORTEST_DELAY_S * (1 << min(progress.tried, 10)))
    if reason.fault in _WAITS_FOR_SUPPLY:
        # The deployment cools down for everybody; the task keeps its place, and another may take it before.
        return supply.wait_s
    if reason.fault is AttemptFault.RECITATION:
        # Another roll of the dice, not a server in trouble.
        return 0.0
    if reason.retry_after_s is not None:
        return reason.retry_after_s + jitter * ceiling
    return jitter * ceiling


def missing() -> UpstreamError:
    return UpstreamError(
        "The model gave fewer clips than asked, and no reason. Try again, or change the prompt.",
        code=ErrorCode.MODEL_ANSWER_INVALID,
        fault=AttemptFault.BROKEN,
    )
