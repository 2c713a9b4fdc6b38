"""Settings of any member that asks a service over HTTP: which model of whom, at what price, with how much patience."""

from collections.abc import Iterator

from pydantic import Field, field_validator

from lightgen.config import QUIET, RUN, Config
from lightgen.errors import ConfigError
from lightgen.http import Patience, Prices, checked_url
from lightgen.problems import Problem
from lightgen.settings import secret


class ServiceConfig(Config):
    """Which model of which service. Where the service is, and how it is asked, is in no name."""

    url: str = Field(
        description="up to and with its version, as in https://api.openai.com/v1 or http://127.0.0.1:8000/v1",
        json_schema_extra=RUN,
    )
    model: str = Field(min_length=1, description="as the service calls it")
    served: str = Field(default="", description="commit or date of what the service serves", json_schema_extra=QUIET)
    key_env: str | None = Field(
        default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="environment variable with the key",
        json_schema_extra=RUN,
    )  # fmt: skip
    concurrency: int = Field(
        default=8, ge=1, description="requests under way at once, at most those of a batch", json_schema_extra=RUN
    )
    patience: Patience = Field(default=Patience(), description="how long it is waited for", json_schema_extra=RUN)
    prices: Prices = Field(default=Prices(), description="what its answers cost", json_schema_extra=RUN)

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        try:
            return checked_url(url)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: a key that is not there, a limit without a price."""
        yield from super().problems()
        if self.key_env is not None and not (secret(self.key_env) or "").strip():
            yield Problem("here", "key_env", f"the environment has no variable {self.key_env}", "set it to the key")
        prices = self.prices
        priced = prices.usd_per_answer + prices.usd_per_million_in + prices.usd_per_million_out
        if prices.limit_usd is not None and not priced:
            yield Problem("recipe", "prices.limit_usd", "a limit without a price stops nothing", "give the price")
