"""A console in the browser for an application or a transport: flow, dead letters, processes, cost (extra ``console``).

console = Console(app, tokens=TokenFile(Path("tokens.json")))
web.mount("/console", console)                  # inside of a web application
app.add(ConsoleServer(console, port=8081))      # or on a port of its own; or from a shell: eip console
"""

from eip.console.audit import AuditLog as AuditLog
from eip.console.console import Console as Console
from eip.console.redaction import Redaction as Redaction
from eip.console.server import ConsoleServer as ConsoleServer
from eip.console.subject import Reader as Reader
from eip.console.subject import Subject as Subject
from eip.console.tokens import TokenFile as TokenFile
from eip.console.tokens import Tokens as Tokens
from eip.console.tokens import User as User

__all__ = ["AuditLog", "Console", "ConsoleServer", "Reader", "Redaction", "Subject", "TokenFile", "Tokens", "User"]
