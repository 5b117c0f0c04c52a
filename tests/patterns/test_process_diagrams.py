"""Diagrams of processes: every element, its conditions, and how an instance fared."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from eip.errors import Reject
from eip.patterns.process_diagram import mermaid, svg
from eip.patterns.process_manager import Process, ProcessManager, Steps
from eip.stores import MemoryStore


async def look(state: dict) -> None: ...


async def forget(state: dict) -> None: ...


async def send(state: dict) -> None:
    raise Reject("no <address>")


async def report(state: dict) -> None: ...


async def answered(state: dict, message) -> None: ...


def is_urgent(state: dict) -> bool:
    return False


def drawn() -> Process:
    def step(name: str) -> Steps:
        return Steps().step(look, name=name, compensate=forget)

    return (
        Process("parcel", version=3)
        .step(look, compensate=forget)
        .choice(
            [(is_urgent, step("fly")), (lambda state: state["kg"] < 2, Steps().complete())],
            otherwise=step("ship"),
            name="how",
        )
        .catch(step("ask").step(send), failed=Steps().step(report))
        .parallel({"left": step("l"), "right": step("r")})
        .map(Process("label").step(look), items=lambda state: [state])
        .wait(90)
        .receive(answered, within=3600, when=is_urgent)
        .fail("never mind")
    )


TEXTS = (
    *("look", "undo: forget", "how", "is_urgent", "otherwise", "fly", "complete", "ship", "catch", "failed", "send"),
    *("report", "parallel", "left", "right", "label 1 for each, 10 at once", "wait", "1.5 min", "answered"),
    *("a message within 1 h", "when is_urgent", "fail", "never mind"),
)


def texts(picture: str) -> set[str]:
    return {each.text or "" for each in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")}


def test_a_definition_is_drawn_with_its_conditions():
    picture, chart = svg(drawn()), mermaid(drawn())
    assert set(TEXTS) <= texts(picture)
    assert 'state["kg"] < 2' in texts(picture)
    assert [each for each in TEXTS if each not in chart] == []
    assert '== "' not in chart
    assert '-- "state[#quot;kg#quot;] #lt; 2" -->' in chart


async def test_an_instance_is_drawn_as_it_went():
    async with ProcessManager(MemoryStore(), [drawn()]) as manager:
        ended = await manager.ended(await manager.start("parcel", {"kg": 7}, id="p-1"))
        family = await manager.family("p-1")
    assert (ended.status, ended.error) == ("compensated", "never mind")
    found = texts(svg(drawn(), family))
    assert "parcel 3: p-1 compensated (never mind)" in found
    assert {"done: otherwise", "failed: Reject: no <address>", "undone: done", "done after 1.5 min"} <= found
    chart = mermaid(drawn(), family)
    assert '== "otherwise" ==>' in chart
    styles = [line.split("fill:")[1][:7] for line in chart.splitlines() if line.startswith("style")]
    assert {"#dcfce7", "#fee2e2", "#fef3c7", "#f3f4f6", "#ffffff"} == set(styles)


async def test_instances_of_others_are_passed_over():
    async with ProcessManager(MemoryStore(), [Process("other").step(look)]) as manager:
        await manager.ended(await manager.start("other", {}, id="1"))
        assert svg(drawn(), await manager.family("1")) == svg(drawn())


def test_a_picture_is_as_wide_as_what_it_holds():
    """No text of a box is cut off at the right edge."""
    root = ET.fromstring(svg(drawn()))
    width = float(root.attrib["width"])
    boxes = [each.attrib for each in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert all(
        float(each.get("x", 0)) >= 0 and float(each.get("x", 0)) + float(each["width"]) <= width for each in boxes
    )
