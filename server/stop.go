package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// diskStalled ends the node: one that leads with a stuck disk is worse than none.
func (s *Server) diskStalled(elapsed time.Duration) {
	s.cancel(fmt.Errorf("a write to the log in %s has taken longer than %s; the disk is stalled", s.config.DataDir, elapsed))
}

// Stop takes the node down: no new requests, the ones under way finish, leadership moves on, stores close.
// It may be called more than once, and after a failed Start.
func (s *Server) Stop(ctx context.Context) error {
	if !s.stopped.CompareAndSwap(false, true) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 3*stopWait)
	defer cancel()
	var failures []error
	if err := s.httpServer.ShutdownWithContext(ctx); err != nil {
		failures = append(failures, fmt.Errorf("finishing requests: %w", err))
	}
	// While the others can still be told where it ended. Nobody is answered any more.
	if err := s.audit.end(); err != nil {
		failures = append(failures, fmt.Errorf("closing the audit log: %w", err))
	}
	s.cancel(errors.New("the server is stopping"))
	if err := s.node.Stop(ctx); err != nil {
		failures = append(failures, fmt.Errorf("leaving the cluster port: %w", err))
	}
	if err := s.opsHTTP.Shutdown(ctx); err != nil {
		failures = append(failures, fmt.Errorf("closing the ops listener: %w", err))
	}
	if s.running != nil {
		// What ended the node by itself is Wait's to tell.
		if err := s.running.Wait(); err != nil && !errors.Is(err, context.Cause(s.background)) {
			failures = append(failures, err)
		}
	}
	failures = append(failures, s.close())
	return errors.Join(failures...)
}

// Wait returns when a part of a started node has failed, with its error, or with nil when ctx ends.
func (s *Server) Wait(ctx context.Context) error {
	select {
	case <-s.background.Done():
		return context.Cause(s.background)
	case <-ctx.Done():
		return nil
	}
}

func (s *Server) close() error {
	var failures []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		if err := s.closers[i].Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			failures = append(failures, err)
		}
	}
	s.closers = nil
	return errors.Join(failures...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
