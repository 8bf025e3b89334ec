package fsm

import (
	"bytes"
	"time"

	"github.com/deputy-id/deputy/identity"
)

func (s *state) putSettings(b PutSettings) (*identity.Settings, *identity.Error) {
	next := b.Settings
	switch have := s.settings.ClusterID; {
	case next.ClusterID == "":
		next.ClusterID = have
	case have != "" && next.ClusterID != have:
		return nil, identity.Errorf(identity.CodeConflict, "the cluster's id is %.64q and can't change", have)
	}
	if len(next.GossipKeys) == 0 {
		next.GossipKeys = s.settings.GossipKeys // RotateGossip changes them, in steps
	}
	return s.changeSettings(&next), nil
}

// changeSettings minds what was begun under the settings of before: while the lease changes the longer of old and new
// counts, and a revocation must outlast either.
func (s *state) changeSettings(next *identity.Settings) *identity.Settings {
	s.horizon.raise(0, next.LeaseMillis)
	s.longerLease = s.longerLease.replaced(s.settings.LeaseMillis, next.LeaseMillis, time.Millisecond, s.time)
	s.longerOffline = s.longerOffline.replaced(s.settings.OfflineTTLSeconds, next.OfflineTTLSeconds, time.Second, s.time)
	s.settings = next
	return next
}

func (s *state) createJoinToken(b CreateJoinToken) (*identity.JoinToken, *identity.Error) {
	t := b.JoinToken
	if t.ID == "" || len(t.Hash) == 0 {
		return nil, invalid("the join token lacks its id or hash")
	}
	if _, ok := first[identity.JoinToken](s.rows(), tableJoinTokens, indexID, t.ID); ok {
		return nil, alreadyExists("join token", t.ID)
	}
	if other, ok := first[identity.JoinToken](s.rows(), tableJoinTokens, indexHash, string(t.Hash)); ok {
		return nil, identity.Errorf(identity.CodeAlreadyExists, "join token %.64q has the same secret", other.ID)
	}
	if count(s.rows(), tableJoinTokens, func(*identity.JoinToken) bool { return true }) >= MaxJoinTokens {
		return nil, limitReached("join tokens of the last day", MaxJoinTokens)
	}
	t.Created, t.Used, t.UsedBy = s.stamp(t.Created), 0, ""
	s.put(tableJoinTokens, &t)
	return &t, nil
}

func limitReached(what string, most int) *identity.Error {
	return identity.Errorf(identity.CodeLimitReached, "there are %d %s, which is the most allowed", most, what)
}

func (s *state) admitMember(b AdmitMember) (*identity.Member, *identity.Error) {
	m := b.Member
	if m.ID == "" || len(m.Key) == 0 {
		return nil, invalid("the member lacks its id or key")
	}
	known, err := s.sameNode(&m)
	if err != nil {
		return nil, err
	}
	if known == nil && s.members >= MaxMembers {
		return nil, limitReached("members", MaxMembers)
	}
	if len(b.JoinTokenHash) == 0 {
		switch {
		case known != nil && known.JoinToken == "":
			return known, nil
		case known != nil || s.members > 0:
			return nil, identity.Errorf(identity.CodeJoinTokenInvalid, "a join token is needed: only the first node of a cluster comes without").
				WithHint("on a member: deputy cluster join-token")
		}
	} else {
		token, err := s.openJoinToken(b.JoinTokenHash, known)
		if err != nil {
			return nil, err
		}
		if known != nil && known.JoinToken == token.ID {
			return known, nil
		}
		used := *token
		used.Used, used.UsedBy = s.time, m.ID
		s.put(tableJoinTokens, &used)
		m.JoinToken = token.ID
	}
	if known == nil {
		s.members++
		s.present++
	}
	m.Joined, m.Removed, m.RemovalReason = s.stamp(m.Joined), 0, ""
	s.put(tableMembers, &m)
	return &m, nil
}

// sameNode returns the member that has this id and this key, nil where both are new, and otherwise says what
// is taken.
func (s *state) sameNode(m *identity.Member) (*identity.Member, *identity.Error) {
	byID, idTaken := first[identity.Member](s.rows(), tableMembers, indexID, m.ID)
	byKey, keyTaken := first[identity.Member](s.rows(), tableMembers, indexKey, string(m.Key))
	switch {
	case idTaken && !byID.Removed.IsZero():
		return nil, memberRemoved(byID)
	case keyTaken && !byKey.Removed.IsZero():
		return nil, memberRemoved(byKey)
	case idTaken && !bytes.Equal(byID.Key, m.Key):
		return nil, identity.Errorf(identity.CodeConflict, "node id %.64q belongs to a member with another key", m.ID).
			WithHint("start the node with an id of its own")
	case keyTaken && byKey.ID != m.ID:
		return nil, identity.Errorf(identity.CodeConflict, "this node's key belongs to member %.64q", byKey.ID).
			WithHint("a node is its key: give each its own data folder")
	}
	return byID, nil
}

