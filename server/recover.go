package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

// recoverQuorum makes this node the only one of its cluster, before the log is opened. What that means to the
// domain is committed by endRecovery, once the node leads: until then cluster.Node.Recovering is true.
func (s *Server) recoverQuorum(o Options) error {
	if s.dev {
		return errors.New("a node in memory has nothing to recover")
	}
	var halted error
	// A state machine of its own: raft.RecoverCluster fills it from the folder. What it denies must not end up in
	// the set of the node that starts afterwards and replays the same log, nor may it log as that node.
	scratch := fsm.New(fsm.Options{
		Revocations: revocation.NewSet(), Halt: func(err error) { halted = err }, Logger: slog.New(slog.DiscardHandler),
	})
	err := cluster.RecoverQuorum(cluster.Options{
		NodeID: s.config.NodeID, DataDir: s.config.DataDir, Key: s.nodeKey, FSM: scratch, Directory: directory{scratch}, Applied: scratch,
		OnDiskStall: s.diskStalled, Tuning: o.Tuning, Logger: s.logger,
	})
	if err := errors.Join(err, halted); err != nil {
		return fmt.Errorf("recovering from lost quorum: %w", err)
	}
	s.logger.Warn("this node is the only one of its cluster now; none of the others may ever be started again with its data")
	return nil
}

// endRecovery commits what the loss of the other nodes means: they are no members any more, every signing key is
// denied, command ids are forgotten and minting is closed. It runs before this node has a lease, so that nothing
// is answered by the state as it was, and again after a crash, for as long as the mark is there.
func (s *Server) endRecovery(ctx context.Context) error {
	if !s.node.Recovering() {
		return nil
	}
	err := s.until(ctx, "ending the recovery from lost quorum", func(ctx context.Context) error {
		if !s.proposer.IsLeader() {
			return errors.New("this node does not lead yet, or has not applied all of its log")
		}
		result, err := s.proposer.commit(ctx, s.config.NodeID, fsm.Recover{Node: s.config.NodeID})
		if code := identity.CodeOf(err); code == identity.CodeMemberRemoved || code == identity.CodeNotFound {
			return finalError{err} // nothing can be recovered from a node that the cluster had put out
		}
		if err != nil {
			return err
		}
		s.logger.Warn("recovered from lost quorum: the other nodes are removed, all signing keys are revoked and minting is closed",
			"index", result.Index)
		// The lost nodes know the gossip key.
		_, err = clusterAdmin{s}.RotateGossip(ctx, s.config.NodeID)
		return err
	})
	if err != nil {
		return err
	}
	return s.node.RecoveryDone()
}
