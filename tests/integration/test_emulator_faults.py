"""Every fault that can be scripted, seen from the other end of a real connection."""

import base64
import json
import re
import socket
import struct
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.emulator import RunningEmulator

LYRIA = "/v1/projects/p/locations/us-central1/publishers/google/models/lyria-002:predict"
MUSICGEN = "/v1/projects/p/locations/us-central1/endpoints/7:predict"


def ask(
    emulator: RunningEmulator, *, path: str = LYRIA, count: int = 1, timeout_s: float = 30
) -> httpx.Response:
    body = {"instances": [{"prompt": "warm jazz"}], "parameters": {"sample_count": count}}
    return httpx.post(emulator.url + path, json=body, timeout=timeout_s)


def entries(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json()["predictions"]
    return found


def sound(entry: dict[str, Any]) -> bytes:
    return base64.b64decode(entry["audioContent"], validate=True)


def raw_answer(emulator: RunningEmulator) -> tuple[bytes, bool]:
    """Head and body as they came, and whether the connection ended in a reset."""
    address = urlsplit(emulator.url)
    body = json.dumps({"instances": [{"prompt": "warm jazz"}]}).encode()
    head = f"POST {LYRIA} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    received = b""
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(head + body)
        try:
            while block := connection.recv(65_536):
                received += block
        except ConnectionResetError:
            return received, True
    return received, False


@pytest.mark.parametrize(
    ("preset", "status", "words", "outcome"),
    [
        ("recitation", 400, "recitation checks", "blocked"),
        ("safety", 400, "Prompt flag", "blocked"),
        ("language", 400, "Unsupported language", "blocked"),
        ("quota", 429, "Quota exceeded", "failed"),
        ("capacity", 429, "Resource exhausted", "failed"),
        ("not_found", 404, "was not found", "failed"),
        ("internal", 500, "Internal error", "failed"),
    ],
)
def test_a_preset_answers_in_googles_words_and_costs_nothing(emulator, preset, status, words, outcome):
    emulator.script({"preset": preset})
    answer = ask(emulator)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]
    assert (emulator.calls()[outcome], emulator.calls()["paid"]) == (1, 0)


def test_a_status_comes_with_its_message_and_retry_after(emulator):
    emulator.script({"status": 503, "message": "back soon", "retry_after": 7})
    answer = ask(emulator)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "7"
    assert answer.json()["error"] == {"code": 503, "message": "back soon", "status": "UNAVAILABLE"}


def test_a_status_may_come_as_a_page(emulator):
    emulator.script({"status": 502, "body": "<html>Bad Gateway</html>"})
    answer = ask(emulator)
    assert (answer.status_code, answer.text) == (502, "<html>Bad Gateway</html>")
    assert answer.headers["content-type"].startswith("text/html")


def test_a_fault_strikes_as_often_as_it_says_and_only_its_model(emulator):
    emulator.script({"status": 500, "times": 2, "model": "lyria-002"})
    assert ask(emulator, path=MUSICGEN).status_code == 200
    assert [ask(emulator).status_code for _ in range(3)] == [500, 500, 200]


def test_a_request_that_is_refused_uses_up_no_fault(emulator):
    emulator.script({"status": 500})
    assert httpx.post(emulator.url + LYRIA, json={}).status_code == 400
    assert emulator.queued_faults() == 1


def test_a_delay_holds_back_an_answer_or_an_error(emulator):
    emulator.script({"delay_s": 0.3}, {"delay_s": 0.3, "status": 500})
    answers = [ask(emulator), ask(emulator)]
    assert [answer.status_code for answer in answers] == [200, 500]
    assert all(answer.elapsed.total_seconds() >= 0.3 for answer in answers)


@pytest.mark.parametrize("cut_at", [0, 1, 1000, 200_000])
def test_a_cut_connection_delivers_exactly_so_many_bytes(emulator, cut_at):
    emulator.script({"cut_at_byte": cut_at})
    received, reset = raw_answer(emulator)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert len(body) == cut_at
    assert not reset
    report = emulator.calls()
    assert (report["cut"], report["paid"], report["answered"]) == (1, 1, 0)


def test_a_cut_beyond_the_end_delivers_everything_first(emulator):
    emulator.script({"cut_at_byte": 10**9})
    received, _ = raw_answer(emulator)
    head, _, body = received.partition(b"\r\n\r\n")
    assert len(body) == int(re.search(rb"content-length: (\d+)", head)[1])
    assert emulator.calls()["cut"] == 1


def test_a_cut_may_be_a_reset(emulator):
    emulator.script({"cut_at_byte": 1000, "reset": True})
    received, reset = raw_answer(emulator)
    assert reset
    assert len(received.partition(b"\r\n\r\n")[2]) <= 1000
    assert emulator.calls()["cut"] == 1


@pytest.mark.parametrize("reset", [False, True])
def test_a_dropped_connection_says_nothing_and_is_paid(emulator, reset):
    emulator.script({"drop": True, "reset": reset})
    assert raw_answer(emulator) == (b"", reset)
    assert (emulator.calls()["cut"], emulator.calls()["paid"]) == (1, 1)


