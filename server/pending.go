package server

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/privatefile"
)

const (
	// maxPending bounds the revocations that wait for a majority: each is a small file.
	maxPending = 10_000
	// settleEvery is how often a majority is looked for.
	settleEvery = time.Second
	// settleTimeout bounds one attempt.
	settleTimeout = 5 * time.Second
)

// pendingStops are revocations that this node has accepted and no majority has on disk: kept in files of their
// own, denied here and by gossip, and proposed until they are committed. They outlive the process.
type pendingStops struct {
	dir     string
	deny    func(handles []identity.Handle) *denied
	commit  func(ctx context.Context, command []byte) error // at the leader
	logger  *slog.Logger
	changed chan struct{}

	mu   sync.Mutex
	held map[fsm.CommandID]*pendingStop
}

// pendingStop is the content of a file. It holds no secret: who asked was authenticated before.
type pendingStop struct {
	Handles []identity.Handle `json:"handles"`
	Command []byte            `json:"command"`

	said *denied
}

// openPending reads what an earlier process left, and denies it at once.
func openPending(dir string, deny func([]identity.Handle) *denied, commit func(context.Context, []byte) error, logger *slog.Logger) (*pendingStops, error) {
	p := &pendingStops{
		dir: dir, deny: deny, commit: commit, logger: logger.With("component", "pending"),
		changed: make(chan struct{}, 1), held: make(map[fsm.CommandID]*pendingStop),
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of pending revocations: %w", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the folder of pending revocations: %w", err)
	}
	for _, file := range files {
		if strings.HasPrefix(file.Name(), ".") {
			continue // the draft of one that was never acknowledged
		}
		path := filepath.Join(dir, file.Name())
		id, stop, err := readPending(path)
		if err != nil {
			return nil, fmt.Errorf("reading the pending revocation %s: %w; a revocation that was acknowledged must not be lost: restore the file, or move it away and revoke again", path, err)
		}
		stop.said = deny(stop.Handles)
		p.held[id] = stop
	}
	return p, nil
}

func readPending(path string) (id fsm.CommandID, _ *pendingStop, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return id, nil, err
	}
	var stop pendingStop
	if err := json.Unmarshal(text, &stop); err != nil {
		return id, nil, err
	}
	c, err := fsm.Decode(stop.Command)
	if err != nil {
		return id, nil, err
	}
	if filepath.Base(path) != hex.EncodeToString(c.ID[:]) {
		return id, nil, errors.New("its name is not the command's id")
	}
	return c.ID, &stop, nil
}

// Keep takes a revocation that could not be committed. When it returns nil the revocation is on disk.
func (p *pendingStops) Keep(c fsm.Command, handles []identity.Handle) error {
	if !mayBeKept(c.Body) {
		return fmt.Errorf("BUG: a %s is no revocation that can be kept", c.Body.Type())
	}
	command, err := fsm.Encode(c)
	if err != nil {
		return err
	}
	stop := &pendingStop{Handles: handles, Command: command}
	text, err := json.Marshal(stop)
	if err != nil {
		return fmt.Errorf("encoding a pending revocation: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, held := p.held[c.ID]; held {
		return nil
	}
	if len(p.held) >= maxPending {
		return identity.Errorf(identity.CodeOverloaded, "%d revocations wait for a majority at this node, which is the most it keeps", maxPending).
			WithHint("ask another node, or bring the majority back")
	}
	if err := privatefile.Replace(p.path(c.ID), text); err != nil {
		return err
	}
	stop.said = p.deny(handles)
	p.held[c.ID] = stop
	p.logger.Warn("a revocation waits for a majority", "handles", handles, "by", c.By)
	select {
	case p.changed <- struct{}{}:
	default:
	}
	return nil
}

func (p *pendingStops) path(id fsm.CommandID) string {
	return filepath.Join(p.dir, hex.EncodeToString(id[:]))
}

// Pending is how many wait.
func (p *pendingStops) Pending() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.held)
}

