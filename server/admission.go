package server

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// joinTimeout bounds one question to one member.
const joinTimeout = 15 * time.Second

// finalError is one that trying again can't mend, such as a used join token.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// asFinal reports whether err will not go away by itself.
func asFinal(err error, final *finalError) bool { return errors.As(err, final) }

// join has this node admitted to a running cluster. It returns once a member's answer says so; the node is
// really in when it has applied the index of that answer.
func (s *Server) join(ctx context.Context) (joinAnswer, error) {
	token, err := ParseJoinToken(s.config.JoinToken)
	if err != nil {
		return joinAnswer{}, err
	}
	self := s.self()
	request, err := json.Marshal(joinRequest{
		Secret: token.Secret, NodeID: self.ID,
		ClusterAddr: self.ClusterAddr, GossipAddr: self.GossipAddr, PublicURL: self.PublicURL,
	})
	if err != nil {
		return joinAnswer{}, fmt.Errorf("encoding the join request: %w", err)
	}
	var answer joinAnswer
	err = s.until(ctx, "joining the cluster", func(ctx context.Context) error {
		var failures []error
		for _, target := range token.Members {
			ask, cancel := context.WithTimeout(ctx, joinTimeout)
			text, err := cluster.JoinCall(ask, target.Address, target.Key, s.nodeKey, request)
			cancel()
			if err != nil {
				failures = append(failures, fmt.Errorf("%s: %w", target.Address, err))
				continue
			}
			answer = joinAnswer{}
			if err := json.Unmarshal(text, &answer); err != nil {
				failures = append(failures, fmt.Errorf("%s: reading its answer: %w", target.Address, err))
				continue
			}
			if answer.Error == nil {
				return nil
			}
			if answer.Error.Code != identity.CodeNoLeader && answer.Error.Code != identity.CodeOutcomeUnknown && answer.Error.Code != identity.CodeInternal {
				return finalError{answer.Error}
			}
			failures = append(failures, fmt.Errorf("%s: %w", target.Address, answer.Error))
		}
		return errors.Join(failures...)
	})
	return answer, err
}

// serveJoin answers a new node on any member; the decision is the leader's.
func (s *Server) serveJoin(ctx context.Context, key ed25519.PublicKey, remote net.Addr, body []byte) ([]byte, error) {
	var request joinRequest
	if err := json.Unmarshal(body, &request); err != nil {
		return json.Marshal(joinAnswer{Error: identity.Errorf(identity.CodeInvalid, "the join request is not JSON")})
	}
	request.Key, request.From = key, remote.String()
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encoding a join request: %w", err)
	}
	text, err := s.node.CallLeader(ctx, methodJoin, body)
	if err != nil {
		s.logger.Warn("passing on a join request", "joiner", request.NodeID, "from", request.From, "error", err)
		return json.Marshal(joinAnswer{Error: asError(clusterError(err))})
	}
	return text, nil
}

// serveAdmit is the leader's side: into the member table first, then into the Raft configuration. Both can be
// repeated, so a joiner that lost the answer asks again with the same token.
func (s *Server) serveAdmit(ctx context.Context, _ cluster.Member, body []byte) ([]byte, error) {
	var request joinRequest
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, fmt.Errorf("reading a join request: %w", err)
	}
	answer, err := s.admit(ctx, request)
	if err != nil {
		s.logger.Info("a node was not admitted", "joiner", request.NodeID, "from", request.From, "error", err)
		return json.Marshal(joinAnswer{Error: asError(err)})
	}
	s.logger.Info("node admitted", "joiner", request.NodeID, "from", request.From, "index", answer.Index)
	return json.Marshal(answer)
}

func (s *Server) admit(ctx context.Context, request joinRequest) (joinAnswer, error) {
	if !s.proposer.IsLeader() {
		return joinAnswer{}, clusterError(cluster.ErrNotLeader)
	}
	if gone := s.removed(request.Key); gone != nil {
		return joinAnswer{}, gone
	}
	if err := request.validate(); err != nil {
		return joinAnswer{}, err
	}
	hash := identity.HashSecret(request.Secret)
	// A stranger with a made-up secret must not get to write to the log, not even a refusal.
	if _, ok := s.fsm.View().JoinTokenByHash(hash[:]); !ok {
		return joinAnswer{}, identity.Errorf(identity.CodeJoinTokenInvalid, "the join token is not one of this cluster's").
			WithHint("make a new one on a member: deputy cluster join-token")
	}
	result, err := s.proposer.commit(ctx, request.NodeID, fsm.AdmitMember{
		Member: identity.Member{
			ID: request.NodeID, Key: request.Key,
			ClusterAddr: request.ClusterAddr, GossipAddr: request.GossipAddr, PublicURL: request.PublicURL,
			Joined: identity.InstantOf(s.clock()), JoinedFrom: request.From,
		},
		JoinTokenHash: hash[:],
	})
	if err != nil {
		return joinAnswer{}, err
	}
	if err := s.node.AddNonvoter(ctx, request.NodeID, request.ClusterAddr); err != nil {
		return joinAnswer{}, clusterError(err)
	}
	view := s.fsm.View()
	answer := joinAnswer{Index: result.Index, Cluster: view.Settings().ClusterID, GossipKeys: view.Settings().GossipKeys}
	for _, m := range view.Members() {
		answer.Members = append(answer.Members, *m)
	}
	return answer, nil
}

// readmit tells the cluster where this node is now, if that has changed since it was last in.
func (s *Server) readmit(ctx context.Context) error {
	self := s.self()
	return s.until(ctx, "telling the cluster this node's addresses", func(ctx context.Context) error {
		known, ok := s.fsm.View().Member(self.ID)
		if !ok || !known.Removed.IsZero() {
			return finalError{identity.Errorf(identity.CodeMemberRemoved, "node %s is not a member of the cluster any more", self.ID)}
		}
		if known.ClusterAddr == self.ClusterAddr && known.GossipAddr == self.GossipAddr && known.PublicURL == self.PublicURL {
			return nil
		}
		body, err := json.Marshal(self)
		if err != nil {
			return fmt.Errorf("encoding this node's addresses: %w", err)
		}
		_, err = s.node.CallLeader(ctx, methodReadmit, body)
		return err
	})
}

// serveReadmit is the leader's side of readmit. A member can only move itself.
func (s *Server) serveReadmit(ctx context.Context, from cluster.Member, body []byte) ([]byte, error) {
	var m identity.Member
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("reading a member's addresses: %w", err)
	}
	if m.ID != from.ID {
		return nil, errors.New("a node moves no node but itself")
	}
	if _, err := s.proposer.commit(ctx, from.ID, fsm.UpdateMember{Member: m}); err != nil {
		return nil, err
	}
	if from.ClusterAddr != m.ClusterAddr {
		if err := s.node.ReplaceAddress(ctx, m.ID, m.ClusterAddr); err != nil {
			return nil, clusterError(err)
		}
	}
	return nil, nil
}

// asError keeps a typed error and hides any other, which the log has.
func asError(err error) *identity.Error {
	var e *identity.Error
	if errors.As(err, &e) {
		return e
	}
	return identity.Errorf(identity.CodeInternal, "the request could not be served").WithCause(err)
}
