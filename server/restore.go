package server

import (
	"context"

	"github.com/deputy-id/deputy/fsm"
)

// OpenMinting lets tokens be minted again after a restore or a recovery; it runs at the leader.
func (a clusterAdmin) OpenMinting(ctx context.Context, by string) (uint64, error) {
	result, err := a.s.proposer.commit(ctx, by, fsm.OpenMinting{})
	if err != nil {
		return 0, err
	}
	a.s.logger.Warn("minting is open", "by", by, "index", result.Index)
	return result.Index, nil
}
