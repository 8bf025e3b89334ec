package server

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/privatefile"
	"github.com/deputy-id/deputy/policy"
)

// rootTokenPrefix begins the text of every API token; api makes the others.
const rootTokenPrefix = "dpt_"

// ensureBootstrapped makes the first node's cluster usable: member table, settings, root token, in that order,
// each only where it is missing. A node that died half-way through takes up where it was.
func (s *Server) ensureBootstrapped(ctx context.Context) error {
	if !s.node.HasState() {
		if err := s.node.Bootstrap(ctx); err != nil {
			return fmt.Errorf("starting a new cluster: %w", err)
		}
	}
	return s.until(ctx, "starting the new cluster", func(ctx context.Context) error {
		if len(s.fsm.View().Members()) > 1 {
			return nil // long past its beginnings
		}
		if !s.node.IsLeader() {
			return errors.New("this node is not the leader yet")
		}
		if err := s.node.Barrier(ctx); err != nil {
			return err
		}
		return s.bootstrapSteps(ctx)
	})
}

// finishBootstrap is ensureBootstrapped for a node that has been started before. The end of ctx is no failure.
func (s *Server) finishBootstrap(ctx context.Context) error {
	err := s.ensureBootstrapped(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (s *Server) bootstrapSteps(ctx context.Context) error {
	view := s.fsm.View()
	if _, ok := view.Member(s.config.NodeID); !ok {
		if _, err := s.proposer.commit(ctx, s.config.NodeID, fsm.AdmitMember{Member: s.self()}); err != nil {
			return fmt.Errorf("admitting the first member: %w", err)
		}
	}
	if view.Settings().ClusterID == "" {
		settings, err := s.firstSettings()
		if err != nil {
			return err
		}
		if _, err := s.proposer.commit(ctx, s.config.NodeID, fsm.PutSettings{Settings: settings}); err != nil {
			return fmt.Errorf("writing the first settings: %w", err)
		}
	}
	if len(view.APITokens("", 1)) > 0 {
		return nil
	}
	// Before the token, which ends the bootstrap: a cluster that is only upgraded has it, and decides by itself.
	if view.PoliciesRevision() == 0 {
		if err := s.shipPolicies(ctx); err != nil {
			return err
		}
	}
	return s.makeRootToken(ctx)
}

// shipPolicies gives a new cluster the policies that come along, in one command: all of them or none.
func (s *Server) shipPolicies(ctx context.Context) error {
	var all fsm.Batch
	for _, p := range policy.Shipped() {
		all.Bodies = append(all.Bodies, fsm.PutPolicy{Policy: p, IfAbsent: true})
	}
	if _, err := s.proposer.commit(ctx, s.config.NodeID, all); err != nil {
		return fmt.Errorf("writing the first policies: %w", err)
	}
	return nil
}

func (s *Server) firstSettings() (identity.Settings, error) {
	issuer := s.config.Issuer
	if issuer == "" {
		issuer = s.publicURL()
	}
	clusterID, err := newID("cls_", s.clock())
	if err != nil {
		return identity.Settings{}, err
	}
	settings := identity.Settings{
		ClusterID: clusterID, Issuer: issuer, ExternalURLs: s.config.ExternalURLs,
		OfflineTTLSeconds: identity.DefaultOfflineTTLSeconds, LeaseMillis: identity.DefaultLeaseMillis,
		GossipKeys: s.node.GossipKeys(), KeyRotationSeconds: identity.DefaultKeyRotationSeconds,
	}
	return settings, settings.Validate()
}

// makeRootToken writes the token to its file before it is committed: a crash in between leaves a file with a
// token that doesn't work and is made again, never a cluster that nobody can enter.
func (s *Server) makeRootToken(ctx context.Context) error {
	secret, err := randomBytes(32)
	if err != nil {
		return err
	}
	text := rootTokenPrefix + base64.RawURLEncoding.EncodeToString(secret)
	if s.config.RootTokenFile != "" {
		if err := privatefile.Replace(s.config.RootTokenFile, []byte(text+"\n")); err != nil {
			return fmt.Errorf("root_token_file: %w", err)
		}
	}
	now := identity.InstantOf(s.clock())
	id, err := newID(identity.PrefixAPIToken, s.clock())
	if err != nil {
		return err
	}
	hash := identity.HashSecret(text)
	token := identity.APIToken{ID: id, Name: "root", Hash: hash[:], Roles: []identity.Role{identity.RoleAdmin}, Created: now}
	if _, err := s.proposer.commit(ctx, s.config.NodeID, fsm.CreateAPIToken{APIToken: token}); err != nil {
		return fmt.Errorf("committing the root token: %w", err)
	}
	s.rootToken.Store(&text)
	if s.config.RootTokenFile == "" && !s.dev {
		s.logger.Warn("no root_token_file is set, so the root token is lost; set one and start again with an empty data folder")
	}
	return nil
}

func randomBytes(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("reading random bytes: %w", err)
	}
	return b, nil
}

func newID(prefix string, now time.Time) (string, error) {
	entropy, err := randomBytes(10)
	if err != nil {
		return "", err
	}
	return identity.NewID(prefix, identity.InstantOf(now), [10]byte(entropy)), nil
}
