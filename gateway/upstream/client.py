"""One HTTP call to Vertex AI: token, deadline, limits; one attempt, never repeated here.

Whether an attempt may be repeated is decided where attempts are recorded. What is decided here is only
whether the request can have left us, which is what makes repeating it safe.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, cast

import httpx
import orjson

from gateway.errors import ConfigurationError, UpstreamError
from gateway.families.registry import FAMILIES
from gateway.model import Deployment, ModelKind
from gateway.ports import Clock, TokenSource
from gateway.upstream import faults
from gateway.upstream.target import call_url

ANSWER_LIMIT_BYTES = 256 << 20
ERROR_BODY_LIMIT_BYTES = 64 << 10

#: https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
#: What httpx raises while no byte of the request has been written.
_BEFORE_SENDING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
#: What httpx raises when the request is one it will not make: a bad base URL, a token with a line break.
_UNSENDABLE = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL)


class AnswerReader(Protocol):
    """Takes the body of a 2xx answer."""

    async def feed(self, chunk: bytes) -> None: ...

    def finish(self) -> None:
        """The whole body was fed. Raises `UpstreamError` when it makes no sense."""
        ...


class CallObserver(Protocol):
    """Is told how each call ended, for metrics."""

    def on_call(self, kind: ModelKind, outcome: str, seconds: float, size_bytes: int) -> None:
        """``outcome`` is ``ok``, an `AttemptFault` value, or ``abandoned`` (cancelled, or a sink failed).

        ``size_bytes`` is how much of an answer was received.
        """
        ...


class _Silent:
    def on_call(self, kind: ModelKind, outcome: str, seconds: float, size_bytes: int) -> None:
        pass


@dataclass(slots=True)
class _Exchange:
    """What happened so far in one call."""

    sent: bool = False
    received_bytes: int = 0

    async def trace(self, name: str, _info: Mapping[str, Any]) -> None:
        # httpcore's own account of its progress; names end alike for HTTP/1.1 and HTTP/2.
        if name.endswith("send_request_headers.started"):
            self.sent = True


class VertexClient:
    """``base_url`` replaces Google's scheme and host (emulators); paths stay as Google's.

    ``locate`` is asked for it instead, before each call, where it may change from one to the next; it raises
    `UpstreamError` when there is none.

    ``http`` must use httpx's own transport, which tells when a request starts to be written. A read may
    last as long as the call's deadline: models are silent for tens of seconds before they answer.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        tokens: TokenSource,
        base_url: str | None,
        clock: Clock,
        *,
        locate: Callable[[], Awaitable[str]] | None = None,
        observer: CallObserver | None = None,
        connect_timeout_s: float = 10.0,
        write_timeout_s: float = 30.0,
        read_timeout_s: float | None = None,
        answer_limit_bytes: int = ANSWER_LIMIT_BYTES,
    ) -> None:
        self._http = http
        self._tokens = tokens
        self._base_url = base_url or None
        self._locate = locate
        self._clock = clock
        self._observer: CallObserver = observer or _Silent()
        self._timeout = httpx.Timeout(
            connect=connect_timeout_s, write=write_timeout_s, read=read_timeout_s, pool=connect_timeout_s
        )
        self._answer_limit_bytes = answer_limit_bytes
        self._urls: dict[Deployment, httpx.URL] = {}

    async def post(
        self,
        deployment: Deployment,
        body: Mapping[str, Any],
        reader: AnswerReader,
        *,
        deadline_s: float,
        traceparent: str | None = None,
    ) -> None:
        """POST ``body`` to where the deployment's model is called, and feed the answer to ``reader``.

        ``deadline_s`` seconds from now everything ends, writing the audio away included. Raises
        `UpstreamError`; what ``reader`` raises passes through.
        """
        exchange = _Exchange()
        started_s = self._clock.monotonic_s()
        outcome = "abandoned"
        try:
            await self._within(deadline_s, deployment, body, reader, traceparent, exchange)
            outcome = "ok"
        except UpstreamError as error:
            outcome = error.fault.value
            raise
        finally:
            elapsed_s = self._clock.monotonic_s() - started_s
            self._observer.on_call(deployment.kind, outcome, elapsed_s, exchange.received_bytes)

    async def _within(
        self,
        deadline_s: float,
        deployment: Deployment,
        body: Mapping[str, Any],
        reader: AnswerReader,
        traceparent: str | None,
        exchange: _Exchange,
    ) -> None:
        scope = asyncio.timeout(deadline_s)
        try:
            async with scope:
                await self._exchange(deployment, body, reader, traceparent, exchange)
        except TimeoutError:
            if not scope.expired():
                raise  # somebody else's
            if exchange.sent:
                raise faults.too_slow(f"no whole answer in {deadline_s} s") from None
            raise faults.not_sent(f"no connection in {deadline_s} s") from None

    async def _exchange(
        self,
        deployment: Deployment,
        body: Mapping[str, Any],
        reader: AnswerReader,
        traceparent: str | None,
        exchange: _Exchange,
    ) -> None:
        url = self._url(deployment) if self._locate is None else _url(deployment, await self._locate())
        token = await self._tokens.token()
        response = await self._send(deployment, url, body, token, traceparent, exchange)
        try:
            if not response.is_success:
                error_text = await self._error_text(response, exchange)
                raise faults.classify(
                    response.status_code,
                    error_text,
                    response.headers,
                    now_ms=self._clock.now_ms(),
                    hide=_private_words(deployment, url, token),
                )
            await self._read_answer(response, reader, exchange)
        finally:
            await response.aclose()
        reader.finish()

    def _url(self, deployment: Deployment) -> httpx.URL:
        """Taken apart once a deployment, not twice a call."""
        url = self._urls.get(deployment)
        if url is None:
            url = self._urls[deployment] = _url(deployment, self._base_url)
        return url

    async def _send(
        self,
        deployment: Deployment,
        url: httpx.URL,
        body: Mapping[str, Any],
        token: str | None,
        traceparent: str | None,
        exchange: _Exchange,
    ) -> httpx.Response:
        # Compressing base64 of noise-like audio gains a quarter and costs more than the network does.
        headers = {
            "content-type": "application/json",
            "accept": "application/json",
            "accept-encoding": "identity",
        }
        headers.update(FAMILIES[deployment.kind].traits.headers)
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        if traceparent is not None and _TRACEPARENT.fullmatch(traceparent):
            headers["traceparent"] = traceparent
        try:
            request = self._http.build_request(
                "POST",
                url,
                content=orjson.dumps(body),
                headers=headers,
                timeout=self._timeout,
                extensions={"trace": exchange.trace},
            )
            return await self._http.send(request, stream=True, follow_redirects=False)
        except _UNSENDABLE as error:
            # Its message may quote a header, and so the token.
            raise faults.misconfigured(f"the request cannot be made: {type(error).__name__}") from None
        except httpx.RequestError as error:
            raise _transport_fault(error) from error

    async def _read_answer(self, response: httpx.Response, reader: AnswerReader, exchange: _Exchange) -> None:
        declared = response.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._answer_limit_bytes:
            raise faults.bad_answer(f"the answer has {declared} bytes")
        async with aclosing(_chunks(response)) as chunks:
            async for chunk in _mapped(chunks):
                exchange.received_bytes += len(chunk)
                if exchange.received_bytes > self._answer_limit_bytes:
                    raise faults.bad_answer(f"the answer is longer than {self._answer_limit_bytes} bytes")
                await reader.feed(chunk)

    async def _error_text(self, response: httpx.Response, exchange: _Exchange) -> str:
        text = bytearray()
        try:
            async with aclosing(_chunks(response)) as chunks:
                async for chunk in chunks:
                    text += chunk
                    if len(text) >= ERROR_BODY_LIMIT_BYTES:
                        break
        except httpx.RequestError:
            pass  # the status alone says enough
        exchange.received_bytes = len(text)
        return text[:ERROR_BODY_LIMIT_BYTES].decode("utf-8", errors="replace")


