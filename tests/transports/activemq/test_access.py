"""Who we are to the broker, and who it is to us: credentials, TLS, and nothing of it in logs, reprs or errors."""

from __future__ import annotations

import ssl
import traceback

import pytest
import structlog

from eip import Message
from eip._aws import sessions
from eip.codec import BYTES, JSON, TEXT
from eip.errors import AccessDenied, ConfigurationError, TransportError
from eip.transports.activemq import ActiveMQTransport, Credentials, environment, secret

SECRET = "s3cret-p:ss/w@rd"


def address(broker) -> str:
    return f"stomp://127.0.0.1:{broker.port}"


async def works(transport) -> None:
    async with transport, transport.queue("access").receiver() as receiver:
        await transport.queue("access").send(Message(1))
        (delivery,) = await receiver.receive(1)
        await delivery.ack()


@pytest.mark.activemq
async def test_a_wrong_password_is_refused_at_once_and_told_nowhere(activemq_broker):
    """Not after retries, and neither the error nor a log line nor a repr holds it."""
    transport = ActiveMQTransport(address(activemq_broker), credentials=Credentials(user="eip", password=SECRET))
    with structlog.testing.capture_logs() as logs, pytest.raises(AccessDenied) as refused:
        await transport.open()
    told = (
        "".join(traceback.format_exception(refused.value))
        + repr(logs)
        + repr(transport)
        + repr(transport._client.connector)
    )
    told += repr(transport.connections())
    assert SECRET not in told
    assert "s3cret" not in told


@pytest.mark.activemq
async def test_credentials_of_the_environment(activemq_broker, monkeypatch):
    """By default, and the password alone where the URL names the user."""
    monkeypatch.setenv("ACTIVEMQ_USER", activemq_broker.user)
    monkeypatch.setenv("ACTIVEMQ_PASSWORD", activemq_broker.password)
    await works(ActiveMQTransport(address(activemq_broker)))
    await works(ActiveMQTransport(f"stomp://eip@127.0.0.1:{activemq_broker.port}"))
    monkeypatch.setenv("ACTIVEMQ_PASSWORD", "wrong")
    with pytest.raises(AccessDenied):
        await works(ActiveMQTransport(address(activemq_broker)))
    monkeypatch.delenv("ACTIVEMQ_USER")
    monkeypatch.setenv("MQ_USER", activemq_broker.user)
    monkeypatch.setenv("MQ_PASSWORD", activemq_broker.password)
    await works(ActiveMQTransport(address(activemq_broker), credentials=environment("MQ_USER", "MQ_PASSWORD")))


@pytest.mark.activemq
async def test_credentials_of_a_callable_are_asked_for_at_each_connection(activemq_broker):
    """A rotated password is taken up by the next connection."""
    asked = 0

    async def read():
        nonlocal asked
        asked += 1
        return Credentials(user=activemq_broker.user, password=activemq_broker.password)

    await works(ActiveMQTransport(address(activemq_broker), credentials=read))
    assert asked == 2


@pytest.mark.activemq
async def test_a_callable_that_fails_tells_its_kind_and_not_its_text(activemq_broker):
    async def read():
        raise RuntimeError(f"vault said {SECRET}")

    with structlog.testing.capture_logs() as logs, pytest.raises(AccessDenied, match="RuntimeError") as refused:
        await works(ActiveMQTransport(address(activemq_broker), credentials=read))
    assert SECRET not in "".join(traceback.format_exception(refused.value)) + repr(logs)


@pytest.mark.activemq
@pytest.mark.aws
async def test_credentials_of_secrets_manager(activemq_broker, moto_server, monkeypatch):
    """A JSON secret with username and password, as Amazon MQ's own examples have it; the SDK is loaded once for it."""
    made = []

    def new_session(region=None, real=sessions.new_session):
        made.append(real(region))
        return made[-1]

    monkeypatch.setattr(sessions, "new_session", new_session)
    manager = moto_server.client("secretsmanager")
    text = f'{{"username": "{activemq_broker.user}", "password": "{activemq_broker.password}"}}'
    manager.create_secret(Name="broker", SecretString=text)
    manager.create_secret(Name="other", SecretString=SECRET)
    options = {"region": moto_server.region, "endpoint_url": moto_server.url}
    await works(ActiveMQTransport(address(activemq_broker), credentials=secret("broker", **options)))
    assert len(made) == 1, "one for the sender's connection, and no other for the receiver's"
    with pytest.raises(TransportError) as wrong:
        await works(ActiveMQTransport(address(activemq_broker), credentials=secret("other", **options)))
    assert SECRET not in "".join(traceback.format_exception(wrong.value))
    with pytest.raises(AccessDenied, match="missing"):
        await works(ActiveMQTransport(address(activemq_broker), credentials=secret("missing", **options)))


