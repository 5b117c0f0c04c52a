"""The real clients of Textract and Rekognition, against stubs of the services over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eip import Message, running
from eip.codec import load_json
from eip.errors import Reject, TransportError
from eip.stores import MemoryStore
from eip.transports.memory import MemoryTransport
from examples.happy_path.rekognition import RekognitionJudge
from examples.invoices.analysis import COMPLETED
from examples.invoices.recordings import recorded_blocks, scan
from examples.invoices.steps import Buckets, Tables
from examples.invoices.textract import TextractAnalysis
from examples.invoices.wiring import BUCKETS
from examples.invoices.workflow import Invoices, invoices_topology
from tests.examples.invoices.test_workflow import Reporting
from tests.support.aws_stub import AwsStub, Refusal

TOPIC, ROLE = "arn:aws:sns:us-east-1:1:topic", "arn:aws:iam::1:role/textract"


def refusing(code: str, status: int = 400) -> Any:
    def answer(_: dict[str, Any]) -> Any:
        raise Refusal(code, "because", status)

    return answer


async def test_a_job_is_started_once_for_a_tag_and_tells_our_topic():
    stub = AwsStub({"StartDocumentAnalysis": lambda _: {"JobId": "job-1"}})
    async with stub.client("textract") as client:
        analysis = TextractAnalysis(client, topic=TOPIC, role=ROLE)
        assert await analysis.start("scanned", "a key/1.pdf", tag="tag-1") == "job-1"
    (_, asked), *_ = stub.asked
    assert asked == {
        "DocumentLocation": {"S3Object": {"Bucket": "scanned", "Name": "a key/1.pdf"}},
        "FeatureTypes": ["TABLES", "FORMS"],
        "NotificationChannel": {"SNSTopicArn": TOPIC, "RoleArn": ROLE},
        "JobTag": "tag-1",
        "ClientRequestToken": "tag-1",
    }


async def test_an_analysis_of_many_pages_is_fetched_whole():
    blocks = recorded_blocks("golf-club")
    cut = {None: (0, 10, "next"), "next": (10, 20, "last"), "last": (20, None, None)}

    def get(asked: dict[str, Any]) -> Any:
        start, end, token = cut[asked.get("NextToken")]
        assert (asked["JobId"], asked["MaxResults"]) == ("job-1", 1000)
        page: dict[str, Any] = {"JobStatus": "SUCCEEDED", "DocumentMetadata": {"Pages": 2}, "Blocks": blocks[start:end]}
        return page if token is None else {**page, "NextToken": token}

    async with AwsStub({"GetDocumentAnalysis": get}).client("textract") as client:
        fetched = await TextractAnalysis(client, topic=TOPIC, role=ROLE).fetch("job-1")
    assert fetched == {"JobStatus": "SUCCEEDED", "DocumentMetadata": {"Pages": 2}, "Blocks": blocks}


async def test_a_job_that_failed_or_runs_has_no_blocks_and_an_endless_one_is_refused():
    answers = {
        "failed": {"JobStatus": "FAILED", "StatusMessage": "torn"},
        "running": {"JobStatus": "IN_PROGRESS"},
        "endless": {"JobStatus": "SUCCEEDED", "Blocks": [{"Id": "x"}] * 1000, "NextToken": "again"},
    }
    stub = AwsStub({"GetDocumentAnalysis": lambda asked: answers[asked["JobId"]]})
    async with stub.client("textract") as client:
        analysis = TextractAnalysis(client, topic=TOPIC, role=ROLE)
        assert await analysis.fetch("failed") == {"JobStatus": "FAILED", "StatusMessage": "torn", "Blocks": []}
        assert await analysis.fetch("running") == {"JobStatus": "IN_PROGRESS", "Blocks": []}
        with pytest.raises(Reject, match="more than 50,000 blocks"):
            await analysis.fetch("endless")
    assert len(stub.asked) == 2 + 51


@pytest.mark.parametrize(
    ("code", "status", "raised"),
    [
        ("InvalidS3ObjectException", 400, Reject),
        ("UnsupportedDocumentException", 400, Reject),
        ("DocumentTooLargeException", 400, Reject),
        ("ThrottlingException", 400, TransportError),
        ("LimitExceededException", 400, TransportError),
        ("AccessDeniedException", 400, TransportError),
        ("InternalServerError", 500, TransportError),
    ],
)
async def test_what_textract_refuses_is_rejected_and_what_fails_is_tried_again(code, status, raised):
    stub = AwsStub({"StartDocumentAnalysis": refusing(code, status)})
    async with stub.client("textract") as client:
        with pytest.raises(raised, match="because"):
            await TextractAnalysis(client, topic=TOPIC, role=ROLE).start("scanned", "k", tag="t")


async def test_a_service_that_is_away_is_tried_again():
    stub = AwsStub({})
    async with stub.client("textract") as client:
        client.meta.config.retries = {"total_max_attempts": 1}
        client._endpoint.host = "http://127.0.0.1:1"
        with pytest.raises(TransportError):
            await TextractAnalysis(client, topic=TOPIC, role=ROLE).fetch("job")


async def test_rekognition_judges_photos():
    stub = AwsStub(
        {
            "DetectModerationLabels": lambda _: {"ModerationLabels": [{"Name": "Violence", "Confidence": 91.26}]},
            "DetectLabels": lambda _: {"Labels": [{"Name": "Person", "Confidence": 99.0, "Instances": []}]},
        }
    )
    async with stub.client("rekognition") as client:
        judge = RekognitionJudge(client)
        assert [each.model_dump() for each in await judge.moderate("photos", "p")] == [
            {"name": "Violence", "confidence": 91.3}
        ]
        assert [each.name for each in await judge.labels("photos", "p")] == ["Person"]
    image = {"S3Object": {"Bucket": "photos", "Name": "p"}}
    assert stub.asked == [
        ("DetectModerationLabels", {"Image": image, "MinConfidence": 60.0}),
        ("DetectLabels", {"Image": image, "MinConfidence": 60.0, "MaxLabels": 20}),
    ]


async def test_what_the_sdk_itself_refuses_is_rejected():
    async with AwsStub({}).client("textract") as client:
        with pytest.raises(Reject, match="Invalid length"):
            await TextractAnalysis(client, topic=TOPIC, role=ROLE).start("b", "k", tag="t")


@pytest.mark.parametrize(
    ("code", "raised"),
    [("InvalidImageFormatException", Reject), ("ProvisionedThroughputExceededException", TransportError)],
)
async def test_what_rekognition_refuses_is_rejected_and_what_fails_is_tried_again(code, raised):
    async with AwsStub({"DetectLabels": refusing(code)}).client("rekognition") as client:
        with pytest.raises(raised):
            await RekognitionJudge(client).labels("photos", "p")


class _Textract(AwsStub):
    """The service itself: knows the layouts, and publishes the completion of each job."""

    def __init__(self, memory: MemoryTransport) -> None:
        super().__init__({"StartDocumentAnalysis": self._start, "GetDocumentAnalysis": self._get})
        self._memory, self._jobs = memory, dict[str, str]()
        self._notifying: list[asyncio.Task[None]] = []

    def _start(self, asked: dict[str, Any]) -> Any:
        location = asked["DocumentLocation"]["S3Object"]
        self._jobs[job := asked["ClientRequestToken"][::-1]] = location["Name"]
        notice = {
            "JobId": job,
            "Status": "FAILED" if location["Name"] == "romeo-torn" else "SUCCEEDED",
            "API": "StartDocumentAnalysis",
            "JobTag": asked["JobTag"],
            "Timestamp": 1600000000000,
            "DocumentLocation": {"S3ObjectName": location["Name"], "S3Bucket": location["Bucket"]},
        }
        notified = self._memory.topic(COMPLETED).send(Message(notice))
        self._notifying.append(asyncio.get_running_loop().create_task(notified))
        return {"JobId": job}

    def _get(self, asked: dict[str, Any]) -> Any:
        name, start = self._jobs[asked["JobId"]], int(asked.get("NextToken", 0))
        if name == "romeo-torn":
            return {"JobStatus": "FAILED", "StatusMessage": "torn"}
        blocks = recorded_blocks(name)
        more = {"NextToken": str(start + 20)} if len(blocks) > start + 20 else {}
        return {"JobStatus": "SUCCEEDED", "Blocks": blocks[start : start + 20], **more}


async def test_the_same_with_textracts_own_client():
    async with MemoryTransport() as memory:
        put_event = memory.bus("default").put_event
        buckets = Buckets(*(Reporting(name, put_event) for name in BUCKETS))
        tables = Tables(*(MemoryStore() for _ in range(4)))
        await invoices_topology(buckets).apply(memory)
        async with _Textract(memory).client("textract") as client:
            analysis = TextractAnalysis(client, topic="arn:aws:sns:us-east-1:1:t", role="arn:aws:iam::1:role/textract")
            async with running(*Invoices(memory, buckets, tables, analysis).services):
                for name in ("golf-club", "romeo-torn"):
                    await buckets.scanned.put(name, scan(name))
                async with asyncio.timeout(60):
                    while not (reviews := await _items(tables.reviews)) or len(await _items(tables.invoices)) < 2:
                        await asyncio.sleep(0.05)
        items = {each["invoice_key"]: each for each in await _items(tables.invoices)}
    assert (items["golf-club"]["status"], items["golf-club"]["amount"]) == ("Approved for Payment", "2400.00")
    assert [each["reason"] for each in reviews] == ["the analysis failed: torn"]


async def _items(store: Any) -> list[dict[str, Any]]:
    found = [await store.get(key) for key in list(store._entries)]
    return [load_json(each.value) for each in found if each is not None]
