"""One process takes an instance as far as it goes: through its steps, or back, and to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eip import clock
from eip.channels import Sender
from eip.errors import InvalidMessage, error_text
from eip.message import Message
from eip.patterns._process_back import Back
from eip.patterns._process_forward import Forward
from eip.patterns._process_instance import Instance, Status
from eip.patterns._process_instances import Instances
from eip.patterns._process_work import Work
from eip.patterns._records import Versioned
from eip.patterns.process import Process, ProcessEnded

__all__ = ["ProcessRun"]


class ProcessRun:
    """Works on an instance that it has read.

    Args:
        instances: where it is.
        definition: its process.
        held: the instance; changed in place.
        output: where the ends of processes are sent to, if anywhere.
    """

    def __init__(
        self, instances: Instances, definition: Process[Any], held: Versioned[Instance], output: Sender | None
    ) -> None:
        self._instances, self._instance, self._output = instances, held.value, output
        self._work = Work(instances, definition, held)
        self._forward, self._back = Forward(self._work), Back(self._work)

    async def go(self, stopping: Callable[[], bool]) -> None:
        """Take it on until it ends, waits, or has to be tried again later.

        Args:
            stopping: whether this process ends, so that others are to go on after the step under way.
        """
        if self._instance.ended:
            await self._report()
            return
        while (state := await self._one()) is True:
            if stopping():
                await self._work.write(clock.now())
                return
        if state is not False:
            await self._end(state)

    async def _one(self) -> bool | Status:
        if self._instance.status == "compensating":
            return await self._back.go()
        if self._instance.step is None:
            return "completed"
        return await self._forward.go(self._instance.step)

    async def _end(self, status: Status) -> None:
        instance = self._instance
        instance.status, instance.step, instance.ended_at = status, None, clock.now()
        if await self._work.write(clock.now() if self._to_report else None):
            self._work.log.info("process_ended", status=status)
            await self._report()

    @property
    def _to_report(self) -> bool:
        """Whether somebody is to learn of the end; if so, it stays due until that is done."""
        instance = self._instance
        return instance.parent is not None or self._output is not None or bool(instance.children)

    async def _report(self) -> None:
        instance = self._instance
        await self._instances.drop_messages(instance.id)
        if instance.parent is not None:
            await self._instances.look_again(instance.parent)
        elif self._output is not None:
            await self._send_end(self._output)
        if instance.status != "failed" and (instance.parent is None or instance.released):
            await self._instances.release(instance)
        if instance.due is not None:
            await self._work.write(None)

    async def _send_end(self, output: Sender) -> None:
        """Send that it has ended. Where that can never be carried, it has ended nevertheless, and can be asked for."""
        try:
            await output.send(_ended(self._instance))
        except InvalidMessage as error:
            self._work.log.warning("process_end_refused", output=output.name, error=error_text(error))


def _ended(instance: Instance) -> Message[ProcessEnded]:
    """The message that it has ended; the same id however often it is sent."""
    body = ProcessEnded.of(instance)
    return Message(body, id=f"{instance.id}/{instance.status}", correlation_id=instance.id, type="ProcessEnded")
