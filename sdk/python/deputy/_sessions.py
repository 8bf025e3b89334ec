"""Sessions: single runs of agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional

from ._reading import build, many, wire
from ._resource import Names, Resource, Sender, at, given, names, scopes_wanted
from ._settings import Credentials
from ._transport import Call, Effect, Identify
from .models import Revocation, Session, SessionInfo, SessionNode, SessionsEnded, SessionState

_PATH = "/api/v1/sessions"


def create_session(
    sender: Sender,
    agent_id: str,
    principal_user_id: Optional[str],
    requested_scopes: Optional[Names],
    trigger_reason: Optional[str],
    max_duration_seconds: Optional[int],
    audience: Optional[Names],
    credentials: Optional[Credentials],
) -> Session:
    """What Agents.create_session and Sessions.create do."""
    body = given(
        {
            "agent_id": agent_id,
            "principal_user_id": principal_user_id,
            "requested_scopes": scopes_wanted("requested_scopes", requested_scopes),
            "trigger_reason": trigger_reason,
            "max_duration_seconds": max_duration_seconds,
            "audience": names("audience", audience),
        }
    )
    call = Call(
        "POST", _PATH, body=body, effect=Effect.MINT, identify=Identify.EITHER, credentials=credentials
    )
    return build(Session, sender.send(call).body)


class SessionWalk(Iterator[SessionInfo]):
    """The sessions of a list, page by page as far as it is read on.

    ``complete`` is true as long as every page that was read lacks none: a node that has not replied, or has forgotten
    some that could still run, makes it false. ``nodes`` has how each node stood at the last page, ``missing`` those that
    have not replied.
    """

    def __init__(self, pages: Iterator[Any]) -> None:
        self.complete = True
        self.nodes: List[SessionNode] = []
        self._sessions = self._walk(pages)

    @property
    def missing(self) -> List[str]:
        """The ids of the nodes that have not replied."""
        return [node.id for node in self.nodes if not node.replied]

    def __next__(self) -> SessionInfo:
        return next(self._sessions)

    def _walk(self, pages: Iterator[Any]) -> Iterator[SessionInfo]:
        for body in pages:
            page = build(_SessionPage, body)
            self.complete, self.nodes = self.complete and page.complete, page.nodes
            yield from page.sessions


@dataclass(frozen=True)
class _SessionPage:
    complete: bool
    sessions: List[SessionInfo] = wire(many(SessionInfo))
    nodes: List[SessionNode] = wire(many(SessionNode), default_factory=list)


class Sessions(Resource):
    """``deputy.sessions``, and ``sessions`` of a client."""

    def create(
        self,
        agent_id: str,
        principal_user_id: Optional[str] = None,
        requested_scopes: Optional[Names] = None,
        trigger_reason: Optional[str] = None,
        max_duration_seconds: Optional[int] = None,
        audience: Optional[Names] = None,
        credentials: Optional[Credentials] = None,
    ) -> Session:
        """The same as :meth:`deputy.agents.create_session`."""
        return create_session(
            self._sender,
            agent_id,
            principal_user_id,
            requested_scopes,
            trigger_reason,
            max_duration_seconds,
            audience,
            credentials,
        )

    def get(self, session_id: str) -> SessionState:
        """Says when a session began and whether it was revoked."""
        return self._get(SessionState, at(_PATH, session_id))

    def list(
        self,
        *,
        agent: Optional[str] = None,
        principal: Optional[str] = None,
        active: bool = False,
        page_size: Optional[int] = None,
    ) -> SessionWalk:
        """Walks the sessions that have not ended, by id, as the nodes remember them: those with an agent in their chain,
        or on behalf of one principal, where named; with ``active`` only those that are not revoked. What it returns
        also says which nodes have not replied."""
        query: Dict[str, Optional[str]] = {
            "agent": agent,
            "principal": principal,
            "active": "true" if active else None,
        }
        return SessionWalk(self._pages(_PATH, query, page_size))

    def end_all(
        self,
        *,
        agent: Optional[str] = None,
        principal: Optional[str] = None,
        reason: Optional[str] = None,
        dry_run: bool = False,
        wait: Optional[str] = None,
        timeout_seconds: Optional[int] = None,
    ) -> SessionsEnded:
        """Ends all sessions of one agent or of one principal, who may start new ones. ``dry_run`` only counts them. For
        ``wait`` see :meth:`end`."""
        if bool(agent) == bool(principal):
            raise ValueError("name an agent or a principal, one of the two")
        query = {"agent": agent, "principal": principal, "reason": reason, "dry_run": "true" if dry_run else None}
        effect = Effect.READ if dry_run else Effect.STOP
        return self._stop(SessionsEnded, "DELETE", _PATH, wait, timeout_seconds, query=query, effect=effect)

    def end(
        self,
        session_id: str,
        *,
        reason: Optional[str] = None,
        wait: Optional[str] = None,
        timeout_seconds: Optional[int] = None,
    ) -> Revocation:
        """Ends a session: its token is dead at every node, and with it those of sub-agents that run under it.

        ``wait="fenced"`` returns once no node takes the token any more, also none that is cut off, and raises
        :class:`deputy.NotFenced` where that can't be had in ``timeout_seconds`` (1 to 60, 15 where absent).
        """
        return self._stop(
            Revocation, "DELETE", at(_PATH, session_id), wait, timeout_seconds, query={"reason": reason}
        )
