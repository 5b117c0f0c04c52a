"""Names of a package that are imported at their first use, so that importing the package stays cheap."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["export_lazily"]


class _Export:
    """A name of a package, as an attribute of the package's class."""

    __slots__ = ("_module", "_name")

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __get__(self, package: ModuleType | None, _owner: type | None = None) -> Any:
        return self if package is None else getattr(import_module(self._module), self._name)

    def __set__(self, package: ModuleType, value: Any) -> None:
        """Ignore the submodule of the same name, which the import system sets as an attribute of its package.

        Otherwise ``from eip.patterns import splitter`` would be the function or the module, depending on who imported
        what before.
        """


def export_lazily(package: str, names: Mapping[str, str]) -> None:
    """Let the package have attributes that are imported when they are first asked for.

    Args:
        package: its ``__name__``.
        names: the module that defines each name.
    """
    exports = {name: _Export(module, name) for name, module in names.items()}
    sys.modules[package].__class__ = type("LazyPackage", (ModuleType,), exports)
