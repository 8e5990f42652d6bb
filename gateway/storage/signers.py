"""Who signs links to Cloud Storage: a key file here, or IAM in the name of the machine's account."""

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import httpx
import orjson
from google.auth.credentials import Credentials, Signing

from gateway.errors import StorageError, UpstreamError
from gateway.storage.api import GoogleApi, failure
from gateway.storage.signing import MAX_LIFE_S, Signer

IAM_URL = "https://iamcredentials.googleapis.com"


class KeyFileSigner:
    """Signs with the private key of a service account's key file, in a worker thread."""

    life_s = MAX_LIFE_S

    def __init__(self, credentials: Signing) -> None:
        self._credentials = credentials

    async def email(self) -> str:
        return str(self._credentials.signer_email)

    async def sign(self, payload: bytes) -> bytes:
        # An RSA signature takes about a millisecond of CPU and releases the interpreter lock.
        return bytes(await asyncio.to_thread(self._credentials.sign_bytes, payload))


class IamSigner:
    """Signs through `projects.serviceAccounts.signBlob`, as on Cloud Run, where no key exists.

    The account needs the role Service Account Token Creator *on itself*.
    """

    # Google may retire its own key 12 hours after it signed (cloud.google.com/iam/docs/creating-signatures):
    # a URL that claims to live longer would die early.
    life_s = 12 * 3600

    def __init__(
        self, api: GoogleApi, email: Callable[[], Awaitable[str]], *, base_url: str = IAM_URL
    ) -> None:
        self._api = api
        self._email = email
        self._base_url = base_url.rstrip("/")

    async def email(self) -> str:
        try:
            return await self._email()
        except UpstreamError as error:
            raise StorageError("Audio links cannot be signed.", internal=error.internal) from error

    async def sign(self, payload: bytes) -> bytes:
        account = await self.email()
        response = await self._api.send(
            "POST",
            f"{self._base_url}/v1/projects/-/serviceAccounts/{quote(account, safe='')}:signBlob",
            headers={"Content-Type": "application/json"},
            content=orjson.dumps({"payload": base64.b64encode(payload).decode("ascii")}),
        )
        if response.status_code == httpx.codes.FORBIDDEN:
            raise failure(
                f"Google does not let {account} sign audio links. Enable the IAM Service Account Credentials "
                "API, and grant the account the role Service Account Token Creator on itself.",
                response,
            )
        if response.status_code != httpx.codes.OK:
            raise failure("Google would not sign an audio link.", response)
        try:
            signature = base64.b64decode(orjson.loads(response.content)["signedBlob"], validate=True)
        except (orjson.JSONDecodeError, KeyError, TypeError, binascii.Error) as error:
            raise failure("Google's signature is unreadable.", response) from error
        if not signature:
            raise failure("Google's signature is empty.", response)
        return signature


class EmulatorSigner:
    """For emulators, which look at no signature: links of the right shape, signed by nobody."""

    life_s = MAX_LIFE_S

    async def email(self) -> str:
        return "nobody@emulator.invalid"

    async def sign(self, payload: bytes) -> bytes:
        return hashlib.sha256(payload).digest()


def signer_for(
    credentials: Credentials,
    api: GoogleApi,
    email: Callable[[], Awaitable[str]],
    *,
    iam_url: str = IAM_URL,
) -> Signer:
    """The key file's signer where the credentials hold a private key, else IAM's.

    ``email`` is asked late: credentials of the metadata server learn it with their first token.
    """
    # Impersonated credentials are `Signing` as well, but sign with a blocking call; only a private key that
    # was read from a file has a key id.
    if isinstance(credentials, Signing) and getattr(credentials.signer, "key_id", None):
        return KeyFileSigner(credentials)
    return IamSigner(api, email, base_url=iam_url)
