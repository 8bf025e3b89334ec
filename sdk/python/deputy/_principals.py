"""Principals: the people who lend authority to agents."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Mapping, Optional

from ._resource import Names, Resource, at, given, names
from ._transport import Effect
from .models import Delegation, Deleted, Kill, Principal

_PATH = "/api/v1/principals"


class Principals(Resource):
    """``deputy.principals``, and ``principals`` of a client."""

    def create(
        self,
        id: str,
        *,
        display_name: Optional[str] = None,
        groups: Optional[Names] = None,
        idempotency_key: Optional[str] = None,
    ) -> Principal:
        """Creates a principal. The id is an email address, or the subject that an issuer knows the person by."""
        body: Dict[str, Any] = given({"id": id, "display_name": display_name, "groups": names("groups", groups)})
        return self._write(Principal, "POST", _PATH, body, key=idempotency_key)

    def get(self, principal_id: str) -> Principal:
        """Reads one principal."""
        return self._get(Principal, at(_PATH, principal_id))

    def list(self, *, page_size: Optional[int] = None) -> Iterator[Principal]:
        """Walks all principals by id, as far as the loop goes on."""
        return self._all(Principal, _PATH, {}, page_size)

    def update(self, principal_id: str, changes: Mapping[str, Any], *, idempotency_key: Optional[str] = None) -> Principal:
        """Changes some of a principal by a JSON merge patch (RFC 7396). ``{"status": "suspended"}`` also ends every
        token that rests on them."""
        return self._write(Principal, "PATCH", at(_PATH, principal_id), dict(changes), key=idempotency_key)

    def delete(
        self,
        principal_id: str,
        *,
        reason: Optional[str] = None,
        wait: Optional[str] = None,
        timeout_seconds: Optional[int] = None,
    ) -> Deleted:
        """Deletes a principal and their delegations, which ends every token that rests on them."""
        path = at(_PATH, principal_id)
        return self._stop(Deleted, "DELETE", path, wait, timeout_seconds, query={"reason": reason}, effect=Effect.WRITE)

    def revoke(
        self,
        principal_id: str,
        *,
        reason: Optional[str] = None,
        keep_active: bool = False,
        dry_run: bool = False,
        wait: Optional[str] = None,
        timeout_seconds: Optional[int] = None,
    ) -> Kill:
        """Ends everything that runs on behalf of the principal; see :meth:`deputy.agents.revoke`."""
        body: Dict[str, Any] = given({"reason": reason, "keep_active": keep_active or None})
        query = {"dry_run": "true" if dry_run else None}
        effect = Effect.READ if dry_run else Effect.STOP
        return self._stop(Kill, "POST", at(_PATH, principal_id, "revoke"), wait, timeout_seconds, body, query, effect)

    def kill(
        self,
        principal_id: str,
        *,
        reason: Optional[str] = None,
        keep_active: bool = False,
        timeout_seconds: Optional[int] = None,
    ) -> Kill:
        """:meth:`revoke` that waits for the fence."""
        return self.revoke(
            principal_id, reason=reason, keep_active=keep_active, wait="fenced", timeout_seconds=timeout_seconds
        )

    def delegations(self, principal_id: str, *, active: bool = False, page_size: Optional[int] = None) -> Iterator[Delegation]:
        """Walks what a principal has lent; with ``active`` only what is neither withdrawn nor expired."""
        path = at(_PATH, principal_id, "delegations")
        return self._all(Delegation, path, {"active": "true" if active else None}, page_size)
