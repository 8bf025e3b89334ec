"""A client of one cluster."""

from __future__ import annotations

import os
import ssl
import threading
from typing import Any, Iterable, Mapping, Optional, Tuple, Union

from . import _addresses, _settings
from ._agents import Agents
from ._applications import Applications
from ._delegations import Delegations
from ._http import Connections
from ._principals import Principals
from ._sessions import Sessions
from ._settings import Credentials
from ._tokens import Tokens
from ._transport import Answer, Call, Effect, Identify, Transport
from ._version import __version__

DEFAULT_TIMEOUT = 30.0


class Client:
    """Speaks to a cluster. It may be used from several threads at once.

    ``addresses`` are those of nodes, as URLs or as host:port. A bare loopback address means http, any other https.
    ``token`` is an API token; ``credentials`` are an agent's or an application's own. ``timeout`` is how many seconds
    one call may take in all, with its repeats, beyond what it waits for a fence. ``tls`` replaces the default TLS
    context, ``ca_file`` names the certificates to trust instead of the system's.
    """

    def __init__(
        self,
        addresses: Union[str, Iterable[str]],
        token: Optional[str] = None,
        *,
        credentials: Optional[Credentials] = None,
        timeout: float = DEFAULT_TIMEOUT,
        ca_file: Optional[str] = None,
        tls: Optional[ssl.SSLContext] = None,
        user_agent: Optional[str] = None,
    ) -> None:
        if timeout <= 0:
            raise ValueError("a timeout is a positive number of seconds")
        if ca_file is not None and tls is not None:
            raise ValueError("give either ca_file or tls: a context brings its own certificates")
        if ca_file is not None:
            tls = ssl.create_default_context(cafile=ca_file)
        self._transport = Transport(
            _addresses.parse_all(addresses),
            token,
            credentials,
            timeout,
            user_agent or f"deputy-python/{__version__}",
            Connections(tls),
        )
        self.agents = Agents(self._transport)
        self.applications = Applications(self._transport)
        self.delegations = Delegations(self._transport)
        self.principals = Principals(self._transport)
        self.sessions = Sessions(self._transport)
        self.tokens = Tokens(self._transport)

    @classmethod
    def from_environment(cls, environ: Optional[Mapping[str, str]] = None, **options: Any) -> "Client":
        """Makes a client as DEPUTY_ADDR, DEPUTY_TOKEN, DEPUTY_CLIENT_ID and DEPUTY_CLIENT_SECRET say."""
        settings = _settings.from_environment(os.environ if environ is None else environ)
        return cls([str(a) for a in settings.addresses], settings.token, credentials=settings.credentials, **options)

    @property
    def addresses(self) -> Tuple[str, ...]:
        """The nodes' addresses, in the order given."""
        return tuple(str(a) for a in self._transport.addresses)

    @property
    def index(self) -> int:
        """The newest log index that a node has told this client. Every request asks for state at least that new, so
        that what this client wrote is what it reads, at whichever node."""
        return self._transport.index

    def observe(self, index: int) -> None:
        """Makes later requests ask for state at least as new as ``index``, such as one that another process wrote."""
        self._transport.observe(index)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Optional[Mapping[str, str]] = None,
        body: Any = None,
        idempotency_key: Optional[str] = None,
        repeatable: bool = False,
    ) -> Any:
        """Asks for what has no method here, such as ``client.request("GET", "/api/v1/cluster/members")``, and returns
        the JSON of the answer. A POST or PATCH is not repeated once it was sent, unless it has an idempotency key or
        the caller says that it is ``repeatable``."""
        if not path.startswith("/"):
            raise ValueError(f"{path!r} is not the path of a request")
        method = method.upper()
        if method in ("GET", "HEAD"):
            effect = Effect.READ
        elif repeatable or method in ("PUT", "DELETE"):
            effect = Effect.STOP
        else:
            effect = Effect.ONCE
        media = "application/merge-patch+json" if method == "PATCH" else "application/json"
        call = Call(
            method, path, query, body, effect=effect, identify=Identify.EITHER, idempotency_key=idempotency_key, media=media
        )
        return self._transport.send(call).body

    def close(self) -> None:
        """Closes idle connections. The client can still be used afterwards."""
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"deputy.Client(addresses={list(self.addresses)!r})"


class FromEnvironment:
    """Sends calls as the environment says at the time of the call. What ``deputy.agents`` and the others stand on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._settings: Optional[_settings.Settings] = None
        self._client: Optional[Client] = None

    def send(self, call: Call) -> Answer:
        """Sends a call and returns the answer."""
        return self.client()._transport.send(call)

    def client(self) -> Client:
        """The client for the environment as it is now. It stays the same, with its connections and its index, as long
        as nothing there changes."""
        settings = _settings.from_environment(os.environ)
        with self._lock:
            if self._client is not None and settings == self._settings:
                return self._client
            client = Client([str(a) for a in settings.addresses], settings.token, credentials=settings.credentials)
            if self._client is not None and self._settings is not None:
                if self._settings.addresses == settings.addresses:
                    client.observe(self._client.index)  # another token at the same nodes
                self._client.close()
            self._client, self._settings = client, settings
            return client
