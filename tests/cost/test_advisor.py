"""The advice: what each way costs, what it cannot do, what is lost with it."""

from __future__ import annotations

import json

import pytest

from eip.cost import Profile, advise, facts, prices
from eip.cost.profile import SECONDS
from eip.cost.services import NAMES, title
from eip.errors import ConfigurationError

IN_2020 = prices(on="2020-12-31")
TODAY = prices()


def advice(**profile):
    given = {"rate": 1000.0, "size": 1000, **profile}
    return advise(Profile(**given), TODAY)


def dollars(alternative, what):
    return sum(item.dollars for item in alternative.items if item.what == what)


def test_the_headline_figures_of_2020():
    profile = Profile(rate=100_000_000 / SECONDS, size=1024, batch=1, linger=10)
    found = advise(profile, IN_2020)
    assert dollars(found.named("SNS + SQS, one by one"), "published") == pytest.approx(50.00)
    assert dollars(found.named("SNS + SQS, packed"), "published") == pytest.approx(0.78125)
    assert dollars(found.named("EventBridge + SQS"), "events") == pytest.approx(100.00)


def test_a_filter_saves_what_the_consumer_does_not_want():
    found = advice(shares=(0.25,))
    plain, filtered = found.named("SNS + SQS"), found.named("SNS + SQS, filtered")
    assert filtered.received == pytest.approx(0.25 * plain.received)
    assert dollars(filtered, "received") == pytest.approx(0.25 * dollars(plain, "received"))
    assert any("save 75%" in note for note in found.notes)


@pytest.mark.parametrize(("size", "pays"), [(500, True), (1000, True), (3000, True), (30_000, False), (60_000, False)])
def test_packing_pays_where_ten_messages_do_not_fill_a_unit(size, pays):
    found = advice(size=size, rate=5000.0)
    note = next(note for note in found.notes if note.startswith("Packing"))
    sqs, packed = found.named("SQS"), [each for each in found.alternatives if each.name == "SQS, packed"]
    assert bool(packed and packed[0].monthly < 0.9 * sqs.monthly) is pays
    if size < 3500:
        assert note.startswith("Packing pays here")


def test_packing_does_not_pay_where_too_few_come():
    found = advice(rate=0.1, ordered=True)
    assert not any("packed" in each.name for each in found.alternatives)
    assert "Packing does not pay here: too few come in the time they may wait for a pack." in found.notes


def test_only_messages_of_one_kind_and_group_share_a_pack():
    def held(**profile):
        return dollars(advice(rate=100.0, linger=1, **profile).named("SNS + SQS, packed"), "published")

    assert held(kinds=10) == pytest.approx(held(kinds=1) * 65 / 10)  # 65 messages of 1,000 bytes fill a pack


def test_what_cannot_carry_the_flow_comes_last_and_says_why():
    found = advice(ordered=True)
    assert found.best is not None
    assert found.best.name.startswith(("SQS FIFO", "SNS FIFO", "Kinesis"))
    names = [each.fits for each in found.alternatives]
    assert names == sorted(names, reverse=True)
    assert "order is not kept" in found.named("EventBridge + SQS").unfit
    assert "order" in advice().named("SNS + SQS").lost


def test_each_limit_is_said():
    big = advice(size=300_000)
    assert "a message has at most 262,144 bytes (claim check)" in big.named("SNS + SQS").unfit
    assert big.named("SQS").fits
    assert "kept for at most 14 days" in advice(retention_days=20).named("SQS").unfit
    replaying = advice(replay=True, retention_days=20)
    assert replaying.named("SNS + SQS").unfit == ("kept for at most 14 days", "no replay")
    assert replaying.named("EventBridge + SQS").fits
    assert dollars(replaying.named("EventBridge + SQS"), "archived") > 0
    assert any("7 days" in each for each in replaying.named("Kinesis").unfit)
    assert dollars(advice(retention_days=2).named("Kinesis"), "kept longer") > 0
    assert any("PutEvents" in each for each in advice(rate=20_000.0).named("EventBridge + SQS").limits)
    assert any("PutEvents" in each for each in advice(peak=20.0).named("EventBridge + SQS").limits)
    assert any("FIFO: 3,000" in each for each in advice(rate=5000.0).named("SNS FIFO + SQS FIFO").limits)
    assert any("high throughput" in each for each in advice(rate=5000.0).named("SQS FIFO").limits)
    assert advice(rate=100.0, groups=50_000).named("SQS FIFO").limits == ()
    assert any("120,000 messages" in each for each in advice(groups=150_000).named("SQS FIFO").limits)
    assert any("SNS behind" in each for each in advice(targets=7).named("EventBridge + SQS").limits)
    assert any("fan out by SNS" in each for each in advice(targets=2000).named("EventBridge + SQS").limits)
    assert any("subscriptions" in each for each in advice(targets=200).named("SNS FIFO + SQS FIFO").limits)
    assert any("fan-out" in each for each in advice(shares=(1.0,) * 6).named("Kinesis").limits)
    nothing = advice(size=20_000_000)
    assert nothing.best is None
    assert any(note.startswith("Nothing fits") for note in nothing.notes)


def test_shards_are_counted_by_what_is_scarce():
    def shards(**profile):
        return dollars(advice(**profile).named("Kinesis"), "shards") / (730 * TODAY["kinesis.shard.hour"])

    assert shards(rate=10.0) == pytest.approx(1)
    assert shards(rate=5000.0, size=100) == pytest.approx(5)
    assert shards(rate=1000.0, size=10_000) == pytest.approx(10)
    assert shards(rate=1000.0, size=10_000, shares=(1.0,) * 4) == pytest.approx(20)


def test_an_idle_consumer_pays_for_its_polls():
    found = advice(rate=1e-6).named("SQS")
    assert dollars(found, "empty receives") == pytest.approx(SECONDS / 20 / 1e6 * 0.40, rel=0.001)
    assert dollars(advice().named("SQS"), "empty receives") == pytest.approx(0.0)


def test_a_price_list_of_2020_has_no_streams_on_demand():
    assert "Kinesis on demand" not in {each.name for each in advise(Profile(rate=1, size=1), IN_2020).alternatives}
    assert "Kinesis on demand" in {each.name for each in advice().alternatives}


def test_an_advice_is_plain_data():
    plain = json.loads(json.dumps(advice(shares=(1.0, 0.5)).as_dict()))
    assert plain["messages_per_month"] == pytest.approx(1000 * SECONDS)
    first = plain["alternatives"][0]
    assert first["monthly"] == pytest.approx(sum(item["dollars"] for item in first["items"]))
    with pytest.raises(KeyError):
        advice().named("carrier pigeon")


def test_every_service_is_compared_in_every_respect():
    compared = facts()
    assert {"targets", "input transformation", "ordering", "dead letters", "billed unit", "retention"} < set(compared)
    for answers in compared.values():
        assert list(answers) == [title(name) for name in NAMES]


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0},
        {"size": 0},
        {"shares": ()},
        {"shares": (1.5,)},
        {"peak": 0.5},
        {"groups": 0},
        {"linger": -1},
        {"batch": 0.5},
        {"compression": 0.5},
    ],
    ids=str,
)
def test_a_profile_that_is_no_traffic_is_refused(wrong):
    with pytest.raises(ConfigurationError):
        Profile(**{"rate": 1.0, "size": 1, **wrong})
