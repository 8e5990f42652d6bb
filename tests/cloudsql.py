"""Cloud SQL as its connector meets it: Google's two answers, and a door of TLS with PostgreSQL behind it.

The door is as Google's: TLS 1.3 at port 3307, for certificates that were made here. What it cannot be is IAM:
PostgreSQL behind it lets in every user by name.
"""

import asyncio
import json
import os
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from tests.httpstub import Answer, Call, start_stub

INSTANCE = "my-project:us-central1:gateway-db"
USER = "music@my-project.iam"
_PORT = 3307
_REGION = INSTANCE.split(":")[1]


class CloudSql:
    """``refusal`` is what Google says to everything, if it is to refuse; ``calls`` are what it was asked."""

    def __init__(self, host: str, database_port: int) -> None:
        self.url = ""
        self.refusal: Answer | None = None
        self.calls: list[Call] = []
        self.lives = timedelta(hours=1)
        self._host = host
        self._database_port = database_port
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._authority = self._certificate("authority", self._key.public_key())

    @property
    def tokens(self) -> list[str]:
        """Those that went into certificates."""
        asked = [json.loads(call.body) for call in self.calls if call.path.endswith(":generateEphemeralCert")]
        return [each["access_token"] for each in asked]

    def answer(self, call: Call) -> Answer:
        self.calls.append(call)
        if self.refusal is not None:
            return self.refusal
        if call.path.endswith("/connectSettings"):
            about = {
                "region": _REGION,
                "databaseVersion": "POSTGRES_18",
                "ipAddresses": [{"type": "PRIMARY", "ipAddress": self._host}],
                "serverCaCert": {"cert": _pem(self._authority)},
            }
            return _json(about)
        public_key = serialization.load_pem_public_key(json.loads(call.body)["public_key"].encode())
        assert isinstance(public_key, rsa.RSAPublicKey)
        return _json({"ephemeralCert": {"cert": _pem(self._certificate("client", public_key))}})

    async def let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._database_port)
            await asyncio.gather(_carry(reader, inner_writer), _carry(inner_reader, writer))

    def door(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=_pem(self._authority))
        key = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with tempfile.TemporaryDirectory() as folder:
            chain = Path(folder) / "server.pem"
            chain.write_bytes(key + _pem(self._authority).encode())
            context.load_cert_chain(chain)
        return context

    def _certificate(self, name: str, key: CertificatePublicKeyTypes) -> x509.Certificate:
        issuer, subject = (_name(each) for each in ("authority", name))
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + self.lives)
        if name == "authority":
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        return builder.sign(self._key, hashes.SHA256())


@contextmanager
def start_cloud_sql(database_port: int) -> Iterator[CloudSql]:
    # Google's port is fixed; test processes that run side by side have addresses of their own.
    host = f"127.77.{os.getpid() >> 8 & 255}.{os.getpid() & 255 or 1}"
    cloud = CloudSql(host, database_port)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(cloud.let_in, host, _PORT, ssl=cloud.door())

    async def stop() -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        with start_stub(cloud.answer) as cloud.url:
            yield cloud
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while block := await reader.read(1 << 16):
            writer.write(block)
            await writer.drain()
    finally:
        writer.close()


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _json(document: object) -> Answer:
    return Answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})
