"""An application's configuration from the environment (extra ``settings``): ``EIP_TRANSPORT``, endpoints, limits.

Credentials are not among it: each SDK finds its own (the AWS credential chain; ACTIVEMQ_USER and ACTIVEMQ_PASSWORD).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator

from eip.app.application import Provision
from eip.channels import Transport
from eip.errors import ConfigurationError
from eip.telemetry.meter import Meter

try:
    from pydantic_settings import BaseSettings, SettingsConfigDict
except ImportError as missing:
    raise ConfigurationError("AppSettings needs the extra: pip install aioeip[settings]") from missing

__all__ = ["AppSettings"]


class AppSettings(BaseSettings):
    """Settings that differ between a laptop, a test and production, each read from the variable ``EIP_`` + its name.

        app = App(AppSettings().make_transport())

    Subclass it for the settings of your own service. Its ``repr`` shows no password, and its errors show no values.

    Args:
        transport: ``memory``, ``aws`` or ``activemq``.
        region: of AWS; default: the session's, or AWS_REGION's.
        endpoint_url: of all AWS services, for an emulator.
        broker_url: of ActiveMQ, e.g. ``stomp+ssl://broker:61614``.
        provision: whether the topology is applied, checked or skipped at the start, see `eip.app.App`.
        health_port: where `eip run` serves health and metrics; None: nowhere.

    Raises:
        ConfigurationError: a value is invalid; the text names the variable.
    """

    model_config = SettingsConfigDict(
        env_prefix="EIP_", extra="ignore", hide_input_in_errors=True, env_ignore_empty=True, frozen=True
    )

    transport: Literal["memory", "aws", "activemq"] = "memory"
    region: str | None = None
    endpoint_url: str | None = None
    broker_url: SecretStr | None = None
    provision: Provision = "apply"
    health_port: int | None = Field(default=None, ge=0, le=65_535)

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise ConfigurationError(_text_of(error, str(self.model_config.get("env_prefix", "")))) from None

    @field_validator("transport", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    def make_transport(self, *, meter: Meter | None = None) -> Transport:
        """Return the transport that is configured, not opened yet.

        Args:
            meter: records the calls, see `eip.telemetry.meter`.

        Raises:
            ConfigurationError: the driver's extra is not installed, or ActiveMQ has no ``broker_url``.
        """
        match self.transport:
            case "memory":
                from eip.transports.memory import MemoryTransport  # noqa: PLC0415 - only the driver that is asked for

                return MemoryTransport(meter=meter)
            case "aws":
                return self._make_aws(meter)
            case "activemq":
                return self._make_activemq(meter)

    def _make_aws(self, meter: Meter | None) -> Transport:
        try:
            from eip.transports.aws import AwsTransport  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ConfigurationError(
                "EIP_TRANSPORT=aws needs the extra: pip install aioeip[aws], or aioeip[aiobotocore]"
            ) from error
        return AwsTransport(region=self.region, endpoint_url=self.endpoint_url, meter=meter)

    def _make_activemq(self, meter: Meter | None) -> Transport:
        try:
            from eip.transports.activemq import ActiveMQTransport  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ConfigurationError("EIP_TRANSPORT=activemq needs the extra: pip install aioeip[activemq]") from error
        if self.broker_url is None:
            raise ConfigurationError("EIP_TRANSPORT=activemq needs EIP_BROKER_URL, e.g. stomp+ssl://broker:61614")
        return ActiveMQTransport(self.broker_url.get_secret_value(), meter=meter)


def _text_of(error: ValidationError, prefix: str) -> str:
    """The failed variables and why, without their values: one may hold a password."""
    failed = (f"{prefix}{'_'.join(map(str, each['loc']))}".upper() + f": {each['msg']}" for each in error.errors())
    return "; ".join(failed)