def test_a_hanging_call_waits_for_the_client_to_leave_and_is_paid(emulator):
    emulator.script({"hang": True})
    with pytest.raises(httpx.ReadTimeout):
        ask(emulator, timeout_s=0.3)
    emulator.wait_until_running(0)
    assert (emulator.calls()["abandoned"], emulator.calls()["paid"]) == (1, 1)


def test_bad_base64_cannot_be_decoded(emulator):
    emulator.script({"bad_base64": True})
    first, second = entries(ask(emulator, count=2))
    with pytest.raises(ValueError, match="base64"):
        sound(first)
    assert sound(second).startswith(b"RIFF")


def test_truncated_json_ends_in_the_middle_of_a_whole_response(emulator):
    emulator.script({"truncate_json": True})
    answer = ask(emulator)
    assert int(answer.headers["content-length"]) == len(answer.content)
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_something_else_than_audio(emulator):
    emulator.script({"not_audio": True})
    assert sound(entries(ask(emulator))[0]).startswith(b"This is a text")


def test_a_short_file_claims_more_than_it_has(emulator):
    emulator.script({"short_wav": True})
    clip = sound(entries(ask(emulator))[0])
    (claimed,) = struct.unpack_from("<I", clip, 40)
    assert claimed == 48_000 * 4
    assert len(clip) - 44 == claimed // 2


def test_fewer_clips_than_asked_for_are_fewer_paid(emulator):
    emulator.script({"fewer_clips": 1}, {"fewer_clips": 9})
    assert len(entries(ask(emulator, count=3))) == 1
    assert len(entries(ask(emulator, count=2))) == 2
    assert emulator.calls()["clips"] == 3


def test_predictions_may_be_empty_or_missing(emulator):
    emulator.script({"empty_predictions": True}, {"no_predictions": True})
    assert entries(ask(emulator)) == []
    assert "predictions" not in ask(emulator).json()
    assert (emulator.calls()["paid"], emulator.calls()["clips"]) == (2, 0)


def test_some_entries_may_be_errors(emulator):
    emulator.script({"error_entries": [0, 2]})
    found = entries(ask(emulator, count=3))
    assert ["error" in entry for entry in found] == [True, False, True]
    assert sound(found[1]).startswith(b"RIFF")
    assert emulator.calls()["clips"] == 1


@pytest.mark.parametrize(
    ("effect", "name"), [("wrong_field", "bytesBase64Encoded"), ("unknown_field", "soundData")]
)
def test_the_audio_may_have_another_name(emulator, effect, name):
    emulator.script({effect: True})
    (entry,) = entries(ask(emulator))
    assert base64.b64decode(entry[name]).startswith(b"RIFF")
    assert "audioContent" not in entry


@pytest.mark.parametrize("path", [LYRIA, MUSICGEN])
def test_escapes_and_white_space_mean_the_same_audio(emulator, path):
    emulator.settings(default_seed=4)
    plain = sound(entries(ask(emulator, path=path))[0])
    emulator.script({"escaped": True, "whitespace": True, "chunk_bytes": 1013})
    odd = ask(emulator, path=path)
    assert rb"\u002b" in odd.content
    assert rb"\/" in odd.content
    assert sound(entries(odd)[0]) == plain


def test_a_body_may_come_byte_by_byte(emulator):
    emulator.settings(lyria_seconds=0.05)
    emulator.script({"chunk_bytes": 1})
    assert sound(entries(ask(emulator))[0]).startswith(b"RIFF")


def test_a_body_may_come_slowly(emulator):
    emulator.settings(lyria_seconds=0.05)
    emulator.script({"chunk_bytes": 6000, "chunk_delay_s": 0.1})
    answer = ask(emulator)
    assert len(answer.content) > 12_000
    assert answer.elapsed.total_seconds() >= 0.1
    assert sound(entries(answer)[0]).startswith(b"RIFF")


def test_a_client_that_leaves_in_the_middle_is_noticed_and_has_paid(emulator):
    emulator.settings(lyria_seconds=30)
    body = {"instances": [{"prompt": "warm jazz"}], "parameters": {"sample_count": 2}}
    with httpx.stream("POST", emulator.url + LYRIA, json=body, timeout=60) as answer:
        assert answer.status_code == 200
        next(answer.iter_bytes(1000))
    emulator.wait_until_running(0)
    assert (emulator.calls()["abandoned"], emulator.calls()["paid"]) == (1, 1)


def leave_after_sending(emulator: RunningEmulator, data: bytes) -> None:
    address = urlsplit(emulator.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(data)
        emulator.wait_until_running(1)


def test_a_client_that_leaves_before_it_has_asked_pays_nothing(emulator):
    leave_after_sending(
        emulator, f"POST {LYRIA} HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{{".encode()
    )
    emulator.wait_until_running(0)
    assert (emulator.calls()["abandoned"], emulator.calls()["paid"]) == (1, 0)


def test_a_client_that_leaves_while_it_waits_has_paid(emulator):
    emulator.script({"delay_s": 0.3})
    body = b'{"instances": [{"prompt": "x"}]}'
    head = f"POST {LYRIA} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    leave_after_sending(emulator, head + body)
    emulator.wait_until_running(0)
    assert (emulator.calls()["abandoned"], emulator.calls()["paid"]) == (1, 1)
    assert emulator.calls()["calls"][0]["http_status"] is None
