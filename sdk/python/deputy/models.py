"""What nodes answer. Times are aware datetimes in UTC; durations are seconds.

No repr of these shows a token or a secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Dict, List, Optional

from . import _reading as reading
from ._reading import wire


@dataclass(frozen=True)
class Session:
    """A session at its start: one run of an agent, with its token."""

    session_id: str
    access_token: str = wire(secret=True)
    token_type: str = wire()
    expires_at: datetime = wire(reading.time)
    expires_in: int = wire()
    scope: str = wire()
    agent_id: str = wire()
    principal_user_id: Optional[str] = wire()
    delegation_id: Optional[str] = wire(default=None)

    @property
    def scopes(self) -> List[str]:
        """The granted scopes, one by one."""
        return self.scope.split()

    @property
    def authorization(self) -> str:
        """The value of the Authorization header for the systems that the agent calls."""
        return f"{self.token_type} {self.access_token}"

    def expired(self, now: Optional[datetime] = None) -> bool:
        """Tells whether the session is over by the clock. It may have been revoked before."""
        return (now or datetime.now(timezone.utc)) >= self.expires_at


@dataclass(frozen=True)
class Token:
    """A token from the token endpoint. ``expires_at`` is by this machine's clock."""

    access_token: str = wire(secret=True)
    token_type: str = wire()
    expires_in: int = wire()
    expires_at: datetime = wire()
    scope: str = wire(default="")
    session_id: str = wire(default="")
    issued_token_type: Optional[str] = wire(default=None)

    @property
    def scopes(self) -> List[str]:
        """The granted scopes, one by one."""
        return self.scope.split()

    @property
    def authorization(self) -> str:
        """The value of the Authorization header for the systems that the agent calls."""
        return f"{self.token_type} {self.access_token}"

    def expired(self, now: Optional[datetime] = None) -> bool:
        """Tells whether the token is over by the clock. It may have been revoked before."""
        return (now or datetime.now(timezone.utc)) >= self.expires_at


@dataclass(frozen=True)
class Introspection:
    """What a node says of a token (RFC 7662). Of one that is not good for the application that asks, only that it is
    not active."""

    active: bool
    scopes: List[str] = wire(reading.words, name="scope", default_factory=list)
    subject: str = wire(name="sub", default="")
    actors: List[str] = wire(reading.actors, name="act", default_factory=list)
    client_id: str = wire(default="")
    audience: List[str] = wire(reading.one_or_many, name="aud", default_factory=list)
    issuer: str = wire(name="iss", default="")
    session_id: str = wire(name="sid", default="")
    token_id: str = wire(name="jti", default="")
    agent_type: str = wire(default="")
    token_type: str = wire(default="")
    issued_at: Optional[datetime] = wire(reading.epoch, name="iat", default=None)
    expires_at: Optional[datetime] = wire(reading.epoch, name="exp", default=None)
    confirmation: Optional[Dict[str, Any]] = wire(name="cnf", default=None)

    def allows(self, *scopes: str) -> bool:
        """Tells whether the token is active and has all of the scopes."""
        return self.active and all(scope in self.scopes for scope in scopes)


@dataclass(frozen=True)
class FencedNode:
    """One node's part in a fence: ``fenced``, ``lease-expired`` or ``waiting``."""

    id: str
    state: str
    after_ms: float = 0.0


@dataclass(frozen=True)
class Denied:
    """How far a deny has come that did not wait for the commit."""

    nodes: int
    of: int
    after_ms: float = 0.0


@dataclass(frozen=True)
class Stop:
    """How far something that stops something has come.

    ``committed``: a quorum has it on disk. Where it is false the node that was asked keeps it, denies it wherever it
    can, and commits it when a majority is back. ``fenced``: no node acts any more as if it had not happened; only
    ever true where the call waited for that. ``validators_until`` and ``offline_until`` say when services that lease
    freshness from a node, and those that never ask, have stopped as well.
    """

    committed: bool = wire(default=False)
    fenced: bool = wire(default=False)
    nodes: List[FencedNode] = wire(reading.many(FencedNode), default_factory=list)
    denied: Optional[Denied] = wire(reading.one(Denied), default=None)
    validators_until: Optional[datetime] = wire(reading.time, default=None)
    offline_until: Optional[datetime] = wire(reading.time, default=None)
    detail: str = wire(default="")
    handles: List[str] = wire(default_factory=list)
    known: bool = wire(default=False)
    index: int = wire(default=0)


@dataclass(frozen=True)
class Revocation(Stop):
    """The answer to the end of a session. ``known`` is false where the node has not seen it; it is revoked all the
    same."""


@dataclass(frozen=True)
class Deleted(Stop):
    """What was removed, and the handles that were revoked along with it."""

    id: str = wire(default="")


@dataclass(frozen=True)
class Kill(Stop):
    """The answer of a kill switch."""

    id: str = wire(default="")
    status: str = wire(default="")
    active_delegations: int = wire(default=0)
    agents: int = wire(default=0)
    principals: int = wire(default=0)
    truncated: bool = wire(default=False)
    dry_run: bool = wire(default=False)


@dataclass(frozen=True)
class Credential:
    """A credential without its secret: ``client_secret``, or ``private_key_jwt`` with its public keys."""

    id: str
    kind: str
    created_at: datetime = wire(reading.time)
    expires_at: Optional[datetime] = wire(reading.time, default=None)
    jwks: Optional[Dict[str, Any]] = wire(default=None)
    jwks_uri: Optional[str] = wire(default=None)


