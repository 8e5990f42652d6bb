"""GET and HEAD /files/…: signed links to audio on the local disk, with ranges."""

import hashlib
import os
import shutil
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from gateway.settings import Settings
from tests.api import BASE_URL, Caller
from tests.clock import SetClock
from tests.emulator import RunningEmulator

pytestmark = pytest.mark.usefixtures("worker")


async def clip_of(caller: Caller) -> dict[str, object]:
    """One stored clip; its ``url`` is at the client's address."""
    task = await caller.ended((await caller.ask())["task_id"])
    parts = urlsplit(task["audio_url"])
    return {**task["outputs"][0], "url": f"{BASE_URL}{parts.path}?{parts.query}"}


@pytest.fixture
async def clip(caller: Caller) -> dict[str, object]:
    return await clip_of(caller)


@pytest.fixture
def link(clip: dict[str, object]) -> str:
    return str(clip["url"])


# 200


async def test_a_link_needs_no_key_and_gives_the_very_clip(
    client: httpx.AsyncClient, clip: dict[str, object]
) -> None:
    response = await client.get(str(clip["url"]))
    assert response.status_code == 200
    assert hashlib.sha256(response.content).hexdigest() == clip["sha256"]
    assert len(response.content) == clip["bytes"] == int(response.headers["content-length"])
    assert response.headers["content-type"] == clip["mime_type"] == "audio/wav"
    assert response.content[:4] == b"RIFF"


async def test_a_clip_of_many_blocks_comes_whole(
    client: httpx.AsyncClient, caller: Caller, emulator: RunningEmulator
) -> None:
    emulator.settings(lyria_seconds=4.0)
    task = await caller.ended((await caller.ask_lyria(sampleCount=1))["task_id"])
    (clip,) = task["outputs"]
    link = BASE_URL + task["audio_url"].removeprefix(task["status_url"].partition("/api/")[0])
    content = (await client.get(link)).content
    assert len(content) == clip["bytes"] > 2 * 256 * 1024
    assert hashlib.sha256(content).hexdigest() == clip["sha256"]
    middle = await client.get(link, headers={"Range": "bytes=100000-599999"})
    assert middle.content == content[100_000:600_000]


async def test_any_page_may_play_it_and_none_may_guess_its_type(client: httpx.AsyncClient, link: str) -> None:
    headers = (await client.get(link)).headers
    assert headers["access-control-allow-origin"] == "*"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"].startswith('inline; filename="0-')
    assert headers["cache-control"].startswith("private")


async def test_head_tells_size_and_type_without_the_bytes(client: httpx.AsyncClient, link: str) -> None:
    described, given = await client.head(link), await client.get(link)
    assert (described.status_code, described.content) == (200, b"")
    ignored = {"x-request-id"}
    assert {k: v for k, v in described.headers.items() if k not in ignored} == {
        k: v for k, v in given.headers.items() if k not in ignored
    }


@pytest.mark.parametrize("header", ["bytes=0-1,5-6", "lines=1-2", "bytes=x", "bytes=9-2", "bytes=-", ""])
async def test_what_is_not_one_range_is_answered_with_the_whole(
    client: httpx.AsyncClient, link: str, header: str
) -> None:
    response = await client.get(link, headers={"Range": header})
    assert (response.status_code, response.content[:4]) == (200, b"RIFF")


async def test_a_range_of_what_was_another_file_is_answered_with_the_whole(
    client: httpx.AsyncClient, link: str
) -> None:
    response = await client.get(link, headers={"Range": "bytes=0-3", "If-Range": '"another"'})
    assert response.status_code == 200


# 206


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [("bytes=0-3", 0, 4), ("bytes=100-", 100, None), ("bytes=-7", -7, None), ("bytes=0-99999999", 0, None)],
)
async def test_a_range_is_answered_with_that_part(
    client: httpx.AsyncClient, clip: dict[str, object], header: str, start: int, stop: int | None
) -> None:
    link = str(clip["url"])
    whole = (await client.get(link)).content
    response = await client.get(link, headers={"Range": header})
    assert response.status_code == 206
    assert response.content == whole[start:stop]
    first = start % len(whole)
    assert (
        response.headers["content-range"] == f"bytes {first}-{first + len(response.content) - 1}/{len(whole)}"
    )


async def test_a_range_of_the_file_known_by_its_tag_is_answered(client: httpx.AsyncClient, link: str) -> None:
    tag = (await client.head(link)).headers["etag"]
    response = await client.get(link, headers={"Range": "bytes=0-3", "If-Range": tag})
    assert response.status_code == 206


