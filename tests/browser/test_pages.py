"""Every page of a tenant, by every role: usable, and doing what it says."""

import csv
import io
import json
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Trouble, make_member, sign_in
from tests.browser.looks import assert_usable, take_pictures
from tests.running import RunningGateway

pytestmark = pytest.mark.xdist_group("browser")

PAGES = ("try", "tasks", "keys", "keys/new", "usage", "webhooks", "members")
SCRIPT = "<script>document.title='stolen'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def tenant_id(gateway: RunningGateway) -> str:
    return gateway.create_tenant("Radio", "--budget-usd-month", "25")


@pytest.fixture
def developer(page: Page, gateway: RunningGateway, tenant_id: str) -> Page:
    sign_in(page, gateway, make_member(gateway, tenant_id, "dev@example.com", "developer"))
    return page


def generates(gateway: RunningGateway, key: str) -> int:
    response = httpx.post(
        f"{gateway.url}/api/music_generate",
        headers={"X-Api-Key": key},
        json={"prompt": "slow piano", "durationSeconds": 1},
        timeout=60,
        trust_env=False,
    )
    return response.status_code


def answer_yes(page: Page, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).click()
    page.locator("dialog").get_by_role("button", name=button, exact=True).click()


def test_music_is_made_and_heard(developer: Page, tenant_id: str) -> None:
    developer.get_by_label("Prompt").fill("slow piano, rain, 60 bpm")
    developer.get_by_label("Length in seconds").fill("2")
    expect(developer.locator("#price")).to_contain_text("$")
    expect(developer.locator("#code-python")).to_contain_text('"durationSeconds": 2')
    assert_usable(developer)
    take_pictures(developer, "try")
    developer.get_by_role("button", name="Make it").click()
    developer.wait_for_url("**/tasks/*")
    expect(developer.locator(".badge", has_text="succeeded").first).to_be_visible()
    peak = developer.evaluate(
        """async () => {
            const audio = document.querySelector("audio");
            const bytes = await (await fetch(audio.src)).arrayBuffer();
            const sound = await new OfflineAudioContext(1, 48000, 48000).decodeAudioData(bytes);
            return {peak: Math.max(...sound.getChannelData(0).map(Math.abs)), seconds: sound.duration};
        }"""
    )
    assert peak["peak"] > 0.01
    assert peak["seconds"] == pytest.approx(2, abs=0.1)
    assert developer.locator("[data-wave] rect").count() > 100
    assert_usable(developer)
    take_pictures(developer, "task")
    developer.get_by_role("link", name="Again, as a new one").click()
    expect(developer.get_by_label("Prompt")).to_have_value("slow piano, rain, 60 bpm")
    developer.goto(f"/dashboard/t/{tenant_id}/tasks?q=RAIN&state=succeeded")
    expect(developer.get_by_role("link", name="slow piano, rain")).to_be_visible()
    assert_usable(developer)
    take_pictures(developer, "tasks")


def test_a_key_works_until_it_is_revoked(developer: Page, gateway: RunningGateway, tenant_id: str) -> None:
    developer.goto(f"/dashboard/t/{tenant_id}/keys/new")
    developer.get_by_label("Name").fill("nightly jobs")
    developer.get_by_role("button", name="Create").click()
    first = developer.get_by_label("Key", exact=True).input_value()
    assert generates(gateway, first) == 200
    assert_usable(developer)
    take_pictures(developer, "key made")
    developer.get_by_role("link", name="I have copied it").click()
    assert first not in developer.content()
    assert_usable(developer)
    take_pictures(developer, "key")
    developer.get_by_label("The old secret goes on being good for").select_option("not at all")
    developer.get_by_role("button", name="Rotate").click()
    second = developer.get_by_label("Key", exact=True).input_value()
    assert [generates(gateway, first), generates(gateway, second)] == [401, 200]
    developer.get_by_role("link", name="I have copied it").click()
    answer_yes(developer, "Disable")
    expect(developer.get_by_role("status")).to_contain_text("Disabled")
    assert generates(gateway, second) == 401
    developer.get_by_role("button", name="Enable").click()
    expect(developer.get_by_role("status")).to_contain_text("Enabled")
    assert generates(gateway, second) == 200
    answer_yes(developer, "Revoke")
    expect(developer.get_by_role("status")).to_contain_text("Revoked")
    assert generates(gateway, second) == 401


