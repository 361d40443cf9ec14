"""Finds modules by looking, so that adding or moving one needs no list to be kept."""

import importlib
import pkgutil
from types import ModuleType


def modules(package: str) -> list[ModuleType]:
    """Import every module of a package, by name."""
    path = importlib.import_module(package).__path__
    return [importlib.import_module(f"{package}.{found.name}") for found in pkgutil.iter_modules(path)]


def packages(package: str) -> list[str]:
    """Name every package right below a package."""
    path = importlib.import_module(package).__path__
    return [found.name for found in pkgutil.iter_modules(path) if found.ispkg]
