package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/tokens"
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

// keyStepRetry is how long a step of a rotation that went wrong is left alone: it costs the leader a write.
const keyStepRetry = time.Second

// openKeys reads or makes this node's token keys.
func (s *Server) openKeys() error {
	s.tokenKeys = &tokenKeys{
		node: s.config.NodeID, path: s.config.path("token.key"), logger: s.logger.With("component", "token-keys"),
		facts: s.keyFacts, publish: s.publishKey, await: s.awaitMembers, retire: s.retireKey,
		use: func(signer *tokens.Signer) { s.minter.SetSigner(signer) },
	}
	return s.tokenKeys.open()
}

func (s *Server) keyFacts() keyFacts {
	view := s.fsm.View()
	f := keyFacts{
		index: view.Index(), time: view.Time(), published: make(map[string]identity.SigningKey),
		period: time.Duration(view.Settings().KeyRotationSeconds) * time.Second,
	}
	for _, key := range view.SigningKeys() {
		if key.Node == s.config.NodeID {
			f.published[key.KID] = key
		}
	}
	if m, ok := view.Member(s.config.NodeID); ok {
		f.wish = m.RotateKey
	}
	f.revoked = func(kid string) (index uint64, committed, denied bool) {
		handle := identity.KeyHandle(kid)
		if r, ok := view.Revocation(handle); ok {
			return r.Index, true, true
		}
		return 0, false, s.revoked.Revoked(handle)
	}
	return f
}

// publishKey commits the public half of a key of this node's and waits until it is applied here.
func (s *Server) publishKey(ctx context.Context, key identity.SigningKey) error {
	body, err := json.Marshal(key)
	if err != nil {
		return fmt.Errorf("encoding a token key: %w", err)
	}
	return s.changeKey(ctx, methodPublishKey, body)
}

func (s *Server) retireKey(ctx context.Context, kid string) error {
	return s.changeKey(ctx, methodRetireKey, []byte(kid))
}

func (s *Server) changeKey(ctx context.Context, method string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	answer, err := s.node.CallLeader(ctx, method, body)
	if err != nil {
		return err
	}
	var index uint64
	if err := json.Unmarshal(answer, &index); err != nil {
		return fmt.Errorf("reading the index of a change of token keys: %w", err)
	}
	return s.fsm.WaitApplied(ctx, index)
}

// beginSigning returns once this node has a token key that signs: nobody is asked about a token whose key it has
// not heard of.
func (s *Server) beginSigning(ctx context.Context) error {
	return s.until(ctx, "publishing the token key", func(ctx context.Context) error {
		err := s.tokenKeys.step(ctx)
		if s.tokenKeys.inUse.Load() {
			return nil // what else there is to do can be done while serving
		}
		if err == nil {
			err = errors.New("no token key is in use yet")
		}
		return err
	})
}

// rotateKeys replaces the token key when its time has come, it is wished for, or it was revoked.
func (s *Server) rotateKeys(ctx context.Context) error {
	var failed time.Time // when the last step went wrong
	failures := 0
	return s.watch(ctx, time.Second, func(ctx context.Context, _ *fsm.View) {
		if failures > 0 && time.Since(failed) < keyStepRetry {
			return
		}
		err := s.tokenKeys.step(ctx)
		if err == nil || ctx.Err() != nil {
			failures = 0
			return
		}
		if failed = time.Now(); failures%10 == 2 { // elections come and go
			s.logger.Warn("replacing the token key is tried again", "error", err)
		}
		failures++
	})
}
