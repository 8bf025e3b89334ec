package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/deputy-id/deputy/api"
	"github.com/deputy-id/deputy/cluster"
)

// statusWait bounds the question to one member: an operator who asks waits no longer for a dead one.
const statusWait = 2 * time.Second

// status is this node's own account of itself.
func (s *Server) status() api.NodeStatus {
	lease := s.lease.State()
	state := api.NodeStatus{
		ID: s.config.NodeID, Fresh: lease.Held, Reason: lease.Reason, Detail: lease.Detail,
		Age: lease.Age, Remaining: lease.Remaining, Applied: s.fsm.Applied(), Leader: s.node.IsLeader(),
		Pending: s.pending.Pending(), ClockOffset: s.proposer.clock.Offset(), KeyID: s.tokenKeys.current.Load().KID(),
	}
	stats := s.node.Stats()
	if stats.CommitIndex > state.Applied {
		state.Behind = stats.CommitIndex - state.Applied
	}
	if self, ok := s.fsm.View().Member(s.config.NodeID); ok {
		state.Draining = !self.Draining.IsZero()
	}
	state.DiskFree = s.disk.free.Load()
	return state
}

// NodeStatus is this node's own account of itself.
func (a clusterAdmin) NodeStatus() api.NodeStatus { return a.s.status() }

// Status asks every member, at the same time, how it is. Who does not answer is listed with the reason.
func (a clusterAdmin) Status(ctx context.Context) []api.NodeStatus {
	ctx, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	var (
		mu  sync.Mutex
		all []api.NodeStatus
		wg  sync.WaitGroup
	)
	for _, m := range a.s.node.Members() {
		wg.Go(func() {
			state, err := a.s.askStatus(ctx, m.ID)
			if err != nil {
				state = api.NodeStatus{ID: m.ID, Error: "it did not answer"}
				a.s.logger.Debug("asking a member how it is", "member", m.ID, "error", err)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, state)
		})
	}
	wg.Wait()
	slices.SortFunc(all, func(x, y api.NodeStatus) int { return strings.Compare(x.ID, y.ID) })
	return all
}

func (s *Server) askStatus(ctx context.Context, id string) (state api.NodeStatus, err error) {
	answer, err := s.node.Call(ctx, id, methodStatus, nil)
	if err != nil {
		return state, err
	}
	if err := json.Unmarshal(answer, &state); err != nil {
		return state, fmt.Errorf("reading what member %s says of itself: %w", id, err)
	}
	return state, nil
}

func (s *Server) serveStatus(context.Context, cluster.Member, []byte) ([]byte, error) {
	return json.Marshal(s.status())
}
