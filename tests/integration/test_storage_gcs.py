"""Cloud Storage when the network, Google or somebody else gets in the way."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from google.cloud import storage as google_storage

from gateway.errors import AttemptFault, ErrorCode, StorageError, UpstreamError
from gateway.storage.api import GoogleApi
from gateway.storage.gcs import GcsStorage
from gateway.storage.signers import KeyFileSigner
from tests.gcs import BUCKET, STEP, TOKEN, Fault, Gcs, key_file_credentials, start_gcs
from tests.stores import FixedToken, Store, open_gcs_store

NAME = "t/0.wav"
KEY = f"clips/{NAME}"
CHUNK = 2 * STEP
DATA = random.Random(5).randbytes(3 * CHUNK + 12_345)  # four chunks


@pytest.fixture(scope="module")
def gcs() -> Iterator[Gcs]:
    with start_gcs() as started:
        yield started


@pytest.fixture
async def store(gcs: Gcs) -> AsyncIterator[Store]:
    async with open_gcs_store(gcs, prefix="clips") as opened:
        yield opened


def chunk_ranges(gcs: Gcs) -> list[str]:
    return [call.headers["content-range"] for operation, call in gcs.calls if operation == "chunk"]


async def test_an_undisturbed_upload_sends_each_byte_once(store: Store, gcs: Gcs):
    await store.put(NAME, DATA)
    total = len(DATA)
    assert chunk_ranges(gcs) == [
        f"bytes 0-{CHUNK - 1}/*",
        f"bytes {CHUNK}-{2 * CHUNK - 1}/*",
        f"bytes {2 * CHUNK}-{3 * CHUNK - 1}/*",
        f"bytes {3 * CHUNK}-{total - 1}/{total}",
    ]


async def test_a_small_object_costs_one_request(store: Store, gcs: Gcs):
    await store.put(NAME, b"x" * 1000)
    assert [operation for operation, _ in gcs.calls] == ["multipart"]


async def test_the_object_carries_what_a_browser_needs(store: Store, gcs: Gcs):
    await store.put("t/größe +.wav", DATA, task="t-1")
    stored = gcs.stored("clips/t/größe +.wav")
    assert stored["contentType"] == "audio/wav"
    assert stored["cacheControl"] == "private, max-age=3600, immutable"
    assert stored["contentDisposition"] == "inline; filename*=UTF-8''gr%C3%B6%C3%9Fe%20%2B.wav"
    assert stored["metadata"]["task"] == "t-1"


@pytest.mark.parametrize(
    "fault",
    [
        Fault.UNAVAILABLE,
        Fault.BUSY,
        Fault.CUT,
        Fault.DONE_THEN_UNAVAILABLE,
        Fault.DONE_THEN_CUT,
        Fault.KEEP_PART,
        Fault.KEEP_PART_THEN_CUT,
        Fault.KEEP_NOTHING,
    ],
)
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
async def test_an_upload_survives_trouble_at_any_chunk(store: Store, gcs: Gcs, fault: Fault, nth: int):
    gcs.script("chunk", nth, fault)
    await store.put(NAME, DATA)
    assert (await store.get(NAME)).content == DATA
    assert gcs.names() == [KEY]


async def test_an_upload_survives_trouble_everywhere_at_once(store: Store, gcs: Gcs):
    gcs.script("start", 1, Fault.CUT)
    gcs.script("chunk", 1, Fault.KEEP_PART_THEN_CUT)
    gcs.script("query", 1, Fault.UNAVAILABLE)
    gcs.script("query", 2, Fault.CUT)
    gcs.script("chunk", 3, Fault.BUSY)
    gcs.script("chunk", 4, Fault.KEEP_PART)
    gcs.script("chunk", 5, Fault.DONE_THEN_CUT)
    await store.put(NAME, DATA)
    assert (await store.get(NAME)).content == DATA


async def test_what_was_kept_is_not_sent_again(store: Store, gcs: Gcs):
    gcs.script("chunk", 2, Fault.KEEP_PART_THEN_CUT)
    await store.put(NAME, DATA)
    kept = CHUNK + STEP
    assert chunk_ranges(gcs)[2].startswith(f"bytes {kept}-")


async def test_a_pause_is_jittered_and_no_shorter_than_google_asks(store: Store, gcs: Gcs):
    gcs.script("chunk", 1, Fault.BUSY)
    gcs.script("chunk", 3, Fault.UNAVAILABLE)
    await store.put(NAME, DATA)
    asked, own = store.clock.slept_s
    assert 7 <= asked <= 7.5
    assert 0 < own <= 0.5


@pytest.mark.parametrize("operation", ["start", "multipart"])
@pytest.mark.parametrize(
    "fault", [Fault.UNAVAILABLE, Fault.CUT, Fault.DONE_THEN_UNAVAILABLE, Fault.DONE_THEN_CUT]
)
async def test_a_single_request_is_repeated_safely(store: Store, gcs: Gcs, operation: str, fault: Fault):
    data = DATA if operation == "start" else b"small"
    gcs.script(operation, 1, fault)
    await store.put(NAME, data)
    assert (await store.get(NAME)).content == data


@pytest.mark.parametrize("operation", ["start", "chunk", "multipart"])
@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.CUT])
async def test_trouble_without_end_becomes_a_storage_error(
    store: Store, gcs: Gcs, operation: str, fault: Fault
):
    for nth in range(1, 30):
        gcs.script(operation, nth, fault)
        gcs.script("query", nth, fault)
    with pytest.raises(StorageError, match="did not") as raised:
        await store.put(NAME, b"small" if operation == "multipart" else DATA)
    assert raised.value.code is ErrorCode.STORAGE_UNAVAILABLE
    assert gcs.names() == []
    assert len(store.clock.slept_s) == 6


async def test_a_server_that_keeps_nothing_does_not_hold_us_for_ever(store: Store, gcs: Gcs):
    for nth in range(1, 30):
        gcs.script("chunk", nth, Fault.KEEP_NOTHING)
    with pytest.raises(StorageError, match="keeps nothing"):
        await store.put(NAME, DATA)
    assert gcs.count("chunk") == 7


@pytest.mark.parametrize("nth", [1, 4])
async def test_a_lost_session_is_a_storage_error(store: Store, gcs: Gcs, nth: int):
    gcs.script("chunk", nth, Fault.GONE)
    with pytest.raises(StorageError, match="lost the upload"):
        await store.put(NAME, DATA)
    assert gcs.names() == []


@pytest.mark.parametrize(("operation", "nth"), [("start", 1), ("chunk", 1), ("chunk", 4), ("multipart", 1)])
async def test_a_refusal_says_why_and_is_not_repeated(store: Store, gcs: Gcs, operation: str, nth: int):
    gcs.script(operation, nth, Fault.DENIED)
    with pytest.raises(StorageError, match="may not write") as raised:
        await store.put(NAME, b"small" if operation == "multipart" else DATA)
    assert "Permission denied" in raised.value.internal
    assert gcs.count(operation) == nth


@pytest.mark.parametrize("data", [b"small" * 100, DATA])
async def test_a_damaged_object_is_noticed_and_removed(store: Store, gcs: Gcs, data: bytes):
    gcs.script("multipart" if data is not DATA else "chunk", 1 if data is not DATA else 4, Fault.DAMAGE)
    with pytest.raises(StorageError):
        await store.put(NAME, data)
    assert gcs.names() == []


@pytest.mark.parametrize("data", [b"small", DATA])
async def test_somebody_elses_object_is_not_taken_for_ours(store: Store, gcs: Gcs, data: bytes):
    """The final request's answer is lost, and meanwhile another object has the name."""
    gcs.put(KEY, b"theirs")
    gcs.script("multipart" if data is not DATA else "chunk", 1 if data is not DATA else 4, Fault.CUT)
    writer = await store.storage.create(NAME, content_type="audio/wav", metadata={})
    await writer.write(data)
    with pytest.raises(StorageError, match="exists already"):
        await writer.commit()
    await writer.abort()
    assert (await store.get(NAME)).content == b"theirs"


