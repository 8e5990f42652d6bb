"""One task from lease to end against the emulator: what is asked, paid, stored and told."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import soundfile

from gateway.bootstrap.services import open_services
from gateway.errors import InvalidRequest
from gateway.model import Route, TaskState
from gateway.settings import Settings
from gateway.tasks.pipeline import PipelinePolicy
from tests.emulator import RunningEmulator
from tests.workshop import MAX_ATTEMPTS, Workshop, open_workshop


@pytest.fixture
async def shop(settings: Settings, emulator: RunningEmulator) -> AsyncIterator[Workshop]:
    async with open_workshop(settings, emulator) as opened:
        yield opened


async def test_a_clip_is_made_stored_and_described(shop: Workshop) -> None:
    task = await shop.finish(await shop.submit())
    assert (task.state, task.error, task.attempt_count) == (TaskState.SUCCEEDED, None, 1)
    (clip,) = task.clips
    content = shop.file(clip.object_name).read_bytes()
    assert clip.object_name.startswith(f"{task.tenant_id}/{task.id}/0-")
    assert (clip.size_bytes, clip.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    facts = soundfile.info(shop.file(clip.object_name))
    assert (clip.sample_rate_hz, clip.channels, clip.duration_s) == (48_000, 2, 1.0)
    assert (facts.samplerate, facts.channels, facts.duration) == (48_000, 2, 1.0)
    assert (clip.mime_type, clip.seed) == ("audio/wav", None)
    assert shop.paid() == 1
    assert await shop.attempts() == [("succeeded", None, None, 1)]


async def test_several_clips_without_a_seed_are_one_call(shop: Workshop) -> None:
    task = await shop.finish(await shop.submit(sample_count=4))
    assert [clip.index for clip in task.clips] == [0, 1, 2, 3]
    assert len({clip.sha256 for clip in task.clips}) == 4
    assert shop.calls("sample_count", "seed") == [(4, None)]


async def test_several_clips_with_a_seed_are_a_call_each(shop: Workshop) -> None:
    task = await shop.finish(await shop.submit(sample_count=4, seed=40))
    assert [clip.seed for clip in task.clips] == [40, 41, 42, 43]
    assert shop.calls("sample_count", "seed") == [(1, 40), (1, 41), (1, 42), (1, 43)]
    assert shop.paid() == 4


async def test_seeds_go_round_at_their_end(shop: Workshop) -> None:
    task = await shop.finish(await shop.submit(sample_count=2, seed=2**32 - 1))
    assert [clip.seed for clip in task.clips] == [2**32 - 1, 0]
    assert shop.calls("seed") == [2**32 - 1, 0]


async def test_the_same_seed_gives_the_same_music(shop: Workshop) -> None:
    first = await shop.finish(await shop.submit(seed=5))
    second = await shop.finish(await shop.submit(seed=5))
    assert first.clips[0].sha256 == second.clips[0].sha256
    assert first.clips[0].object_name != second.clips[0].object_name


async def test_musicgen_takes_a_seeded_batch_in_one_call(shop: Workshop) -> None:
    task = await shop.finish(
        await shop.submit(route=Route.STANDARD, sample_count=2, seed=9, duration_s=1, negative_prompt="drums")
    )
    assert [(clip.seed, clip.duration_s, clip.sample_rate_hz) for clip in task.clips] == [
        (9, 1.0, 32_000),
        (10, 1.0, 32_000),
    ]
    assert shop.calls("sample_count", "seed", "duration_s") == [(2, 9, 1)]


async def test_missing_clips_are_asked_for_again_and_none_twice(shop: Workshop) -> None:
    shop.emulator.script({"fewer_clips": 1})
    submitted = await shop.submit(sample_count=4)
    assert await shop.step(submitted) is TaskState.QUEUED
    assert [clip.index for clip in (await shop.look(submitted)).clips] == [0]
    shop.clock.advance(30)
    task = await shop.finish(submitted)
    assert (task.state, task.error) == (TaskState.SUCCEEDED, None)
    assert [clip.index for clip in task.clips] == [0, 1, 2, 3]
    assert shop.calls("sample_count") == [4, 3]
    assert shop.emulator.calls()["clips"] == 4
    assert len(shop.stored()) == 4


async def test_an_entry_with_an_error_is_a_missing_clip(shop: Workshop) -> None:
    shop.emulator.script({"error_entries": [1]})
    task = await shop.finish(await shop.submit(sample_count=3))
    assert len(task.clips) == 3
    assert shop.calls("sample_count") == [3, 1]


@pytest.mark.parametrize("fault", ["empty_predictions", "no_predictions", "not_audio", "unknown_field"])
async def test_answers_without_music_end_at_the_limit(shop: Workshop, fault: str) -> None:
    shop.emulator.script({fault: True, "times": 9})
    task = await shop.finish(await shop.submit())
    assert task.state is TaskState.FAILED
    assert task.error is not None
    assert task.error.code == "model_answer_invalid"
    assert task.attempt_count == MAX_ATTEMPTS == shop.emulator.calls()["received"]
    assert shop.stored() == shop.unfinished() == []


async def test_what_passed_is_delivered_when_the_rest_never_comes(shop: Workshop) -> None:
    shop.emulator.script({"fewer_clips": 3}, {"empty_predictions": True, "times": 9})
    task = await shop.finish(await shop.submit(sample_count=4))
    assert task.state is TaskState.SUCCEEDED
    assert [clip.index for clip in task.clips] == [0, 1, 2]
    assert task.error is not None
    assert task.error.code == "model_answer_invalid"
    assert shop.calls("sample_count") == [4, 1, 1, 1]


@pytest.mark.parametrize("fault", ["wrong_field", "escaped", "whitespace"])
async def test_odd_answers_are_understood(shop: Workshop, fault: str) -> None:
    shop.emulator.script({fault: True, "chunk_bytes": 100_001})
    task = await shop.finish(await shop.submit(sample_count=2))
    assert len(task.clips) == 2
    assert shop.paid() == 1


@pytest.mark.parametrize("fault", ["not_audio", "short_wav", "bad_base64", "truncate_json"])
async def test_audio_that_is_none_is_asked_for_again(shop: Workshop, fault: str) -> None:
    shop.emulator.script({fault: True})
    task = await shop.finish(await shop.submit())
    assert (task.state, task.attempt_count) == (TaskState.SUCCEEDED, 2)
    assert shop.paid() == 2
    assert len(shop.stored()) == 1
    assert shop.unfinished() == []


async def test_recitation_is_tried_again_with_another_seed(shop: Workshop) -> None:
    shop.emulator.script({"preset": "recitation", "times": 2})
    submitted = await shop.submit()
    assert await shop.step(submitted) is TaskState.QUEUED
    assert await shop.pause_s(submitted) == 0
    task = await shop.finish(submitted)
    assert task.state is TaskState.SUCCEEDED
    assert (shop.emulator.calls()["received"], shop.paid()) == (3, 1)


async def test_recitation_again_and_again_fails(shop: Workshop) -> None:
    shop.emulator.script({"preset": "recitation", "times": 9})
    task = await shop.finish(await shop.submit())
    assert task.error is not None
    assert (task.state, task.error.code) == (TaskState.FAILED, "recitation_blocked")
    assert "negative_prompt" in task.error.detail
    assert shop.emulator.calls()["received"] == MAX_ATTEMPTS


async def test_recitation_of_the_callers_seed_fails_at_once(shop: Workshop) -> None:
    shop.emulator.script({"preset": "recitation", "times": 9})
    task = await shop.finish(await shop.submit(seed=3))
    assert task.error is not None
    assert (task.state, task.error.code) == (TaskState.FAILED, "recitation_blocked")
    assert shop.emulator.calls()["received"] == 1


@pytest.mark.parametrize("blocked", [0, 1, 3])
async def test_recitation_of_one_seed_leaves_the_others(shop: Workshop, blocked: int) -> None:
    shop.emulator.script(*[{} for _ in range(blocked)], {"preset": "recitation"})
    task = await shop.finish(await shop.submit(sample_count=4, seed=10))
    assert task.state is TaskState.SUCCEEDED
    assert [clip.seed for clip in task.clips] == [10 + n for n in range(4) if n != blocked]
    assert task.error is not None
    assert task.error.code == "recitation_blocked"
    assert shop.calls("seed") == [10, 11, 12, 13]


async def test_recitation_of_all_seeds_fails(shop: Workshop) -> None:
    shop.emulator.script({"preset": "recitation", "times": 9})
    task = await shop.finish(await shop.submit(sample_count=3, seed=10))
    assert task.state is TaskState.FAILED
    assert shop.calls("seed") == [10, 11, 12]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"preset": "safety"}, "safety_blocked"),
        ({"preset": "language"}, "language_unsupported"),
        ({"status": 400, "message": "Not this."}, "model_refused"),
        ({"preset": "not_found"}, "model_misconfigured"),
        ({"status": 403}, "model_misconfigured"),
        ({"status": 401}, "model_misconfigured"),
    ],
)
async def test_what_will_not_change_fails_at_once(shop: Workshop, fault: dict[str, Any], code: str) -> None:
    shop.emulator.script(fault | {"times": 9})
    task = await shop.finish(await shop.submit())
    assert task.error is not None
    assert (task.state, task.error.code, task.clips) == (TaskState.FAILED, code, ())
    assert (shop.emulator.calls()["received"], shop.paid()) == (1, 0)


async def test_a_busy_model_is_waited_for_as_long_as_it_says(shop: Workshop) -> None:
    shop.emulator.script({"preset": "quota", "retry_after": 20})
    submitted = await shop.submit()
    assert await shop.step(submitted) is TaskState.QUEUED
    assert 20 <= await shop.pause_s(submitted) <= 21
    assert await shop.attempts() == [("failed", "busy", "model_busy", 0)]


async def test_a_busy_model_does_not_count(shop: Workshop) -> None:
    shop.emulator.script({"preset": "capacity", "times": 3 * MAX_ATTEMPTS}, {"status": 503})
    task = await shop.finish(await shop.submit())
    assert task.state is TaskState.SUCCEEDED
    assert shop.paid() == 1
    assert task.attempt_count == 3 * MAX_ATTEMPTS + 2


async def test_a_model_busy_until_the_deadline_fails_as_busy(shop: Workshop) -> None:
    shop.emulator.script({"preset": "quota", "retry_after": 290, "times": 9})
    task = await shop.finish(await shop.submit())
    assert task.error is not None
    assert (task.state, task.error.code) == (TaskState.FAILED, "model_busy")
    assert shop.emulator.calls()["received"] == 4  # the task's quarter of an hour


@pytest.mark.parametrize(
    ("fault", "state"),
    [({"status": 500}, "failed"), ({"cut_at_byte": 90_000}, "unknown"), ({"drop": True}, "unknown")],
)
async def test_a_failing_provider_is_tried_again(shop: Workshop, fault: dict[str, Any], state: str) -> None:
    shop.emulator.script(fault)
    task = await shop.finish(await shop.submit())
    assert task.state is TaskState.SUCCEEDED
    assert [attempt[0] for attempt in await shop.attempts()] == [state, "succeeded"]
    assert len(shop.stored()) == 1
    assert shop.unfinished() == []


@pytest.mark.parametrize(
    ("fault", "paid"),
    [({"status": 500}, 0), ({"cut_at_byte": 90_000, "reset": True}, 4), ({"drop": True}, 4)],
)
async def test_a_provider_that_goes_on_failing_ends_the_task(
    shop: Workshop, fault: dict[str, Any], paid: int
) -> None:
    shop.emulator.script(fault | {"times": 9})
    task = await shop.finish(await shop.submit())
    assert task.error is not None
    assert (task.state, task.error.code) == (TaskState.FAILED, "model_unavailable")
    assert (shop.emulator.calls()["received"], shop.paid()) == (MAX_ATTEMPTS, paid)


async def test_clips_that_arrived_before_a_cut_are_kept(shop: Workshop) -> None:
    shop.emulator.script({"cut_at_byte": 600_000})  # two clips of 256,000 bytes are through
    task = await shop.finish(await shop.submit(sample_count=4))
    assert task.state is TaskState.SUCCEEDED
    assert shop.calls("sample_count") == [4, 2]
    assert [attempt[3] for attempt in await shop.attempts()] == [2, 2]


async def test_a_silent_model_is_given_up(shop: Workshop) -> None:
    shop.pipeline._policy = PipelinePolicy(max_attempts=1, call_timeout_s=0.2)
    shop.emulator.script({"hang": True})
    task = await shop.finish(await shop.submit())
    assert task.error is not None
    assert (task.state, task.error.code) == (TaskState.FAILED, "model_timeout")
    assert await shop.attempts() == [("unknown", "unknown", "model_timeout", 0)]


async def test_a_provider_out_of_reach_costs_nothing(shop: Workshop, settings: Settings) -> None:
    unreachable = settings.model_copy(update={"vertex_url": "http://127.0.0.1:1"})
    async with open_services(unreachable, shop.clock) as services:
        submitted = await shop.submit()
        left = await services.runner._pipeline.run(await shop.claim(submitted))
        assert left.state is TaskState.QUEUED
    assert await shop.attempts() == [("failed", "not_sent", "model_unavailable", 0)]
    assert (await shop.claim(submitted)).attempts_spent == 0


async def test_the_standard_route_cuts_lyria_to_length(shop: Workshop) -> None:
    shop.emulator.settings(lyria_seconds=10.5)
    submitted = await shop.submit(route=Route.STANDARD, model="lyria-002", duration_s=10, seed=1)
    (clip,) = (await shop.finish(submitted)).clips
    assert clip.duration_s == 10.0
    samples, rate_hz = soundfile.read(shop.file(clip.object_name))
    assert len(samples) == 10 * rate_hz
    assert not samples[-1].any()
    assert clip.size_bytes == shop.file(clip.object_name).stat().st_size


async def test_what_no_model_can_do_leaves_no_trace(shop: Workshop) -> None:
    with pytest.raises(InvalidRequest, match="write it in English"):
        await shop.submit(route=Route.STANDARD, model="lyria-002", prompt="Спокойное пианино")
    assert await shop.rows("SELECT 1 FROM tasks") == []


async def test_calls_and_bytes_are_counted(shop: Workshop) -> None:
    shop.emulator.script({"fewer_clips": 1}, {"preset": "quota", "retry_after": 1}, {"status": 500})
    task = await shop.finish(await shop.submit(sample_count=2))
    text = shop.services.metrics.render().decode()
    for outcome in ("partial", "busy", "broken", "delivered"):
        assert (
            f'gateway_upstream_calls_total{{mode="live",model="lyria-002",outcome="{outcome}"}} 1.0' in text
        )
    stored = sum(clip.size_bytes for clip in task.clips)
    assert f'gateway_stored_bytes_total{{model="lyria-002"}} {float(stored)}' in text
    assert 'gateway_tasks_total{mode="live",model="lyria-002",state="succeeded"} 1.0' in text
