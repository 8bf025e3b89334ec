"""From JSON to dataclasses. Fields that a newer node sends and this version does not know are passed over."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone
from typing import Any, Callable, Optional, Type, TypeVar

from .errors import BadAnswer

T = TypeVar("T")


def wire(
    read: Optional[Callable[[Any], Any]] = None, name: Optional[str] = None, secret: bool = False, **options: Any
) -> Any:
    """A field of an answer: how it is read, and what it is called on the wire where that differs. A secret is never
    part of a repr."""
    return dataclasses.field(metadata={"read": read, "name": name}, repr=not secret, **options)


def build(cls: Type[T], data: Any) -> T:
    """Reads one object of an answer."""
    if not isinstance(data, dict):
        raise BadAnswer(f"a node answered with {type(data).__name__} where {cls.__name__} was expected")
    values = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        name = field.metadata.get("name") or field.name
        value = data.get(name)
        if value is None:
            if name not in data and _required(field):
                raise BadAnswer(f"a node's answer lacks {name}, which every {cls.__name__} has")
            if _required(field):
                values[field.name] = None
            continue
        read = field.metadata.get("read")
        try:
            values[field.name] = read(value) if read else value
        except (ValueError, TypeError, KeyError, OverflowError, OSError):
            raise BadAnswer(f"a node's answer has a {name} that can't be read, in {cls.__name__}") from None
    return cls(**values)


def time(text: str) -> datetime:
    """Reads an RFC 3339 time."""
    return datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)


def epoch(seconds: Any) -> datetime:
    """Reads a NumericDate of RFC 7519."""
    return datetime.fromtimestamp(float(seconds), timezone.utc)


def words(text: str) -> list:
    """Reads what is separated by spaces, such as scopes."""
    return text.split()


def one_or_many(value: Any) -> list:
    """Reads an audience: a string for one, an array for several (RFC 7519 section 4.1.3)."""
    return [value] if isinstance(value, str) else list(value)


def actors(act: Any) -> list:
    """Reads a chain of actors, the current one first (RFC 8693 section 4.1)."""
    chain = []
    while isinstance(act, dict) and len(chain) < 16:
        chain.append(str(act["sub"]))
        act = act.get("act")
    return chain


def many(cls: Type[T]) -> Callable[[Any], Any]:
    """Reads a list of objects."""

    def read(value: Any) -> Any:
        if not isinstance(value, list):
            raise TypeError
        return [build(cls, item) for item in value]

    return read


def one(cls: Type[T]) -> Callable[[Any], T]:
    """Reads an object within another."""
    return lambda value: build(cls, value)


def _required(field: Any) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
