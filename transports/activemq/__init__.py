"""ActiveMQ brokers, Amazon MQ's and others, over STOMP; see `ActiveMQTransport`."""

from eip.transports.activemq._credentials import environment as environment
from eip.transports.activemq._credentials import secret as secret
from eip.transports.activemq._stomp.reconnecting import ConnectionHealth as ConnectionHealth
from eip.transports.activemq._stomp.servers import Credentials as Credentials
from eip.transports.activemq._stomp.servers import CredentialsSource as CredentialsSource
from eip.transports.activemq.queue import ActiveMQQueue as ActiveMQQueue
from eip.transports.activemq.temporary import ActiveMQTemporaryQueue as ActiveMQTemporaryQueue
from eip.transports.activemq.topic import ActiveMQTopic as ActiveMQTopic
from eip.transports.activemq.transport import ActiveMQTransport as ActiveMQTransport

__all__ = [
    "ActiveMQQueue",
    "ActiveMQTemporaryQueue",
    "ActiveMQTopic",
    "ActiveMQTransport",
    "ConnectionHealth",
    "Credentials",
    "CredentialsSource",
    "environment",
    "secret",
]
