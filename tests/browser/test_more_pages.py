"""Webhooks, and what platform administrators have: each page, and what it does."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Trouble, make_member, sign_in
from tests.browser.looks import assert_usable, take_pictures
from tests.browser.test_pages import answer_yes, generates
from tests.running import RunningGateway

pytestmark = pytest.mark.xdist_group("browser")


def test_an_endpoint_is_added_tried_and_deleted(page: Page, gateway: RunningGateway) -> None:
    tenant = gateway.create_tenant("hooks")
    sign_in(page, gateway, make_member(gateway, tenant, "hooks@example.com", "developer"))
    page.goto(f"/dashboard/t/{tenant}/webhooks")
    assert_usable(page)
    page.get_by_label("Address").fill("https://hooks.example.com/music")
    page.get_by_label("task.succeeded").check()
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("heading", name="Webhook endpoint")).to_be_visible()
    page.get_by_role("button", name="Show the secret").click()
    first = page.get_by_label("Secret", exact=True).input_value()
    assert first.startswith("whsec_")
    answer_yes(page, "Rotate")
    expect(page.get_by_label("Secret", exact=True)).not_to_have_value(first)
    assert_usable(page)
    take_pictures(page, "webhook")
    page.get_by_role("button", name="Send a test").click()
    page.get_by_role("link", name="webhook.test").click()
    expect(page.locator("#body")).to_contain_text("webhook.test")
    assert_usable(page)
    page.get_by_role("link", name="Webhooks").click()
    take_pictures(page, "webhooks")
    page.get_by_role("link", name="https://hooks.example.com/music").click()
    answer_yes(page, "Disable")
    expect(page.get_by_text("disabled").first).to_be_visible()
    answer_yes(page, "Delete")
    expect(page.get_by_text("No endpoint yet")).to_be_visible()


def test_a_private_address_is_refused_in_words(page: Page, gateway: RunningGateway, trouble: Trouble) -> None:
    trouble.expected = ("400",)
    tenant = gateway.create_tenant("private hooks")
    sign_in(page, gateway, make_member(gateway, tenant, "private@example.com", "developer"))
    page.goto(f"/dashboard/t/{tenant}/webhooks")
    page.get_by_label("Address").fill("https://127.0.0.1/")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("alert")).to_contain_text("url")


def test_an_administrator_runs_a_tenant(page: Page, gateway: RunningGateway) -> None:
    sign_in(page, gateway)
    page.goto("/dashboard/admin")
    page.get_by_label("Name", exact=True).fill("Film")
    page.get_by_label("Budget a month").fill("0.02")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name="Film")).to_be_visible()
    tenant = page.url.partition("/tenants/")[2].partition("?")[0]
    key = gateway.create_key(tenant)
    assert [generates(gateway, key), generates(gateway, key)] == [200, 402]
    page.get_by_label("Dollars a month").fill("5.5")
    page.get_by_label("Requests a minute").fill("30")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("Saved")
    expect(page.get_by_label("Dollars a month")).to_have_value("5.50")
    assert generates(gateway, key) == 200
    page.get_by_label("Dollars", exact=True).fill("-0.01")
    page.get_by_label("Reason").fill("it sounded wrong")
    answer_yes(page, "Enter")
    expect(page.get_by_text("$0.016").first).to_be_visible()
    answer_yes(page, "Suspend")
    expect(page.get_by_role("status")).to_contain_text("Suspended")
    assert generates(gateway, key) == 403
    assert_usable(page)
    take_pictures(page, "admin tenant")
    page.get_by_role("button", name="Activate").click()
    expect(page.get_by_role("status")).to_contain_text("Activated")
    for name, shown in (
        ("", "Film"),
        ("/system", "musicgen"),
        ("/ledger", "settle"),
        ("/audit", "ledger.adjust"),
    ):
        page.goto(f"/dashboard/admin{name}")
        expect(page.get_by_text(shown).first).to_be_visible()
        assert_usable(page)
        take_pictures(page, f"admin{name}")
    assert gateway.command("reconcile") == "Everything adds up.\n"


def test_to_others_there_is_no_administration(page: Page, gateway: RunningGateway, trouble: Trouble) -> None:
    trouble.expected = ("404",)
    tenant = gateway.create_tenant("plain")
    sign_in(page, gateway, make_member(gateway, tenant, "plainowner@example.com", "owner"))
    for name in ("", "/system", "/ledger", "/audit", f"/tenants/{tenant}"):
        response = page.goto(f"/dashboard/admin{name}")
        assert response is not None
        assert response.status == 404
