"""Agents: what runs."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Mapping, Optional

from ._credentials import Credentialed
from ._resource import Names, at, given, names
from ._sessions import create_session
from ._settings import Credentials
from ._transport import Effect
from .models import Agent, AgentStatus, Deleted, Kill, Session


class Agents(Credentialed):
    """``deputy.agents``, and ``agents`` of a client."""

    _path = "/api/v1/agents"

    def create_session(
        self,
        agent_id: str,
        principal_user_id: Optional[str] = None,
        requested_scopes: Optional[Names] = None,
        trigger_reason: Optional[str] = None,
        max_duration_seconds: Optional[int] = None,
        audience: Optional[Names] = None,
        credentials: Optional[Credentials] = None,
    ) -> Session:
        """Starts a session: one run of an agent, with one token.

        ``principal_user_id`` is the user on whose behalf the agent runs; None is an autonomous run. A session for a
        user rests on an active delegation that covers the scopes; a caller with role runtime makes one where there
        is none. Without ``requested_scopes`` the token has the agent's default scopes, as far as the delegation
        goes. ``max_duration_seconds`` is capped by the agent's maximum and by the delegation; ``expires_at`` of the
        answer says what came of it. ``audience`` names applications, by id or audience URI; without it the token is
        for the assigned applications that own a granted scope.

        The caller is the API token, or the agent itself where ``credentials`` are given or the client has no token.
        """
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

    def create(
        self,
        name: str,
        *,
        agent_type: str = "autonomous",
        description: Optional[str] = None,
        owner_group: Optional[str] = None,
        default_scopes: Optional[Names] = None,
        max_session_duration_seconds: Optional[int] = None,
        applications: Optional[Names] = None,
        groups: Optional[Names] = None,
        labels: Optional[Mapping[str, str]] = None,
        with_secret: bool = False,
        idempotency_key: Optional[str] = None,
    ) -> Agent:
        """Creates an agent. ``agent_type`` is ``autonomous``, ``user-delegated`` or ``scheduled``. ``default_scopes``
        are the most that it may ever be granted. ``with_secret`` also makes a credential, whose secret is in the
        answer, once. Raises :class:`deputy.AlreadyExists` where there is one of that name."""
        profile = given(
            {"name": name, "agent_type": agent_type, "description": description, "owner_group": owner_group}
        )
        body: Dict[str, Any] = given(
            {
                "profile": profile,
                "default_scopes": names("default_scopes", default_scopes),
                "max_session_duration_seconds": max_session_duration_seconds,
                "applications": names("applications", applications),
                "groups": names("groups", groups),
                "labels": None if labels is None else dict(labels),
            }
        )
        query = {"credentials": "secret" if with_secret else None}
        return self._write(Agent, "POST", self._path, body, query, idempotency_key)

    def get(self, agent_id: str) -> Agent:
        """Reads one agent."""
        return self._get(Agent, at(self._path, agent_id))

    def list(self, *, page_size: Optional[int] = None) -> Iterator[Agent]:
        """Walks all agents by id, as far as the loop goes on; a page of up to 1,000 is asked for at a time."""
        return self._all(Agent, self._path, {}, page_size)

    def update(
        self, agent_id: str, changes: Mapping[str, Any], *, revoke: bool = False, idempotency_key: Optional[str] = None
    ) -> Agent:
        """Changes some of an agent by a JSON merge patch (RFC 7396), such as ``{"applications": ["gmail"]}``. With
        ``revoke`` it also ends the agent's sessions, which a narrower profile leaves alone."""
        query = {"revoke": "true" if revoke else None}
        return self._write(Agent, "PATCH", at(self._path, agent_id), dict(changes), query, idempotency_key)

    def delete(
        self,
        agent_id: str,
        *,
        reason: Optional[str] = None,
        wait: Optional[str] = None,
        timeout_seconds: Optional[int] = None,
    ) -> Deleted:
        """Deletes an agent and its delegations, which ends every token that rests on it."""
        path = at(self._path, agent_id)
        return self._stop(Deleted, "DELETE", path, wait, timeout_seconds, query={"reason": reason}, effect=Effect.WRITE)

    def revoke(
        self,
        agent_id: str,
        *,
        reason: Optional[str] = None,
        keep_active: bool = False,
        dry_run: bool = False,
        wait: Optional[str] = None,
        timeout_seconds: Optional[int] = None,
    ) -> Kill:
        """Ends everything that runs as the agent and suspends it, unless ``keep_active`` lets new sessions start.

        ``wait="fenced"`` returns once no node acts as the agent any more, also none that is cut off, and raises
        :class:`deputy.NotFenced` where that can't be had in ``timeout_seconds`` (1 to 60, 15 where absent).
        ``dry_run`` only counts what it would touch.
        """
        body: Dict[str, Any] = given({"reason": reason, "keep_active": keep_active or None})
        query = {"dry_run": "true" if dry_run else None}
        effect = Effect.READ if dry_run else Effect.STOP
        return self._stop(Kill, "POST", at(self._path, agent_id, "revoke"), wait, timeout_seconds, body, query, effect)

    def kill(
        self,
        agent_id: str,
        *,
        reason: Optional[str] = None,
        keep_active: bool = False,
        timeout_seconds: Optional[int] = None,
    ) -> Kill:
        """:meth:`revoke` that waits for the fence."""
        return self.revoke(
            agent_id, reason=reason, keep_active=keep_active, wait="fenced", timeout_seconds=timeout_seconds
        )

    def activate(self, agent_id: str, *, reason: Optional[str] = None) -> AgentStatus:
        """Lets the agent start sessions again. What was stopped stays dead."""
        return self._lifecycle(agent_id, "activate", reason, None, None)

    def suspend(
        self,
        agent_id: str,
        *,
        reason: Optional[str] = None,
        wait: Optional[str] = None,
        timeout_seconds: Optional[int] = None,
    ) -> AgentStatus:
        """Ends the agent's sessions and lets none start."""
        return self._lifecycle(agent_id, "suspend", reason, wait, timeout_seconds)

    def deactivate(
        self,
        agent_id: str,
        *,
        reason: Optional[str] = None,
        wait: Optional[str] = None,
        timeout_seconds: Optional[int] = None,
    ) -> AgentStatus:
        """Takes the agent out of service."""
        return self._lifecycle(agent_id, "deactivate", reason, wait, timeout_seconds)

    def _lifecycle(
        self, agent_id: str, step: str, reason: Optional[str], wait: Optional[str], timeout_seconds: Optional[int]
    ) -> AgentStatus:
        path = at(self._path, agent_id, "lifecycle", step)
        body = {"reason": reason} if reason else None
        return self._stop(AgentStatus, "POST", path, wait, timeout_seconds, body, effect=Effect.WRITE)
