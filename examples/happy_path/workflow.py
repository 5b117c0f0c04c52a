"""The workflow's application: begins a process for each photo that the bus reports, on the version that is deployed."""

from __future__ import annotations

from typing import Final

from eip import Consumer, Message, Transport
from eip.errors import ConfigurationError
from eip.matching import EventPattern
from eip.patterns.process_diagram import svg
from eip.patterns.process_manager import ProcessManager
from eip.runtime.service import Runnable
from eip.stores.objects import ObjectStore
from eip.topology import BusSpec, RuleSpec, Topology
from examples.happy_path.images import Pictures
from examples.happy_path.judges import Judge, PixelJudge
from examples.happy_path.model import Photo, PhotoPublished, PhotoRejected, PhotoUploaded
from examples.happy_path.steps import PhotoSteps, Tables
from examples.happy_path.versions import NAME, VERSIONS, definitions

__all__ = ["BUS", "Workflow", "workflow_topology"]

BUS: Final = "happy-path"
_RULE: Final = "workflow"
_CONCURRENCY: Final = 16
"""Photos that are worked on at once; of those, `Pictures` has two in memory."""


def workflow_topology() -> Topology:
    """What the workflow takes from the bus."""
    return Topology(BusSpec(BUS), RuleSpec(BUS, _RULE, EventPattern({"detail-type": ["PhotoUploaded"]})))


class Workflow:
    """The services of the workflow over a transport; run `services`.

    Args:
        transport: with the channels of `workflow_topology`.
        objects: where photos come from, and sizes go to.
        tables: what the workflow keeps.
        judge: who looks at photos; default: the stand-in.
        version: what new photos begin with.
    """

    def __init__(
        self,
        transport: Transport,
        objects: ObjectStore,
        tables: Tables,
        *,
        judge: Judge | None = None,
        version: int = VERSIONS[-1],
    ) -> None:
        pictures, bus = Pictures(objects), transport.bus(BUS)
        self._photos = tables.photos
        self._steps = PhotoSteps(objects, pictures, judge or PixelJudge(pictures), tables, bus)
        self.definitions = definitions(self._steps)
        self.deploy(version)
        self.manager = ProcessManager(tables.instances, self.definitions.values(), concurrency=_CONCURRENCY)
        self.services: list[Runnable] = [self.manager, Consumer(bus.subscription(_RULE), self._begin)]

    def deploy(self, version: int) -> None:
        """Let new photos begin with a version; those that are under way keep theirs.

        Raises:
            ConfigurationError: there is no such version.
        """
        if version not in self.definitions:
            raise ConfigurationError(f"version must be one of {', '.join(map(str, self.definitions))}, got {version}")
        self.version = version

    async def picture(self, photo: str) -> str | None:
        """How a photo went, as SVG; None where it is not known."""
        try:
            family = await self.manager.family(photo)
        except LookupError:
            return None
        return svg(self.manager.definition(family[0]), family)

    async def _begin(self, message: Message[PhotoUploaded]) -> None:
        """Begin a process under the photo's id, so that an event that comes twice begins one.

        Where the outcome is known already it is published once more: the front asks, as it missed it.
        """
        event = PhotoUploaded.model_validate(message.body)
        known = await self._photos.get(event.photo)
        if known is not None:
            outcome = PhotoPublished if b'"published"' in known.value else PhotoRejected
            await self._steps.tell(outcome.model_validate_json(known.value))
            return
        photo = Photo(photo=event.photo, place=event.place, bucket=event.bucket, key=event.key)
        await self.manager.start(NAME, photo, id=event.photo, version=self.version)
