"""What each service's errors become, compared with the SDK's service models, and that no foreign error passes."""

from __future__ import annotations

import asyncio
import binascii
import inspect
import json
import ssl
from collections.abc import Iterator
from typing import Any

import aiohttp
import botocore.exceptions
import botocore.session
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from botocore.retries import standard

from eip import Message
from eip._aws.protocols import refusal
from eip.errors import (
    AccessDenied,
    ChannelNotFound,
    ConfigurationError,
    EipError,
    InvalidMessage,
    LeaseLost,
    StateError,
    Throttled,
    TransportError,
)
from eip.stores._aws_errors import store_error
from eip.streams import Position
from eip.transports.aws import AwsTransport
from eip.transports.aws._batch_results import outcomes_of
from eip.transports.aws._client.errors import (
    CredentialsStale,
    ServiceFailed,
    classified,
    client_error,
    entry_error,
    error_of,
    sdk_error,
)
from eip.transports.aws.kinesis.aggregated_puts import outcomes_of as records_outcomes_of
from eip.transports.aws.kinesis.log import KinesisLog

SESSION = botocore.session.get_session()


def codes_of(service: str) -> Iterator[str]:
    """Each error that the SDK's model of a service names, as its protocol writes it."""
    model = SESSION.get_service_model(service)
    for name in model.shape_names:
        shape = model.shape_for(name)
        if shape.type_name == "structure" and shape.metadata.get("exception"):
            yield str(shape.metadata.get("error", {}).get("code", name))


OPERATIONS = {
    "iam": ["GetRole", "CreateRole", "UpdateAssumeRolePolicy", "GetRolePolicy", "PutRolePolicy", "DeleteRole"],
    "lambda": ["GetPolicy", "AddPermission", "RemovePermission"],
}
"""Of large services, what the library calls."""


def codes_of_operations(service: str) -> Iterator[str]:
    for operation in OPERATIONS[service]:
        for shape in SESSION.get_service_model(service).operation_model(operation).error_shapes:
            yield str(shape.metadata.get("error", {}).get("code", shape.name))


@pytest.mark.parametrize(
    ("service", "code"),
    [
        *((each, code) for each in ("sqs", "sns", "events", "kinesis", "scheduler", "sts") for code in codes_of(each)),
        *((each, code) for each in OPERATIONS for code in codes_of_operations(each)),
    ],
)
def test_each_error_of_the_sdks_models_is_classified_on_purpose(service, code):
    """Fault 8: one table per service, held complete by the SDK's service models."""
    assert classified(service, code) is not None, f"{service} {code} is in no table of _errors.py"


@pytest.mark.parametrize(
    ("service", "code", "text", "status", "kind"),
    [
        ("sns", "Throttled", "", 429, Throttled),
        ("sns", "KMSThrottling", "", 400, Throttled),
        ("kinesis", "KMSThrottlingException", "", 400, Throttled),
        ("sqs", "KmsThrottled", "", 400, Throttled),
        ("sqs", "AWS.SimpleQueueService.OverLimit", "", 403, Throttled),
        ("sqs", "PriorRequestNotComplete", "", 400, Throttled),
        ("sqs", "RequestTimeout", "", 400, ServiceFailed),
        ("sqs", "429", "", 429, Throttled),
        ("sqs", "408", "", 408, ServiceFailed),
        ("sqs", "Whatever", "", 429, Throttled),
        ("sqs", "Whatever", "", 408, ServiceFailed),
        ("sqs", "Whatever", "", 503, ServiceFailed),
        ("sqs", "com.amazonaws.sqs#QueueDoesNotExist", "", 400, ChannelNotFound),
        ("sqs", "ExpiredToken", "", 403, CredentialsStale),
        ("sqs", "InvalidSignatureException", "Signature expired: 20261124T1 is now earlier", 403, CredentialsStale),
        ("sqs", "SignatureDoesNotMatch", "Signature not yet current: 2026", 403, CredentialsStale),
    ],
)
def test_transient_errors_are_known_as_such(service, code, text, status, kind):
    """Faults 8 and 41c: throttling in every spelling, time-outs, and credentials that will be renewed."""
    error = error_of(service, code, text, status=status)
    assert type(error) is kind
    assert getattr(error, "transient") is (kind is not ChannelNotFound)  # noqa: B009 - of any of the kinds


