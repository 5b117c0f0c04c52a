"""Schemas of messages: exported from models, drafted from samples, held to before anything is sent, and compared.

    eip.schemas.catalog          pydantic models to JSON Schema; a sender that refuses invalid messages
    eip.schemas.inference        a draft for what somebody else sends
    eip.schemas.compatibility    two versions of a service: which consumer or producer breaks, and why
    eip.schemas.page             an AsyncAPI document as a web page

`eip.app.asyncapi` makes the AsyncAPI document of an application.
"""

from eip.schemas.catalog import Catalog as Catalog
from eip.schemas.catalog import CheckedSender as CheckedSender
from eip.schemas.compatibility import Break as Break
from eip.schemas.compatibility import compare as compare
from eip.schemas.inference import infer_schema as infer_schema

__all__ = ["Break", "Catalog", "CheckedSender", "compare", "infer_schema"]
