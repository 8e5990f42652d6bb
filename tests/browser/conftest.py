"""A real Chromium at a real gateway. A page that logs an error, breaks the policy or asks elsewhere fails.

Playwright's synchronous interface runs an event loop of its own in this thread, so it lives for one module at
a time, and no test in these modules is a coroutine. They are all of the group "browser": one worker has them,
since they share a gateway and a browser is a quarter of a gigabyte.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from tests.emulator import RunningEmulator
from tests.running import RunningGateway, start_gateway

ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
PATIENCE_MS = 20_000


@dataclass
class Trouble:
    """What a page did that none of ours may."""

    found: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()

    def watch(self, page: Page, origin: str) -> None:
        def hear(message: ConsoleMessage) -> None:
            # A refusal that a test asks for is told on the console as well.
            known = any(each in message.text for each in self.expected)
            if message.type in {"error", "warning"} and not known:
                self.found.append(f"{page.url}: console {message.type}: {message.text}")

        def see(request: Request) -> None:
            if not request.url.startswith((origin, "data:", "blob:")):
                self.found.append(f"{page.url}: asked {request.url}")

        page.on("console", hear)
        page.on("pageerror", lambda error: self.found.append(f"{page.url}: {error}"))
        page.on("request", see)


@pytest.fixture(scope="session")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, _emulator_process: RunningEmulator
) -> Iterator[RunningGateway]:
    directory = tmp_path_factory.mktemp("dashboard")
    with start_gateway(
        directory,
        _emulator_process.url,
        GATEWAY_ADMINS="root@example.com",
        GATEWAY_MUSICGEN_PRICE_USD="0.013",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("the browser tests need Chromium: make setup-dev installs it on Debian")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield running
        running.close()


@pytest.fixture
def trouble() -> Iterator[Trouble]:
    """``expected`` are texts on the console that a test provokes."""
    trouble = Trouble()
    yield trouble
    assert not trouble.found, "\n".join(trouble.found)


@pytest.fixture
def open_page(browser: Browser, gateway: RunningGateway, trouble: Trouble) -> Iterator[Callable[..., Page]]:
    """Pages of a browser that has never been here, watched; options are those of a browser context."""
    contexts = []

    def open_one(**options: object) -> Page:
        context = browser.new_context(base_url=gateway.url, **options)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        trouble.watch(page, gateway.url)
        return page

    yield open_one
    for context in contexts:
        context.close()


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    return open_page()


def sign_in(page: Page, gateway: RunningGateway, email: str | None = None) -> None:
    """As a person with the roles they have, or as an administrator."""
    options = [] if email is None else ["--email", email]
    made = json.loads(gateway.command("dashboard", "link", *options, "--json"))
    page.goto(made["url"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/dashboard**")


def make_member(gateway: RunningGateway, tenant_id: str, email: str, role: str) -> str:
    gateway.command("member", "put", tenant_id, email, "--role", role)
    return email