@pytest.mark.parametrize(
    ("service", "code", "text", "kind"),
    [
        ("sqs", "SignatureDoesNotMatch", "The request signature we calculated does not match", AccessDenied),
        ("sqs", "Whatever", "", TransportError),
        ("sqs", "InvalidParameterValue", "The input receipt handle is invalid", LeaseLost),
        ("sqs", "InvalidParameterValue", "Total VisibilityTimeout is beyond the limit", LeaseLost),
        ("sqs", "InvalidParameterValue", "wrong", ConfigurationError),
    ],
)
def test_permanent_errors_are_known_as_such(service, code, text, kind):
    error = error_of(service, code, text)
    assert type(error) is kind
    assert not getattr(error, "transient", False)


RETRIED = sorted(
    {
        "KMSThrottlingException",  # of the keys that the service uses
        "KmsThrottled",
        *standard.ThrottledRetryableChecker._THROTTLED_ERROR_CODES,
        *standard.TransientRetryableChecker._TRANSIENT_ERROR_CODES,
    }
)
"""Codes after which the SDK itself makes a call again."""


@pytest.mark.parametrize("form", ["{}", "KMS.{}", "com.amazon.coral.availability#{}", "{}:http://internal.amazon.com/"])
def test_what_the_sdk_makes_again_is_transient_everywhere(form):
    """Fault 8: in every protocol's form, of each service and store, with the status of a wrong request."""
    for code in RETRIED:
        about = {"Error": {"Code": form.format(code)}, "ResponseMetadata": {"HTTPStatusCode": 400}}
        assert store_error("S3", ClientError(about, "GetObject")).transient, code
        if code == "LimitExceededException":
            continue  # a quota of some services, and throttling of others
        for service in ("sqs", "sns", "events", "kinesis", "scheduler", "lambda", "another"):
            assert getattr(error_of(service, form.format(code), ""), "transient", False), (service, code)


def test_throttling_in_xml_is_known_where_the_service_speaks_json():
    """A front end answers so; the SDK takes the status for the code."""
    text = "<ErrorResponse><Error><Code>Throttling</Code><Message>slow down</Message></Error></ErrorResponse>"
    about = {"Error": {"Code": "403", "Message": text}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    error = client_error("kinesis", ClientError(about, "ListShards"), operation="ListShards", where="kinesis")
    assert (type(error), str(error)) == (Throttled, "kinesis: Throttling: slow down")
    about["Error"] = {"Code": "503", "Message": "<html>"}
    about["ResponseMetadata"] = {"HTTPStatusCode": 503}
    assert type(client_error("kinesis", ClientError(about, "X"), operation="X", where="")) is ServiceFailed


def test_a_code_is_read_as_the_sdk_reads_it():
    """A URL may stand behind it; what was the code of throttling was taken for one that nobody knows."""
    raw = (
        b'{"__type": "com.amazon.coral.availability#ThrottlingException:http://internal.amazon.com/", "message": null}'
    )
    found = refusal(raw, 400, {})
    assert (found.code, found.text) == ("ThrottlingException", "")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("InternalFailure", ServiceFailed),
        ("ThrottlingException", Throttled),
        ("AccessDeniedException", AccessDenied),
        ("InvalidAccountIdException", TransportError),
        ("InvalidArgument", InvalidMessage),
        ("MalformedDetail", InvalidMessage),
        ("RedactionFailure", InvalidMessage),
        ("NotAuthorizedForSourceException", InvalidMessage),
        ("NotAuthorizedForDetailTypeException", InvalidMessage),
    ],
)
def test_each_code_of_an_event_that_was_not_put(code, kind):
    """Fault 8: as PutEventsResultEntry lists them; three that last were tried again for ever."""
    error = entry_error("events", "PutEvents", {"ErrorCode": code, "ErrorMessage": "no"})
    assert type(error) is kind
    assert getattr(error, "transient", False) is (kind in (ServiceFailed, Throttled))


def test_a_wrong_parameter_of_a_send_is_the_messages():
    """Fault 8: ParameterValueInvalid of SNS is permanent, and the message's."""
    for service, operation, code in (
        ("sns", "PublishBatch", "ParameterValueInvalid"),
        ("sns", "PublishBatch", "InvalidParameter"),
        ("sqs", "SendMessageBatch", "InvalidMessageContents"),
        ("events", "PutEvents", "MalformedDetail"),
    ):
        assert type(error_of(service, code, "", operation=operation)) is InvalidMessage


