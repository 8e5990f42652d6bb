"""Links signed through IAM, against a stand-in that signs with the account's real key."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from google.auth import impersonated_credentials

from gateway.errors import AttemptFault, ErrorCode, StorageError, UpstreamError
from gateway.google import MetadataCredentials
from gateway.storage.api import GoogleApi
from gateway.storage.gcs import GcsStorage
from gateway.storage.signers import IamSigner, KeyFileSigner, signer_for
from gateway.storage.signing import Signer
from tests.clock import SetClock
from tests.gcs import BUCKET, EMAIL, Fault, Gcs, key_file_credentials, start_gcs
from tests.stores import FixedToken, open_gcs_store

NAME = "t/ü +.wav"


@pytest.fixture(scope="module")
def gcs() -> Iterator[Gcs]:
    with start_gcs() as started:
        yield started


@pytest.fixture
async def api(gcs: Gcs, clock: SetClock) -> AsyncIterator[GoogleApi]:
    gcs.reset()
    async with httpx.AsyncClient(verify=False) as http:
        yield GoogleApi(http, FixedToken(), clock, random.Random(1))


async def email() -> str:
    return EMAIL


@pytest.fixture
def signer(gcs: Gcs, api: GoogleApi) -> IamSigner:
    return IamSigner(api, email, base_url=gcs.url)


async def test_a_link_signed_by_iam_opens_the_object(gcs: Gcs, signer: IamSigner):
    async with open_gcs_store(gcs, signer=signer) as store:
        await store.put(NAME, b"music")
        assert (await store.get(NAME)).content == b"music"


async def test_polls_share_one_iam_call_until_half_of_the_links_life(gcs: Gcs, signer: IamSigner):
    async with open_gcs_store(gcs, signer=signer) as store:
        await asyncio.gather(*(store.storage.signed_url(NAME) for _ in range(10)))
        await store.storage.signed_url(NAME)
        assert gcs.count("sign") == 1
        store.clock.advance(1801)
        await store.storage.signed_url(NAME)
        assert gcs.count("sign") == 2


async def test_an_old_link_serves_while_iam_is_away(gcs: Gcs, signer: IamSigner):
    async with open_gcs_store(gcs, signer=signer) as store:
        first = await store.storage.signed_url(NAME)
        store.clock.advance(1801)
        gcs.script("sign", 1, Fault.DENIED)
        assert await store.storage.signed_url(NAME) == first


async def test_iam_signs_as_the_key_file_does(signer: IamSigner):
    assert await signer.sign(b"payload") == await KeyFileSigner(key_file_credentials()).sign(b"payload")


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.BUSY, Fault.CUT, Fault.DONE_THEN_CUT])
async def test_passing_trouble_is_waited_out(gcs: Gcs, signer: IamSigner, clock: SetClock, fault: Fault):
    gcs.script("sign", 1, fault)
    gcs.script("sign", 2, fault)
    assert len(await signer.sign(b"payload")) == 256
    assert len(clock.slept_s) == 2


async def test_trouble_without_end_becomes_a_storage_error(gcs: Gcs, signer: IamSigner):
    for nth in range(1, 30):
        gcs.script("sign", nth, Fault.BUSY)
    with pytest.raises(StorageError, match="did not answer"):
        await signer.sign(b"payload")
    assert gcs.count("sign") == 7


async def test_a_refusal_says_which_role_is_missing(gcs: Gcs, signer: IamSigner):
    gcs.script("sign", 1, Fault.DENIED)
    with pytest.raises(StorageError, match="Service Account Token Creator on itself") as raised:
        await signer.sign(b"payload")
    assert "403" in raised.value.internal
    assert gcs.count("sign") == 1


async def test_rubbish_is_not_a_signature(gcs: Gcs, signer: IamSigner):
    gcs.script("sign", 1, Fault.RUBBISH)
    with pytest.raises(StorageError, match="unreadable"):
        await signer.sign(b"payload")


async def test_another_error_is_reported(gcs: Gcs, api: GoogleApi):
    async def unknown() -> str:
        return "other@test-project.iam.gserviceaccount.com"

    with pytest.raises(StorageError, match="would not sign") as raised:
        await IamSigner(api, unknown, base_url=gcs.url).sign(b"payload")
    assert "404" in raised.value.internal


async def test_an_account_without_a_name_cannot_sign(gcs: Gcs, api: GoogleApi):
    async def nameless() -> str:
        raise UpstreamError(
            "no", code=ErrorCode.MODEL_MISCONFIGURED, fault=AttemptFault.MISCONFIGURED, internal="a person"
        )

    with pytest.raises(StorageError, match="cannot be signed") as raised:
        await IamSigner(api, nameless, base_url=gcs.url).email()
    assert raised.value.internal == "a person"


async def test_a_private_key_signs_here_and_anything_else_through_iam(api: GoogleApi):
    key_file = key_file_credentials()
    impersonated = impersonated_credentials.Credentials(key_file, "other@x.iam.gserviceaccount.com", [])
    metadata = MetadataCredentials("http://127.0.0.1:1", ())
    assert isinstance(signer_for(key_file, api, email), KeyFileSigner)
    assert isinstance(signer_for(impersonated, api, email), IamSigner)
    assert isinstance(signer_for(metadata, api, email), IamSigner)


async def test_a_link_never_claims_a_longer_life_than_its_signer_can_promise(
    gcs: Gcs, api: GoogleApi, signer: IamSigner, clock: SetClock
):
    async def life_s(signer: Signer) -> float:
        storage = GcsStorage(api, BUCKET, "", signer, clock, base_url=gcs.url, url_ttl_s=30 * 24 * 3600)
        return ((await storage.signed_url(NAME)).expires_at_ms - clock.now_ms()) / 1000

    assert await life_s(signer) == 12 * 3600
    assert await life_s(KeyFileSigner(key_file_credentials())) == 7 * 24 * 3600
