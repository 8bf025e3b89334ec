package server

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

const (
	// yieldEvery is how often a node that leads and should not looks for another.
	yieldEvery = 500 * time.Millisecond
	// yieldAsk bounds the question to a voter whether it would lead.
	yieldAsk = time.Second
	// yieldWait bounds a transfer; raft itself gives up after an election timeout.
	yieldWait = 5 * time.Second
)

// DrainMember has a node mint nothing and lead no more, or ends that; it runs at the leader. The node itself sees
// it in the log: see yieldLeadership and the api's check before each mint.
func (a clusterAdmin) DrainMember(ctx context.Context, id, by string, draining bool) (*identity.Member, uint64, error) {
	result, err := a.s.proposer.commit(ctx, by, fsm.DrainMember{ID: id, Draining: draining})
	if err != nil {
		return nil, 0, err
	}
	member, ok := result.Value.(*identity.Member)
	if !ok {
		return nil, 0, identity.Errorf(identity.CodeInternal, "BUG: the state machine answered %T to a drain", result.Value)
	}
	if !member.Removed.IsZero() {
		return nil, 0, identity.Errorf(identity.CodeMemberRemoved, "member %s was removed at %s", id, member.Removed)
	}
	a.s.logger.Info("node is to drain or to serve", "member", id, "draining", draining, "by", by, "index", result.Index)
	return member, result.Index, nil
}

// reluctance says why this node should not lead while another could, or "".
func (s *Server) reluctance() string {
	if m, ok := s.fsm.View().Member(s.config.NodeID); ok {
		switch {
		case !m.Barred.IsZero():
			return "it is being removed"
		case !m.Draining.IsZero():
			return "it is draining"
		}
	}
	if s.disk.isLow() {
		return "its disk is nearly full"
	}
	return ""
}

// yieldLeadership hands leadership over whenever this node has it and should not: an election may bring it back.
func (s *Server) yieldLeadership(ctx context.Context) error {
	ticker := time.NewTicker(yieldEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if !s.node.IsLeader() {
			continue
		}
		why := s.reluctance()
		if why == "" && s.proposer.clock.Wrong() {
			// Only of a leader it is sure that the wrong clock is its own, so no heir is refused for this.
			why = "its clock is wrong"
		}
		if why != "" {
			s.yieldOnce(ctx, why)
		}
	}
}

// yieldOnce offers leadership to the voters that could take it, the furthest first.
func (s *Server) yieldOnce(ctx context.Context, why string) {
	for _, id := range s.heirs() {
		ask, cancel := context.WithTimeout(ctx, yieldAsk)
		_, err := s.node.Call(ask, id, methodMayLead, nil)
		cancel()
		if err != nil {
			s.logger.Debug("a voter can't take leadership", "member", id, "error", err)
			continue
		}
		transfer, cancel := context.WithTimeout(ctx, yieldWait)
		err = s.node.TransferLeadership(transfer, id)
		cancel()
		if err == nil {
			s.logger.Info("leadership handed over", "to", id, "why", why)
			return
		}
		s.logger.Info("handing leadership over", "to", id, "error", err)
	}
}

// heirs are the voters that leadership could go to.
func (s *Server) heirs() []string {
	view := s.fsm.View()
	servers := slices.DeleteFunc(s.node.Servers(), func(server cluster.Server) bool {
		m, ok := view.Member(server.ID)
		return server.ID == s.config.NodeID || server.Suffrage != cluster.SuffrageVoter || !server.Healthy ||
			!ok || !m.Removed.IsZero() || !m.Barred.IsZero() || !m.Draining.IsZero()
	})
	slices.SortStableFunc(servers, func(a, b cluster.Server) int { return cmp.Compare(b.LastIndex, a.LastIndex) })
	ids := make([]string, len(servers))
	for i, server := range servers {
		ids[i] = server.ID
	}
	return ids
}

// serveMayLead answers the leader that wants to hand over; the error says why not to this node.
func (s *Server) serveMayLead(context.Context, cluster.Member, []byte) ([]byte, error) {
	if why := s.reluctance(); why != "" {
		return nil, errors.New("not to this node: " + why)
	}
	return nil, nil
}
