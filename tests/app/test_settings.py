"""Configuration from the environment: what is wrong is named, and no secret is shown."""

from __future__ import annotations

import pytest

from eip import AppSettings
from eip.errors import ConfigurationError
from eip.transports.activemq import ActiveMQTransport
from eip.transports.aws import AwsTransport
from eip.transports.memory import MemoryTransport


def test_the_transport_is_chosen_by_the_environment(monkeypatch):
    assert isinstance(AppSettings().make_transport(), MemoryTransport)
    monkeypatch.setenv("EIP_TRANSPORT", "AWS")
    monkeypatch.setenv("EIP_REGION", "eu-central-1")
    monkeypatch.setenv("EIP_ENDPOINT_URL", "http://127.0.0.1:5000")
    aws = AppSettings().make_transport()
    assert isinstance(aws, AwsTransport)
    assert aws.region == "eu-central-1"
    monkeypatch.setenv("EIP_TRANSPORT", "activemq")
    monkeypatch.setenv("EIP_BROKER_URL", "stomp://me:secret@127.0.0.1:61613")
    assert isinstance(AppSettings().make_transport(), ActiveMQTransport)


def test_activemq_needs_a_broker(monkeypatch):
    monkeypatch.setenv("EIP_TRANSPORT", "activemq")
    with pytest.raises(ConfigurationError, match="EIP_BROKER_URL"):
        AppSettings().make_transport()


def test_secrets_are_neither_shown_nor_in_errors(monkeypatch):
    monkeypatch.setenv("EIP_BROKER_URL", "stomp://me:secret@127.0.0.1:61613")
    monkeypatch.setenv("EIP_HEALTH_PORT", "hunter2")
    with pytest.raises(ConfigurationError, match="EIP_HEALTH_PORT") as raised:
        AppSettings()
    assert "hunter2" not in str(raised.value)
    monkeypatch.setenv("EIP_HEALTH_PORT", "8080")
    settings = AppSettings()
    assert "secret" not in repr(settings) + str(settings)


def test_a_service_adds_settings_of_its_own(monkeypatch):
    class ShopSettings(AppSettings):
        database: str = "shop.sqlite"

    monkeypatch.setenv("EIP_DATABASE", "other.sqlite")
    assert ShopSettings().database == "other.sqlite"
    assert ShopSettings(transport="memory", health_port=1).health_port == 1
