package server

import (
	"context"
	"errors"

	"github.com/deputy-id/deputy/api"
	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/identity"
)

// clusterAdmin is the cluster as the admin routes see it.
type clusterAdmin struct{ s *Server }

// Servers are the members of the Raft configuration as this node sees them.
func (a clusterAdmin) Servers() []api.Server {
	servers := a.s.node.Servers()
	answer := make([]api.Server, len(servers))
	for i, server := range servers {
		answer[i] = api.Server{
			ID: server.ID, Suffrage: server.Suffrage, Leader: server.Leader, Alive: server.Alive, Applied: server.Applied,
		}
	}
	return answer
}

// JoinToken spells what a new node joins with. This node comes first: whoever asked for the token could reach it.
func (a clusterAdmin) JoinToken(secret string) (string, error) {
	view := a.s.fsm.View()
	token := JoinToken{Cluster: view.Settings().ClusterID, Secret: secret}
	add := func(m *identity.Member) {
		if len(token.Members) < maxJoinTargets {
			token.Members = append(token.Members, JoinTarget{Address: m.ClusterAddr, Key: m.Key})
		}
	}
	if self, ok := view.Member(a.s.config.NodeID); ok {
		add(self)
	}
	for _, m := range view.Members() {
		if m.ID != a.s.config.NodeID {
			add(m)
		}
	}
	if len(token.Members) == 0 {
		return "", identity.Errorf(identity.CodeNotFresh, "this node knows no members yet").WithHint("try again in a second")
	}
	return token.String(), nil
}

// TransferLeadership hands over to a voter, or to the one furthest along where to is empty.
func (a clusterAdmin) TransferLeadership(ctx context.Context, to string) error {
	if a.s.otherVoters() == 0 {
		return identity.Errorf(identity.CodeConflict, "no other member has a vote, so nobody could lead").
			WithHint("join more nodes, or wait until `deputy cluster members` shows another voter")
	}
	err := a.s.node.TransferLeadership(ctx, to)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cluster.ErrUnknownMember):
		return identity.Errorf(identity.CodeNotFound, "there is no voter %q", to).WithHint("`deputy cluster members` lists them")
	case errors.Is(err, cluster.ErrNoVote):
		return identity.Errorf(identity.CodeConflict, "member %q has no vote, so it can't lead", to).
			WithHint("name a voter, or none; `deputy cluster members` lists them")
	case errors.Is(err, cluster.ErrNotHandedOver):
		return identity.Errorf(identity.CodeOutcomeUnknown, "leadership was not handed over in time; the other may still take it").
			WithHint("`deputy cluster members` shows who leads; ask again where it is the same").WithCause(err)
	}
	return clusterError(err)
}

func (s *Server) otherVoters() (n int) {
	for _, server := range s.node.Servers() {
		if server.Suffrage == cluster.SuffrageVoter && server.ID != s.config.NodeID {
			n++
		}
	}
	return n
}
