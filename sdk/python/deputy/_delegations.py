"""Delegations: slices of a principal's authority, lent to an agent for a while."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Optional

from ._resource import Names, Resource, at, given, names
from .models import Delegation, Deleted

_PATH = "/api/v1/delegations"
_MINE = "/api/v1/me/delegations"


class Delegations(Resource):
    """``deputy.delegations``, and ``delegations`` of a client."""

    def create(
        self,
        principal_id: str,
        agent_id: str,
        scopes: Names,
        duration_seconds: int,
        *,
        reason: Optional[str] = None,
        origin: Optional[str] = None,
        max_hops: Optional[int] = None,
        ensure_principal: bool = False,
        idempotency_key: Optional[str] = None,
    ) -> Delegation:
        """Lends an agent a slice of a principal's authority, limited in scope and in time (60 to 31,536,000 seconds).
        ``max_hops`` is how many agents of a chain may rest on it, 1 or 2. With ``ensure_principal`` the principal is
        made where there is none."""
        body: Dict[str, Any] = given(
            {
                "principal_id": principal_id,
                "agent_id": agent_id,
                "scopes": names("scopes", scopes),
                "duration_seconds": duration_seconds,
                "reason": reason,
                "origin": origin,
                "max_hops": max_hops,
            }
        )
        query = {"ensure_principal": "true" if ensure_principal else None}
        return self._write(Delegation, "POST", _PATH, body, query, idempotency_key)

    def get(self, delegation_id: str) -> Delegation:
        """Reads one delegation."""
        return self._get(Delegation, at(_PATH, delegation_id))

    def list(
        self,
        *,
        agent: Optional[str] = None,
        principal: Optional[str] = None,
        active: bool = False,
        page_size: Optional[int] = None,
    ) -> Iterator[Delegation]:
        """Walks delegations, of one agent or of one principal where named; with ``active`` only those that are
        neither withdrawn nor expired."""
        query = {"agent": agent, "principal": principal, "active": "true" if active else None}
        return self._all(Delegation, _PATH, query, page_size)

    def withdraw(
        self,
        delegation_id: str,
        *,
        reason: Optional[str] = None,
        wait: Optional[str] = None,
        timeout_seconds: Optional[int] = None,
    ) -> Deleted:
        """Takes consent back: every token that rests on the delegation ends. It also bars runtimes from making
        another for the same pair until somebody grants again. For ``wait`` see :meth:`deputy.sessions.end`."""
        path = at(_PATH, delegation_id)
        return self._stop(Deleted, "DELETE", path, wait, timeout_seconds, query={"reason": reason})

    def mine(self, id_token: str, *, active: bool = False, page_size: Optional[int] = None) -> Iterator[Delegation]:
        """Walks what a user has lent, who is known by an ID token of a trusted issuer."""
        return self._all(Delegation, _MINE, {"active": "true" if active else None}, page_size, id_token)

    def withdraw_mine(
        self,
        id_token: str,
        delegation_id: str,
        *,
        reason: Optional[str] = None,
        wait: Optional[str] = None,
        timeout_seconds: Optional[int] = None,
    ) -> Deleted:
        """Takes a user's own consent back, who is known by an ID token of a trusted issuer; see :meth:`withdraw`."""
        path = at(_MINE, delegation_id)
        return self._stop(Deleted, "DELETE", path, wait, timeout_seconds, query={"reason": reason}, bearer=id_token)