def test_usage_is_what_the_export_says(developer: Page, gateway: RunningGateway, tenant_id: str) -> None:
    key = gateway.create_key(tenant_id)
    assert [generates(gateway, key) for _ in range(2)] == [200, 200]
    for zone in ("UTC", "America/New_York", "Australia/Sydney"):
        developer.goto(f"/dashboard/t/{tenant_id}/usage?tz={zone}&by=model&from=2026-10-15&to=2026-12-01")
        query = parse_qs(urlsplit(str(developer.get_by_role("link", name="CSV").get_attribute("href"))).query)
        exported = gateway.command(
            *("usage", "export", "--tenant", tenant_id, "--from", query["from"][0], "--to", query["to"][0]),
            *("--tz", zone, "--group-by", "model", "--format", "csv"),
        )
        rows = list(csv.DictReader(io.StringIO(exported)))
        shown = [
            int(str(cell.get_attribute("data-micros")))
            for cell in developer.locator("td[data-micros]:not(#total)").all()
        ]
        assert shown == [int(row["spent_micros"]) for row in rows]
        total = developer.locator("#total").get_attribute("data-micros")
        assert int(str(total)) == sum(int(row["spent_micros"]) for row in rows)
    assert_usable(developer)
    take_pictures(developer, "usage")


def test_an_owner_says_who_belongs_to_the_tenant(page: Page, gateway: RunningGateway, tenant_id: str) -> None:
    sign_in(page, gateway, make_member(gateway, tenant_id, "owner@example.com", "owner"))
    page.goto(f"/dashboard/t/{tenant_id}/members")
    page.get_by_label("Address").fill("new@example.com")
    page.get_by_label("Role").select_option("viewer")
    page.get_by_role("button", name="Add or change").click()
    row = page.get_by_role("row", name="new@example.com")
    expect(row).to_contain_text("viewer")
    assert_usable(page)
    take_pictures(page, "members")
    row.get_by_role("button", name="Remove").click()
    page.locator("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_text("new@example.com")).to_have_count(0)


@pytest.mark.parametrize("role", ["viewer", "developer", "owner", None])
def test_every_page_can_be_used_by_everybody(
    page: Page, gateway: RunningGateway, tenant_id: str, trouble: Trouble, role: str | None
) -> None:
    trouble.expected = ("403",)
    email = None if role is None else make_member(gateway, tenant_id, f"{role}@example.com", role)
    sign_in(page, gateway, email)
    for name in PAGES:
        page.goto(f"/dashboard/t/{tenant_id}/{name}")
        refused = role == "viewer" and name == "keys/new"
        heading = "This key may not do this" if refused else ""
        expect(page.get_by_role("heading", level=1)).to_contain_text(heading)
        # The others see the same, with more or fewer buttons.
        if role in {"viewer", "owner"}:
            assert_usable(page)


def test_anothers_tenant_is_as_if_it_were_not_there(
    developer: Page, gateway: RunningGateway, trouble: Trouble
) -> None:
    trouble.expected = ("404",)
    foreign = gateway.create_tenant("not yours")
    for tenant in (foreign, "ten_nobody"):
        for name in PAGES:
            response = developer.goto(f"/dashboard/t/{tenant}/{name}")
            assert response is not None
            assert response.status == 404
            expect(developer.get_by_text("You are not a member of such a tenant")).to_be_visible()


def test_what_people_wrote_is_shown_and_not_run(
    page: Page, gateway: RunningGateway, trouble: Trouble
) -> None:
    tenant = gateway.create_tenant(SCRIPT)
    key = json.loads(gateway.command("key", "create", "--tenant", tenant, "--name", SCRIPT, "--json"))["key"]
    made = httpx.post(
        f"{gateway.url}/api/music_generate",
        headers={"X-Api-Key": key},
        json={"prompt": SCRIPT, "durationSeconds": 1},
        timeout=60,
        trust_env=False,
    )
    sign_in(page, gateway)
    for name in (*PAGES, f"tasks/{made.json()['task_id']}", f"keys/{key.split('_')[2]}"):
        page.goto(f"/dashboard/t/{tenant}/{name}")
        assert "stolen" not in page.title().partition("·")[2]
        assert page.locator("img[src=x]").count() == 0
        assert_usable(page)


def test_pages_need_no_script(
    open_page: Callable[..., Page], gateway: RunningGateway, tenant_id: str
) -> None:
    page = open_page(java_script_enabled=False)
    sign_in(page, gateway, make_member(gateway, tenant_id, "plain@example.com", "developer"))
    page.get_by_label("Prompt").fill("a quiet organ")
    page.get_by_label("Length in seconds").fill("1")
    page.get_by_role("button", name="Make it").click()
    page.wait_for_url("**/tasks/*")
    expect(page.locator(".badge", has_text="succeeded").first).to_be_visible()