@dataclass(frozen=True)
class NewCredential:
    """A credential at its making: the only time its secret is there."""

    id: str
    kind: str
    client_id: str
    created_at: datetime = wire(reading.time)
    client_secret: str = wire(secret=True, default="")
    expires_at: Optional[datetime] = wire(reading.time, default=None)
    jwks: Optional[Dict[str, Any]] = wire(default=None)
    jwks_uri: Optional[str] = wire(default=None)


@dataclass(frozen=True)
class Profile:
    """What an agent says of itself."""

    name: str
    agent_type: str
    description: str = ""
    owner_group: str = ""


@dataclass(frozen=True)
class Agent:
    """An agent as it stands. ``id`` is its name; ``handle`` is the agent at its current generation."""

    id: str
    profile: Profile = wire(reading.one(Profile))
    default_scopes: List[str] = wire()
    max_session_duration_seconds: int = wire()
    status: str = wire()
    handle: str = wire()
    created_at: datetime = wire(reading.time)
    updated_at: datetime = wire(reading.time)
    revision: int = wire()
    applications: List[str] = wire(default_factory=list)
    groups: List[str] = wire(default_factory=list)
    labels: Dict[str, str] = wire(default_factory=dict)
    credentials: List[Credential] = wire(reading.many(Credential), default_factory=list)
    credential: Optional[NewCredential] = wire(reading.one(NewCredential), default=None)


@dataclass(frozen=True)
class AgentStatus(Stop):
    """An agent after a step in its life, and the handles that were revoked by it."""

    agent: Optional[Agent] = wire(reading.one(Agent), default=None)


@dataclass(frozen=True)
class Principal:
    """A human who lends authority to agents."""

    id: str
    display_name: str
    groups: List[str]
    status: str
    handle: str
    created_at: datetime = wire(reading.time)
    updated_at: datetime = wire(reading.time)
    revision: int = wire()


@dataclass(frozen=True)
class Application:
    """A downstream system that agents call."""

    id: str
    name: str
    audience: str
    scopes: List[str]
    verification: str
    created_at: datetime = wire(reading.time)
    updated_at: datetime = wire(reading.time)
    revision: int = wire()
    description: str = wire(default="")
    tags: List[str] = wire(default_factory=list)
    credentials: List[Credential] = wire(reading.many(Credential), default_factory=list)
    credential: Optional[NewCredential] = wire(reading.one(NewCredential), default=None)


@dataclass(frozen=True)
class Delegation:
    """A slice of a principal's authority, lent to an agent."""

    id: str
    principal_id: str
    agent_id: str
    scopes: List[str]
    status: str
    expired: bool
    expires_at: datetime = wire(reading.time)
    created_at: datetime = wire(reading.time)
    max_hops: int = wire()
    revision: int = wire()
    reason: str = wire(default="")
    origin: str = wire(default="")
    withdrawn_at: Optional[datetime] = wire(reading.time, default=None)


@dataclass(frozen=True)
class SessionNode:
    """How much a node knows of the sessions that it has started. ``error`` says why they are not known where it has
    not replied; ``complete`` is that it has forgotten none that could still run."""

    id: str
    replied: bool
    complete: bool
    error: str = wire(default="")
    since: Optional[datetime] = wire(reading.time, default=None)
    dropped: int = wire(default=0)
    dropped_until: Optional[datetime] = wire(reading.time, default=None)


@dataclass(frozen=True)
class SessionInfo:
    """A session that has not ended, as the node remembers it that started it. ``revoked_by`` is the handle that was
    found revoked."""

    session_id: str
    agent_id: str
    principal_user_id: Optional[str]
    started_at: datetime = wire(reading.time)
    expires_at: datetime = wire(reading.time)
    chain: List[str] = wire(default_factory=list)
    scopes: List[str] = wire(default_factory=list)
    audience: List[str] = wire(default_factory=list)
    delegation_id: Optional[str] = wire(default=None)
    parent_session_id: Optional[str] = wire(default=None)
    trigger_reason: str = wire(default="")
    node: str = wire(default="")
    revoked: bool = wire(default=False)
    revoked_by: Optional[str] = wire(default=None)


@dataclass(frozen=True)
class SessionCount:
    """How many sessions run. It is exact where it is ``complete`` and not ``truncated``."""

    sessions: int
    complete: bool
    truncated: bool = wire(default=False)
    nodes: List[SessionNode] = wire(reading.many(SessionNode), default_factory=list)


@dataclass(frozen=True)
class SessionsEnded(Stop):
    """The answer to the end of all sessions of an agent or a principal, who may start new ones."""

    agent_id: Optional[str] = wire(default=None)
    principal_id: Optional[str] = wire(default=None)
    status: str = wire(default="")
    dry_run: bool = wire(default=False)
    count: Optional[SessionCount] = wire(reading.one(SessionCount), default=None)


@dataclass(frozen=True)
class SessionState:
    """What is known of a session. When it began, and whether it was revoked, any node can tell; the rest is there while
    the node that started it remembers it, and then ``known`` is true."""

    session_id: str
    started_at: datetime = wire(reading.time)
    ends_by: datetime = wire(reading.time)
    revoked: bool = wire()
    revoked_by: Optional[str] = wire(default=None)
    revocation: Optional[Dict[str, Any]] = wire(default=None)
    known: bool = wire(default=False)
    agent_id: str = wire(default="")
    principal_user_id: Optional[str] = wire(default=None)
    chain: List[str] = wire(default_factory=list)
    scopes: List[str] = wire(default_factory=list)
    audience: List[str] = wire(default_factory=list)
    delegation_id: Optional[str] = wire(default=None)
    parent_session_id: Optional[str] = wire(default=None)
    trigger_reason: str = wire(default="")
    expires_at: Optional[datetime] = wire(reading.time, default=None)
    node: str = wire(default="")
    nodes: List[SessionNode] = wire(reading.many(SessionNode), default_factory=list)