@pytest.mark.parametrize("data", [b"small", DATA])
async def test_abort_after_a_commit_of_unknown_outcome_removes_the_object(
    store: Store, gcs: Gcs, data: bytes
):
    operation, last = ("multipart", 1) if data is not DATA else ("chunk", 4)
    gcs.script(operation, last, Fault.DONE_THEN_CUT)
    for nth in range(1, 8):
        gcs.script("query", nth, Fault.UNAVAILABLE)
        gcs.script(operation, last + nth, Fault.UNAVAILABLE)
    writer = await store.storage.create(NAME, content_type="audio/wav", metadata={})
    await writer.write(data)
    with pytest.raises(StorageError):
        await writer.commit()
    assert gcs.names() == [KEY]
    await writer.abort()
    assert gcs.names() == []


async def test_an_upload_that_finished_unseen_is_recognised_although_its_session_is_gone(
    store: Store, gcs: Gcs
):
    gcs.script("chunk", 4, Fault.DONE_THEN_CUT)
    gcs.script("query", 1, Fault.GONE)
    await store.put(NAME, DATA)
    assert (await store.get(NAME)).content == DATA


async def test_abort_cancels_the_session(store: Store, gcs: Gcs):
    writer = await store.storage.create(NAME, content_type="audio/wav", metadata={})
    await writer.write(DATA)
    assert len(gcs.uploads) == 1
    await writer.abort()
    assert gcs.uploads == {}


