import asyncio
import selectors


class _Sel(selectors.DefaultSelector):
    loop = None

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready and timeout:
            self.loop.offset += timeout
        elif not ready and timeout is None:
            raise RuntimeError("deadlock")
        return ready


class VLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self.offset = 0.0
        s = _Sel()
        s.loop = self
        super().__init__(s)

    def time(self):
        return self.offset


def pytest_asyncio_loop_factories(config, item):
    if "service" in item.module.__name__:
        return {"real": asyncio.SelectorEventLoop}
    return {"virtual": VLoop}