@pytest.mark.activemq
async def test_tls_with_a_certificate_that_is_trusted(activemq_broker):
    trusted = ssl.create_default_context(cafile=activemq_broker.certificate)
    await works(ActiveMQTransport(activemq_broker.tls_url, tls=trusted))


@pytest.mark.activemq
async def test_tls_is_verified_by_default(activemq_broker):
    """A certificate of nobody we know is refused at once, before any password is sent."""
    asked = []

    async def read():
        asked.append(1)
        return Credentials(user="eip", password=SECRET)

    with pytest.raises(TransportError, match="not trusted") as refused:
        await ActiveMQTransport(f"stomp+ssl://127.0.0.1:{activemq_broker.tls_port}", credentials=read).open()
    assert not refused.value.transient
    assert isinstance(refused.value.__cause__, ssl.SSLCertVerificationError)


@pytest.mark.activemq
async def test_a_certificate_of_another_host_is_refused(activemq_broker):
    trusted = ssl.create_default_context(cafile=activemq_broker.certificate)
    url = activemq_broker.tls_url.replace("127.0.0.1", "127.1")  # the same host under a name that is not in it
    with pytest.raises(TransportError, match=r"not trusted.*127\.1"):
        await ActiveMQTransport(url, tls=trusted).open()


@pytest.mark.activemq
async def test_plain_text_on_a_tls_port_and_tls_on_a_plain_one_end(activemq_broker):
    """Fault 32: the error names the address and what to change; what another attempt only repeats is raised at once."""
    plain = ActiveMQTransport(f"stomp://eip:eip-secret@127.0.0.1:{activemq_broker.tls_port}")
    with pytest.raises(TransportError, match=r"127.0.0.1:\d+.*use stomp\+ssl://"):
        await plain.open()
    url = f"stomp+ssl://eip:eip-secret@127.0.0.1:{activemq_broker.port}"
    with pytest.raises(TransportError, match=r"127.0.0.1:\d+.*does the port speak TLS"):
        await ActiveMQTransport(url, connect_timeout=0.5, open_timeout=0.6).open()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "tcp://host:61616",
        "stomp://",
        "stomp://host:port",
        f"stomp://user:{SECRET}@host/path?x",
        f"stomp://user:{SECRET}@host:99999999",
        f"http://user:{SECRET}@host",
        f"stomp://user:{SECRET},{SECRET}@host",
        "stomp://host,,stomp://other",
    ],
)
def test_a_url_that_is_none_is_refused_without_telling_its_password(url):
    with pytest.raises(ConfigurationError) as refused:
        ActiveMQTransport(url)
    assert "s3cret" not in "".join(traceback.format_exception(refused.value))


def test_a_url_names_brokers_in_their_order():
    transport = ActiveMQTransport("stomp+ssl://user:p%40ss@active, stomp://standby:1234")
    assert [str(each) for each in transport._client.connector.servers] == [
        "stomp+ssl://active:61614",
        "stomp://standby:1234",
    ]
    assert "p@ss" not in repr(transport)
    assert "p%40ss" not in repr(transport)


@pytest.mark.activemq
async def test_credentials_cannot_smuggle_headers(activemq_broker):
    with pytest.raises(AccessDenied):
        await ActiveMQTransport(
            address(activemq_broker), credentials=Credentials(user="eip\nhost:other", password="x")
        ).open()


@pytest.mark.parametrize(
    "option", [{"heartbeat": -1}, {"patience": 0}, {"probe_interval": 0}, {"max_message_bytes": 10}]
)
def test_options_that_cannot_be(option):
    with pytest.raises(ConfigurationError):
        ActiveMQTransport("stomp://host", **option)


async def test_a_channel_keeps_the_codec_that_it_was_asked_for_with():
    """A second call replaced it silently, and the first caller read text as JSON from then on."""
    transport = ActiveMQTransport("stomp://127.0.0.1:1")
    assert transport.queue("a").codec is JSON
    assert transport.queue("a", codec=TEXT).codec is TEXT
    assert transport.queue("a").codec is TEXT
    for call in (transport.queue, transport.topic):
        call("b", codec=TEXT)
        with pytest.raises(ConfigurationError, match="text/plain already, got codec=application/octet-stream"):
            call("b", codec=BYTES)
    subscription = transport.topic("b").subscription("s")
    assert transport.queue(subscription.name).codec is TEXT
