package api

import (
	"encoding/binary"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// sessionStart is when a session's id says that it began.
func sessionStart(id string) (identity.Instant, error) {
	return idTime(identity.PrefixSession, id)
}

// idTime is when an id says that it was made: the first 48 bits of a UUIDv7 are milliseconds.
func idTime(prefix, id string) (identity.Instant, error) {
	uuid, err := identity.ParseID(prefix, id)
	if err != nil {
		return 0, err
	}
	return identity.Instant(binary.BigEndian.Uint64(uuid[:8]) >> 16), nil
}

// revocation shows the replicated record of a handle, if it has one.
func (c *call) revocation(handle identity.Handle) *wire.RevocationRecord {
	r, ok := c.view.Revocation(handle)
	if !ok {
		return nil
	}
	shown := showRevocation(r)
	return &shown
}

func (a *API) revokeSession(c *call) error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	if _, err := identity.ParseID(identity.PrefixSession, id); err != nil {
		return notFound("session", id)
	}
	reason, err := c.reason()
	if err != nil {
		return err
	}
	return a.deny(c, []identity.Handle{identity.SessionHandle(id)}, reason)
}

// deny revokes handles and answers.
func (a *API) deny(c *call, handles []identity.Handle, reason string) error {
	return a.denyBy(c, fsm.Revoke{Handles: handles, Reason: reason})
}

func (a *API) denyBy(c *call, revoke fsm.Revoke) error {
	revoked, result, err := stopped[*fsm.Revoked](a, c, revoke)
	if err != nil {
		return err
	}
	return c.answerStop(&wire.Revocation{Handles: entries(revoked.Handles), Known: revoked.Known, Index: result.Index}, revoked.Handles)
}
