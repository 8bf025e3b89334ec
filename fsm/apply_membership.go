package fsm

import (
	"bytes"

	"github.com/deputy-id/deputy/identity"
)

// changeMember applies a change to a member that was not removed; a removed one is returned as it is, since what
// leads to a removal may be asked for again after a lost leader.
func (s *state) changeMember(id string, change func(*identity.Member)) (*identity.Member, *identity.Error) {
	old, ok := first[identity.Member](s.rows(), tableMembers, indexID, id)
	if !ok {
		return nil, notFound("member", id)
	}
	if !old.Removed.IsZero() {
		return old, nil
	}
	m := *old
	change(&m)
	s.put(tableMembers, &m)
	return &m, nil
}

func (s *state) barMember(b BarMember) (*identity.Member, *identity.Error) {
	return s.changeMember(b.ID, func(m *identity.Member) {
		if m.Barred.IsZero() {
			m.Barred, m.RemovalReason = max(s.time, 1), b.Reason
		}
	})
}

func (s *state) drainMember(b DrainMember) (*identity.Member, *identity.Error) {
	return s.changeMember(b.ID, func(m *identity.Member) {
		switch {
		case !b.Draining:
			m.Draining = 0
		case m.Draining.IsZero():
			m.Draining = max(s.time, 1)
		}
	})
}

func (s *state) rotateKey(b RotateKey) (*identity.Member, *identity.Error) {
	return s.changeMember(b.ID, func(m *identity.Member) { m.RotateKey = s.index })
}

// Bounds of the gossip keys: one, and while they are rotated the next, and the next but one.
const (
	gossipKeyBytes = 32
	maxGossipKeys  = 3
)

func (s *state) rotateGossip(b RotateGossip) (*identity.Settings, *identity.Error) {
	if len(b.Keys) == 0 || len(b.Keys) > maxGossipKeys {
		return nil, invalid("there are %d gossip keys; there must be 1 to %d", len(b.Keys), maxGossipKeys)
	}
	for i, key := range b.Keys {
		if len(key) != gossipKeyBytes {
			return nil, invalid("a gossip key has %d bytes; it must have %d", len(key), gossipKeyBytes)
		}
		for _, other := range b.Keys[:i] {
			if bytes.Equal(key, other) {
				return nil, invalid("two gossip keys are the same")
			}
		}
	}
	next := *s.settings
	next.GossipKeys = b.Keys
	s.settings = &next
	return &next, nil
}

// closedByRecovery is why minting is closed after a recovery.
const closedByRecovery = "the cluster was recovered after it had lost its quorum"

func (s *state) recoverWith(b Recover) (*identity.Member, *identity.Error) {
	survivor, ok := first[identity.Member](s.rows(), tableMembers, indexID, b.Node)
	if !ok {
		return nil, notFound("member", b.Node)
	}
	if !survivor.Removed.IsZero() {
		return nil, memberRemoved(survivor)
	}
	for _, m := range list[identity.Member](s.rows(), tableMembers, "", maxRows) {
		if m.ID == b.Node {
			continue
		}
		if _, err := s.removeMember(RemoveMember{ID: m.ID, Reason: "the cluster was recovered without it"}); err != nil {
			return nil, err
		}
	}
	// What the lost nodes signed, or may still sign, and what this one signed before, is over: revocations that
	// only they knew of can't be told from those that never were.
	for _, k := range list[identity.SigningKey](s.rows(), tableKeys, "", maxRows) {
		s.deny("the cluster was recovered after it had lost its quorum", identity.KeyHandle(k.KID))
		s.dropKey(k.KID)
	}
	for _, t := range list[identity.JoinToken](s.rows(), tableJoinTokens, "", maxRows) {
		s.remove(tableJoinTokens, t)
	}
	s.forgetApprovals() // the majority may have used them up, or taken them back
	s.internal, s.clients = newWindow(internalAge), newWindow(clientKeyAge)
	// The majority may have given generations that this node never heard of.
	s.generation += generationLeap
	s.lineage = s.generation // indexes that the majority had reached come again
	s.forgotten = s.time     // nor of what it deleted
	s.closed = closedByRecovery
	return s.changeMember(b.Node, func(m *identity.Member) {
		m.Barred, m.Draining, m.RemovalReason = 0, 0, "" // it is all that is left
	})
}

func (s *state) openMinting() *identity.Error {
	if s.restoring != nil {
		return restoreUnderWay("not all that was stopped is known yet")
	}
	s.closed = ""
	for _, t := range list[identity.APIToken](s.rows(), tableAPITokens, "", maxRows) {
		if t.Imported {
			known := *t
			known.Imported = false
			s.secrets.delete(t)
			s.put(tableAPITokens, &known)
			s.secrets.set(&known)
		}
	}
	return nil
}
