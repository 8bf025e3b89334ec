package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

const (
	// gossipStepWait is how long a step of a rotation waits for a member that does not answer. Who comes back later
	// has learnt the keys from the log before anybody hears it gossip.
	gossipStepWait = time.Minute
	// gossipAsk bounds one question whether a member uses the keys.
	gossipAsk = 5 * time.Second
	// gossipPause lies between two questions to the same member.
	gossipPause = 100 * time.Millisecond

	gossipKeyBytes = 32 // AES-256
)

// gossipRotation replaces the key that gossip is encrypted with, in steps that leave nobody deaf. From [old]:
//
//	[old new]  every member can read what is encrypted with the new key, and none writes it
//	[new old]  every member writes it; what is under way with the old one is still read
//	[new]      whoever knows only the old key is a stranger
//
// Each step is committed once every member has applied the one before and put it into its keyring.
//
// A leader that finds two keys can't tell which of them is the new one. But once every member uses that list, all
// of them write with the first, so the other may go whichever it is: the leader lists the first and a fresh key,
// and goes on from there. So a rotation ends with a key that is younger than the wish for it, however many leaders
// it takes, and no list has to be remembered.
type gossipRotation struct {
	mu   sync.Mutex
	next []byte // the new key, as far as this node has listed it itself
	term uint64 // in which it did so; a leader of another term may have begun anew

	patience time.Duration // 0: gossipStepWait
}

// RotateGossip begins to replace the gossip key; it runs at the leader. While a rotation is under way it has that
// one begin again, so that the key it ends with was not known to anybody who has left meanwhile.
func (a clusterAdmin) RotateGossip(ctx context.Context, by string) (uint64, error) {
	s := a.s
	term, leads := s.node.LeadsIn()
	if !leads || !s.proposer.IsLeader() {
		return 0, errNotLeading()
	}
	s.rekeying.mu.Lock()
	defer s.rekeying.mu.Unlock()
	view := s.fsm.View()
	keys := view.Settings().GossipKeys
	switch len(keys) {
	case 0:
		return 0, identity.Errorf(identity.CodeConflict, "the cluster has no gossip key yet").WithHint("try again in a second")
	case 1:
	default:
		s.rekeying.next = nil
		return view.Index(), nil
	}
	return s.listFreshKey(ctx, by, keys[0], term)
}

// listFreshKey commits a list of the key in use and a new one. The caller holds the lock.
func (s *Server) listFreshKey(ctx context.Context, by string, inUse []byte, term uint64) (uint64, error) {
	fresh, err := randomBytes(gossipKeyBytes)
	if err != nil {
		return 0, err
	}
	s.rekeying.next, s.rekeying.term = fresh, term
	result, err := s.proposer.commit(ctx, by, fsm.RotateGossip{Keys: [][]byte{inUse, fresh}})
	if err != nil {
		return 0, err
	}
	s.logger.Info("replacing the gossip key", "by", by, "index", result.Index)
	return result.Index, nil
}

// keepGossipKeys goes on with a rotation while this node leads and more than one key is listed.
func (s *Server) keepGossipKeys(ctx context.Context) error {
	return s.watch(ctx, time.Second, func(ctx context.Context, view *fsm.View) {
		keys := view.Settings().GossipKeys
		term, leads := s.node.LeadsIn()
		if len(keys) < 2 || !leads || !s.proposer.IsLeader() {
			return
		}
		s.awaitGossipKeys(ctx, view.Index())
		if err := s.advanceGossip(ctx, keys, term); err != nil && ctx.Err() == nil {
			s.logger.Info("replacing the gossip key: a step is tried again", "error", err)
		}
	})
}

// advanceGossip commits the step after keys, which every member uses, or nothing where the list has changed since.
func (s *Server) advanceGossip(ctx context.Context, keys [][]byte, term uint64) error {
	s.rekeying.mu.Lock()
	defer s.rekeying.mu.Unlock()
	if now, leads := s.node.LeadsIn(); !leads || now != term || !sameKeys(keys, s.fsm.View().Settings().GossipKeys) {
		return nil
	}
	by := s.config.NodeID
	if s.rekeying.term != term {
		s.rekeying.next = nil
	}
	next := s.rekeying.next
	if next == nil || !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, next) }) {
		_, err := s.listFreshKey(ctx, by, keys[0], term)
		return err
	}
	if !bytes.Equal(keys[0], next) {
		_, err := s.proposer.commit(ctx, by, fsm.RotateGossip{Keys: [][]byte{next, keys[0]}})
		return err
	}
	result, err := s.proposer.commit(ctx, by, fsm.RotateGossip{Keys: [][]byte{next}})
	if err != nil {
		return err
	}
	s.rekeying.next = nil
	s.logger.Info("gossip key replaced", "index", result.Index)
	return nil
}

func sameKeys(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

// awaitGossipKeys returns once every member uses the keys as of index. Those that do not answer for long are
// passed over: they gossip with nobody until they have caught up.
func (s *Server) awaitGossipKeys(ctx context.Context, index uint64) {
	s.rekeying.mu.Lock()
	patience := cmp.Or(s.rekeying.patience, gossipStepWait)
	s.rekeying.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	body, err := json.Marshal(index)
	if err != nil {
		panic("BUG: a number always marshals")
	}
	var asking sync.WaitGroup
	for _, m := range s.node.Members() {
		asking.Go(func() {
			if err := s.awaitGossipKeysOf(ctx, m.ID, body); err != nil {
				s.logger.Warn("a member has not confirmed the gossip keys; going on without it", "member", m.ID, "error", err)
			}
		})
	}
	asking.Wait()
}

func (s *Server) awaitGossipKeysOf(ctx context.Context, member string, body []byte) error {
	for {
		ask, cancel := context.WithTimeout(ctx, gossipAsk)
		_, err := s.node.Call(ask, member, methodGossipKeys, body)
		cancel()
		if err == nil || errors.Is(err, cluster.ErrUnknownMember) || errors.Is(err, cluster.ErrStopped) {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(gossipPause):
		}
	}
}

// serveGossipKeys answers once this node uses the keys as of an index.
func (s *Server) serveGossipKeys(ctx context.Context, _ cluster.Member, body []byte) ([]byte, error) {
	var index uint64
	if err := json.Unmarshal(body, &index); err != nil {
		return nil, fmt.Errorf("reading an index: %w", err)
	}
	if err := s.fsm.WaitApplied(ctx, index); err != nil {
		return nil, err
	}
	return nil, s.adoptGossipKeys()
}
