"""Applications: the systems that agents call."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Mapping, Optional

from ._credentials import Credentialed
from ._resource import Names, at, given, names
from .models import Application, Deleted


class Applications(Credentialed):
    """``deputy.applications``, and ``applications`` of a client."""

    _path = "/api/v1/applications"

    def create(
        self,
        name: str,
        *,
        audience: str,
        scopes: Optional[Names] = None,
        description: Optional[str] = None,
        tags: Optional[Names] = None,
        verification: Optional[str] = None,
        with_secret: bool = False,
        idempotency_key: Optional[str] = None,
    ) -> Application:
        """Creates an application. ``audience`` is an absolute URI, the ``aud`` of the tokens meant for it; ``scopes``
        belong to it and to no other. ``verification`` is ``online``, or ``offline`` where it checks tokens without
        asking a node. ``with_secret`` also makes a credential, whose secret is in the answer, once."""
        body: Dict[str, Any] = given(
            {
                "name": name,
                "audience": audience,
                "scopes": names("scopes", scopes),
                "description": description,
                "tags": names("tags", tags),
                "verification": verification,
            }
        )
        query = {"credentials": "secret" if with_secret else None}
        return self._write(Application, "POST", self._path, body, query, idempotency_key)

    def get(self, application_id: str) -> Application:
        """Reads one application."""
        return self._get(Application, at(self._path, application_id))

    def list(self, *, page_size: Optional[int] = None) -> Iterator[Application]:
        """Walks all applications by id, as far as the loop goes on."""
        return self._all(Application, self._path, {}, page_size)

    def update(
        self, application_id: str, changes: Mapping[str, Any], *, idempotency_key: Optional[str] = None
    ) -> Application:
        """Changes some of an application by a JSON merge patch (RFC 7396)."""
        return self._write(Application, "PATCH", at(self._path, application_id), dict(changes), key=idempotency_key)

    def delete(self, application_id: str, *, idempotency_key: Optional[str] = None) -> Deleted:
        """Deletes an application and its credentials."""
        return self._write(Deleted, "DELETE", at(self._path, application_id), key=idempotency_key)
