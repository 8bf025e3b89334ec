"""What the nouns of the API have in common."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, List, Optional, Protocol, Type, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

from . import errors
from ._reading import build
from ._transport import Answer, Call, Effect
from .models import Stop

T = TypeVar("T")
S = TypeVar("S", bound=Stop)

Names = Iterable[str]

_FENCE_SECONDS = 15  # how long a node waits for a fence by itself
_FENCE_GRACE = 5.0  # what its answer may take on its way after that


class Sender(Protocol):
    """Who sends calls: a client's transport, or the one that the environment describes."""

    def send(self, call: Call) -> Answer:
        """Sends a call and returns the answer."""


class Resource:
    """One noun of the API."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def _get(self, cls: Type[T], path: str) -> T:
        return build(cls, self._sender.send(Call("GET", path)).body)

    def _all(
        self,
        cls: Type[T],
        path: str,
        query: Dict[str, Optional[str]],
        limit: Optional[int],
        bearer: Optional[str] = None,
    ) -> Iterator[T]:
        """Walks a list page by page, as long as it is read on."""
        for page in self._pages(path, query, limit, bearer):
            if not isinstance(page, list):
                raise errors.BadAnswer(f"a node's answer to GET {path} is not a list")
            for item in page:
                yield build(cls, item)

    def _pages(
        self,
        path: str,
        query: Dict[str, Optional[str]],
        limit: Optional[int],
        bearer: Optional[str] = None,
    ) -> Iterator[Any]:
        """Asks for the pages of a list, one after the other."""
        if limit is not None:
            query["limit"] = str(limit)
        while True:
            answer = self._sender.send(Call("GET", path, query=given(query), bearer=bearer))
            yield answer.body
            after = next_cursor(answer.headers.get("link", ""))
            # A cursor that stands still would be a node's fault, and a loop without end here.
            if not after or after == query.get("after"):
                return
            query["after"] = after

    def _write(
        self,
        cls: Type[T],
        method: str,
        path: str,
        body: Any = None,
        query: Optional[Dict[str, Optional[str]]] = None,
        key: Optional[str] = None,
    ) -> T:
        """Sends a replicated write."""
        media = "application/merge-patch+json" if method == "PATCH" else "application/json"
        call = Call(method, path, query=given(query or {}), body=body, effect=Effect.WRITE, idempotency_key=key, media=media)
        return build(cls, self._sender.send(call).body)

    def _stop(
        self,
        cls: Type[S],
        method: str,
        path: str,
        wait: Optional[str],
        timeout_seconds: Optional[int],
        body: Any = None,
        query: Optional[Dict[str, Optional[str]]] = None,
        effect: Effect = Effect.STOP,
        bearer: Optional[str] = None,
    ) -> S:
        """Sends what stops something, and sees to it that who asked for a fence gets one or an error."""
        query = {**(query or {}), **fence(wait, timeout_seconds)}
        call = Call(method, path, query=given(query), body=body, effect=effect, bearer=bearer)
        if wait == "fenced":
            call.patience = (timeout_seconds or _FENCE_SECONDS) + _FENCE_GRACE
        answer = build(cls, self._sender.send(call).body)
        if wait == "fenced" and not answer.fenced and not getattr(answer, "dry_run", False):
            raise errors.NotFenced(answer)
        return answer


def fence(wait: Optional[str], timeout_seconds: Optional[int]) -> Dict[str, Optional[str]]:
    """The query of a write that may wait for a fence."""
    if wait not in (None, "committed", "fenced"):
        raise ValueError(f'wait is {wait!r}; it must be "committed" or "fenced"')
    if timeout_seconds is not None and wait != "fenced":
        raise ValueError('timeout_seconds goes with wait="fenced"')
    return {"wait": wait, "timeout_seconds": None if timeout_seconds is None else str(timeout_seconds)}


def given(values: Dict[str, Optional[T]]) -> Dict[str, T]:
    """Leaves out what was not given: a field that isn't sent has the node's default."""
    return {name: value for name, value in values.items() if value is not None}


def names(what: str, values: Optional[Names]) -> Optional[List[str]]:
    """Reads a list of names, such as scopes. A single string would else be taken for a list of letters."""
    if values is None:
        return None
    if isinstance(values, (str, bytes)):
        raise TypeError(f"{what} is a list of strings, not one string")
    values = list(values)
    if not all(isinstance(value, str) for value in values):
        raise TypeError(f"{what} is a list of strings")
    return values


def scopes_wanted(what: str, values: Optional[Names]) -> Optional[List[str]]:
    """Reads the scopes that a token is to have. To a node an empty list means all that the agent may get, which is
    hardly what a program means whose list came out empty."""
    wanted = names(what, values)
    if wanted is not None and not wanted:
        raise ValueError(f"{what} is empty; leave it out to get all that the agent may have by default")
    return wanted


def instant(time: Optional[Any]) -> Optional[str]:
    """Writes a time as nodes read it. A naive datetime is refused: nobody knows which hour it means."""
    if time is None or isinstance(time, str):
        return time
    if time.utcoffset() is None:
        raise ValueError("a time needs its zone, such as datetime.now(timezone.utc)")
    return time.isoformat(timespec="milliseconds")


def at(path: str, *ids: str) -> str:
    """Joins a path with ids, each as one segment."""
    for id in ids:
        if not isinstance(id, str):
            raise TypeError(f"an id is a string, not {type(id).__name__}")
        if id in ("", ".", ".."):
            raise ValueError(f"{id!r} is no id")
        path += "/" + quote(id, safe="@")
    return path


def next_cursor(link: str) -> str:
    """Finds the cursor of the next page in a Link header (RFC 8288)."""
    for part in link.split(","):
        target, _, parameters = part.partition(";")
        if 'rel="next"' in parameters.replace(" ", ""):
            found = parse_qs(urlsplit(target.strip().strip("<>")).query).get("after")
            return found[0] if found else ""
    return ""
