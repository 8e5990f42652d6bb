"""Signing in by a link, and out again."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Trouble, make_member, sign_in
from tests.browser.looks import assert_usable, take_pictures
from tests.running import RunningGateway

pytestmark = pytest.mark.xdist_group("browser")


def test_who_is_not_signed_in_is_asked_to_and_comes_back(page: Page, gateway: RunningGateway) -> None:
    tenant_id = gateway.create_tenant("lost and found")
    page.goto(f"/dashboard/t/{tenant_id}/keys?state=active")
    expect(page.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()
    assert "next=%2Fdashboard%2Ft%2F" in page.url
    assert_usable(page)
    take_pictures(page, "sign in")


def test_a_link_signs_in_once(
    open_page: Callable[..., Page], gateway: RunningGateway, trouble: Trouble
) -> None:
    trouble.expected = ("403",)
    tenant_id = gateway.create_tenant("once")
    email = make_member(gateway, tenant_id, "once@example.com", "viewer")
    url = gateway.command("dashboard", "link", "--email", email).strip()
    first, second = open_page(), open_page()
    for each in (first, second):
        each.goto(url)
        each.get_by_role("button", name="Sign in").click()
    expect(first.get_by_text(email)).to_be_visible()
    expect(second.get_by_role("alert")).to_contain_text("used already")


def test_signing_out_everywhere_ends_the_other_browser_too(
    open_page: Callable[..., Page], gateway: RunningGateway
) -> None:
    tenants = [gateway.create_tenant(name) for name in ("here", "there")]
    email = "two@example.com"
    for tenant in tenants:
        make_member(gateway, tenant, email, "viewer")
    here, there = open_page(), open_page()
    for each in (here, there):
        sign_in(each, gateway, email)
        expect(each.get_by_role("heading", name="Your tenants")).to_be_visible()
    assert_usable(here)
    take_pictures(here, "tenants")
    here.locator("summary", has_text=email).click()
    here.get_by_role("button", name="Sign out everywhere").click()
    expect(here.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()
    there.reload()
    expect(there.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()
