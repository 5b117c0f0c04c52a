"""A stub of SQS and SNS that answers at once, so that a benchmark measures clients and not a server.

    python -m benchmarks.sqs_stub [--port N] [--delay MS]       # prints its URL

or, from a benchmark, in a process of its own:

    with sqs_stub.running() as url:
        async with sqs_stub.transport(url) as aws:
            await sqs_stub.make_queue(aws, "orders")
            ...
        print(sqs_stub.told(url))               # {"calls": {"SendMessageBatch": 100, ...}, "messages": {...}, ...}

It speaks the JSON protocol of SQS (CreateQueue, GetQueueUrl, ListQueues, queue attributes, SendMessage, ReceiveMessage
with long polls, DeleteMessage, ChangeMessageVisibility, each also as a batch, PurgeQueue, move tasks) and the query
protocol of SNS (CreateTopic, Subscribe, Publish, PublishBatch) and STS (GetCallerIdentity), and of EventBridge
PutEvents, which goes nowhere. A topic delivers to the queues subscribed to it, raw, through their filter policies, and
drops what has none.

What it leaves out, and no benchmark needs: signatures are not checked, FIFO queues are served as standard ones, delays
and dead-letter queues do nothing, and digests are not sent. Extend it by a method named as the operation, see `Stub`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import re
import subprocess
import sys
import urllib.request
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson

from eip.matching import FilterPolicy

if TYPE_CHECKING:
    from eip.transports.aws import AwsTransport

ACCOUNT = "000000000000"
REGION = "us-east-1"
MEMBERS = 10
"""Entries of a batch at most."""

_JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nx-amzn-RequestId: 0\r\nContent-Length: "
_XML_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: "
_BAD_HEAD = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: "
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_OPERATION = re.compile(rb"\r\nx-amz-target:\s*(?:AmazonSQS|AWSEvents)\.(\w+)", re.IGNORECASE)

Entry = dict[str, Any]


class Refused(Exception):
    """What the service would answer with status 400: its code."""


class Queue:
    """Messages that are ready, and those on lease by their receipt handle."""

    def __init__(self, name: str, url: str, attributes: dict[str, str]) -> None:
        self.name, self.url = name, url
        self.attributes = {
            "VisibilityTimeout": "30",
            "QueueArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}",
            **attributes,
        }
        self.ready: deque[Entry] = deque()
        self.held: dict[str, tuple[Entry, float]] = {}
        self.waiting: deque[Poll] = deque()

    def put(self, message: Entry) -> None:
        """Make the message ready, for the longest waiting poll if there is one."""
        self.ready.append(message)
        while self.waiting:
            poll = self.waiting.popleft()
            if poll.pending:
                poll.look()
                return

    def take(self, most: int, handles: Iterator[int]) -> list[Entry]:
        """Lease up to so many messages."""
        now = asyncio.get_running_loop().time()
        while self.held:
            receipt, (message, until) = next(iter(self.held.items()))
            if until > now:
                break
            del self.held[receipt]
            self.ready.append(message)
        until = now + float(self.attributes["VisibilityTimeout"])
        taken: list[Entry] = []
        while self.ready and len(taken) < most:
            message = self.ready.popleft()
            receipt = f"{next(handles)}"
            count = int(message["Attributes"]["ApproximateReceiveCount"]) + 1
            message["Attributes"]["ApproximateReceiveCount"] = str(count)
            message["ReceiptHandle"] = receipt
            self.held[receipt] = (message, until)
            taken.append(message)
        return taken

    def change(self, receipt: str, seconds: float) -> None:
        """Let the lease end then; at once for 0."""
        held = self.held.pop(receipt, None)
        if held is None:
            return
        if seconds:
            self.held[receipt] = (held[0], asyncio.get_running_loop().time() + seconds)
        else:
            self.put(held[0])


class Poll:
    """A ReceiveMessage that waits for its first message: one that is sent, or whose lease ends."""

    def __init__(self, queue: Queue, most: int, seconds: float, handles: Iterator[int], respond: Respond) -> None:
        self._queue, self._most, self._handles, self._respond = queue, most, handles, respond
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + seconds
        self.pending = True
        queue.waiting.append(self)
        self._wait()

    def _wait(self) -> None:
        lease_end = next((until for _, until in self._queue.held.values()), self._until)
        self._timer = self._loop.call_at(min(self._until, lease_end), self.look)

    def look(self) -> None:
        """Answer with what there is; without anything wait on."""
        if not self.pending:
            return
        taken = self._queue.take(self._most, self._handles)
        self._timer.cancel()
        if taken or self._loop.time() >= self._until:
            self.pending = False
            self._respond(_received(taken))
        else:
            self._wait()

    def forget(self) -> None:
        """The client has gone."""
        self.pending = False
        self._timer.cancel()


Respond = Callable[[Any], None]


class Stub:
    """The operations, each a method of its own name: from the parameters to the answer, or a `Poll` that answers later.

    SQS's get the parsed JSON and return what becomes JSON. SNS's and STS's get the form's fields and return the inside
    of the XML.
    """

    def __init__(self) -> None:
        self.url = ""
        self.calls: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        self.queues: dict[str, Queue] = {}
        self.topics: dict[str, list[Queue]] = {}
        self.policies: dict[tuple[str, str], FilterPolicy] = {}
        """By topic and queue."""
        self.moved = 0
        self._ids = itertools.count(1)
        self._respond: Respond = _nobody

    def perform(self, operation: str, given: Any, respond: Respond) -> Any:
        """The answer of an operation, a `Poll`, or `Refused`."""
        method = getattr(self, operation, None) if operation[:1].isupper() else None
        if method is None:
            raise Refused("UnsupportedOperation")
        self.calls[operation] += 1
        self._respond = respond
        return method(given)

    # SQS

    def CreateQueue(self, given: Entry) -> Entry:  # noqa: N802 - the operation's name, as all below
        name = given["QueueName"]
        if name not in self.queues:
            self.queues[name] = Queue(name, f"{self.url}/{ACCOUNT}/{name}", given.get("Attributes") or {})
        return {"QueueUrl": self.queues[name].url}

    def GetQueueUrl(self, given: Entry) -> Entry:  # noqa: N802
        return {"QueueUrl": self._queue(given["QueueName"]).url}

    def ListQueues(self, given: Entry) -> Entry:  # noqa: N802
        prefix = given.get("QueueNamePrefix", "")
        return {"QueueUrls": [each.url for name, each in self.queues.items() if name.startswith(prefix)]}

    def GetQueueAttributes(self, given: Entry) -> Entry:  # noqa: N802
        queue = self._queue(given["QueueUrl"])
        depth = {
            "ApproximateNumberOfMessages": str(len(queue.ready)),
            "ApproximateNumberOfMessagesNotVisible": str(len(queue.held)),
        }
        return {"Attributes": {**queue.attributes, **depth}}

    def SetQueueAttributes(self, given: Entry) -> Entry:  # noqa: N802
        self._queue(given["QueueUrl"]).attributes.update(given["Attributes"])
        return {}

    def PurgeQueue(self, given: Entry) -> Entry:  # noqa: N802
        queue = self._queue(given["QueueUrl"])
        queue.ready.clear()
        queue.held.clear()
        return {}

    def SendMessage(self, given: Entry) -> Entry:  # noqa: N802
        return self._put(self._queue(given["QueueUrl"]), given, "SendMessage")

    def SendMessageBatch(self, given: Entry) -> Entry:  # noqa: N802
        queue = self._queue(given["QueueUrl"])
        return _done({"Id": each["Id"], **self._put(queue, each, "SendMessageBatch")} for each in _entries(given))

    def ReceiveMessage(self, given: Entry) -> Any:  # noqa: N802
        queue = self._queue(given["QueueUrl"])
        most, wait = int(given.get("MaxNumberOfMessages", 1)), float(given.get("WaitTimeSeconds", 0))
        taken = queue.take(most, self._ids)
        if not taken and wait:
            return Poll(queue, most, wait, self._ids, self._respond)
        self.messages["ReceiveMessage"] += len(taken)
        return _received(taken)

    def DeleteMessage(self, given: Entry) -> Entry:  # noqa: N802
        self.messages["DeleteMessage"] += 1
        self._queue(given["QueueUrl"]).held.pop(given["ReceiptHandle"], None)
        return {}

    def DeleteMessageBatch(self, given: Entry) -> Entry:  # noqa: N802
        queue, entries = self._queue(given["QueueUrl"]), _entries(given)
        self.messages["DeleteMessageBatch"] += len(entries)
        for each in entries:
            queue.held.pop(each["ReceiptHandle"], None)
        return _done({"Id": each["Id"]} for each in entries)

    def ChangeMessageVisibility(self, given: Entry) -> Entry:  # noqa: N802
        self._queue(given["QueueUrl"]).change(given["ReceiptHandle"], float(given["VisibilityTimeout"]))
        return {}

    def ChangeMessageVisibilityBatch(self, given: Entry) -> Entry:  # noqa: N802
        queue, entries = self._queue(given["QueueUrl"]), _entries(given)
        for each in entries:
            queue.change(each["ReceiptHandle"], float(each["VisibilityTimeout"]))
        return _done({"Id": each["Id"]} for each in entries)

    def StartMessageMoveTask(self, given: Entry) -> Entry:  # noqa: N802
        source = self._queue(given["SourceArn"])
        to = self._queue(given["DestinationArn"]) if "DestinationArn" in given else self._source_of(source)
        self.moved, self.move_rate = len(source.ready), given.get("MaxNumberOfMessagesPerSecond")
        while source.ready:
            to.put(source.ready.popleft())
        return {"TaskHandle": "moving"}

    def _source_of(self, dead: Queue) -> Queue:
        """The only queue whose dead letters are there: each message goes back to its own on SQS."""
        return next(each for each in self.queues.values() if dead.name in each.attributes.get("RedrivePolicy", ""))

    def ListMessageMoveTasks(self, given: Entry) -> Entry:  # noqa: N802
        task = {"Status": "COMPLETED", "SourceArn": given["SourceArn"], "ApproximateNumberOfMessagesMoved": self.moved}
        return {"Results": [task]}

    def CancelMessageMoveTask(self, given: Entry) -> Entry:  # noqa: N802
        del given
        return {"ApproximateNumberOfMessagesMoved": self.moved}

    # SNS and STS

    def GetCallerIdentity(self, given: Entry) -> str:  # noqa: N802
        del given
        return f"<Account>{ACCOUNT}</Account>"

    def CreateTopic(self, given: Entry) -> str:  # noqa: N802
        arn = f"arn:aws:sns:{REGION}:{ACCOUNT}:{given['Name']}"
        self.topics.setdefault(arn, [])
        return f"<TopicArn>{arn}</TopicArn>"

    def Subscribe(self, given: Entry) -> str:  # noqa: N802
        queue = self._queue(given["Endpoint"])
        if queue not in self._topic(given):
            self._topic(given).append(queue)
        for number in range(1, MEMBERS + 1):
            if given.get(f"Attributes.entry.{number}.key") == "FilterPolicy":
                policy = FilterPolicy(given[f"Attributes.entry.{number}.value"])
                self.policies[given["TopicArn"], queue.name] = policy
        return f"<SubscriptionArn>{given['TopicArn']}:{queue.name}</SubscriptionArn>"

    def Publish(self, given: Entry) -> str:  # noqa: N802
        self.messages["Publish"] += 1
        return f"<MessageId>{self._publish(self._topic(given), given, '')}</MessageId>"

    def PublishBatch(self, given: Entry) -> str:  # noqa: N802
        topic, done = self._topic(given), []
        for number in range(1, MEMBERS + 1):
            entry = f"PublishBatchRequestEntries.member.{number}."
            if f"{entry}Id" not in given:
                break
            name = self._publish(topic, given, entry)
            done.append(f"<member><Id>{given[f'{entry}Id']}</Id><MessageId>{name}</MessageId></member>")
        self.messages["PublishBatch"] += len(done)
        return f"<Successful>{''.join(done)}</Successful><Failed/>"

    # EventBridge

    def PutEvents(self, given: Entry) -> Entry:  # noqa: N802
        entries = _entries(given)
        self.messages["PutEvents"] += len(entries)
        return {"FailedEntryCount": 0, "Entries": [{"EventId": f"{next(self._ids):036}"} for _ in entries]}

    def _publish(self, topic: list[Queue], given: Entry, entry: str) -> str:
        name = f"{next(self._ids):036}"
        if topic:
            attributes = _form_attributes(given, f"{entry}MessageAttributes.entry.")
            for queue in topic:
                policy = self.policies.get((given["TopicArn"], queue.name))
                if policy is not None and not policy.matches(attributes=attributes):
                    continue
                sent = {"MessageBody": given[f"{entry}Message"], "MessageAttributes": attributes}
                self._put(queue, sent, "delivered")
        return name

    def _put(self, queue: Queue, sent: Entry, operation: str) -> Entry:
        self.messages[operation] += 1
        name = f"{next(self._ids):036}"
        system = {"SentTimestamp": "1700000000000", "ApproximateReceiveCount": "0"}
        if "MessageGroupId" in sent:
            system["MessageGroupId"] = sent["MessageGroupId"]
        message = {"MessageId": name, "Body": sent["MessageBody"], "Attributes": system}
        if attributes := sent.get("MessageAttributes"):
            message["MessageAttributes"] = attributes
        queue.put(message)
        return {"MessageId": name}

    def _queue(self, address: str) -> Queue:
        """By name, URL or ARN."""
        try:
            return self.queues[address.rpartition("/")[2].rpartition(":")[2]]
        except KeyError:
            raise Refused("QueueDoesNotExist") from None

    def _topic(self, given: Entry) -> list[Queue]:
        try:
            return self.topics[given["TopicArn"]]
        except KeyError:
            raise Refused("NotFound") from None


def _nobody(answer: Any) -> None:
    del answer


def _entries(given: Entry) -> list[Entry]:
    entries: list[Entry] = given["Entries"]
    if not 0 < len(entries) <= MEMBERS:
        raise Refused("TooManyEntriesInBatchRequest")
    return entries


def _done(entries: Iterator[Entry]) -> Entry:
    return {"Successful": list(entries), "Failed": []}


def _received(messages: list[Entry]) -> Entry:
    return {"Messages": messages} if messages else {}


def _form_attributes(given: Entry, prefix: str) -> Entry:
    found: Entry = {}
    for number in range(1, MEMBERS + 1):
        name = given.get(f"{prefix}{number}.Name")
        if name is None:
            break
        value = f"{prefix}{number}.Value."
        found[name] = {
            key: given[f"{value}{key}"]
            for key in ("DataType", "StringValue", "BinaryValue")
            if f"{value}{key}" in given
        }
    return found


class Connection(asyncio.Protocol):
    """One connection: requests one after the other, as HTTP clients of these services make them."""

    def __init__(self, stub: Stub, delay: float) -> None:
        self._stub, self._delay = stub, delay
        self._buffer = bytearray()
        self._transport: Any = None
        self._poll: Poll | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._poll is not None:
            self._poll.forget()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(buffer, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(buffer) < whole:
                return
            operation = _OPERATION.search(buffer, 0, end)
            body, get = bytes(buffer[end + 4 : whole]), buffer.startswith(b"GET ")
            named = operation[1].decode() if operation else ""
            del buffer[:whole]
            if get:
                self._write(_JSON_HEAD, orjson.dumps(self._tell()))
            elif named:
                self._sqs(named, body)
            else:
                self._query(body)

    def _tell(self) -> Entry:
        depth = {name: [len(queue.ready), len(queue.held)] for name, queue in self._stub.queues.items()}
        return {"calls": self._stub.calls, "messages": self._stub.messages, "ready_and_held": depth}

    def _sqs(self, operation: str, body: bytes) -> None:
        def respond(answer: Any) -> None:
            self._poll = None
            if operation == "ReceiveMessage":
                self._stub.messages[operation] += len(answer.get("Messages", ()))
            self._write(_JSON_HEAD, orjson.dumps(answer))

        try:
            answer = self._stub.perform(operation, orjson.loads(body), respond)
        except Refused as refused:
            said = {"__type": f"com.amazonaws.sqs#{refused}", "message": str(refused)}
            self._write(_BAD_HEAD, orjson.dumps(said))
            return
        if isinstance(answer, Poll):
            self._poll = answer
        else:
            self._write(_JSON_HEAD, orjson.dumps(answer))

    def _query(self, body: bytes) -> None:
        form = dict(parse_qsl(body.decode()))
        action = form.get("Action", "")
        try:
            inside = self._stub.perform(action, form, _nobody)
        except Refused as refused:
            said = f"<ErrorResponse><Error><Type>Sender</Type><Code>{refused}</Code></Error></ErrorResponse>"
            self._write(_BAD_HEAD, said.encode())
            return
        self._write(
            _XML_HEAD,
            f"<{action}Response><{action}Result>{inside}</{action}Result>"
            f"<ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></{action}Response>".encode(),
        )

    def _write(self, head: bytes, body: bytes) -> None:
        data = b"%s%d\r\n\r\n%s" % (head, len(body), body)
        if self._delay:
            asyncio.get_running_loop().call_later(self._delay, self._transport.write, data)
        else:
            self._transport.write(data)


async def serve(*, port: int = 0, delay: float = 0.0) -> tuple[asyncio.Server, Stub]:
    """Listen on 127.0.0.1, in this event loop; ``delay`` is seconds before each answer, as of a network."""
    stub = Stub()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(stub, delay), "127.0.0.1", port)
    stub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    return server, stub


@contextlib.contextmanager
def running(*, delay: float = 0.0) -> Iterator[str]:
    """The URL of a stub in a process of its own, which ends with the block, or with this process."""
    command = [sys.executable, "-m", "benchmarks.sqs_stub", "--delay", str(delay * 1000), "--until-eof"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError("the stub did not start")
            yield url
        finally:
            process.stdin.close()
            process.wait(10)


def told(url: str) -> Entry:
    """What the stub counted: calls and messages by operation, and by queue how many messages are ready and held."""
    with urllib.request.urlopen(f"{url}/told", timeout=10) as answer:
        found: Entry = orjson.loads(answer.read())
    return found


def transport(url: str, **options: Any) -> AwsTransport:
    """A transport to the stub, with credentials that it does not look at."""
    import aioboto3  # noqa: PLC0415 - the stub's own process needs no SDK

    from eip.transports.aws import AwsTransport  # noqa: PLC0415

    session = aioboto3.Session(aws_access_key_id="stub", aws_secret_access_key="stub", region_name=REGION)
    return AwsTransport(session=session, endpoint_url=url, account=ACCOUNT, **options)


async def make_queue(aws: AwsTransport, name: str, **attributes: str) -> None:
    """Make a queue through the transport."""
    await aws._client.call("sqs", "CreateQueue", QueueName=name, Attributes=attributes)


async def make_topic(aws: AwsTransport, name: str) -> None:
    """Make a topic through the transport."""
    await aws._client.call("sns", "CreateTopic", Name=name)


async def subscribe(aws: AwsTransport, topic: str, queue: str, *, policy: Entry | None = None) -> None:
    """Make a queue, and subscribe it to the topic through a filter policy on the attributes."""
    await make_queue(aws, queue)
    attributes = {} if policy is None else {"FilterPolicy": orjson.dumps(policy).decode()}
    await aws._client.call(
        "sns",
        "Subscribe",
        TopicArn=aws.topic(topic).address,
        Protocol="sqs",
        Endpoint=aws.queue(queue).address,
        Attributes=attributes,
    )


async def _main(port: int, delay: float, *, until_eof: bool) -> None:
    server, stub = await serve(port=port, delay=delay)
    print(stub.url, flush=True)
    if until_eof:
        await asyncio.to_thread(sys.stdin.read)
        server.close()  # and no wait for it: clients keep their connections, and from Python 3.12 on it waits for those
        return
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, help="milliseconds before each answer")
    parser.add_argument("--until-eof", action="store_true", help="end with the standard input")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(options.port, options.delay / 1000, until_eof=options.until_eof))
