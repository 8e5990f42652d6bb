"""V4 signed URLs, held against google-cloud-storage's own for the same input."""

import asyncio
import base64
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from google.cloud.storage import Blob, Bucket, _signing
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import StorageError
from gateway.ports import SignedUrl
from gateway.storage.names import checked_name
from gateway.storage.signers import EmulatorSigner, KeyFileSigner
from gateway.storage.signing import MAX_LIFE_S, object_path, v4_url
from gateway.storage.urls import UrlCache
from tests.clock import SetClock
from tests.gcs import EMAIL, key_file_credentials, private_key

NOW_MS = 1_763_800_000_123  # 2025-11-22T08:26:40Z
BASE = "https://storage.googleapis.com"


def ours(name: str, *, base_url: str = BASE, life_s: int = 3600, disposition: str | None = None) -> str:
    unsigned = v4_url(
        base_url,
        object_path("audio-bucket", name),
        email=EMAIL,
        now_ms=NOW_MS,
        life_s=life_s,
        disposition=disposition,
    )
    return unsigned.signed(key_file_credentials().sign_bytes(unsigned.string_to_sign))


def googles(name: str, *, base_url: str = BASE, life_s: int = 3600, disposition: str | None = None) -> str:
    return _signing.generate_signed_url_v4(
        key_file_credentials(),
        resource=object_path("audio-bucket", name),
        expiration=life_s,
        api_access_endpoint=base_url,
        response_disposition=disposition,
        _request_timestamp="20251122T082640Z",
    )


@pytest.mark.parametrize(
    "name",
    [
        "a.wav",
        "tenant 1/task/0.wav",
        "ü/größe.wav",
        "a+b=c&d?.wav",
        "100%.wav",
        "~tilde_-.wav",
        "日本/曲.wav",
    ],
)
def test_the_url_is_googles_to_the_letter(name: str):
    assert ours(name) == googles(name)


def test_the_url_is_googles_with_another_host_life_and_disposition():
    options = {
        "base_url": "http://127.0.0.1:4443",
        "life_s": MAX_LIFE_S,
        "disposition": 'attachment; filename="ü +"',
    }
    assert ours("a b.wav", **options) == googles("a b.wav", **options)


@settings(max_examples=25)
@given(name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40))
def test_any_name_gives_googles_url(name: str):
    assert ours(name) == googles(name)


class NoClient:
    """What `Blob.generate_signed_url` looks at in a client."""

    universe_domain = "googleapis.com"
    api_endpoint = BASE
    _credentials = None


def test_google_quotes_the_object_path_as_we_do():
    """Not only the same signature for the same path: the same path for the same name."""
    client = NoClient()
    url = Blob("t 1/ü+~%.wav", Bucket(client, "audio-bucket")).generate_signed_url(
        version="v4",
        expiration=60,
        credentials=key_file_credentials(),
        client=client,
        api_access_endpoint=BASE,
    )
    assert urlsplit(url).path == object_path("audio-bucket", "t 1/ü+~%.wav")


def test_the_query_says_who_when_and_how_long():
    query = {key: value[0] for key, value in parse_qs(urlsplit(ours("a.wav")).query).items()}
    assert query["X-Goog-Date"] == "20251122T082640Z"
    assert query["X-Goog-Expires"] == "3600"
    assert query["X-Goog-Credential"] == f"{EMAIL}/20251122/auto/storage/goog4_request"


@pytest.mark.parametrize("life_s", [0, -1, MAX_LIFE_S + 1])
def test_a_life_that_google_refuses_is_refused_here(life_s: int):
    with pytest.raises(ValueError, match="1 to 604800 seconds"):
        ours("a.wav", life_s=life_s)


async def test_a_key_file_signs_with_its_own_key():
    signer = KeyFileSigner(key_file_credentials())
    signature = await signer.sign(b"payload")
    private_key().public_key().verify(signature, b"payload", padding.PKCS1v15(), hashes.SHA256())
    assert await signer.email() == EMAIL


async def test_the_emulators_signer_claims_to_be_nobody():
    signer = EmulatorSigner()
    assert await signer.email() == "nobody@emulator.invalid"
    assert base64.b16encode(await signer.sign(b"x"))


class Maker:
    """Makes links that live 100 s, one per release of `gate`."""

    def __init__(self, clock: SetClock) -> None:
        self.clock = clock
        self.made: list[str] = []
        self.broken = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, name: str) -> SignedUrl:
        await self.gate.wait()
        if self.broken:
            raise StorageError("cannot sign")
        self.made.append(name)
        return SignedUrl(f"{name}#{len(self.made)}", self.clock.now_ms() + 100_000)


@pytest.fixture
def maker() -> Maker:
    return Maker(SetClock())


async def test_concurrent_callers_share_one_signature(maker: Maker):
    cache = UrlCache(maker, maker.clock)
    maker.gate.clear()
    callers = [asyncio.create_task(cache.get("a")) for _ in range(10)]
    await asyncio.sleep(0)
    maker.gate.set()
    assert len(set(await asyncio.gather(*callers))) == 1
    assert maker.made == ["a"]


async def test_a_caller_that_hangs_up_does_not_spoil_it_for_the_others(maker: Maker):
    cache = UrlCache(maker, maker.clock)
    maker.gate.clear()
    first, second = (asyncio.create_task(cache.get("a")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    maker.gate.set()
    assert (await second).url == "a#1"


async def test_the_least_recently_used_link_goes_first(maker: Maker):
    cache = UrlCache(maker, maker.clock, capacity=2)
    for name in ("a", "b", "a", "c", "a", "b"):
        await cache.get(name)
    assert maker.made == ["a", "b", "c", "b"]


async def test_a_forgotten_link_is_made_anew(maker: Maker):
    cache = UrlCache(maker, maker.clock)
    await cache.get("a")
    cache.forget("a")
    cache.forget("never there")
    assert (await cache.get("a")).url == "a#2"


async def test_an_older_link_serves_while_no_new_one_can_be_made(maker: Maker):
    cache = UrlCache(maker, maker.clock)
    first = await cache.get("a")
    maker.broken = True
    maker.clock.advance(40)
    assert await cache.get("a") == first
    maker.clock.advance(1)
    maker.clock.advance(20)
    with pytest.raises(StorageError, match="cannot sign"):
        await cache.get("a")
    maker.broken = False
    assert (await cache.get("a")).url == "a#2"


async def test_closing_ends_what_is_being_signed(maker: Maker):
    cache = UrlCache(maker, maker.clock)
    maker.gate.clear()
    caller = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0)
    await cache.close()
    with pytest.raises(asyncio.CancelledError):
        await caller


def test_a_name_of_ours_is_taken_as_it_is():
    assert checked_name("tenant-1/task 2/ü+0.wav") == "tenant-1/task 2/ü+0.wav"