async def test_parts_put_together_are_the_whole(client: httpx.AsyncClient, clip: dict[str, object]) -> None:
    link, size, step = str(clip["url"]), int(str(clip["bytes"])), 50_000
    parts = [
        (await client.get(link, headers={"Range": f"bytes={at}-{at + step - 1}"})).content
        for at in range(0, size, step)
    ]
    assert hashlib.sha256(b"".join(parts)).hexdigest() == clip["sha256"]


async def test_head_of_a_range_is_answered_like_get(client: httpx.AsyncClient, link: str) -> None:
    response = await client.head(link, headers={"Range": "bytes=0-3"})
    assert (response.status_code, response.headers["content-length"], response.content) == (206, "4", b"")


# 416


async def test_a_range_beyond_the_end_is_told_the_size(
    client: httpx.AsyncClient, clip: dict[str, object]
) -> None:
    response = await client.get(str(clip["url"]), headers={"Range": f"bytes={clip['bytes']}-"})
    assert (response.status_code, response.json()["code"]) == (416, "range_not_satisfiable")
    assert response.headers["content-range"] == f"bytes */{clip['bytes']}"


# 403


async def test_a_link_that_was_altered_is_refused(client: httpx.AsyncClient, link: str) -> None:
    origin, _, rest = link.partition("/files/")
    path, _, query = rest.partition("?")
    altered = [
        f"{origin}/files/{path}",
        link.replace("signature=", "signature=x"),
        link.replace("expires=", "expires=9"),
        link.replace("expires=", "expires=-"),
        link.replace("expires=", "expires=%D9%A3"),
        f"{origin}/files/{path.replace('/0-', '/1-')}?{query}",
        f"{origin}/files/{path.replace('.wav', '.flac')}?{query}",
        f"{origin}/files/%2e%2e/{path}?{query}",
        f"{origin}/files//{path}?{query}",
        f"{origin}/files/%00?expires=1&signature=%ff",
        f"{origin}/files/?{query}",
    ]
    for url in altered:
        response = await client.get(url)
        assert (response.status_code, response.json()["code"]) == (403, "link_invalid"), url
        assert "exactly as it was given" in response.json()["detail"]


async def test_a_link_is_good_for_its_own_file_only(
    client: httpx.AsyncClient, caller: Caller, link: str
) -> None:
    other = str((await clip_of(caller))["url"])
    mixed = f"{other.partition('?')[0]}?{link.partition('?')[2]}"
    assert (await client.get(mixed)).status_code == 403


async def test_a_link_that_has_expired_says_so(
    client: httpx.AsyncClient, caller: Caller, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expires_s = int(parse_qs(urlsplit(link).query)["expires"][0])
    monkeypatch.setattr(caller.services.files, "_clock", SetClock(expires_s * 1000))
    response = await client.get(link)
    assert (response.status_code, response.json()["code"]) == (403, "link_invalid")
    assert "has expired" in response.json()["detail"]


# 404


async def test_audio_that_is_gone_is_not_found(
    client: httpx.AsyncClient, link: str, settings: Settings
) -> None:
    shutil.rmtree(settings.data_dir / "audio")
    response = await client.get(link)
    assert (response.status_code, response.json()["code"]) == (404, "file_not_found")


async def test_audio_that_goes_while_it_is_looked_up_is_not_found(
    client: httpx.AsyncClient, caller: Caller, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = caller.services.files
    assert files is not None
    resolve = files.resolve

    async def resolve_then_delete(name: str, expires: str, signature: str) -> object:
        found = await resolve(name, expires, signature)
        found.path.unlink()
        return found

    monkeypatch.setattr(files, "resolve", resolve_then_delete)
    response = await client.get(link)
    assert (response.status_code, response.json()["code"]) == (404, "file_not_found")


async def test_audio_that_is_cut_off_while_it_is_looked_up_ends_the_answer(
    client: httpx.AsyncClient, caller: Caller, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = caller.services.files
    assert files is not None
    resolve = files.resolve

    async def resolve_then_truncate(name: str, expires: str, signature: str) -> object:
        found = await resolve(name, expires, signature)
        os.truncate(found.path, 0)
        return found

    monkeypatch.setattr(files, "resolve", resolve_then_truncate)
    response = await client.get(link)
    assert (response.status_code, response.json()["code"]) == (404, "file_not_found")


# 503


async def test_a_damaged_record_is_ours_to_mend(
    client: httpx.AsyncClient, link: str, settings: Settings
) -> None:
    (about,) = (settings.data_dir / "audio").rglob("about.json")
    about.write_text("{")
    response = await client.get(link)
    assert (response.status_code, response.json()["code"]) == (503, "storage_unavailable")
