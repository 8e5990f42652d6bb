"""What each answer of the provider's means to us (vertex facts §1.7), and what callers are told."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import AttemptFault, ErrorCode, UpstreamError
from gateway.upstream import faults
from gateway.upstream.faults import RETRY_AFTER_CAP_S, classify, classify_entry, public_text

NOW_MS = 1_800_000_000_000  # Fri, 15 Jan 2027 08:00:00 GMT
PREFIX = "Audio generation failed with the following error: "
RECITATION = (
    f"{PREFIX}All responses were blocked by recitation checks. Please modify your prompt and try again."
)
LANGUAGE = f"{PREFIX}Unsupported language detected. Please use one of the supported languages: en."


def envelope(message: str, code: int = 400, status: str = "INVALID_ARGUMENT", **more: object) -> str:
    return json.dumps({"error": {"code": code, "message": message, "status": status, **more}})


def meaning(status: int, body: str = "", headers: dict[str, str] | None = None) -> UpstreamError:
    return classify(status, body, headers or {}, now_ms=NOW_MS, hide=("secret-project", "tok-123"))


@pytest.mark.parametrize(
    ("message", "fault", "code"),
    [
        (RECITATION, AttemptFault.RECITATION, ErrorCode.RECITATION_BLOCKED),
        (f"{PREFIX}RECITATION", AttemptFault.RECITATION, ErrorCode.RECITATION_BLOCKED),
        (
            "2 of 4 responses blocked by recitation checks",
            AttemptFault.RECITATION,
            ErrorCode.RECITATION_BLOCKED,
        ),
        (f"{PREFIX}Music generation failed. Prompt flag…", AttemptFault.REFUSED, ErrorCode.SAFETY_BLOCKED),
        (f"{PREFIX}Blocked for safety reasons", AttemptFault.REFUSED, ErrorCode.SAFETY_BLOCKED),
        ("The prompt was stopped by safety filters", AttemptFault.REFUSED, ErrorCode.SAFETY_BLOCKED),
        (LANGUAGE, AttemptFault.REFUSED, ErrorCode.LANGUAGE_UNSUPPORTED),
        (f"{PREFIX}Something new.", AttemptFault.REFUSED, ErrorCode.MODEL_REFUSED),
        ("Invalid prompt: 'a recitation of safety rules'", AttemptFault.REFUSED, ErrorCode.MODEL_REFUSED),
    ],
)
def test_a_400_is_told_apart_by_its_text(message, fault, code):
    error = meaning(400, envelope(message))
    assert (error.fault, error.code, error.status) == (fault, code, 400)


@pytest.mark.parametrize(
    ("status", "fault", "code"),
    [
        (302, AttemptFault.MISCONFIGURED, ErrorCode.MODEL_MISCONFIGURED),
        (401, AttemptFault.MISCONFIGURED, ErrorCode.MODEL_MISCONFIGURED),
        (403, AttemptFault.MISCONFIGURED, ErrorCode.MODEL_MISCONFIGURED),
        (404, AttemptFault.MISCONFIGURED, ErrorCode.MODEL_MISCONFIGURED),
        (405, AttemptFault.MISCONFIGURED, ErrorCode.MODEL_MISCONFIGURED),
        (413, AttemptFault.REFUSED, ErrorCode.MODEL_REFUSED),
        (422, AttemptFault.REFUSED, ErrorCode.MODEL_REFUSED),
        (429, AttemptFault.BUSY, ErrorCode.MODEL_BUSY),
        (503, AttemptFault.BUSY, ErrorCode.MODEL_BUSY),
        (408, AttemptFault.UNKNOWN, ErrorCode.MODEL_TIMEOUT),
        (504, AttemptFault.UNKNOWN, ErrorCode.MODEL_TIMEOUT),
        (499, AttemptFault.UNKNOWN, ErrorCode.MODEL_UNAVAILABLE),
        (502, AttemptFault.UNKNOWN, ErrorCode.MODEL_UNAVAILABLE),
        (500, AttemptFault.BROKEN, ErrorCode.MODEL_UNAVAILABLE),
        (501, AttemptFault.BROKEN, ErrorCode.MODEL_UNAVAILABLE),
        (599, AttemptFault.BROKEN, ErrorCode.MODEL_UNAVAILABLE),
    ],
)
@pytest.mark.parametrize("body", ["", "<html>Error</html>", envelope("Something went wrong.")])
def test_other_statuses_speak_for_themselves(status, fault, code, body):
    error = meaning(status, body)
    assert (error.fault, error.code, error.status) == (fault, code, status)


def test_a_failed_precondition_is_the_operators_to_mend():
    error = meaning(400, envelope("Service agents are being provisioned.", status="FAILED_PRECONDITION"))
    assert error.fault is AttemptFault.MISCONFIGURED


def test_a_recited_work_comes_with_advice():
    detail = meaning(400, envelope(RECITATION)).detail
    assert "negative_prompt such as 'famous song" in detail
    assert "Change the prompt" in detail


def test_an_unknown_refusal_is_passed_on_in_the_providers_words():
    error = meaning(400, envelope("Prompt is too long:\n  3000\x00 characters"))
    assert error.detail == "The model refused the request: Prompt is too long: 3000 characters"


@pytest.mark.parametrize(
    "body", ["", "not json", "[]", "{}", '{"error":[]}', '{"error":{"message":7}}', "null"]
)
def test_a_refusal_without_words_is_still_a_refusal(body):
    error = meaning(400, body)
    assert (error.code, error.detail) == (ErrorCode.MODEL_REFUSED, "The model refused the request.")


@pytest.mark.parametrize("body", [f"[{envelope(LANGUAGE)}]", json.dumps({"error": LANGUAGE})])
def test_other_envelopes_are_understood(body):
    assert meaning(400, body).code is ErrorCode.LANGUAGE_UNSUPPORTED


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 504])
def test_neither_project_nor_token_nor_address_is_told(status):
    message = (
        "Permission denied on projects/secret-project/locations/us-central1/endpoints/99 for "
        "robot@secret-project.iam.gserviceaccount.com with Bearer tok-123 (project number 1234567), "
        "see https://console.cloud.google.com/x?project=secret-project or aiplatform.googleapis.com/quota"
    )
    error = meaning(status, envelope(message))
    for secret in ("secret-project", "tok-123", "1234567", "googleapis", "console", "robot", "endpoints/99"):
        assert secret not in error.detail
    assert "tok-123" not in (error.internal or "")


def test_the_log_gets_the_providers_words_bounded():
    error = meaning(500, envelope("z" * 5000))
    assert error.internal is not None
    assert error.internal.startswith("HTTP 500: zzz")
    assert len(error.internal) == 2000


def test_a_hidden_word_is_hidden_whole_and_alone():
    hidden = public_text(
        "acme-prod ran on acme-prod, not acme-prod2; p is for prompt", ["acme-prod", "p", ""]
    )
    assert hidden == "[hidden] ran on [hidden], not acme-prod2; p is for prompt"


@given(st.text())
def test_public_text_is_one_short_printable_line(text):
    public = public_text(text)
    assert len(public) <= 300
    assert public.isprintable()
    assert public == public.strip()


def test_a_long_text_ends_in_an_ellipsis():
    assert public_text("word " * 100).endswith("word…")


# Retry-After (RFC 9110 §10.2.3).


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("99999", RETRY_AFTER_CAP_S),
        ("9" * 400, RETRY_AFTER_CAP_S),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0),
        ("Fri, 15 Jan 2027 08:00:30 -0000", 30.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("Fri, 15 Jan 2037 07:00:00 GMT", RETRY_AFTER_CAP_S),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("9e99", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_CAP_S),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2027 00:00:00 -99999999999999", None),
        ("٣", None),
        ("nan", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_seconds_or_a_date_and_capped(status, value, seconds):
    assert meaning(status, "", {"Retry-After": value}).retry_after_s == seconds


def test_only_a_busy_model_says_when_to_come_back():
    assert meaning(500, "", {"retry-after": "7"}).retry_after_s is None


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [("12.5s", 12.5), ("12s", 12.0), ("9999s", RETRY_AFTER_CAP_S), ("12", None), (12, None)],
)
def test_google_may_put_the_delay_into_the_body(delay, seconds):
    details = [
        "x",
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "retryDelay": "1s"},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
    ]
    assert meaning(429, envelope("Resource exhausted.", 429, details=details)).retry_after_s == seconds


# Errors inside an answer.


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"message": RECITATION}, ErrorCode.RECITATION_BLOCKED),
        ({"code": 3, "message": LANGUAGE}, ErrorCode.LANGUAGE_UNSUPPORTED),
        ({"code": 400, "message": "No."}, ErrorCode.MODEL_REFUSED),
        ({"code": 8, "message": "Resource exhausted."}, ErrorCode.MODEL_BUSY),
        ({"code": 13, "message": "Internal."}, ErrorCode.MODEL_UNAVAILABLE),
        ({"code": 504}, ErrorCode.MODEL_TIMEOUT),
        ({"code": 77, "message": "?"}, ErrorCode.MODEL_REFUSED),
        ({"code": "INVALID", "message": "?"}, ErrorCode.MODEL_REFUSED),
        ({}, ErrorCode.MODEL_REFUSED),
        (RECITATION, ErrorCode.RECITATION_BLOCKED),
    ],
)
def test_an_error_entry_means_what_it_would_mean_alone(entry, code):
    assert classify_entry(entry).code is code


# Ours.


@pytest.mark.parametrize(
    ("error", "fault", "code"),
    [
        (faults.not_sent("refused"), AttemptFault.NOT_SENT, ErrorCode.MODEL_UNAVAILABLE),
        (faults.lost("reset"), AttemptFault.UNKNOWN, ErrorCode.MODEL_UNAVAILABLE),
        (faults.too_slow("30 s"), AttemptFault.UNKNOWN, ErrorCode.MODEL_TIMEOUT),
        (faults.misconfigured("no endpoint"), AttemptFault.MISCONFIGURED, ErrorCode.MODEL_MISCONFIGURED),
        (faults.bad_answer("not JSON"), AttemptFault.BROKEN, ErrorCode.MODEL_ANSWER_INVALID),
    ],
)
def test_trouble_without_a_status_has_its_own_faults(error, fault, code):
    assert (error.fault, error.code, error.status) == (fault, code, None)
    assert error.internal not in error.detail