def _url(deployment: Deployment, base_url: str | None) -> httpx.URL:
    try:
        return httpx.URL(call_url(deployment, base_url))
    except (ConfigurationError, httpx.InvalidURL) as error:
        raise faults.misconfigured(f"the request cannot be made: {error}") from error


def _chunks(response: httpx.Response) -> AsyncGenerator[bytes]:
    # Raw is cheaper; a front end that compresses although asked not to is still understood.
    chunks = response.aiter_bytes() if "content-encoding" in response.headers else response.aiter_raw()
    return cast("AsyncGenerator[bytes]", chunks)


async def _mapped(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The chunks; httpx's errors become ours here, so that a reader's own errors are never taken for them."""
    try:
        async for chunk in chunks:
            yield chunk
    except httpx.RequestError as error:
        raise _transport_fault(error) from error


def _transport_fault(error: httpx.RequestError) -> UpstreamError:
    cause = f"{type(error).__name__}: {error}"
    if isinstance(error, _BEFORE_SENDING):
        return faults.not_sent(cause)
    if isinstance(error, httpx.TimeoutException):
        return faults.too_slow(cause)
    if isinstance(error, httpx.DecodingError):
        return faults.bad_answer(cause)
    return faults.lost(cause)


def _private_words(deployment: Deployment, url: httpx.URL, token: str | None) -> tuple[str, ...]:
    """What no text for a caller may contain: token, project, endpoint and our address of the provider."""
    return (token or "", str(url), url.host, deployment.project, deployment.endpoint or "")
