package server

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/deputy-id/deputy/fsm"
)

// watchEvery bounds how often a change of the replicated state is looked at: under load there are thousands a
// second, and none of what is watched for is urgent to the millisecond.
const watchEvery = 50 * time.Millisecond

// watch calls look with the view as it is now and after changes, until ctx ends. Where nothing changes it is
// called again after idle, since what it looks at may also depend on the clock.
func (s *Server) watch(ctx context.Context, idle time.Duration, look func(context.Context, *fsm.View)) error {
	pause := time.NewTicker(watchEvery)
	defer pause.Stop()
	for {
		changed := s.fsm.Changed() // taken first: a change while looking is looked at next
		look(ctx, s.fsm.View())
		quiet := time.NewTimer(idle)
		select {
		case <-changed:
		case <-quiet.C:
		case <-ctx.Done():
		}
		quiet.Stop()
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C:
		}
	}
}

// gossipKeys are the replicated gossip keys as this node uses them.
type gossipKeys struct {
	mu    sync.Mutex
	inUse [][]byte
}

// adoptGossipKeys makes this node gossip under the replicated keys. It returns nil once they are in use.
func (s *Server) adoptGossipKeys() error {
	s.gossip.mu.Lock()
	defer s.gossip.mu.Unlock()
	keys := s.fsm.View().Settings().GossipKeys // under the lock: an older list must not follow a newer one
	if len(keys) == 0 || slices.EqualFunc(keys, s.gossip.inUse, slices.Equal[[]byte]) {
		return nil
	}
	if err := s.node.SetGossipKeys(keys); err != nil {
		return fmt.Errorf("using the cluster's gossip keys: %w", err)
	}
	s.gossip.inUse = keys
	return nil
}

// watchSettings has this node follow what is replicated and held outside the state machine as well.
func (s *Server) watchSettings(ctx context.Context) error {
	failing := false
	return s.watch(ctx, time.Second, func(context.Context, *fsm.View) {
		err := s.adoptGossipKeys()
		if err != nil && !failing {
			s.logger.Error("following the cluster's settings", "error", err)
		}
		failing = err != nil
	})
}