@pytest.mark.parametrize("fault", [False, "false", "False", " false "])
def test_a_failed_entry_that_is_the_services_fault_is_transient(fault):
    """Fault 8: the query protocol writes SenderFault as a text."""
    error = entry_error("sns", "PublishBatch", {"Id": "0", "Code": "SomethingNew", "SenderFault": fault})
    assert isinstance(error, ServiceFailed)
    error = entry_error("sns", "PublishBatch", {"Id": "0", "Code": "InternalError", "SenderFault": "true"})
    assert isinstance(error, ServiceFailed)


@pytest.mark.parametrize("fault", [True, "true"])
def test_a_failed_entry_that_is_the_senders_fault_is_permanent(fault):
    error = entry_error("sns", "PublishBatch", {"Id": "0", "Code": "SomethingNew", "SenderFault": fault})
    assert not getattr(error, "transient", False)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"Successful": None, "Failed": None},
        {"Successful": "x", "Failed": 3},
        {"Successful": [None, "x", 1, {}, {"Id": None}, {"Id": "2"}, {"Id": "-1"}, {"Id": "x"}, {"Id": "9" * 5000}]},
        {"Successful": [{"Id": each} for each in ("00", "0000000009", "0" * 5000, "\u0660", " 0")]},
    ],
)
def test_entries_that_an_answer_does_not_mention_were_not_done(answer):
    """Fault 51: odd ids and missing entries."""
    outcomes = outcomes_of("sqs", "SendMessageBatch", answer, [object(), object()])
    assert [type(each) for each in outcomes] == [ServiceFailed, ServiceFailed]


# No foreign error passes the border.


def built(kind: Any) -> Exception:
    """An error of a class, whatever its constructor wants and its text is made of."""
    plain: Any = type(
        kind.__name__, (kind,), {"__str__": lambda _: "raised by a test", "__reduce__": object.__reduce__}
    )
    made: Exception = plain.__new__(plain)
    return made


def raised_by_the_sdk() -> list[Exception]:
    """One of each class that botocore, aiohttp, ssl, asyncio and the sockets may raise, and the parsers' own."""
    classes: set[Any] = {
        each
        for module in (botocore.exceptions, aiohttp.client_exceptions, aiohttp.http_exceptions, ssl, asyncio, binascii)
        for each in vars(module).values()
        if inspect.isclass(each) and issubclass(each, Exception) and not issubclass(each, (Warning, ClientError))
    }
    classes |= {OSError, ConnectionResetError, BrokenPipeError, TimeoutError, EOFError, UnicodeDecodeError}
    classes |= {ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, RuntimeError, MemoryError}
    classes |= {json.JSONDecodeError, ArithmeticError, StopIteration, StopAsyncIteration, ExceptionGroup}
    errors: list[Exception] = []
    for each in sorted(classes, key=lambda each: each.__name__):
        if each is ExceptionGroup:
            errors.append(ExceptionGroup("several", [OSError(1, "x"), OSError(2, "y")]))
        elif each is UnicodeDecodeError:
            errors.append(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "reason"))
        elif each not in (StopIteration, StopAsyncIteration):  # which no coroutine can raise
            errors.append(built(each))
    errors.append(ClientError({}, "X"))
    errors.append(ClientError({"Error": {"Code": "New", "Message": "m"}}, "X"))
    return errors


async def test_no_foreign_error_passes_the_border():
    """Fault 7 on AWS, and decision D9: what the SDK and the layers below raise is an error of ours."""
    async with AwsTransport(region="us-east-1", account="123456789012") as aws:
        for error in raised_by_the_sdk():

            async def fails(*_: Any, error: Exception = error) -> Any:
                raise error

            aws._client._answer = fails  # type: ignore[assignment]
            for operation in ("SendMessageBatch", "GetQueueUrl"):
                with pytest.raises(EipError) as caught:
                    await aws._client.call("sqs", operation, retry=False)
                assert caught.value.__cause__ is error, type(error)


def test_what_the_sdk_finds_wrong_before_a_call_is_classified():
    errors: list[Any] = [
        each
        for each in vars(botocore.exceptions).values()
        if inspect.isclass(each) and issubclass(each, BotoCoreError) and each is not BotoCoreError
    ]
    assert len(errors) > 60
    kinds = {each.__name__: type(sdk_error(built(each), "x")) for each in errors}
    assert kinds["NoCredentialsError"] is kinds["UnauthorizedSSOTokenError"] is AccessDenied
    assert kinds["ProfileNotFound"] is kinds["ParamValidationError"] is kinds["NoRegionError"] is ConfigurationError
    assert kinds["CredentialRetrievalError"] is kinds["ChecksumError"] is ServiceFailed


