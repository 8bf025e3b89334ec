package server

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/identity"
)

// newClockGuard holds this node's clock against FSM time, and before its first stamp against the other voters'.
func (s *Server) newClockGuard() *cluster.ClockGuard {
	return cluster.NewClockGuard(cluster.ClockOptions{
		Agreed: func() time.Time { return s.fsm.View().Time().Time() },
		Wall:   s.clock,
		Boot:   cluster.BootTime,
		Voters: func() (others []string) {
			for _, server := range s.node.Servers() {
				if server.Suffrage == cluster.SuffrageVoter && server.ID != s.config.NodeID {
					others = append(others, server.ID)
				}
			}
			return others
		},
		Ask: s.askClock,
	})
}

func (s *Server) askClock(ctx context.Context, id string) (time.Time, error) {
	answer, err := s.node.Call(ctx, id, methodClock, nil)
	if err != nil {
		return time.Time{}, err
	}
	var theirs identity.Instant
	if err := json.Unmarshal(answer, &theirs); err != nil {
		return time.Time{}, fmt.Errorf("reading the clock of %s: %w", id, err)
	}
	return theirs.Time(), nil
}

func (s *Server) serveClock(context.Context, cluster.Member, []byte) ([]byte, error) {
	return json.Marshal(identity.InstantOf(s.clock()))
}

// clockError is a ClockGuard's error in the one vocabulary.
func clockError(err error) error {
	return identity.Errorf(identity.CodeNotFresh, "%w", err).WithHint("set this machine's clock by NTP; until then ask another node")
}
