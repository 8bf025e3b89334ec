package server

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/identity"
)

// PublicAddr is where the public listener is bound.
func (s *Server) PublicAddr() string { return s.public.Addr().String() }

// OpsAddr is where the ops listener is bound.
func (s *Server) OpsAddr() string { return s.ops.Addr().String() }

// ClusterAddr is where other nodes reach this one.
func (s *Server) ClusterAddr() string { return s.node.ClusterAddr() }

// GossipAddr is where other nodes gossip with this one.
func (s *Server) GossipAddr() string { return s.node.GossipAddr() }

// Leads reports whether this node believes to lead.
func (s *Server) Leads() bool { return s.node.IsLeader() }

// Pending is how many revocations this node keeps until a majority can take them.
func (s *Server) Pending() int { return s.pending.Pending() }

// RootToken is the admin token that this process made at bootstrap, or "".
func (s *Server) RootToken() string {
	if text := s.rootToken.Load(); text != nil {
		return *text
	}
	return ""
}

// publicURL is how clients reach this node.
func (s *Server) publicURL() string {
	if s.config.Public.URL != "" {
		return s.config.Public.URL
	}
	if s.config.Public.TLSCert != "" {
		return "https://" + s.PublicAddr()
	}
	return "http://" + s.PublicAddr()
}

// self is this node as it wants to be listed.
func (s *Server) self() identity.Member {
	return identity.Member{
		ID: s.config.NodeID, Key: s.nodeKey.Public(),
		ClusterAddr: s.ClusterAddr(), GossipAddr: s.GossipAddr(), PublicURL: s.publicURL(),
		Joined: identity.InstantOf(s.clock()),
	}
}

// prepareDev fills in what one node in memory needs. Its keys live in a folder that goes with the process.
func (s *Server) prepareDev() error {
	folder, err := os.MkdirTemp("", "deputy-dev-")
	if err != nil {
		return fmt.Errorf("making a folder for the development node's keys: %w", err)
	}
	s.closers = append(s.closers, removal(folder))
	s.config.DataDir, s.config.Bootstrap, s.config.JoinToken = folder, true, ""
	if s.config.NodeID == "" {
		s.config.NodeID = "dev"
	}
	return nil
}

// devTuning makes a node that is alone elect itself at once.
func devTuning() cluster.Tuning {
	return cluster.Tuning{
		HeartbeatTimeout: 50 * time.Millisecond, ElectionTimeout: 50 * time.Millisecond, LeaderLeaseTimeout: 50 * time.Millisecond,
		MemberPoll: 50 * time.Millisecond,
	}
}

// removal is a folder that is removed on Close.
type removal string

func (r removal) Close() error { return os.RemoveAll(string(r)) }

func (a *joinAnswer) peers() cluster.Peers {
	peers := cluster.Peers{ClusterID: a.Cluster, Index: a.Index, GossipKeys: a.GossipKeys}
	for i := range a.Members {
		peers.Members = append(peers.Members, peer(&a.Members[i]))
	}
	return peers
}

func (s *Server) leaseOptions(renewal time.Duration) cluster.LeaseOptions {
	return cluster.LeaseOptions{
		Ask: func(ctx context.Context) (index uint64, err error) {
			answer, err := s.node.CallLeader(ctx, methodTick, nil)
			if err != nil {
				return 0, err
			}
			err = json.Unmarshal(answer, &index)
			return index, err
		},
		WaitApplied: s.fsm.WaitApplied,
		Member: func() bool {
			m, ok := s.fsm.View().Member(s.config.NodeID)
			// Before the log has been replayed the table is empty; then the tick decides, which only members get.
			return len(s.fsm.View().Members()) == 0 || (ok && m.Removed.IsZero() && m.Barred.IsZero())
		},
		Applied: s.fsm.Applied,
		CheckClock: func(sinceAsked time.Duration) error {
			if err := s.proposer.clock.Agree(sinceAsked); err != nil {
				return clockError(err)
			}
			return nil
		},
		Duration: s.leaseDuration,
		Now:      cluster.BootTime,
		Glance:   cluster.NewGlance(),
		Renew:    renewal,
	}
}

// leaseDuration is Δ as it is replicated.
func (s *Server) leaseDuration() time.Duration {
	if millis := s.fsm.View().Settings().LeaseMillis; millis > 0 {
		return time.Duration(millis) * time.Millisecond
	}
	return identity.DefaultLeaseMillis * time.Millisecond
}

// serveTick is the leader's side of a lease round. That the member has asked is noted before the tick is proposed:
// a fence that is raised in between must know of the lease that may come of it.
func (s *Server) serveTick(ctx context.Context, from cluster.Member, _ []byte) ([]byte, error) {
	term, leads := s.node.LeadsIn()
	if !leads || !s.proposer.IsLeader() {
		return nil, cluster.ErrNotLeader
	}
	if err := s.grants.Asked(term, from.ID); err != nil {
		return nil, err
	}
	index, err := s.ticks.Commit(ctx)
	if err != nil {
		return nil, err
	}
	return json.Marshal(index)
}

// freshness tells the api whether this node may speak.
type freshness struct{ s *Server }

// Lease is the lease as it stands, noted by a request before it reads any state.
func (f freshness) Lease() time.Duration { return f.s.lease.Until() }

// Fresh returns nil while the noted lease has not ended, else an error with code not-fresh. It reads the clock,
// so the api calls it as the last thing before an answer.
func (f freshness) Fresh(lease time.Duration) error {
	if err := f.s.lease.Holds(lease); err != nil {
		return identity.Errorf(identity.CodeNotFresh, "this node can't vouch for its own state: %v", err).
			WithHint("ask another node, or this one again in a second").WithCause(err)
	}
	return nil
}

// Remaining is how long the noted lease still lasts, zero where it has ended.
func (f freshness) Remaining(lease time.Duration) time.Duration { return f.s.lease.Left(lease) }

// ready is what /readyz asks: may this node speak, and does it have a key to sign with.
func (s *Server) ready() error {
	if err := s.lease.Check(); err != nil {
		return err
	}
	if !s.tokenKeys.inUse.Load() {
		return identity.Errorf(identity.CodeNotFresh, "the token key is not in use yet: not every member has applied it")
	}
	if m, ok := s.fsm.View().Member(s.config.NodeID); ok && !m.Draining.IsZero() {
		return identity.Errorf(identity.CodeDraining, "draining")
	}
	return nil
}