async def test_abort_does_not_complain_when_google_is_away(store: Store, gcs: Gcs):
    writer = await store.storage.create(NAME, content_type="audio/wav", metadata={})
    await writer.write(DATA)
    gcs.script("cancel", 1, Fault.CUT)
    await writer.abort()


async def test_a_cancelled_commit_leaves_nothing_after_abort(store: Store, gcs: Gcs):
    writer = await store.storage.create(NAME, content_type="audio/wav", metadata={})
    await writer.write(DATA)
    commit = asyncio.create_task(writer.commit())
    await asyncio.sleep(0)
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    await writer.abort()
    assert gcs.names() == []


async def test_our_token_goes_to_no_other_host(store: Store, gcs: Gcs):
    """The front names `elsewhere.invalid` as the session's host: followed, nothing would arrive."""
    await store.put(NAME, DATA)
    assert {call.headers["host"] for _, call in gcs.calls} == {urlsplit(gcs.url).netloc}


async def test_delete_is_repeated_and_says_when_it_may_not(store: Store, gcs: Gcs):
    await store.put(NAME, b"x")
    gcs.script("delete", 1, Fault.CUT)
    gcs.script("delete", 2, Fault.DENIED)
    with pytest.raises(StorageError, match="could not be deleted"):
        await store.storage.delete(NAME)
    await store.storage.delete(NAME)
    assert gcs.names() == []


async def test_a_page_of_a_list_is_asked_for_again_after_trouble(store: Store, gcs: Gcs):
    await store.put(NAME, b"x")
    gcs.script("list", 1, Fault.UNAVAILABLE)
    gcs.script("list", 2, Fault.CUT)
    assert [each.name for each in (await store.storage.list("", limit=9)).objects] == [NAME]


@pytest.mark.parametrize(
    ("fault", "says"),
    [(Fault.DENIED, "could not be listed"), (Fault.RUBBISH, "unreadable"), (Fault.LIST, "unreadable")],
)
async def test_a_list_that_cannot_be_had_is_a_storage_error(store: Store, gcs: Gcs, fault: Fault, says: str):
    gcs.script("list", 1, fault)
    with pytest.raises(StorageError, match=says):
        await store.storage.list("", limit=9)


async def test_only_what_is_under_our_prefix_is_listed(store: Store, gcs: Gcs):
    await store.put(NAME, b"x")
    gcs.put(f"clips/{NAME}", b"somebody else's")
    gcs.put(NAME, b"somebody else's")
    assert [each.name for each in (await store.storage.list("", limit=9)).objects] == [NAME]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault.DENIED, "no permission on the bucket audio-bucket: grant .* Storage Object User"),
        (Fault.UNAVAILABLE, "answered with an error"),
        (Fault.CUT, "cannot be reached"),
    ],
)
async def test_check_says_what_is_wrong(store: Store, gcs: Gcs, fault: Fault, says: str):
    gcs.script("list", 1, fault)
    with pytest.raises(StorageError, match=says):
        await store.storage.check()


async def test_check_says_when_there_is_no_such_bucket(gcs: Gcs, store: Store):
    api = GoogleApi(store.http, FixedToken(), store.clock, random.Random(1))
    signer = KeyFileSigner(key_file_credentials())
    storage = GcsStorage(api, "no-such", "", signer, store.clock, base_url=gcs.url)
    with pytest.raises(StorageError, match="bucket no-such does not exist"):
        await storage.check()
    writer = await storage.create(NAME, content_type="audio/wav", metadata={})
    await writer.write(b"x")
    with pytest.raises(StorageError, match="does not exist"):
        await writer.commit()


