"""Sessions: single runs of agents."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Optional

from ._reading import build
from ._resource import Names, Resource, Sender, at, given, names, scopes_wanted
from ._settings import Credentials
from ._transport import Call, Effect, Identify
from .models import Revocation, Session, SessionState

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
        self, *, agent: Optional[str] = None, principal: Optional[str] = None, page_size: Optional[int] = None
    ) -> Iterator[Dict[str, Any]]:
        """Walks the sessions that run, of one agent or on behalf of one principal where named, as the nodes that minted
        them tell: each as the object that the API answers."""
        query: Dict[str, Optional[str]] = {"agent": agent, "principal": principal}
        for page in self._pages(_PATH, query, page_size, within="sessions"):
            yield from page

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
