"""Log lines: what they carry, and what they must never carry."""

import io
import json
import logging
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounts import keys
from gateway.telemetry import (
    JsonFormatter,
    TextFormatter,
    configure_logging,
    log_context,
    redact,
    trace_names,
)

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def _root_logger() -> Iterator[None]:
    """Puts the root logger, and the quieted ones, back as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("httpx", "httpcore", "uvicorn.access", "uvicorn.error", "aiosqlite", "alembic"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def a_record(message: str = "hello", *args, **extra) -> logging.LogRecord:
    return logging.getLogger("gateway.test").makeRecord(
        "gateway.test", logging.INFO, "file.py", 1, message, args, None, extra=extra
    )


def as_json(record: logging.LogRecord, project: str = "") -> dict[str, object]:
    text = JsonFormatter(project).format(record)
    assert "\n" not in text
    return json.loads(text)


def failing() -> logging.LogRecord:
    record = a_record("it broke")
    error = ValueError(f"bad key {keys.mint(secrets.choice).text}")
    record.exc_info = (ValueError, error, None)
    return record


def test_a_json_line_has_the_fields_of_cloud_logging() -> None:
    record = a_record("took %d of %s", 3, "them")
    record.created = 1_700_000_000.25
    assert as_json(record) == {
        "severity": "INFO",
        "time": "2023-11-14T22:13:20.250000Z",
        "message": "took 3 of them",
        "logger": "gateway.test",
    }


@given(st.floats(0, 4e9))
def test_the_time_is_one_that_others_can_read(seconds: float) -> None:
    record = a_record()
    record.created = seconds
    read = datetime.fromisoformat(str(as_json(record)["time"]))
    assert abs(read - datetime.fromtimestamp(seconds, UTC)).total_seconds() < 0.001


def test_a_json_line_says_what_is_being_done() -> None:
    with log_context(request_id="r1", tenant_id="ten_1"), log_context(task_id="task_1", request_id="r2"):
        line = as_json(a_record(code="x", status=429))
    assert {name: line[name] for name in ("request_id", "tenant_id", "task_id", "code", "status")} == {
        "request_id": "r2",
        "tenant_id": "ten_1",
        "task_id": "task_1",
        "code": "x",
        "status": 429,
    }


def test_what_was_being_done_is_forgotten_afterwards() -> None:
    with pytest.raises(ZeroDivisionError), log_context(task_id="task_1"):
        raise ZeroDivisionError
    assert "task_id" not in as_json(a_record())


def test_empty_ids_are_left_out() -> None:
    with log_context(request_id="", trace=""):
        assert "request_id" not in as_json(a_record())


@pytest.mark.parametrize(("project", "name"), [("", TRACE), ("acme", f"projects/acme/traces/{TRACE}")])
def test_traces_are_named_so_that_logs_join_them(project: str, name: str) -> None:
    with log_context(**trace_names(TRACEPARENT)):
        line = as_json(a_record(), project)
    assert line["logging.googleapis.com/trace"] == name
    assert "trace" not in line


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True)])
def test_a_line_is_of_its_callers_span(flags: str, *, sampled: bool) -> None:
    with log_context(**trace_names(f"00-{TRACE}-00f067aa0ba902b7-{flags}")):
        line, text = as_json(a_record()), TextFormatter().format(a_record(http={"status": 200}))
    assert line["logging.googleapis.com/spanId"] == "00f067aa0ba902b7"
    assert line["logging.googleapis.com/trace_sampled"] is sampled
    assert text.endswith(f"trace={TRACE}")


@pytest.mark.parametrize(
    "header", [None, "", "00-abc", TRACEPARENT + "x", TRACEPARENT.upper(), "x" + TRACEPARENT]
)
def test_a_malformed_traceparent_has_no_trace(header: str | None) -> None:
    assert trace_names(header) == {}


def test_an_exception_is_part_of_its_line() -> None:
    line = as_json(failing())
    assert "ValueError: bad key" in str(line["exception"])


@pytest.mark.parametrize("formatter", [JsonFormatter(""), TextFormatter()])
def test_no_secret_of_a_key_is_logged(formatter: logging.Formatter) -> None:
    minted = keys.mint(secrets.choice)
    secret = minted.text.rsplit("_", 1)[1]
    for record in (a_record(f"key {minted.text} came"), a_record("x", presented=minted.text), failing()):
        assert secret not in formatter.format(record)
    with log_context(key=minted.text):
        line = formatter.format(a_record())
    assert secret not in line
    assert minted.public_id in line  # which key it was may be known


def test_no_secret_of_a_percent_encoded_key_is_logged() -> None:
    minted = keys.mint(secrets.choice)
    secret = minted.text.rsplit("_", 1)[1]
    for underscore in ("%5f", "%5F"):
        assert secret not in redact("GET /api/task-status/" + minted.text.replace("_", underscore))


@pytest.mark.parametrize("formatter", [JsonFormatter(""), TextFormatter()])
def test_no_signature_of_a_link_is_logged(formatter: logging.Formatter) -> None:
    for name in ("signature", "Signature", "X-Goog-Signature"):
        line = formatter.format(a_record(f"GET https://x/files/a.wav?expires=1&{name}=aBc-_9&z=1"))
        assert "aBc-_9" not in line
        assert "expires=1" in line
        assert "z=1" in line


@given(st.text())
def test_redacting_twice_is_redacting_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)


def test_ordinary_text_is_left_alone() -> None:
    assert redact("task task_01abc is queued; mg_live_short") == "task task_01abc is queued; mg_live_short"


def test_what_json_cannot_hold_is_logged_all_the_same() -> None:
    line = as_json(a_record("half a pair: \ud800", size=2**70, path=io, items={1, 2}))
    assert line["size"] == 2**70
    assert "module 'io'" in str(line["path"])
    assert str(line["message"]).startswith("half a pair")


def test_a_text_line_is_for_people() -> None:
    with log_context(task_id="task_1"):
        line = TextFormatter().format(a_record("task is %s", "queued", code="x", status=None))
    assert line[8:] == " info    task is queued task_id=task_1 code=x"


def test_a_text_line_carries_its_exception() -> None:
    assert "ValueError: bad key" in TextFormatter().format(failing())


@pytest.mark.usefixtures("_root_logger")
@pytest.mark.parametrize(
    ("log_format", "stream", "is_json"),
    [
        ("json", Terminal(), True),
        ("text", io.StringIO(), False),
        ("auto", Terminal(), False),
        ("auto", io.StringIO(), True),
    ],
)
def test_the_format_is_chosen_or_follows_the_terminal(
    log_format: str, stream: io.StringIO, is_json: bool
) -> None:
    configure_logging(log_format, "info", "", stream)
    logging.getLogger("gateway").info("hello")
    logging.getLogger("gateway").debug("too much")
    logging.getLogger("httpx").info("too much")
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("{") == is_json


@pytest.mark.usefixtures("_root_logger")
def test_lines_below_the_level_are_left_out() -> None:
    stream = io.StringIO()
    configure_logging("json", "error", "", stream)
    logging.getLogger("gateway").warning("not now")
    assert stream.getvalue() == ""
