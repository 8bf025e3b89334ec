"""From a call to an answer: which node is asked, as whom, and how often.

Every node answers every request, so the next one is asked where a node can't be reached or says that it can't vouch
for an answer. How often is bounded, and a request that may have taken effect is only repeated where repeating it is
harmless.
"""

from __future__ import annotations

import base64
import enum
import json
import logging
import random
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union
from urllib.parse import quote_plus, urlencode

from . import errors
from ._addresses import Address
from ._http import Connections, Failed, Response
from ._settings import Credentials

ROUNDS = 4  # over all addresses: enough to sit out an election
FIRST_PAUSE = 0.1  # seconds after the first round; it doubles with every further one
MAX_PAUSE = 2.0  # a node that asks for a longer one gets it, if the call's time allows
ATTEMPT_SECONDS = 10.0  # for one node of several: longer than any wait that a node grants unasked
MAX_BODY = 1 << 20  # what nodes take
MAX_KEY = 255  # of an idempotency key

log = logging.getLogger("deputy")


class Effect(enum.Enum):
    """What a request does, which decides whether it may be repeated."""

    READ = enum.auto()  # changes nothing
    MINT = enum.auto()  # a token whose answer is lost is known to nobody and ends by itself
    WRITE = enum.auto()  # repeated under one idempotency key
    STOP = enum.auto()  # harmless twice; an idempotency key would only be in the way
    ONCE = enum.auto()  # not to be repeated


class Identify(enum.Enum):
    """Whom a request names as its caller."""

    TOKEN = enum.auto()  # the API token
    CLIENT = enum.auto()  # an agent or an application, by its credentials
    EITHER = enum.auto()  # credentials where the call has some, then the API token, then the client's credentials


@dataclass
class Call:
    """One request. Body is sent as JSON, form as a form."""

    method: str
    path: str
    query: Optional[Mapping[str, str]] = None
    body: Any = None
    form: Optional[Sequence[Tuple[str, str]]] = None
    effect: Effect = Effect.READ
    identify: Identify = Identify.TOKEN
    credentials: Optional[Credentials] = None
    bearer: Optional[str] = None  # stands in for the API token: a user's ID token
    idempotency_key: Optional[str] = None
    media: str = "application/json"
    patience: float = 0.0  # seconds that a node may take beyond the usual


@dataclass(frozen=True)
class Answer:
    """What a node said."""

    status: int
    headers: Mapping[str, str]
    body: Any
    address: str
    asked_at: float  # time.time() just before the request that was answered


