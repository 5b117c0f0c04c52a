"""An application as one value: its transports, topology, stores, services and handlers; made by a function.

def make_app() -> App:
    app = App(AppSettings().make_transport(), topology=Topology(QueueSpec("orders")))

    @app.consumer("orders", concurrency=20)
    async def bill(order: OrderPlaced) -> None: ...

    return app

asyncio.run(eip.run(make_app()))            # a process: until SIGTERM or SIGINT, then drained
FastAPI(lifespan=make_app().lifespan)       # or in a web application
async with make_app() as app: ...           # or in a test
"""

from typing import TYPE_CHECKING

from eip._lazy import export_lazily
from eip.app.application import App as App
from eip.app.application import Provision as Provision
from eip.app.declarations import ChannelInfo as ChannelInfo
from eip.app.declarations import ConsumerOptions as ConsumerOptions
from eip.app.declarations import HandlerInfo as HandlerInfo
from eip.app.declarations import PublicationInfo as PublicationInfo
from eip.app.journal import Journal as Journal
from eip.app.journal import JournalEntry as JournalEntry

if TYPE_CHECKING:
    from eip.app.settings import AppSettings as AppSettings

__all__ = [
    "App",
    "AppSettings",
    "ChannelInfo",
    "ConsumerOptions",
    "HandlerInfo",
    "Journal",
    "JournalEntry",
    "Provision",
    "PublicationInfo",
]

export_lazily(__name__, {"AppSettings": "eip.app.settings"})  # an extra