func memberRemoved(m *identity.Member) *identity.Error {
	return identity.Errorf(identity.CodeMemberRemoved, "member %.64q was removed at %s and can't come back", m.ID, m.Removed).
		WithHint("join with an empty data folder and a new id")
}

// openJoinToken returns the token if the node may use it, be it again.
func (s *state) openJoinToken(hash []byte, known *identity.Member) (*identity.JoinToken, *identity.Error) {
	const hint = "make a new one on a member: deputy cluster join-token"
	token, ok := first[identity.JoinToken](s.rows(), tableJoinTokens, indexHash, string(hash))
	switch {
	case !ok:
		return nil, identity.Errorf(identity.CodeJoinTokenInvalid, "the join token is not one of this cluster's").WithHint(hint)
	case known != nil && known.JoinToken == token.ID:
		return token, nil
	case !token.Used.IsZero():
		return nil, identity.Errorf(identity.CodeJoinTokenUsed, "the join token was used at %s by node %.64q", token.Used, token.UsedBy).WithHint(hint)
	case token.Expires <= s.time:
		return nil, identity.Errorf(identity.CodeJoinTokenExpired, "the join token expired at %s", token.Expires).WithHint(hint)
	}
	return token, nil
}

func (s *state) updateMember(b UpdateMember) (*identity.Member, *identity.Error) {
	old, ok := first[identity.Member](s.rows(), tableMembers, indexID, b.Member.ID)
	if !ok {
		return nil, notFound("member", b.Member.ID)
	}
	if !old.Removed.IsZero() {
		return nil, memberRemoved(old)
	}
	m := *old
	m.ClusterAddr, m.GossipAddr, m.PublicURL = b.Member.ClusterAddr, b.Member.GossipAddr, b.Member.PublicURL
	s.put(tableMembers, &m)
	return &m, nil
}

// removeMember is idempotent: it may be asked for again after a lost leader.
func (s *state) removeMember(b RemoveMember) (*identity.Member, *identity.Error) {
	old, ok := first[identity.Member](s.rows(), tableMembers, indexID, b.ID)
	if !ok {
		return nil, notFound("member", b.ID)
	}
	if !old.Removed.IsZero() {
		return old, nil
	}
	m := *old
	m.Removed, m.RemovalReason = s.time, b.Reason
	s.put(tableMembers, &m)
	s.present--
	for _, k := range list[identity.SigningKey](s.rows(), tableKeys, "", maxRows) {
		if k.Node == m.ID {
			s.retire(k)
		}
	}
	return &m, nil
}

func (s *state) publishKey(b PublishKey) (*identity.SigningKey, *identity.Error) {
	k := b.Key
	if k.KID == "" || len(k.Public) == 0 {
		return nil, invalid("the signing key lacks its id or its public half")
	}
	if s.isRevoked(identity.KeyHandle(k.KID)) {
		return nil, identity.Errorf(identity.CodeRevoked, "signing key %.64q was revoked", k.KID).
			WithHint("the node must make a new one")
	}
	if m, ok := first[identity.Member](s.rows(), tableMembers, indexID, k.Node); ok {
		switch {
		case !m.Removed.IsZero():
			return nil, memberRemoved(m)
		case !m.Barred.IsZero():
			// Its keys are being revoked, perhaps because they are in wrong hands: there must not be another one.
			return nil, identity.Errorf(identity.CodeMemberRemoved, "member %.64q is being removed and signs no more", m.ID)
		}
	}
	if have, ok := first[identity.SigningKey](s.rows(), tableKeys, indexID, k.KID); ok {
		if !bytes.Equal(have.Public, k.Public) || have.Node != k.Node || have.Alg != k.Alg {
			return nil, identity.Errorf(identity.CodeConflict, "signing key %.64q was published before with other contents", k.KID)
		}
		return have, nil
	}
	if s.keys >= MaxSigningKeys {
		return nil, limitReached("signing keys", MaxSigningKeys)
	}
	k.Created, k.Retired = s.stamp(k.Created), 0
	s.put(tableKeys, &k)
	s.keys++
	s.keysRevision++
	return &k, nil
}

func (s *state) retireKey(b RetireKey) (*identity.SigningKey, *identity.Error) {
	k, ok := first[identity.SigningKey](s.rows(), tableKeys, indexID, b.KID)
	if !ok {
		return nil, notFound("signing key", b.KID)
	}
	return s.retire(k), nil
}

func (s *state) retire(k *identity.SigningKey) *identity.SigningKey {
	if !k.Retired.IsZero() {
		return k
	}
	retired := *k
	retired.Retired = max(s.time, 1)
	s.put(tableKeys, &retired)
	s.keysRevision++
	return &retired
}

// dropKey takes a revoked key out of the ring altogether.
func (s *state) dropKey(kid string) (known bool) {
	k, ok := first[identity.SigningKey](s.rows(), tableKeys, indexID, kid)
	if !ok {
		return false
	}
	s.remove(tableKeys, k)
	s.keys--
	s.keysRevision++
	return true
}
