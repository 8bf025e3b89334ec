package server

import (
	"context"
	"errors"

	"github.com/deputy-id/deputy/api"
	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// RemoveMember takes a node out for good, in steps of which each may be repeated, so that a removal that was
// broken off goes on when it is asked for again:
//
//  1. "no more leases" is committed: no tick after that makes the node fresh, and it publishes no more keys;
//  2. where its keys may be in wrong hands, whatever they signed is revoked;
//  3. its right to speak ends: it gives its lease up, or the lease runs out. Only who is a member holds a lease,
//     so a fence needs to ask nobody else;
//  4. it leaves the Raft configuration, then the member table, which ends its connections;
//  5. the gossip key that it knows is replaced.
//
// The tokens that it signed verify until they end, unless its keys are compromised.
func (a clusterAdmin) RemoveMember(ctx context.Context, id, by string, o api.RemoveOptions) (*identity.Member, uint64, error) {
	s := a.s
	switch known, ok := s.fsm.View().Member(id); {
	case ok && !known.Removed.IsZero():
		// Asked again, after a lost answer or on second thoughts: what may be left to do is done.
		if o.Compromised {
			if err := s.denyKeysOf(ctx, id, by, o.Reason); err != nil {
				return nil, 0, err
			}
		}
		return known, s.fsm.Applied(), a.replaceGossipKey(ctx, id, by)
	case !ok:
		return nil, 0, identity.Errorf(identity.CodeNotFound, "there is no member %q", id).WithHint("`deputy cluster members` lists them")
	case id == s.config.NodeID:
		return nil, 0, s.stepAside(ctx)
	}
	if err := s.node.CheckRemoval(id, o.Force); err != nil {
		return nil, 0, removalError(id, err)
	}
	if err := s.keepsNothing(ctx, id, o.Force); err != nil {
		return nil, 0, err
	}
	barred, err := s.proposer.commit(ctx, by, fsm.BarMember{ID: id, Reason: o.Reason})
	if err != nil {
		return nil, 0, err
	}
	if o.Compromised {
		if err := s.denyKeysOf(ctx, id, by, o.Reason); err != nil {
			return nil, 0, err
		}
	}
	if err := s.silence(ctx, id, barred.Index); err != nil {
		return nil, 0, err
	}
	if err := s.node.RemoveServer(ctx, id, o.Force); err != nil {
		return nil, 0, removalError(id, err)
	}
	result, err := s.proposer.commit(ctx, by, fsm.RemoveMember{ID: id, Reason: o.Reason})
	if err != nil {
		return nil, 0, err
	}
	member, ok := result.Value.(*identity.Member)
	if !ok {
		return nil, 0, identity.Errorf(identity.CodeInternal, "BUG: the state machine answered %T to a removal", result.Value)
	}
	s.logger.Info("node removed", "removed", id, "by", by, "reason", o.Reason, "index", result.Index, "compromised", o.Compromised)
	return member, result.Index, a.replaceGossipKey(ctx, id, by)
}

// replaceGossipKey begins to replace the key that a removed node knows. That the node is out is committed, so where
// this can't be begun only because leadership has moved on, the removal is to be asked for again, and ends here.
func (a clusterAdmin) replaceGossipKey(ctx context.Context, id, by string) error {
	if _, err := a.RotateGossip(ctx, by); err != nil {
		a.s.logger.Warn("the gossip key that a removed node knows is still in use", "removed", id, "error", err)
		return err
	}
	return nil
}

// keepsNothing refuses to remove a node that has acknowledged revocations which no majority has yet: they would go
// with it. A node that can't be asked, or is removed by force, may take some along; its folder has them.
func (s *Server) keepsNothing(ctx context.Context, id string, force bool) error {
	ask, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	state, err := s.askStatus(ask, id)
	if err != nil || force || state.Pending == 0 {
		return nil
	}
	return identity.Errorf(identity.CodeConflict, "node %s keeps %d revocations that are not committed yet", id, state.Pending).
		WithHint("ask again in a few seconds, when it has handed them over; --force removes it all the same, and its folder keeps them")
}

// stepAside hands leadership over, so that the next leader can remove this node: the request is repeated there.
func (s *Server) stepAside(ctx context.Context) error {
	if s.otherVoters() == 0 {
		return identity.Errorf(identity.CodeQuorumAtRisk, "%s is the only voter and can't be removed", s.config.NodeID).
			WithHint("join more nodes first, and wait until `deputy cluster members` shows another voter")
	}
	// Where nobody took it in time, nothing has been removed, and the repeated request begins here again.
	if err := s.node.TransferLeadership(ctx, ""); err != nil && !errors.Is(err, cluster.ErrNotHandedOver) {
		return clusterError(err)
	}
	return errNotLeading()
}

// denyKeysOf revokes every signing key of a node, and with each all that it ever signed.
func (s *Server) denyKeysOf(ctx context.Context, id, by, reason string) error {
	var handles []identity.Handle
	for _, key := range s.fsm.View().SigningKeys() {
		if key.Node == id {
			handles = append(handles, identity.KeyHandle(key.KID))
		}
	}
	if len(handles) == 0 {
		return nil
	}
	defer s.denials.deny(handles).Release()
	result, err := s.proposer.commit(ctx, by, fsm.Revoke{Handles: handles, Reason: reason})
	if err != nil {
		return err
	}
	report, err := s.raise(ctx, fence{Index: result.Index})
	if err != nil {
		return err
	}
	if !report.Done {
		s.logger.Warn("not every node has acknowledged yet that the removed node's keys are revoked", "removed", id)
	}
	return nil
}

func removalError(id string, err error) error {
	if errors.Is(err, cluster.ErrWouldLoseQuorum) {
		return identity.Errorf(identity.CodeQuorumAtRisk, "without %s too few live voters would remain to commit anything", id).
			WithHint("bring the other nodes back, or join a new one and wait until it votes; --force removes it all the same, and writes may stop until a node comes back").WithCause(err)
	}
	if errors.Is(err, cluster.ErrIsLeader) {
		return errNotLeading() // leadership has come back to it meanwhile
	}
	return clusterError(err)
}
