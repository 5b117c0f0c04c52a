"""Where patterns keep what must outlive a message: one small protocol, several databases.

Every stateful pattern (aggregator, idempotent receiver, resequencer, process manager) needs the same three things of a
database: a conditional write, so that of two processes one wins; a list of what is due, so that deadlines survive a
restart; and an expiry. A `Store` has just these, so a pattern runs on any of them:

    eip.stores.MemoryStore      this process; for tests and for state that may end with it
    eip.stores.SqliteStore      a file; any number of processes of one machine
    eip.stores.dynamodb         DynamoDB (extra ``aws`` or ``aiobotocore``)
    eip.stores.redis            Redis (extra ``redis``)
    eip.stores.postgres         PostgreSQL (extra ``postgres``)

`eip.testing.stores` holds the suite that each is put through, yours included.
"""

from eip.stores.base import ABSENT as ABSENT
from eip.stores.base import Record as Record
from eip.stores.base import Store as Store
from eip.stores.memory import MemoryStore as MemoryStore
from eip.stores.sqlite import SqliteStore as SqliteStore

__all__ = ["ABSENT", "MemoryStore", "Record", "SqliteStore", "Store"]
