"""The headline figures come out of metered calls."""

from __future__ import annotations

import pytest

from benchmarks import cost, sqs_stub


async def test_a_hundred_million_messages_one_by_one_and_packed():
    with sqs_stub.running() as url:
        rows = {row["mode"]: row for row in await cost.publishing(url, 128)}
        put = {row["mode"]: row for row in await cost.publishing(url, 128, bus=True)}
    assert rows["one by one"]["2020, $"] == pytest.approx(50.00)
    assert rows["batched"]["2020, $"] == pytest.approx(5.08, abs=0.01)  # 13 calls for 128 messages
    assert rows["packed"]["2020, $"] == pytest.approx(0.78125)
    assert rows["packed"]["requests for 100 M"] == 1_562_500
    assert put["batched"]["2020, $"] == pytest.approx(100.00)
    assert put["packed"]["2020, $"] == pytest.approx(1.5625)
    assert rows["packed + zstd"]["2020, $"] <= rows["packed"]["2020, $"]


async def test_a_filter_saves_three_quarters_of_the_calls():
    with sqs_stub.running() as url:
        rows = await cost.filtering(url, 80, "batched")
    assert [row["calls saved"] for row in rows] == ["0%", "75%"]
