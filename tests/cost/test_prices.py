"""Prices are data, and a bill is metered calls at their rates."""

from __future__ import annotations

import json
from datetime import date

import pytest

from eip.cost import bill, price_lists, prices
from eip.errors import ConfigurationError
from eip.telemetry.meter import Call, Usage, UsageMeter

US = prices("us-east-1")


def test_the_list_in_force_is_the_latest_before_the_date():
    assert prices(on="2021-06-30").date == date(2020, 12, 1)
    assert prices(on="2026-06-01").date == date(2026, 6, 1)
    assert prices().date == max(each.date for each in price_lists())
    assert str(prices(on="2020-12-01")) == "us-east-1, 2020-12-01"
    for region, on in (("us-east-1", "2019-01-01"), ("mars-north-1", "2026-01-01")):
        with pytest.raises(ConfigurationError, match="there are: us-east-1"):
            prices(region, on=on)


def test_rates_can_be_replaced():
    mine = US.with_rates({"sqs.standard.million": 0.1})
    assert (mine["sqs.standard.million"], US["sqs.standard.million"]) == (0.1, 0.40)
    assert "sqs.standard.million" in mine
    with pytest.raises(ConfigurationError, match="no such rate"):
        US.with_rates({"sqs.standart.million": 0.1})
    with pytest.raises(ConfigurationError, match="lack"):
        US["nothing"]


def test_a_list_of_ones_own(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"region": "moon", "date": "2026-01-01", "rates": {"sqs.standard.million": 9}}))
    assert prices("moon", file=file)["sqs.standard.million"] == 9.0
    for wrong in ("[1]", '{"region": "a", "date": "2026-01-01", "rates": {"a": "b"}}', '{"rates": {"a": -1}}'):
        file.write_text(wrong)
        with pytest.raises(ConfigurationError, match="not a price list"):
            prices("moon", file=file)


@pytest.mark.parametrize(
    ("call", "usage", "dollars"),
    [
        (("sqs", "q", "SendMessageBatch"), Usage(units=1_000_000), 0.40),
        (("sqs", "q", "ReceiveMessage"), Usage(units=1_000_000, empty_receives=1_000_000), 0.40),
        (("sqs", "q.fifo", "DeleteMessageBatch"), Usage(units=1_000_000), 0.50),
        (("sns", "t", "PublishBatch"), Usage(units=100_000_000), 50.0),
        (("sns", "t", "PublishBatch"), Usage(units=1_562_500), 0.78125),
        (("sns", "t.fifo", "PublishBatch"), Usage(units=1_000_000, size=10**9), 0.317),
        (("eventbridge", "default", "PutEvents"), Usage(units=1_000_000), 1.0),
        (("eventbridge", "default", "PutRule"), Usage(units=1_000_000), 0.0),
        (("kinesis", "s", "PutRecords"), Usage(units=1_000_000), 0.014),
        (("kinesis", "s", "GetRecords"), Usage(units=1_000_000), 0.0),
        (("memory", "q", "send"), Usage(units=1_000_000), 0.0),
        (("activemq", "q", "SEND"), Usage(units=1_000_000), 0.0),
    ],
)
def test_each_call_has_its_rate(call, usage, dollars):
    assert bill({Call(*call): usage}, prices(on="2020-12-01")).total == pytest.approx(dollars)


def test_the_bill_per_million_handled_messages_and_by_channel():
    meter = UsageMeter()
    meter.record("sqs", "cheap", "ReceiveMessage", units=100)
    meter.record("sqs", "dear", "ReceiveMessage", units=1000)
    meter.record("cobol", "x", "CALL")
    made = bill(meter.usage(), US)
    assert made.per_million(1100) == pytest.approx(0.40)
    assert made.per_million(0) == 0.0
    assert list(made.by_channel()) == [("sqs", "dear"), ("sqs", "cheap")]
    assert made.unpriced == (Call("cobol", "x", "CALL"),)
    plain = json.loads(json.dumps(made.as_dict()))
    assert plain["total"] == pytest.approx(made.total)
    assert plain["unpriced"] == [{"service": "cobol", "channel": "x", "operation": "CALL"}]