async def test_a_refused_token_is_told_apart(gcs: Gcs):
    async with open_gcs_store(gcs, tokens=FixedToken("stale")) as store:
        with pytest.raises(StorageError, match="does not accept the gateway's credentials"):
            await store.storage.check()
        with pytest.raises(StorageError, match="does not accept the gateway's credentials"):
            await store.put(NAME, b"x")


async def test_without_a_token_the_reason_is_kept_for_the_log(gcs: Gcs):
    class NoTokens(FixedToken):
        async def token(self) -> str | None:
            raise UpstreamError(
                "no",
                code=ErrorCode.MODEL_MISCONFIGURED,
                fault=AttemptFault.MISCONFIGURED,
                internal="key revoked",
            )

    async with open_gcs_store(gcs, tokens=NoTokens()) as store:
        with pytest.raises(StorageError, match="want of Google credentials") as raised:
            await store.storage.check()
        assert raised.value.internal == "key revoked"


async def test_anonymous_calls_carry_no_credentials(gcs: Gcs):
    async with open_gcs_store(gcs, tokens=FixedToken(None)) as store:
        with pytest.raises(StorageError):
            await store.storage.check()
    assert "authorization" not in gcs.calls[-1][1].headers


@pytest.mark.parametrize("fault", [Fault.RUBBISH, Fault.LIST])
@pytest.mark.parametrize("data", [b"small", DATA])
async def test_an_unreadable_answer_is_a_storage_error(store: Store, gcs: Gcs, fault: Fault, data: bytes):
    operation, last = ("multipart", 1) if data is not DATA else ("chunk", 4)
    gcs.script(operation, last, fault)
    with pytest.raises(StorageError, match="unreadable"):
        await store.put(NAME, data)


@pytest.mark.parametrize(
    ("fault", "says"),
    [(Fault.ODD_RANGE, "unreadable"), (Fault.BOAST, "lost a part"), (Fault.FORGET, "lost a part")],
)
async def test_a_range_that_cannot_be_is_not_built_upon(store: Store, gcs: Gcs, fault: Fault, says: str):
    gcs.script("chunk", 2, fault)
    with pytest.raises(StorageError, match=says):
        await store.put(NAME, DATA)
    assert gcs.names() == []


async def test_a_session_that_does_not_say_where_is_refused(store: Store, gcs: Gcs):
    gcs.script("start", 1, Fault.RUBBISH)
    with pytest.raises(StorageError, match="refused the upload"):
        await store.put(NAME, DATA)


async def test_the_strict_front_refuses_a_link_for_another_method_or_host(store: Store, gcs: Gcs):
    """The checker itself: a link of ours is good for GET at its own host only."""
    await store.put(NAME, b"x")
    url = (await store.storage.signed_url(NAME)).url
    assert (await store.http.head(url)).status_code == 403
    other = url.replace("127.0.0.1", "localhost")
    assert (await store.http.get(other)).status_code == 403


async def test_the_strict_front_takes_googles_own_links(store: Store, gcs: Gcs):
    await store.put("t/a b ü+~.wav", b"x")
    credentials = key_file_credentials()
    client = google_storage.Client(project="p", credentials=credentials)
    try:
        blob = client.bucket(BUCKET).blob("clips/t/a b ü+~.wav")
        url = blob.generate_signed_url(version="v4", expiration=60, api_access_endpoint=gcs.url)
    finally:
        client.close()
    issued = parse_qs(urlsplit(url).query)["X-Goog-Date"][0]
    gcs.now_ms = Gcs.now_ms
    assert issued
    assert (await store.http.get(url)).content == b"x"


async def test_the_token_is_sent_as_bearer(store: Store, gcs: Gcs):
    await store.storage.check()
    assert gcs.calls[-1][1].headers["authorization"] == f"Bearer {TOKEN}"


async def test_a_connection_that_is_never_made_is_a_storage_error(store: Store):
    api = GoogleApi(store.http, FixedToken(), store.clock, random.Random(1))
    signer = KeyFileSigner(key_file_credentials())
    nowhere = GcsStorage(api, BUCKET, "", signer, store.clock, base_url="http://127.0.0.1:1")
    writer = await nowhere.create(NAME, content_type="audio/wav", metadata={})
    with pytest.raises(StorageError, match="did not answer") as raised:
        await writer.write(DATA)
    assert "ConnectError" in raised.value.internal
    assert isinstance(raised.value.__cause__, httpx.ConnectError)
    await writer.abort()
