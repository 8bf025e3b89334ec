package server

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/deputy-id/deputy/fsm"
)

const (
	// purgeEvery is how often a leader proposes to forget what has expired. Expiry itself is seen at read, so
	// this only bounds memory.
	purgeEvery = 30 * time.Second

	// purgeRounds bounds one sweep, so that a large backlog never starves other writes.
	purgeRounds = 100

	retryLeast = 50 * time.Millisecond
	retryMost  = 2 * time.Second
)

// purge forgets expired delegations, revocations and command ids while this node leads.
func (s *Server) purge(ctx context.Context) error {
	ticker := time.NewTicker(purgeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		for range purgeRounds {
			if !s.node.IsLeader() || !s.purgeOnce(ctx) {
				break
			}
		}
	}
}

// purgeOnce reports whether there may be more to forget.
func (s *Server) purgeOnce(ctx context.Context) (more bool) {
	result, err := s.proposer.commit(ctx, s.config.NodeID, fsm.Purge{})
	if err != nil {
		s.logger.Warn("forgetting what has expired", "error", err)
		return false
	}
	purged, ok := result.Value.(*fsm.Purged)
	return ok && purged.More
}

// until tries a step again, with growing pauses, until it is done or ctx ends. It logs the
// fifth failure and every tenth after that, as an election makes a few in a row.
func (s *Server) until(ctx context.Context, doing string, step func(context.Context) error) error {
	pause := retryLeast
	for try := 0; ; try++ {
		err := step(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if final := (finalError{}); asFinal(err, &final) {
			return final.error
		}
		if try%10 == 4 {
			s.logger.Info("still "+doing, "error", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause + rand.N(pause)):
		}
		pause = min(2*pause, retryMost)
	}
}
