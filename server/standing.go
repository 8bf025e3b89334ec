package server

import (
	"context"
	"encoding/json"
	"time"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/identity"
)

const (
	// standingEvery is how often a node without a lease asks why. A removed node hears nothing of the log any
	// more, and members close its connections without a word: only the joining protocol answers strangers.
	standingEvery = 3 * time.Second

	// maxStandingAsks bounds the members asked in one round.
	maxStandingAsks = 5
)

// watchStanding ends the node once a member says that it was removed.
func (s *Server) watchStanding(ctx context.Context) error {
	ticker := time.NewTicker(standingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if s.lease.Check() == nil {
			continue
		}
		if err := s.askStanding(ctx); err != nil {
			return err
		}
	}
}

// askStanding returns an error with code member-removed if a member says so, and nil if nobody does.
func (s *Server) askStanding(ctx context.Context) error {
	body, err := json.Marshal(joinRequest{NodeID: s.config.NodeID})
	if err != nil {
		return err
	}
	asked := 0
	for _, m := range s.node.Members() {
		if m.ID == s.config.NodeID {
			continue
		}
		if asked++; asked > maxStandingAsks || ctx.Err() != nil {
			break
		}
		ask, cancel := context.WithTimeout(ctx, standingEvery)
		text, err := cluster.JoinCall(ask, m.ClusterAddr, m.Key, s.nodeKey, body)
		cancel()
		var answer joinAnswer
		if err != nil || json.Unmarshal(text, &answer) != nil {
			continue // this one can't say
		}
		if answer.Error != nil && answer.Error.Code == identity.CodeMemberRemoved {
			return answer.Error
		}
	}
	return nil
}

// removed says that the holder of a key was removed, or nil.
func (s *Server) removed(key []byte) *identity.Error {
	m, ok := s.fsm.View().MemberByKey(key)
	if !ok || m.Removed.IsZero() {
		return nil
	}
	return identity.Errorf(identity.CodeMemberRemoved, "node %s was removed from the cluster at %s", m.ID, m.Removed).
		WithHint("an id is never used again: to come back, empty the data folder, choose a new node_id and join with a new token")
}
