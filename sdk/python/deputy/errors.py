"""What can go wrong. Everything that this package raises on purpose is an :class:`Error`, but for a wrong
argument, which is a ``ValueError`` or a ``TypeError`` before anything is sent.

No error holds a token or a secret.
"""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence, Tuple

PROBLEM_TYPE = "urn:deputy:problem:"

_OUTCOME_UNKNOWN = "outcome-unknown"


class Error(Exception):
    """The base of all that this package raises."""


class ConfigurationError(Error):
    """The client can't be used as it is set up; the message says what to set."""


class BadAnswer(Error):
    """Who answered did not speak as a node does. No other node will mend that."""


class Unreachable(Error):
    """No node answered.

    ``failures`` has the last failure of each address. ``unknown`` is true where the request may have arrived and
    taken effect, and its answer was lost.
    """

    def __init__(self, failures: Mapping[str, str], unknown: bool = False) -> None:
        self.failures = dict(failures)
        self.unknown = unknown
        text = "no node answered"
        if unknown:
            text = "the connection broke before the answer, so it is unknown whether the request took effect"
        if failures:
            text += ": " + "; ".join(f"{address}: {reason}" for address, reason in failures.items())
        super().__init__(text)


class Refused(Error):
    """A node's answer that says no.

    ``code`` is the stable name of what is wrong, such as ``scope-not-allowed``; under ``/oauth2`` it is the name
    that RFC 6749 gives it, such as ``invalid_scope``. It is empty where who answered was not a node but something
    in between. ``hint`` says what to do next, where the node knows. ``request_id`` is what to look for in the
    node's log. ``errors`` has ``(pointer, detail)`` for each field of the request that is wrong.
    """

    def __init__(
        self,
        status: int,
        code: str = "",
        detail: str = "",
        hint: str = "",
        request_id: str = "",
        errors: Sequence[Tuple[str, str]] = (),
        retry_after: float = 0.0,
        address: str = "",
    ) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint
        self.request_id = request_id
        self.errors = list(errors)
        self.retry_after = retry_after
        self.address = address
        super().__init__(self._text())

    def _text(self) -> str:
        text = self.detail or self.code or f"{self.address} answered {self.status}"
        if self.errors:
            text += ": " + "; ".join(f"{pointer} {detail}" for pointer, detail in self.errors)
        where = [part for part in (self.code, str(self.status), self.request_id) if part]
        text += f" [{', '.join(where)}]"
        if self.hint:
            text += f" (hint: {self.hint})"
        return text


class Unauthenticated(Refused):
    """401: the API token, or the client's secret, is missing, wrong, deleted or expired."""


class NotFound(Refused):
    """404: there is no such thing."""


class AlreadyExists(Refused):
    """409 ``already-exists``: a thing of that name is there already."""


class RateLimited(Refused):
    """429: too many requests; ``retry_after`` says for how many seconds to wait."""


class Unavailable(Refused):
    """Every node that could be asked said that it can't answer right now. Nothing was done."""


class OutcomeUnknown(Unavailable):
    """A write may or may not have been made. Read the object, or repeat the write with the same idempotency key."""


class NotFenced(Error):
    """A stop was made, but within the time it was not proved that no node acts against it any more.

    ``answer`` is the node's answer; ``waiting`` names the nodes that are missing. Ask again to wait again: to stop
    something twice does no harm.
    """

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.waiting = [node.id for node in answer.nodes if node.state == "waiting"]
        who = ", ".join(self.waiting) or "some node"
        super().__init__(f"it is not fenced: {who} may still act as if nothing had been stopped; ask again")


def refusal(address: str, status: int, headers: Mapping[str, str], body: Any) -> Refused:
    """Makes the error of an answer: of a problem document, an OAuth error, or whatever stands in between."""
    code = detail = hint = ""
    fields: Sequence[Tuple[str, str]] = ()
    if isinstance(body, dict):
        kind = _text(body.get("type"))
        if kind.startswith(PROBLEM_TYPE):
            code = kind[len(PROBLEM_TYPE) :]
        detail, hint = _text(body.get("detail")), _text(body.get("hint"))
        if isinstance(body.get("error"), str):
            code, detail = body["error"], _text(body.get("error_description"))
        given = body.get("errors")
        if isinstance(given, list):
            fields = [(_text(f.get("pointer")), _text(f.get("detail"))) for f in given if isinstance(f, dict)]
    return _class_of(status, code)(
        status=status,
        code=code,
        detail=detail,
        hint=hint,
        request_id=headers.get("x-request-id", ""),
        errors=fields,
        retry_after=_seconds(headers.get("retry-after")),
        address=address,
    )


def doubtful(last: Refused) -> OutcomeUnknown:
    """Says of a write that ended in a refusal, after an attempt whose answer was lost, that it may have been made."""
    return OutcomeUnknown(
        status=last.status,
        code=_OUTCOME_UNKNOWN,
        detail="the answer to an earlier attempt was lost, so it may or may not have been made; the last one said: "
        + (last.detail or last.code),
        hint="read the object, or repeat the request with the same idempotency key",
        request_id=last.request_id,
        retry_after=last.retry_after,
        address=last.address,
    )


def _class_of(status: int, code: str) -> type:
    if code == _OUTCOME_UNKNOWN:
        return OutcomeUnknown
    if code == "already-exists":
        return AlreadyExists
    return {
        401: Unauthenticated,
        404: NotFound,
        412: Unavailable,
        429: RateLimited,
        502: Unavailable,
        503: Unavailable,
        504: Unavailable,
    }.get(status, Refused)


def _seconds(header: Optional[str]) -> float:
    """The seconds form of RFC 9110 section 10.2.3, the only one that nodes send."""
    return float(header) if header is not None and header.isdecimal() and len(header) < 7 else 0.0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
