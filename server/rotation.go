package server

import (
	"context"

	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// RotateKey has a node, or every node where id is empty, make a new token key; it runs at the leader. The node sees
// the wish in the log and serves it when it can: see tokenKeys.
func (a clusterAdmin) RotateKey(ctx context.Context, id, by string) (index uint64, err error) {
	s := a.s
	ids := []string{id}
	if id == "" {
		ids = nil
		for _, m := range s.fsm.View().Members() {
			ids = append(ids, m.ID)
		}
	}
	for _, id := range ids {
		result, err := s.proposer.commit(ctx, by, fsm.RotateKey{ID: id})
		if err != nil {
			return 0, err
		}
		member, ok := result.Value.(*identity.Member)
		if !ok {
			return 0, identity.Errorf(identity.CodeInternal, "BUG: the state machine answered %T to a wish for a new key", result.Value)
		}
		if !member.Removed.IsZero() {
			return 0, identity.Errorf(identity.CodeMemberRemoved, "member %s was removed at %s", id, member.Removed)
		}
		index = result.Index
	}
	s.logger.Info("new token keys are wished for", "members", ids, "by", by, "index", index)
	return index, nil
}