// run proposes what is kept until it is committed, or ctx ends.
func (p *pendingStops) run(ctx context.Context) error {
	ticker := time.NewTicker(settleEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-p.changed:
		}
		p.settle(ctx)
	}
}

// settle proposes each in turn, and stops at the first for which there still is no majority.
func (p *pendingStops) settle(ctx context.Context) {
	p.mu.Lock()
	held := make(map[fsm.CommandID]*pendingStop, len(p.held))
	for id, stop := range p.held {
		held[id] = stop
	}
	p.mu.Unlock()
	for id, stop := range held {
		try, cancel := context.WithTimeout(ctx, settleTimeout)
		err := p.commit(try, stop.Command)
		cancel()
		var refused *identity.Error
		switch {
		case err == nil:
			p.logger.Info("a kept revocation is committed", "handles", stop.Handles)
		case errors.As(err, &refused) && isFinal(refused.Code):
			// Such as an agent that was deleted meanwhile, and so has been denied.
			p.logger.Warn("a kept revocation has nothing left to stop", "handles", stop.Handles, "error", err)
		case errors.As(err, &refused) && refused.Code != identity.CodeNoLeader && refused.Code != identity.CodeOutcomeUnknown:
			p.logger.Warn("a kept revocation was not committed yet", "handles", stop.Handles, "error", err)
			continue // the others need not wait for it
		default:
			return // there is no majority for any of them
		}
		if err := p.drop(id); err != nil {
			p.logger.Error("forgetting a pending revocation", "error", err)
			continue
		}
		stop.said.Release()
	}
}

func (p *pendingStops) drop(id fsm.CommandID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := os.Remove(p.path(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	delete(p.held, id)
	return nil
}

// isFinal reports whether the state machine itself has refused: what is not about reaching it.
func isFinal(code identity.Code) bool {
	switch code {
	case identity.CodeNotFound, identity.CodeInvalid, identity.CodeRevoked, identity.CodeConflict:
		return true
	}
	return false
}

// mayBeKept reports whether a body only stops something: what one node keeps is committed later without asking
// whether the caller still may.
func mayBeKept(b fsm.Body) bool {
	switch b.(type) {
	case fsm.Revoke, fsm.KillAgent, fsm.KillPrincipal, fsm.WithdrawDelegation:
		return true
	}
	return false
}

// settleAnswer is what the leader made of a kept revocation. An error in here is an answer of the state machine's
// or of the leader's; one of the call itself says nothing.
type settleAnswer struct {
	Error *identity.Error `json:"error,omitempty"`
}

// settlePending has the leader commit what this node has kept.
func (s *Server) settlePending(ctx context.Context, command []byte) error {
	text, err := s.node.CallLeader(ctx, methodSettle, command)
	if err != nil {
		return clusterError(err)
	}
	var answer settleAnswer
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("reading what became of a kept revocation: %w", err)
	}
	if answer.Error != nil {
		return answer.Error
	}
	return nil
}

// serveSettle is the leader's side. The node that has kept the revocation vouches for who asked: members are
// trusted not to lie, and all that can be had this way is that something stops.
func (s *Server) serveSettle(ctx context.Context, _ cluster.Member, command []byte) ([]byte, error) {
	var answer settleAnswer
	if err := s.commitKept(ctx, command); err != nil {
		answer.Error = asError(err)
	}
	return json.Marshal(answer)
}

func (s *Server) commitKept(ctx context.Context, command []byte) error {
	if !s.proposer.IsLeader() {
		return errNotLeading()
	}
	c, err := fsm.Decode(command)
	if err != nil {
		return fmt.Errorf("reading a kept revocation: %w", err)
	}
	if !mayBeKept(c.Body) {
		return identity.Errorf(identity.CodeForbidden, "a %s can't be committed this way", c.Body.Type())
	}
	result, err := s.proposer.Propose(ctx, c)
	if err != nil {
		return err
	}
	if result.Err != nil {
		return result.Err
	}
	return nil
}
