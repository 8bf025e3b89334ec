package api

import (
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

func (a *API) listMembers(c *call) error {
	servers := map[string]Server{}
	for _, s := range a.Cluster.Servers() {
		servers[s.ID] = s
	}
	members := []wire.Member{}
	for _, m := range c.view.Members() {
		s, configured := servers[m.ID]
		member := showMember(m)
		if configured {
			member.Suffrage, member.Leader, member.AppliedIndex = s.Suffrage, s.Leader, s.Applied
		}
		if s.Alive {
			member.State = wire.MemberAlive
		}
		members = append(members, member)
	}
	return c.answer(fasthttp.StatusOK, members)
}

func showMember(m *identity.Member) wire.Member {
	fingerprint := sha256.Sum256(m.Key)
	return wire.Member{
		ID: m.ID, State: wire.MemberUnreachable, Suffrage: "none", ClusterAddress: m.ClusterAddr, GossipAddress: m.GossipAddr,
		PublicURL: m.PublicURL, KeyFingerprint: base64.RawURLEncoding.EncodeToString(fingerprint[:]),
		JoinedAt: m.Joined, JoinTokenID: m.JoinToken, JoinedFrom: m.JoinedFrom,
	}
}

// Lifetimes of a join token, in seconds.
const (
	minJoinToken     = 60
	defaultJoinToken = 15 * 60
	maxJoinToken     = 24 * 3600
)

func (a *API) createJoinToken(c *call) error {
	var request wire.JoinTokenRequest
	if err := c.optionalBody(&request); err != nil {
		return err
	}
	seconds := request.Duration
	if seconds == 0 {
		seconds = defaultJoinToken
	}
	if seconds < minJoinToken || seconds > maxJoinToken {
		return invalidField("/duration_seconds", "is %d; it must be between %d and %d", seconds, minJoinToken, maxJoinToken)
	}
	secret := c.secret("")
	hash := identity.HashSecret(secret)
	// Spelled first: a secret that can't be told must not be stored.
	text, err := a.Cluster.JoinToken(secret)
	if err != nil {
		return err
	}
	token, _, err := proposed[*identity.JoinToken](a, c, fsm.CreateJoinToken{JoinToken: identity.JoinToken{
		ID: c.newID(identity.PrefixJoinToken), Hash: hash[:], By: c.caller.id(), Created: c.now, Expires: c.now + identity.Instant(seconds*1000),
	}})
	if err != nil {
		return err
	}
	if shown(secret, token.Hash) == "" {
		text = ""
	}
	return c.created("/api/v1/cluster/join-tokens", token.ID, wire.JoinToken{ID: token.ID, Token: text, ExpiresAt: token.Expires})
}

// membershipDeadline bounds a change of members: several log entries, the wait for the node's own, and that for the
// end of a removed node's lease. It is less than a call between nodes may take.
const membershipDeadline = 50 * time.Second

func (a *API) removeMember(c *call) error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	if _, ok := c.view.Member(id); !ok {
		return notFound("member", id)
	}
	options := RemoveOptions{}
	if options.Reason, err = c.reason(); err != nil {
		return err
	}
	if options.Force, err = c.flag("force"); err != nil {
		return err
	}
	if options.Compromised, err = c.flag("compromised"); err != nil {
		return err
	}
	ctx, cancel := c.operation()
	defer cancel()
	member, index, err := a.Cluster.RemoveMember(ctx, id, c.caller.id(), options)
	if err != nil {
		return err
	}
	c.changed(index)
	return c.answer(fasthttp.StatusOK, wire.RemovedMember{ID: member.ID, RemovedAt: member.Removed, Index: index})
}

func (a *API) transferLeadership(c *call) error {
	var request wire.TransferRequest
	if err := c.optionalBody(&request); err != nil {
		return err
	}
	if request.To != "" {
		if m, ok := c.view.Member(request.To); !ok || !m.Removed.IsZero() {
			return notFound("member", request.To)
		}
	}
	ctx, cancel := c.operation()
	defer cancel()
	err := a.Cluster.TransferLeadership(ctx, request.To)
	if identity.CodeOf(err) == identity.CodeNoLeader {
		// It may be this very transfer that made this node lose the lead.
		return identity.Errorf(identity.CodeOutcomeUnknown, "leadership was lost while it was being handed over").
			WithHint("GET /api/v1/cluster/members tells who leads").WithCause(err)
	}
	if err != nil {
		return err
	}
	c.changed(a.FSM.Applied())
	return c.answer(fasthttp.StatusOK, wire.Transfer{From: a.NodeID, To: request.To})
}

func showAPIToken(t *identity.APIToken) wire.APIToken {
	return wire.APIToken{ID: t.ID, Name: t.Name, Roles: entries(t.Roles), Agents: t.Agents, CreatedAt: t.Created, ExpiresAt: t.Expires}
}

func (a *API) createAPIToken(c *call) error {
	var request wire.APITokenRequest
	if err := c.body(&request); err != nil {
		return err
	}
	secret := c.secret(prefixAPIToken)
	hash := identity.HashSecret(secret)
	token := identity.APIToken{
		ID: c.newID(identity.PrefixAPIToken), Name: request.Name, Hash: hash[:], Roles: request.Roles,
		Agents: sortedSet(request.Agents), Created: c.now, Expires: request.ExpiresAt,
	}
	if err := token.Validate(); err != nil {
		return err
	}
	created, _, err := proposed[*identity.APIToken](a, c, fsm.CreateAPIToken{APIToken: token})
	if err != nil {
		return err
	}
	answer := showAPIToken(created)
	answer.Token = shown(secret, created.Hash)
	return c.created("/api/v1/api-tokens", created.ID, answer)
}

func (a *API) listAPITokens(c *call) error {
	limit, err := c.limit()
	if err != nil {
		return err
	}
	list := c.view.APITokens(c.query("after"), limit+1)
	return answerList(c, list, limit, showAPIToken, func(t *identity.APIToken) string { return t.ID })
}

func (a *API) deleteAPIToken(c *call) error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	if _, err := identity.ParseID(identity.PrefixAPIToken, id); err != nil {
		return notFound("API token", id)
	}
	// Whether there is one, Apply decides: repeated after an unknown outcome, the token is gone already.
	_, result, err := stopped[*identity.APIToken](a, c, fsm.DeleteAPIToken{ID: id})
	if err != nil {
		return err
	}
	handles := []identity.Handle{identity.CredentialHandle(id)}
	return c.answerStop(&wire.Deleted{ID: id, Handles: handles, Known: true, Index: result.Index}, handles)
}
