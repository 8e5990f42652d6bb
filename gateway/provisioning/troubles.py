"""What Google refused, said so that one knows what to do about it. Names are those of ``google.rpc.Code``."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.errors import AttemptFault, ErrorCode, UpstreamError

#: ``google.rpc.Code`` by its numbers, as an operation that failed has them.
CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
    *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)


@dataclass(frozen=True, slots=True)
class _Trouble:
    said: str
    code: ErrorCode
    fault: AttemptFault


_MISCONFIGURED = (ErrorCode.MODEL_MISCONFIGURED, AttemptFault.MISCONFIGURED)
_GONE = (ErrorCode.MODEL_UNAVAILABLE, AttemptFault.UNKNOWN)

_TROUBLES: Mapping[str, _Trouble] = {
    "UNAUTHENTICATED": _Trouble(
        "Google does not know who is calling: run `gcloud auth application-default login`.", *_MISCONFIGURED
    ),
    "PERMISSION_DENIED": _Trouble(
        "Google does not allow it: the account that runs this needs roles/aiplatform.user on the project, "
        "and roles/iam.serviceAccountUser on the --service-account; the Vertex AI API must be enabled.",
        *_MISCONFIGURED,
    ),
    "NOT_FOUND": _Trouble(
        "Google does not find what was named: check project, location, image, bucket and endpoint.",
        *_MISCONFIGURED,
    ),
    "INVALID_ARGUMENT": _Trouble(
        "Google does not take it so: mend the option that it names; not every machine goes with every "
        "accelerator.",
        *_MISCONFIGURED,
    ),
    "FAILED_PRECONDITION": _Trouble(
        "Google cannot do it as things stand: `gateway endpoint describe` shows them.", *_MISCONFIGURED
    ),
    "RESOURCE_EXHAUSTED": _Trouble(
        "Google has no room for it: ask for more quota of that accelerator for serving in that region (IAM & "
        "Admin, Quotas), or take another --accelerator or --location, or try later.",
        ErrorCode.MODEL_BUSY,
        AttemptFault.BUSY,
    ),
    "ABORTED": _Trouble("Something else changes the same at this moment: repeat the command later.", *_GONE),
    "UNAVAILABLE": _Trouble("Google could not be reached: repeat the command.", *_GONE),
    "DEADLINE_EXCEEDED": _Trouble("Google did not answer in time: repeat the command.", *_GONE),
}
_OTHER = _Trouble("Google failed: repeat the command, and see its logs if it fails again.", *_GONE)


def explain(status: str, message: str) -> UpstreamError:
    """The error for an answer with this status; Google's own words go beside it."""
    trouble = _TROUBLES.get(status, _OTHER)
    return UpstreamError(
        trouble.said, code=trouble.code, fault=trouble.fault, internal=f"{status}: {message}"
    )


def explain_operation(error: Mapping[str, object]) -> UpstreamError:
    """The same for the ``error`` of an operation, a ``google.rpc.Status``."""
    number = error.get("code")
    status = CODES[number] if isinstance(number, int) and number in range(len(CODES)) else "UNKNOWN"
    return explain(status, str(error.get("message", "no reason given")))
