"""The settings of the dashboard and of signing in to it: a part of `gateway.settings.Settings`."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class DashboardSettings(BaseSettings):
    """Who may sign in, and how."""

    dashboard: Literal["on", "off"] = Field(
        "on", description="`off` takes the developer dashboard away; the documentation stays."
    )
    admins: str = Field(
        "",
        description="Platform administrators of the dashboard: addresses they sign in with, between commas.",
    )
    session_s: int = Field(
        43_200, ge=300, le=2_592_000, description="Seconds after which one has to sign in again."
    )

    @property
    def admin_emails(self) -> tuple[str, ...]:
        return tuple(part.strip().lower() for part in self.admins.split(",") if part.strip())
