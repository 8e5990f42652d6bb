"""Why a call must not be made: errors that come of no call, to be judged like those that do."""

from gateway.errors import AttemptFault, ErrorCode, StorageError, UpstreamError
from gateway.model import Task


def used_up() -> UpstreamError:
    return UpstreamError(
        "The model was called as often as one task may cost, and has not given all that was asked for.",
        code=ErrorCode.MODEL_UNAVAILABLE,
        fault=AttemptFault.UNKNOWN,
    )


def too_late() -> UpstreamError:
    return UpstreamError(
        "The task's time ran out before a model could finish it. Send it again.",
        code=ErrorCode.MODEL_TIMEOUT,
        fault=AttemptFault.NOT_SENT,
    )


def no_room() -> UpstreamError:
    return UpstreamError(
        "All that serves this model is busy.", code=ErrorCode.MODEL_BUSY, fault=AttemptFault.BUSY
    )


def not_configured(task: Task) -> UpstreamError:
    return UpstreamError(
        f"{task.model} was taken out of this gateway's configuration while the task waited.",
        code=ErrorCode.MODEL_MISCONFIGURED,
        fault=AttemptFault.MISCONFIGURED,
    )


def test_keys_off() -> UpstreamError:
    return UpstreamError(
        "Test keys are switched off on the gateway that took this task up. Ask your platform team.",
        code=ErrorCode.MODEL_MISCONFIGURED,
        fault=AttemptFault.MISCONFIGURED,
    )


def no_scratch(trouble: StorageError) -> UpstreamError:
    return UpstreamError(
        "There is no room at the moment for what the model would make. Try again later.",
        code=ErrorCode.STORAGE_FAILED,
        fault=AttemptFault.NOT_SENT,
        internal=trouble.internal or trouble.detail,
    )
