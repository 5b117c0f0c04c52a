"""The SDK's session comes from aiobotocore or aioboto3, whichever the program has."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from aiobotocore.session import AioSession, get_session

from eip import Message
from eip.errors import ConfigurationError
from eip.topology import QueueSpec, Topology
from eip.transports.activemq import secret
from eip.transports.aws import AwsTransport
from tests.support.environment import REGION


def of_aiobotocore() -> AioSession:
    session = get_session()
    session.set_config_variable("region", REGION)
    session.set_credentials("of-the-session", "secret")
    return session


def of_aioboto3() -> Any:
    aioboto3 = pytest.importorskip("aioboto3", reason="aioboto3 is not installed: the extra aiobotocore")
    return aioboto3.Session(aws_access_key_id="of-the-session", aws_secret_access_key="secret", region_name=REGION)


SESSIONS = pytest.mark.parametrize("make", [of_aiobotocore, of_aioboto3])


@pytest.mark.aws
@pytest.mark.parametrize("fast_path", [True, False])
@SESSIONS
async def test_a_session_of_either_sdk_makes_the_calls(moto_server, make, fast_path, monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    session = make()
    name = f"sessions-{make.__name__}-{fast_path}"
    async with AwsTransport(endpoint_url=moto_server.url, session=session, fast_path=fast_path) as aws:
        assert aws.region == REGION
        await Topology(QueueSpec(name)).apply(aws)
        await aws.queue(name).send(Message({"n": 1}))
        async with aws.queue(name).receiver() as receiver:
            (delivery,) = await receiver.receive(1)
            assert delivery.message.body == {"n": 1}
            await receiver.ack([delivery])
        credentials = await aws._client._session.get_credentials()
        assert credentials.access_key == "of-the-session"


@pytest.mark.aws
@SESSIONS
async def test_a_secret_is_read_with_a_session_of_either_sdk(moto_server, make):
    name = f"broker-{make.__name__}"
    text = '{"username": "u", "password": "p"}'
    moto_server.client("secretsmanager").create_secret(Name=name, SecretString=text)
    credentials = await secret(name, session=make(), endpoint_url=moto_server.url)()
    assert credentials is not None
    assert (credentials.user, credentials.password) == ("u", "p")


@pytest.mark.parametrize("wrong", [boto3.Session(region_name=REGION), object(), "default", AioSession])
def test_any_other_session_is_refused_by_name(wrong):
    with pytest.raises(TypeError, match=r"session must be an aioboto3.Session or an aiobotocore.*AioSession, got"):
        AwsTransport(session=wrong)


def test_the_region_may_be_in_the_variable_that_the_error_names(monkeypatch):
    """Fault 32: the text named AWS_REGION, which the SDK for Python does not read."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert AwsTransport().region == "eu-west-3"


def test_without_a_region_the_transport_says_what_to_do(monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.delenv("AWS_REGION", raising=False)
    with pytest.raises(ConfigurationError, match="no region"):
        AwsTransport(session=get_session())
