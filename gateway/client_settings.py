"""The settings of `gateway generate`, which calls a gateway: a part of `gateway.settings.Settings`."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings


class ClientSettings(BaseSettings):
    """Which gateway to call, and as whom."""

    url: str = Field(
        "http://127.0.0.1:8080",
        pattern=r"^https?://[^/]+.*$",
        description="For `gateway generate`: the gateway to call.",
    )
    api_key: SecretStr = Field(SecretStr(""), description="For `gateway generate`: the key to call it with.")
