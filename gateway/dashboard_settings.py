"""The settings of the dashboard and of signing in to it: a part of `gateway.settings.Settings`."""

from typing import Literal

from pydantic import Field, SecretStr, model_validator
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

    oidc_issuer: str = Field(
        "",
        pattern=r"^(https?://[^/]+.*)?$",
        description="OpenID Connect provider that signs people in, such as `https://accounts.google.com`.",
    )
    oidc_client_id: str = Field("", description="This gateway's client id at that provider.")
    oidc_client_secret: SecretStr = Field(SecretStr(""), description="Its client secret.")
    oidc_label: str = Field("Google", description="What the button to sign in there says.")
    iap_audience: str = Field(
        "",
        description="Audience of Identity-Aware Proxy in front; then it alone signs people in.",
    )
    iap_keys_url: str = Field(
        "https://www.gstatic.com/iap/verify/public_key-jwk",
        pattern=r"^https?://",
        description="Where that proxy's public keys are.",
    )

    @model_validator(mode="after")
    def _provider_is_whole(self) -> "DashboardSettings":
        if self.oidc_issuer and not (self.oidc_client_id and self.oidc_client_secret.get_secret_value()):
            raise ValueError(
                "GATEWAY_OIDC_ISSUER needs GATEWAY_OIDC_CLIENT_ID and GATEWAY_OIDC_CLIENT_SECRET"
            )
        return self

    @property
    def admin_emails(self) -> tuple[str, ...]:
        return tuple(part.strip().lower() for part in self.admins.split(",") if part.strip())
