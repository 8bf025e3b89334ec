package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/tokens"
)

// keyrings keeps the parsed form of the replicated signing keys, rebuilt only when that set changes.
type keyrings struct {
	fsm     *fsm.FSM
	logger  *slog.Logger
	current atomic.Pointer[keyringAt]
}

type keyringAt struct {
	revision uint64
	ring     *tokens.Keyring
}

// Keyring returns the public keys of the newest view.
func (k *keyrings) Keyring() *tokens.Keyring {
	view := k.fsm.View()
	revision := view.KeysRevision()
	if at := k.current.Load(); at != nil && at.revision == revision {
		return at.ring
	}
	ring, err := tokens.NewKeyring(view.SigningKeys())
	if err != nil {
		k.logger.Error("a replicated signing key can't be used", "error", err)
	}
	// Two requests may both build it; the newest revision stays.
	for {
		at := k.current.Load()
		if at != nil && at.revision >= revision {
			return at.ring
		}
		if k.current.CompareAndSwap(at, &keyringAt{revision, ring}) {
			return ring
		}
	}
}

// publishWait bounds how long a node waits for the others to apply its key before it tries again.
const publishWait = 10 * time.Second

// awaitMembers returns once every node that may speak has applied index. A member that can't be asked may still
// hold a lease from before: then that much time has to pass as well. One that is in the table but no longer in
// the Raft configuration is half removed and will never apply anything.
func (s *Server) awaitMembers(ctx context.Context, index uint64) error {
	began := cluster.BootTime()
	wait, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	missing := s.node.WaitMembersApplied(wait, index)
	silent := false
	for _, server := range s.node.Servers() {
		if slices.Contains(missing, server.ID) {
			return fmt.Errorf("member %s has not applied the token key at index %d", server.ID, index)
		}
		silent = silent || !server.Alive
	}
	if !silent && len(missing) == 0 {
		return nil
	}
	bound := s.fsm.View().LeaseBound()
	rest := bound + cluster.LeaseDrift(bound) - (cluster.BootTime() - began)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(rest):
		return nil
	}
}

// servePublishKey is the leader's side of tokenKeys.publish. A member can only publish keys in its own name.
func (s *Server) servePublishKey(ctx context.Context, from cluster.Member, body []byte) ([]byte, error) {
	var key identity.SigningKey
	if err := json.Unmarshal(body, &key); err != nil {
		return nil, fmt.Errorf("reading a token key: %w", err)
	}
	if key.Node != from.ID {
		return nil, errors.New("a node publishes no key but its own")
	}
	result, err := s.proposer.commit(ctx, from.ID, fsm.PublishKey{Key: key})
	if err != nil {
		return nil, err
	}
	return json.Marshal(result.Index)
}

// serveRetireKey is the leader's side of tokenKeys.retire. A member can only retire keys of its own: others it
// would silence.
func (s *Server) serveRetireKey(ctx context.Context, from cluster.Member, body []byte) ([]byte, error) {
	key, ok := s.fsm.View().SigningKey(string(body))
	if !ok {
		return nil, fmt.Errorf("there is no signing key %.64q here", body)
	}
	if key.Node != from.ID {
		return nil, errors.New("a node retires no key but its own")
	}
	result, err := s.proposer.commit(ctx, from.ID, fsm.RetireKey{KID: key.KID})
	if err != nil {
		return nil, err
	}
	return json.Marshal(result.Index)
}
