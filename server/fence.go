package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/deputy-id/deputy/api"
	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

// fence is what the leader sends to every member once a change is committed.
type fence struct {
	Index   uint64       `json:"index"`
	Entries []fenceEntry `json:"entries,omitempty"`
}

// fenceEntry is a committed revocation.Entry.
type fenceEntry struct {
	Handle  identity.Handle `json:"handle"`
	Expires int64           `json:"expires"` // milliseconds since the epoch: some are beyond any calendar
}

func (f *fence) entries() []revocation.Entry {
	entries := make([]revocation.Entry, len(f.Entries))
	for i, e := range f.Entries {
		entries[i] = revocation.Entry{Handle: e.Handle, Expires: identity.Instant(e.Expires)}
	}
	return entries
}

// newFences wires the leader's side: whom to ask, and how long each may still speak if it does not answer.
func (s *Server) newFences() *cluster.Fences {
	return cluster.NewFences(cluster.FenceOptions{
		Self: s.config.NodeID,
		// The table, not the voters: every member may hold a lease, until its removal has waited for its end.
		Members: func() []string {
			var ids []string
			for _, m := range s.fsm.View().Members() {
				ids = append(ids, m.ID)
			}
			return ids
		},
		Send: func(ctx context.Context, member string, _ uint64, payload []byte) error {
			_, err := s.node.Call(ctx, member, methodFence, payload)
			return err
		},
		Latest: func(member string) (time.Duration, bool) {
			term, leads := s.node.LeadsIn()
			if !leads {
				return 0, false
			}
			return s.grants.LatestIn(term, member)
		},
		Bound: func() time.Duration { return s.fsm.View().LeaseBound() },
		Now:   cluster.BootTime,
	})
}

// raise sends a fence to the named members, or to all where none is named. The change must be committed.
func (s *Server) raise(ctx context.Context, f fence, members ...string) (cluster.FenceReport, error) {
	// The table must not be older than the change, and this node counts as having it.
	if err := s.fsm.WaitApplied(ctx, f.Index); err != nil {
		return cluster.FenceReport{}, err
	}
	payload, err := json.Marshal(f)
	if err != nil {
		return cluster.FenceReport{}, fmt.Errorf("encoding a fence: %w", err)
	}
	if !s.proposer.IsLeader() {
		return cluster.FenceReport{}, errNotLeading()
	}
	var report cluster.FenceReport
	if len(members) > 0 {
		report, err = s.fences.RaiseFor(ctx, members, f.Index, payload)
	} else {
		report, err = s.fences.Raise(ctx, f.Index, payload)
	}
	if err != nil {
		return report, clusterError(err)
	}
	return report, nil
}

// Fence returns once no node may act any more on what was before index, or when ctx ends.
func (a clusterAdmin) Fence(ctx context.Context, index uint64, entries []revocation.Entry) (api.Fence, error) {
	f := fence{Index: index}
	for _, e := range entries {
		f.Entries = append(f.Entries, fenceEntry{e.Handle, int64(e.Expires)})
	}
	report, err := a.s.raise(ctx, f)
	if err != nil {
		return api.Fence{}, err
	}
	answer := api.Fence{Done: report.Done, Took: report.Took}
	for _, n := range report.Nodes {
		answer.Nodes = append(answer.Nodes, api.FenceNode{ID: n.ID, State: string(n.State), After: n.After})
	}
	return answer, nil
}

// serveFence is a member's side. Its acknowledgement is a promise: from here on this node answers to no request
// by the state before the index.
//
// The entries alone would not do for that, although they are in the set at once: an earlier change to the same
// agent may be committed, and acknowledged to somebody else, and not be applied here yet.
func (s *Server) serveFence(ctx context.Context, _ cluster.Member, body []byte) ([]byte, error) {
	var f fence
	if err := json.Unmarshal(body, &f); err != nil {
		return nil, fmt.Errorf("reading a fence: %w", err)
	}
	s.journal.Deny(f.entries()...) // final: they are committed, or there would be no fence
	if err := s.fsm.WaitApplied(ctx, f.Index); err != nil {
		return nil, err
	}
	s.yieldIfBarred()
	return nil, nil
}

// yieldIfBarred ends this node's lease for good once the log says that it is on its way out.
func (s *Server) yieldIfBarred() {
	if m, ok := s.fsm.View().Member(s.config.NodeID); ok && !m.Barred.IsZero() {
		s.lease.Surrender()
	}
}

func errNotLeading() error {
	return clusterError(cluster.ErrNotLeader)
}

// removalWait bounds how long a removal waits for the end of the node's right to speak, beyond the lease itself.
const removalWait = 5 * time.Second

// silence returns once a member may speak no more: it has given its lease up, or the lease has run out.
func (s *Server) silence(ctx context.Context, id string, index uint64) error {
	bound := s.fsm.View().LeaseBound()
	ctx, cancel := context.WithTimeout(ctx, bound+cluster.LeaseDrift(bound)+removalWait)
	defer cancel()
	report, err := s.raise(ctx, fence{Index: index}, id)
	if err != nil {
		return err
	}
	if !report.Done {
		return identity.Errorf(identity.CodeOutcomeUnknown, "node %s has not given up its lease yet", id).
			WithHint("ask again: the removal goes on where it was").WithCause(errors.New("the fence was not acknowledged"))
	}
	return nil
}