class Transport:
    """Sends calls to the nodes of one cluster. It may be used from several threads at once."""

    def __init__(
        self,
        addresses: Sequence[Address],
        token: Optional[str],
        credentials: Optional[Credentials],
        timeout: float,
        user_agent: str,
        connections: Connections,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.addresses = tuple(addresses)
        self.credentials = credentials
        self.timeout = timeout
        self._token = _printable(token, "API token")
        self._user_agent = _printable(user_agent, "user agent") or ""
        self._connections = connections
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._index = 0
        self._preferred = 0

    @property
    def index(self) -> int:
        """The newest log index that a node has told; every request asks for state at least that new."""
        return self._index

    def observe(self, index: int) -> None:
        """Makes later requests ask for state at least as new as index."""
        with self._lock:
            self._index = max(self._index, index)

    def close(self) -> None:
        """Closes idle connections."""
        self._connections.close()

    def send(self, call: Call) -> Answer:
        """Sends a call and returns the answer, or raises one of :mod:`deputy.errors`."""
        return _Sending(self, call).run()

    def headers(self, call: Call) -> Dict[str, str]:
        """What goes with a call: who asks, and what state the answer must be as new as."""
        headers = {"Accept": "application/json", "User-Agent": self._user_agent}
        if self._index:
            headers["X-Deputy-Index"] = str(self._index)
        credentials, token = call.credentials, self._token
        if call.bearer is not None:
            headers["Authorization"] = f"Bearer {_printable(call.bearer, 'ID token')}"
            return headers
        if call.identify is Identify.TOKEN:
            credentials = None
        elif call.identify is Identify.CLIENT or token is None:
            credentials = credentials or self.credentials
        if credentials is not None:
            headers["Authorization"] = _basic(credentials)
        elif call.identify is Identify.CLIENT:
            raise errors.ConfigurationError(
                "a client's credentials are needed: set DEPUTY_CLIENT_ID and DEPUTY_CLIENT_SECRET, or give credentials=…"
            )
        elif token is None:
            raise errors.ConfigurationError("an API token is needed: set DEPUTY_TOKEN, or give token=…")
        else:
            headers["Authorization"] = "SSWS " + token
        return headers


class _Sending:
    """One call on its way."""

    def __init__(self, transport: Transport, call: Call) -> None:
        self.transport = transport
        self.call = call
        self.clock = transport._clock
        self.body, media = _encode(call)
        key = call.idempotency_key
        if key is None and call.effect is Effect.WRITE:
            key = secrets.token_urlsafe(24)
        self.extra = {}
        if media:
            self.extra["Content-Type"] = media
        if key is not None:
            self.extra["Idempotency-Key"] = _checked_key(key)
        self.repeatable = call.effect is not Effect.ONCE or key is not None
        self.target = call.path + ("?" + urlencode(call.query) if call.query else "")
        self.deadline = self.clock() + transport.timeout + call.patience
        self.failures: Dict[str, str] = {}
        self.refused: Optional[errors.Refused] = None
        # An attempt may have changed something: its answer was lost, or did not know.
        self.begun = False
        self.not_before: List[float] = [0.0] * len(transport.addresses)

    def run(self) -> Answer:
        pause = FIRST_PAUSE
        for round_number in range(ROUNDS):
            if round_number > 0:
                if not self._rest(pause):
                    break
                pause *= 2
            for n in self._order():
                now = self.clock()
                if now >= self.deadline:
                    break
                if now < self.not_before[n]:
                    continue  # it asked to be left alone for longer
                answer = self._ask(n)
                if answer is not None:
                    return answer
        raise self._given_up()

    def _order(self) -> List[int]:
        count = len(self.transport.addresses)
        return [(self.transport._preferred + i) % count for i in range(count)]

    def _ask(self, n: int) -> Optional[Answer]:
        """Asks one node. None means that another one, or the same one later, may well say yes."""
        address = self.transport.addresses[n]
        deadline = self.deadline
        if len(self.transport.addresses) > 1:
            deadline = min(deadline, self.clock() + ATTEMPT_SECONDS + self.call.patience)
        asked_at = time.time()
        headers = {**self.transport.headers(self.call), **self.extra}
        try:
            response = self.transport._connections.exchange(
                address, self.call.method, self.target, headers, self.body, deadline
            )
        except Failed as e:
            self.failures[str(address)] = e.reason
            self.begun = self.begun or e.sent
            if e.sent and not self.repeatable:
                raise errors.Unreachable({str(address): e.reason}, unknown=True) from None
            log.debug("%s %s at %s: %s", self.call.method, self.call.path, address, e.reason)
            return None
        if 200 <= response.status <= 299:
            self.transport._preferred = n
            self._observe(response)
            body = _decode(address, self.call, response)
            return Answer(response.status, response.headers, body, str(address), asked_at)
        refused = errors.refusal(str(address), response.status, response.headers, _loosely(response))
        if not _may_help(refused, self.repeatable):
            self.transport._preferred = n
            raise refused
        self.begun = self.begun or isinstance(refused, errors.OutcomeUnknown)
        self.refused = refused
        self.not_before[n] = self.clock() + refused.retry_after
        log.debug("%s %s at %s: %s", self.call.method, self.call.path, address, refused)
        return None

    def _observe(self, response: Response) -> None:
        text = response.headers.get("x-deputy-index", "")
        if text.isdecimal() and len(text) < 20:
            self.transport.observe(int(text))

    def _rest(self, pause: float) -> bool:
        """Waits until a node may be asked again, and tells whether the call's time allows that."""
        now = self.clock()
        # Clients that lost the same node at the same time should not come back at the same time.
        until = now + min(pause, MAX_PAUSE) * random.uniform(0.75, 1.25)
        until = max(until, min(self.not_before))
        if until >= self.deadline:
            return False
        self.transport._sleep(until - now)
        return True

    def _given_up(self) -> errors.Error:
        doubt = self.begun and self.call.effect in (Effect.WRITE, Effect.STOP, Effect.ONCE)
        # A node that answered knows more of what is wrong than one that did not.
        if self.refused is not None:
            return errors.doubtful(self.refused) if doubt else self.refused
        if not self.failures:
            self.failures = {str(a): "there was no time to ask" for a in self.transport.addresses}
        return errors.Unreachable(self.failures, unknown=doubt)


def _may_help(refused: errors.Refused, repeatable: bool) -> bool:
    """Tells whether another node, or the same one a little later, may well say yes."""
    if refused.code in ("not-fresh", "no-leader", "overloaded", "stale-index", "draining"):
        return True  # refused before anything was done
    if refused.status == 429:
        return False  # to ask elsewhere would be to go around the limit
    if refused.code == "temporarily_unavailable":
        return True  # RFC 6749's word for all of the above
    if refused.code in ("", "outcome-unknown"):
        return repeatable and refused.status in (502, 503, 504)
    return False


def _encode(call: Call) -> Tuple[Optional[bytes], str]:
    if call.form is not None:
        body, media = urlencode(call.form).encode(), "application/x-www-form-urlencoded"
    elif call.body is not None:
        text = json.dumps(call.body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        body, media = text.encode("utf-8"), call.media
    else:
        return None, ""
    if len(body) > MAX_BODY:
        raise ValueError(f"the body of {call.method} {call.path} has {len(body)} bytes; nodes take {MAX_BODY}")
    return body, media


def _decode(address: Address, call: Call, response: Response) -> Any:
    if not response.body:
        return None
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):
        raise errors.BadAnswer(f"the answer of {address} to {call.method} {call.path} is not JSON") from None


def _loosely(response: Response) -> Any:
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):
        return None


def _basic(credentials: Credentials) -> str:
    """HTTP Basic with both halves form-encoded first (RFC 6749 section 2.3.1)."""
    pair = f"{quote_plus(credentials.client_id)}:{quote_plus(credentials.client_secret)}"
    return "Basic " + base64.b64encode(pair.encode("ascii")).decode("ascii")


def _printable(text: Optional[str], what: str) -> Optional[str]:
    """Refuses what can't stand in a header, without showing it as the HTTP library would."""
    if text is None:
        return None
    text = text.strip()
    if not text:
        return None
    if not all(" " <= c <= "~" for c in text):
        raise errors.ConfigurationError(f"the {what} has characters that no {what} has; was it cut or pasted wrongly?")
    return text


def _checked_key(key: Union[str, Any]) -> str:
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY or not all("!" <= c <= "~" for c in key):
        raise ValueError(f"an idempotency key is 1 to {MAX_KEY} visible ASCII characters")
    return key
