package server

import (
	"context"
	"time"

	"github.com/deputy-id/deputy/fsm"
)

// GossipKeys are the keys that are listed, as this node has heard of them.
func (s *Server) GossipKeys() [][]byte { return s.fsm.View().Settings().GossipKeys }

// GossipKeysInUse are the keys that this node gossips with.
func (s *Server) GossipKeysInUse() [][]byte {
	s.gossip.mu.Lock()
	defer s.gossip.mu.Unlock()
	return s.gossip.inUse
}

// WaitLessForGossipKeys bounds a step's wait for members that do not answer.
func (s *Server) WaitLessForGossipKeys(d time.Duration) {
	s.rekeying.mu.Lock()
	defer s.rekeying.mu.Unlock()
	s.rekeying.patience = d
}

// Commit proposes a command at the leader, past the api's checks.
func (s *Server) Commit(ctx context.Context, body fsm.Body) error {
	_, err := s.proposer.commit(ctx, "test", body)
	return err
}

// View is the state as this node has it.
func (s *Server) View() *fsm.View { return s.fsm.View() }

// Alive are the members that this node's gossip holds for alive.
func (s *Server) Alive() (ids []string) {
	for _, server := range s.node.Servers() {
		if server.Alive {
			ids = append(ids, server.ID)
		}
	}
	return ids
}
