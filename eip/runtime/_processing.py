"""One message through its handler: the call, and the results sent before the message is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from eip._logging import get_logger
from eip.channels import Sender
from eip.errors import InvalidResult, error_text
from eip.message import Message
from eip.runtime._settings import Settings
from eip.runtime.handlers import messages_of

__all__ = ["failure_of", "in_own_task", "process", "send_results"]

_T = TypeVar("_T")

_log = get_logger("eip.consumer")


async def process(settings: Settings, message: Message[Any]) -> None:
    """Call the handler, and send what it returns.

    Raises:
        Exception: what the handler, or sending, raised.
        SystemExit: the handler ends the process; so does `KeyboardInterrupt`.
    """
    try:
        result = await settings.handler(message)
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as error:
        raise failure_of(settings, message, error) from error
    if result is not None:
        await send_results(settings, message, result)


def failure_of(settings: Settings, message: Message[Any], error: BaseException) -> RuntimeError:
    """What an exception that is no `Exception` means for its message: it fails only that.

    Raises:
        SystemExit: the handler ends the process; so does `KeyboardInterrupt`.
        GeneratorExit: the handler did not raise it: its coroutine is being closed, as its loop is.
    """
    if isinstance(error, GeneratorExit) and not _in_task():
        raise error
    if isinstance(error, (SystemExit, KeyboardInterrupt)):
        _log.error(
            "process_ended_by_handler",
            consumer=settings.name,
            handler=settings.handler_name,
            message_id=message.id,
            error=error_text(error),
        )
        raise error
    failure = RuntimeError(f"the handler raised {error_text(error)}")
    failure.__cause__ = error
    return failure


async def send_results(settings: Settings, message: Message[Any], result: object) -> None:
    """Send what the handler returned: to the return address where there is one, otherwise to the output."""
    results = messages_of(result)
    if not results:
        return
    sender = _destination(settings, message)
    trace = message.traceparent
    if trace is not None:
        results = [each if each.traceparent is not None else each.replace(traceparent=trace) for each in results]
    await sender.send(*results)


def _destination(settings: Settings, message: Message[Any]) -> Sender:
    if settings.replies is not None and message.return_address is not None:
        return settings.replies.resolve(message.return_address)
    if settings.output is not None:
        return settings.output
    where = "output=... or replies=..."
    if settings.replies is not None:
        where = "output=..., as the request has no return address"
    raise InvalidResult(f"{settings.name}: the handler returned messages with nowhere to go; give it {where}")


async def in_own_task(work: Coroutine[Any, Any, _T], *, name: str) -> _T:
    """Await what a user's function does in a task of its own: what it does to its task must not outlast the call.

    Args:
        work: the call.
        name: of the function, for people.

    Raises:
        RuntimeError: the function raised `GeneratorExit`, which would close the coroutines that wait for the task.
    """

    async def guarded() -> _T:
        try:
            return await work
        except GeneratorExit as error:
            if not _in_task():  # it is being closed, as its loop is
                raise
            raise RuntimeError(f"{name} raised {error_text(error)}") from error

    return await asyncio.create_task(guarded())


def _in_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False