async def test_answers_that_are_no_objects_are_no_answers():
    """Fault 51: JSON that is no object."""
    async with AwsTransport(region="us-east-1", account="123456789012") as aws:
        client = await aws.client("sqs")
        lean = await aws._client._fast_client("sqs")
        assert lean is not None
        for raw in (b"[]", b"1", b'"x"', b"null", b"{", b"", b"\xff"):
            with pytest.raises(ValueError, match=r"\w"):
                lean.read("ReceiveMessage", raw, 200, {})

        async def answers(*_: Any) -> Any:
            return []

        client._make_api_call = answers
        with pytest.raises(ServiceFailed):
            await aws._client.call("sqs", "GetQueueUrl", retry=False)


@pytest.mark.parametrize("answer", [{}, {"message": "Service Unavailable"}, {"__type": "InternalFailure"}], ids=str)
async def test_an_answer_without_what_it_must_have_is_the_services_failure(answer):
    """Fault 51: the status of a success with the body of an error, as proxies send it."""
    async with AwsTransport(region="us-east-1", account="123456789012", fast_path=False) as aws:

        async def answers(*_: Any) -> Any:
            return answer

        for service in ("sqs", "sns", "events", "kinesis"):
            (await aws.client(service))._make_api_call = answers
        queue, stream = aws.queue("orders"), aws.stream("clicks")
        log = KinesisLog(stream, fan_out=False)
        receiver = queue.receiver()
        for use in (
            queue.url,
            queue.depth,
            receiver.open,
            log.shards,
            lambda: log.cursor("shard-0", Position(), group="g").read(10),
        ):
            with pytest.raises(ServiceFailed, match="the answer has no"):
                await use()


@pytest.mark.parametrize("records", [None, "x", {}, [], [None, 1], ["x", []], [{}, {"ShardId": "shard-0"}]], ids=str)
def test_records_that_an_answer_does_not_number_were_not_put(records):
    """Fault 51: neither the call of single records nor that of aggregates takes silence for success."""
    outcomes: list[Any] = []
    try:
        outcomes = records_outcomes_of({"FailedRecordCount": 0, "Records": records}, 2)
    except ServiceFailed as error:
        outcomes = [error, error]
    assert [type(each) for each in outcomes] == [ServiceFailed, ServiceFailed]


async def test_a_closed_transport_refuses_every_use(moto_server):
    """Fault 33: an error, and no session that leaks."""
    async with AwsTransport(
        region=moto_server.region, session=moto_server.session, endpoint_url=moto_server.url
    ) as aws:
        queue, topic, bus = aws.queue("q"), aws.topic("t"), aws.bus()
    await aws.aclose()
    message: Message[Any] = Message({}, type="t", source="s")
    for use in (
        lambda: queue.send(message),
        lambda: topic.send(message),
        lambda: bus.send(message),
        lambda: queue.receiver().open(),
        queue.depth,
        lambda: aws._client.call("sqs", "ListQueues"),
        lambda: aws.client("s3"),
        aws.open,
    ):
        with pytest.raises(StateError, match="closed"):
            await use()
    assert aws._client._clients == {}


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("eu-central-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-iso-east-1", "aws-iso"),
        ("us-isob-east-1", "aws-iso-b"),
        ("eu-isoe-west-1", "aws-iso-e"),
        ("us-isof-south-1", "aws-iso-f"),
        ("eusc-de-east-1", "aws-eusc"),
    ],
)
def test_the_partition_is_the_sdks(region, partition):
    """Fault 21: partitions from the SDK's data, in every ARN."""
    aws = AwsTransport(region=region, account="123456789012")
    assert aws.partition == partition
    address = aws.queue("q").address
    assert address == f"arn:{partition}:sqs:{region}:123456789012:q"
    assert aws.resolve(address) is aws.queue("q")


@pytest.mark.parametrize("url", ["localhost:4566", "127.0.0.1", "ftp://x", "http://", "//x", ""])
def test_an_endpoint_without_a_scheme_is_refused(url):
    """Fault 32: named at once."""
    with pytest.raises(ConfigurationError, match="endpoint_url must begin with"):
        AwsTransport(region="us-east-1", endpoint_url=url)


def test_a_region_of_no_partition_is_refused():
    """Fault 32: a mistyped region is named at once; an emulator's may be any."""
    with pytest.raises(ConfigurationError, match="'eu-central1'"):
        AwsTransport(region="eu-central1")
    assert AwsTransport(region="local", endpoint_url="http://127.0.0.1:1").partition == "aws"
