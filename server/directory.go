package server

import (
	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// directory shows the replicated member table to the cluster, which checks every connection against it.
type directory struct{ fsm *fsm.FSM }

func (d directory) Member(id string) (cluster.Member, bool) {
	m, ok := d.fsm.View().Member(id)
	if !ok || !m.Removed.IsZero() {
		return cluster.Member{}, false
	}
	return peer(m), true
}

func (d directory) MemberByKey(key []byte) (cluster.Member, bool) {
	m, ok := d.fsm.View().MemberByKey(key)
	if !ok || !m.Removed.IsZero() {
		return cluster.Member{}, false
	}
	return peer(m), true
}

func (d directory) Members() []cluster.Member {
	members := d.fsm.View().Members()
	peers := make([]cluster.Member, len(members))
	for i, m := range members {
		peers[i] = peer(m)
	}
	return peers
}

func peer(m *identity.Member) cluster.Member {
	return cluster.Member{
		ID: m.ID, Key: m.Key, ClusterAddr: m.ClusterAddr, GossipAddr: m.GossipAddr, PublicURL: m.PublicURL,
	}
}
