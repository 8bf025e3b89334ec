"""One request to one node, over connections that are kept for the next one."""

from __future__ import annotations

import base64
import http.client
import os
import select
import socket
import ssl
import threading
import time
import urllib.request
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Tuple
from urllib.parse import unquote, urlsplit

from ._addresses import Address, is_loopback
from .errors import BadAnswer

CONNECT_TIMEOUT = 2.0  # a dead node must not eat the time of a live one
IDLE_CONNECTIONS = 8  # kept for each address; further ones are closed after use
IDLE_SECONDS = 60.0  # nodes close a connection that was idle for twice as long
MAX_ANSWER = 64 << 20  # a list of 1,000 agents with all they may hold is half of it
_CHUNK = 1 << 16


class Failed(Exception):
    """The request got no answer. ``sent`` tells whether the node may have seen it."""

    def __init__(self, reason: str, sent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


@dataclass(frozen=True)
class Response:
    """An answer as it came."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class Connections:
    """Makes connections and keeps them. It may be used from several threads at once, and across a fork: a child
    process never speaks over a connection of its parent's."""

    def __init__(self, tls: Optional[ssl.SSLContext] = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._tls = tls
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: Dict[Address, List[Tuple[float, http.client.HTTPConnection]]] = {}
        self._pid = os.getpid()

    def exchange(
        self, address: Address, method: str, target: str, headers: Mapping[str, str], body: Optional[bytes], deadline: float
    ) -> Response:
        """Sends a request and reads the answer, or raises :class:`Failed`. The deadline is one of the clock's."""
        connection = self._take(address)
        if connection is None:
            connection = self._connect(address, deadline)
        try:
            response = self._speak(connection, address, method, target, headers, body, deadline)
        except (OSError, http.client.HTTPException) as e:
            connection.close()
            raise Failed(_reason(e), sent=True) from None
        except BaseException:
            connection.close()  # it stands in the middle of an answer
            raise
        if connection.sock is None:
            connection.close()
        else:
            self._keep(address, connection)
        return response

    def close(self) -> None:
        """Closes what is idle. Connections in use end with their request."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for kept in idle.values():
            for _, connection in kept:
                connection.close()

    def _speak(
        self,
        connection: http.client.HTTPConnection,
        address: Address,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Optional[bytes],
        deadline: float,
    ) -> Response:
        sock = connection.sock
        sock.settimeout(self._left(deadline))
        through = getattr(connection, "absolute", "")  # a proxy wants to hear whom the request is for
        connection.request(method, through + address.path + target, body=body, headers={**headers, **_proxy_headers(connection)})
        sock.settimeout(self._left(deadline))
        answer = connection.getresponse()
        text = bytearray()
        while not answer.isclosed():
            sock.settimeout(self._left(deadline))  # of each read: a node that trickles must not hold the caller
            chunk = answer.read1(_CHUNK)
            if not chunk:
                break
            text += chunk
            if len(text) > MAX_ANSWER:
                raise BadAnswer(f"the answer of {address} is longer than {MAX_ANSWER} bytes")
        if answer.length:  # read1 takes a connection that broke for the end
            raise http.client.IncompleteRead(b"", answer.length)
        answer.close()  # or the connection would wait for the end to be read once more
        if answer.will_close:
            connection.close()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Response(answer.status, names, bytes(text))

    def _connect(self, address: Address, deadline: float) -> http.client.HTTPConnection:
        timeout = min(CONNECT_TIMEOUT, self._left(deadline))
        connection = self._prepare(address, timeout)
        try:
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, http.client.HTTPException) as e:
            connection.close()
            raise Failed(_reason(e), sent=False) from None
        return connection

    def _prepare(self, address: Address, timeout: float) -> http.client.HTTPConnection:
        proxy = _proxy_for(address)
        host, port = (proxy[0], proxy[1]) if proxy else (address.host, address.port)
        if address.scheme == "http":
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
            if proxy:
                connection.absolute = str(Address("http", address.host, address.port, ""))  # type: ignore[attr-defined]
                connection.proxy_headers = proxy[2]  # type: ignore[attr-defined]
            return connection
        with self._lock:
            if self._tls is None:
                self._tls = ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls)
        if proxy:
            connection.set_tunnel(address.host, address.port, headers=proxy[2])
        return connection

    def _take(self, address: Address) -> Optional[http.client.HTTPConnection]:
        now = self._clock()
        while True:
            with self._lock:
                if self._pid != os.getpid():  # a fork: these are the parent's to speak over
                    self._pid, self._idle = os.getpid(), {}
                kept = self._idle.get(address)
                if not kept:
                    return None
                since, connection = kept.pop()
            if now - since < IDLE_SECONDS and not _stale(connection.sock):
                return connection
            connection.close()

    def _keep(self, address: Address, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            kept = self._idle.setdefault(address, [])
            if len(kept) < IDLE_CONNECTIONS:
                kept.append((self._clock(), connection))
                return
        connection.close()

    def _left(self, deadline: float) -> float:
        left = deadline - self._clock()
        if left <= 0:
            raise socket.timeout("timed out")
        return left


def _stale(sock: Optional[socket.socket]) -> bool:
    """Tells whether the node has closed the connection meanwhile, or has said something unasked."""
    if sock is None or sock.fileno() < 0:
        return True
    if hasattr(select, "poll"):
        poll = select.poll()  # unlike select it knows no largest descriptor
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([sock], [], [], 0)[0])


def _proxy_for(address: Address) -> Optional[Tuple[str, int, Dict[str, str]]]:
    """The proxy that the environment names for the address, as host, port and headers. Never one for loopback."""
    if is_loopback(address.host) or urllib.request.proxy_bypass(address.host):
        return None
    text = urllib.request.getproxies().get(address.scheme)
    if not text:
        return None
    parts = urlsplit(text if "://" in text else "http://" + text)
    if not parts.hostname:
        return None
    headers = {}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    return parts.hostname, parts.port or 8080, headers


def _proxy_headers(connection: http.client.HTTPConnection) -> Mapping[str, str]:
    return getattr(connection, "proxy_headers", {})


def _reason(e: Exception) -> str:
    """What went wrong, in a few words, without the request."""
    if isinstance(e, socket.timeout):
        return "timed out"
    if isinstance(e, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {e.verify_message}"
    if isinstance(e, http.client.RemoteDisconnected):
        return "closed the connection without an answer"
    if isinstance(e, OSError):
        return e.strerror or str(e) or type(e).__name__
    return f"broke off ({type(e).__name__})"
