package api

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

const sessionsPath = "/api/v1/sessions"

// listed reads the whole list that a query is for, page by page.
func (n *node) listed(query string, options ...option) (all []wire.SessionInfo) {
	n.t.Helper()
	next := sessionsPath + "?" + query
	for range 100 {
		a := n.send("GET", next, nil, options...)
		all = append(all, ok[wire.SessionList](a, 200).Sessions...)
		link := a.Header.Get("Link")
		if link == "" {
			return all
		}
		var rel string
		_, err := fmt.Sscanf(link, "<%s rel=%q", &next, &rel)
		require.NoError(n.t, err, link)
		require.Equal(n.t, "next", rel)
		next = next[:len(next)-2]
	}
	require.FailNow(n.t, "a list without end")
	return nil
}

func sessionIDs(list []wire.SessionInfo) []string {
	ids := []string{}
	for i := range list {
		ids = append(ids, list[i].SessionID)
	}
	return ids
}

// started has every node start sessions, some by its own agent and some for a user, a moment after each other.
func (g *group) started(t *testing.T, each int) (ids []string) {
	t.Helper()
	secret := g.nodes[0].agentWithSecret(zendeskAgent)
	for range each {
		for _, n := range g.nodes {
			g.advance(time.Millisecond)
			ids = append(ids, n.mint("support-triage-agent", secret, url.Values{"trigger_reason": {"by the clock"}}).SessionID)
			ids = append(ids, ok[wire.Session](n.send("POST", sessionsPath, articleSession, token(runtimeToken)), 201).SessionID)
		}
	}
	slices.Sort(ids)
	return ids
}

func TestSessionsOfAllNodesAreListedAtAny(t *testing.T) {
	g, _, _ := newInbox(t, 3)
	g.nodes[0].applicationWithSecret(zendesk)
	ids := g.started(t, 2)
	for _, n := range g.nodes {
		for _, limit := range []string{"100", "5", "1"} {
			require.Equal(t, ids, sessionIDs(n.listed("limit="+limit)))
		}
		require.Len(t, n.listed("agent=inbox-assistant&limit=4"), 6)
		require.Len(t, n.listed("principal=user@company.com&limit=4"), 6)
		require.Empty(t, n.listed("agent=support-triage-agent&principal=user@company.com"))
		require.Empty(t, n.listed("agent=nobody"))
		list := ok[wire.SessionList](n.send("GET", sessionsPath+"?after="+ids[9], nil), 200)
		require.Equal(t, ids[10:], sessionIDs(list.Sessions))
		require.True(t, list.Complete)
		require.Len(t, list.Nodes, 3)
	}

	by := map[string]wire.SessionInfo{}
	for _, s := range g.nodes[0].listed("") {
		by[s.Node+" "+s.AgentID] = s
	}
	require.Len(t, by, 6, "each knows where it was started")
	s := by["n2 inbox-assistant"]
	require.Equal(t, "user@company.com", *s.PrincipalUserID)
	require.Equal(t, []string{"inbox-assistant"}, s.Chain)
	require.Equal(t, identity.Scopes("gmail.draft gmail.read"), s.Scopes)
	require.Equal(t, []string{"https://gmail.example.com"}, s.Audience)
	require.NotEmpty(t, s.DelegationID)
	require.Empty(t, s.ParentSessionID)
	require.Equal(t, "user clicked 'summarize inbox'", s.TriggerReason)
	require.Equal(t, s.StartedAt.Unix()+14400, s.ExpiresAt.Unix())
	require.False(t, s.Revoked)
	own := by["n3 support-triage-agent"]
	require.Nil(t, own.PrincipalUserID)
	require.Equal(t, "by the clock", own.TriggerReason)

	g.advance(90 * time.Minute)
	require.Len(t, g.nodes[0].listed(""), 6, "what has ended is not listed")
}

func TestListSaysWhatItDoesNotKnow(t *testing.T) {
	g, _, _ := newInbox(t, 2)
	n := g.nodes[0]
	ok[wire.Session](g.nodes[1].send("POST", sessionsPath, articleSession, token(runtimeToken)), 201)
	g.nodes[1].sessions.silent = "it did not answer"
	list := ok[wire.SessionList](n.send("GET", sessionsPath, nil), 200)
	require.Empty(t, list.Sessions)
	require.False(t, list.Complete)
	require.Equal(t, []wire.SessionNode{
		{ID: "n1", Replied: true, Since: n.sessions.since, Complete: true},
		{ID: "n2", Error: "it did not answer"},
	}, list.Nodes)

	state := ok[wire.SessionState](n.send("GET", sessionsPath+"/"+identity.NewID(identity.PrefixSession, identity.InstantOf(g.time()), [10]byte{}), nil), 200)
	require.False(t, state.Known)
	require.Equal(t, list.Nodes, state.Nodes)

	g.nodes[1].sessions.silent = ""
	require.True(t, ok[wire.SessionList](n.send("GET", sessionsPath, nil), 200).Complete)
	started := ok[wire.Session](n.send("POST", sessionsPath, articleSession, token(runtimeToken)), 201)
	for i := 0; n.sessions.index.Stats(n.sessions.now()).Dropped == 0; i++ {
		s := identity.Session{
			ID: identity.NewID(identity.PrefixSession, 1, [10]byte{9: byte(i), 8: byte(i >> 8)}), Chain: []identity.Actor{{Agent: "a"}}, Issued: n.sessions.now(), Expires: n.sessions.now() + 60_000,
		}
		n.sessions.Started(&s, nil, "")
	}
	list = ok[wire.SessionList](n.send("GET", sessionsPath+"?agent=inbox-assistant", nil), 200)
	require.Contains(t, sessionIDs(list.Sessions), started.SessionID)
	require.False(t, list.Complete, "what had to make room may still run")
	require.EqualValues(t, 1, list.Nodes[0].Dropped)
	require.False(t, list.Nodes[0].DroppedUntil.IsZero())
}

func TestRevokedSessionsAreToldByWhat(t *testing.T) {
	g, _, _ := newInbox(t, 2)
	n := g.nodes[0]
	n.applicationWithSecret(zendesk)
	secret := n.agentWithSecret(zendeskAgent)
	crd := ok[[]wire.Credential](n.send("GET", "/api/v1/agents/support-triage-agent/credentials", nil), 200)[0].ID
	lent := func() wire.Session {
		return ok[wire.Session](g.nodes[1].send("POST", sessionsPath, articleSession, token(runtimeToken)), 201)
	}
	session, delegation := lent(), lent()
	own := n.mint("support-triage-agent", secret, nil)
	requireRevoked := func(id string, by identity.Handle) {
		t.Helper()
		for _, n := range g.nodes {
			list := n.listed("")
			at := slices.IndexFunc(list, func(s wire.SessionInfo) bool { return s.SessionID == id })
			require.GreaterOrEqual(t, at, 0)
			require.Equal(t, by != "", list[at].Revoked)
			require.Equal(t, by, list[at].RevokedBy)
			require.Equal(t, by == "", slices.Contains(sessionIDs(n.listed("active=true")), id))
			state := ok[wire.SessionState](n.send("GET", sessionsPath+"/"+id, nil), 200)
			require.True(t, state.Known)
			require.Equal(t, by != "", state.Revoked)
			require.Equal(t, by, state.RevokedBy)
			if by != "" {
				require.Equal(t, by, state.Revocation.Handle)
			}
		}
	}
	requireRevoked(own.SessionID, "")
	ok[wire.Revocation](n.send("DELETE", sessionsPath+"/"+session.SessionID, nil), 200)
	requireRevoked(session.SessionID, identity.Handle(session.SessionID))
	requireRevoked(delegation.SessionID, "")
	ok[wire.Deleted](n.send("DELETE", "/api/v1/delegations/"+delegation.DelegationID, nil), 200)
	requireRevoked(delegation.SessionID, identity.Handle(delegation.DelegationID))
	requireRevoked(own.SessionID, "")
	ok[wire.Deleted](n.send("DELETE", "/api/v1/agents/support-triage-agent/credentials/"+crd, nil), 200)
	requireRevoked(own.SessionID, identity.CredentialHandle(crd))
}

func TestSessionDiesWithTheKeyThatSignedIt(t *testing.T) {
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	s := ok[wire.Session](n.send("POST", sessionsPath, articleSession, token(runtimeToken)), 201)
	kid := ok[wire.JWKS](n.send("GET", "/.well-known/jwks.json", nil), 200).Keys[0].KeyID
	ok[wire.Revocation](n.send("POST", "/api/v1/revocations", `{"handles":["key_`+kid+`"]}`), 200)
	require.Equal(t, identity.KeyHandle(kid), ok[wire.SessionState](n.send("GET", sessionsPath+"/"+s.SessionID, nil), 200).RevokedBy)
}

func TestHopIsListedUnderEveryAgentOfItsChain(t *testing.T) {
	l := newLent(t)
	parent := l.exchange(l.inbox, l.delegation.ID, typeDelegation, nil)
	hop := l.exchange(l.sub, parent.AccessToken, typeAccessToken, nil)
	n := l.g.nodes[1]
	require.Len(t, n.listed("agent=inbox-assistant"), 2)
	list := n.listed("agent=summary-agent")
	require.Equal(t, []string{hop.SessionID}, sessionIDs(list))
	require.Equal(t, "summary-agent", list[0].AgentID)
	require.Equal(t, []string{"inbox-assistant", "summary-agent"}, list[0].Chain)
	require.Equal(t, parent.SessionID, list[0].ParentSessionID)
	require.Equal(t, "user@company.com", *list[0].PrincipalUserID)
	ok[wire.Revocation](n.send("DELETE", sessionsPath+"/"+parent.SessionID, nil), 200)
	require.Equal(t, identity.SessionHandle(parent.SessionID), n.listed("agent=summary-agent")[0].RevokedBy)
}

// Whatever is stopped, the list says of each session what introspection says of its token.
func TestListAgreesWithIntrospection(t *testing.T) {
	for name, stop := range map[string]func(l *lent, parent, hop wire.Token) answer{
		"nothing":    func(l *lent, _, _ wire.Token) answer { return l.n.send("GET", sessionsPath, nil) },
		"the parent": func(l *lent, p, _ wire.Token) answer { return l.n.send("DELETE", sessionsPath+"/"+p.SessionID, nil) },
		"the hop":    func(l *lent, _, h wire.Token) answer { return l.n.send("DELETE", sessionsPath+"/"+h.SessionID, nil) },
		"the first agent": func(l *lent, _, _ wire.Token) answer {
			return l.n.send("DELETE", sessionsPath+"?agent=inbox-assistant", nil)
		},
		"the sub-agent": func(l *lent, _, _ wire.Token) answer {
			return l.n.send("POST", "/api/v1/agents/summary-agent/revoke", nil)
		},
		"the principal": func(l *lent, _, _ wire.Token) answer {
			return l.n.send("DELETE", sessionsPath+"?principal=user@company.com", nil)
		},
		"the delegation": func(l *lent, _, _ wire.Token) answer {
			return l.n.send("DELETE", "/api/v1/delegations/"+l.delegation.ID, nil)
		},
		"the sub-agent's credential": func(l *lent, _, _ wire.Token) answer {
			list := ok[[]wire.Credential](l.n.send("GET", "/api/v1/agents/summary-agent/credentials", nil), 200)
			return l.n.send("DELETE", "/api/v1/agents/summary-agent/credentials/"+list[0].ID, nil)
		},
		"the key of the other node": func(l *lent, _, _ wire.Token) answer {
			keys := l.g.nodes[1].fsm.View().SigningKeys()
			at := slices.IndexFunc(keys, func(k identity.SigningKey) bool { return k.Node == "n2" })
			return l.n.send("POST", "/api/v1/revocations", wire.RevocationRequest{Handles: []identity.Handle{identity.KeyHandle(keys[at].KID)}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLent(t)
			parent := l.exchange(l.inbox, l.delegation.ID, typeDelegation, nil)
			l.n = l.g.nodes[1]
			hop := l.exchange(l.sub, parent.AccessToken, typeAccessToken, nil)
			other := l.exchange(l.inbox, l.delegation.ID, typeDelegation, nil)
			require.Equal(t, 200, stop(l, parent, hop).Status)
			for _, n := range l.g.nodes {
				list := n.listed("")
				require.Len(t, list, 3)
				for _, token := range []wire.Token{parent, hop, other} {
					at := slices.IndexFunc(list, func(s wire.SessionInfo) bool { return s.SessionID == token.SessionID })
					require.Equal(t, n.introspect("gmail", l.application, token.AccessToken).Active, !list[at].Revoked, token.SessionID)
				}
			}
		})
	}
}

func TestSessionIsToldInFullWhereANodeKnowsIt(t *testing.T) {
	g, _, _ := newInbox(t, 2)
	s := ok[wire.Session](g.nodes[1].send("POST", sessionsPath, articleSession, token(runtimeToken)), 201)
	path := sessionsPath + "/" + s.SessionID
	for _, n := range g.nodes {
		require.Equal(t, wire.SessionState{
			SessionID: s.SessionID, StartedAt: identity.InstantOf(g.time()), EndsBy: identity.InstantOf(g.time()) + 86_400_000, Known: true,
			AgentID: "inbox-assistant", PrincipalUserID: "user@company.com", Chain: []string{"inbox-assistant"}, Scopes: []string{"gmail.draft", "gmail.read"},
			Audience: []string{"https://gmail.example.com"}, DelegationID: s.DelegationID, TriggerReason: "user clicked 'summarize inbox'",
			ExpiresAt: s.ExpiresAt, Node: "n2",
		}, ok[wire.SessionState](n.send("GET", path, nil), 200))
	}
	g.advance(5 * time.Hour)
	require.False(t, ok[wire.SessionState](g.nodes[0].send("GET", path, nil), 200).Known, "when its token has ended it is forgotten")
}

func TestRuntimeKnowsOfTheSessionsOfItsAgentsOnly(t *testing.T) {
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	n.applicationWithSecret(zendesk)
	own := n.mint("support-triage-agent", n.agentWithSecret(zendeskAgent), nil)
	s := ok[wire.Session](n.send("POST", sessionsPath, articleSession, token(runtimeToken)), 201)
	require.Equal(t, []string{s.SessionID}, sessionIDs(n.listed("agent=inbox-assistant", token(runtimeToken))))
	for _, query := range []string{"", "?agent=support-triage-agent", "?principal=user@company.com"} {
		require.Contains(t, n.send("GET", sessionsPath+query, nil, token(runtimeToken)).refused(identity.CodeForbidden).Hint, "?agent=NAME")
	}
	require.True(t, ok[wire.SessionState](n.send("GET", sessionsPath+"/"+s.SessionID, nil, token(runtimeToken)), 200).Known)
	foreign := ok[wire.SessionState](n.send("GET", sessionsPath+"/"+own.SessionID, nil, token(runtimeToken)), 200)
	require.False(t, foreign.Known)
	require.Empty(t, foreign.AgentID)

	g.addToken(t, "dpt_any", identity.APIToken{Name: "any", Roles: []identity.Role{identity.RoleRuntime}, Agents: []string{identity.AnyAgent}})
	g.addToken(t, "dpt_both", identity.APIToken{Name: "both", Roles: []identity.Role{identity.RoleRuntime, identity.RoleAuditor}, Agents: []string{"inbox-assistant"}})
	for _, secret := range []string{"dpt_any", "dpt_both"} {
		require.Len(t, n.listed("", token(secret)), 2)
	}
}

func TestListOfSessionsRefusesWhatItCantRead(t *testing.T) {
	n := newGroup(t, 1).nodes[0]
	for _, query := range []string{"after=nonsense", "limit=0", "limit=1001", "active=maybe", "status=active"} {
		n.send("GET", sessionsPath+"?"+query, nil).refused(identity.CodeInvalid)
	}
}

func TestNodeThatCantVouchSaysNothingOfSessions(t *testing.T) {
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	s := ok[wire.Session](n.send("POST", sessionsPath, articleSession, token(runtimeToken)), 201)
	ended := ok[wire.Session](n.send("POST", sessionsPath, articleSession, token(runtimeToken)), 201)
	ok[wire.Revocation](n.send("DELETE", sessionsPath+"/"+ended.SessionID, nil), 200)
	n.stale = true
	n.send("GET", sessionsPath, nil).refusedForNow()
	n.send("GET", sessionsPath+"/"+s.SessionID, nil).refusedForNow()
	require.True(t, ok[wire.SessionState](n.send("GET", sessionsPath+"/"+ended.SessionID, nil), 200).Revoked, "what is known to be over may be said")
	n.stale = false

	// The lease that counts is the one from after the others have answered: a slow node is no reason to refuse, and one
	// that is renewed later proves nothing of what was read.
	n.hiccup.Store(true)
	require.Equal(t, 200, n.send("GET", sessionsPath, nil).Status)
	n.sessions.onAsk = func() { n.hiccup.Store(true) }
	n.send("GET", sessionsPath, nil).refusedForNow()
	n.send("GET", sessionsPath+"/"+s.SessionID, nil).refusedForNow()
}

func TestWhatEndsWhileItIsAskedForIsNotListed(t *testing.T) {
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	ok[wire.Session](n.send("POST", sessionsPath, articleSession, token(runtimeToken)), 201)
	n.sessions.onAsk = func() { g.advance(5 * time.Hour) }
	require.Empty(t, ok[wire.SessionList](n.send("GET", sessionsPath, nil), 200).Sessions)
}

func TestWhoWasDeletedMeanwhileIsToldNothing(t *testing.T) {
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	made := g.addToken(t, "dpt_auditor", identity.APIToken{Name: "a", Roles: []identity.Role{identity.RoleAuditor}})
	n.sessions.onAsk = func() {
		n.sessions.onAsk = nil
		n.send("DELETE", "/api/v1/api-tokens/"+made.ID, nil)
	}
	n.send("GET", sessionsPath, nil, token("dpt_auditor")).refused(identity.CodeUnauthenticated)
}

func TestQuestionsToOtherNodesAreBounded(t *testing.T) {
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	for range maxAsking {
		require.True(t, n.api.asking.enter(maxAsking))
	}
	n.send("GET", sessionsPath, nil).refused(identity.CodeOverloaded)
	n.send("GET", sessionsPath+"/"+identity.NewID(identity.PrefixSession, 1, [10]byte{}), nil).refused(identity.CodeOverloaded)
	n.send("DELETE", sessionsPath+"?agent=inbox-assistant&dry_run=true", nil).refused(identity.CodeOverloaded)
	ok[wire.SessionsEnded](n.send("DELETE", sessionsPath+"?agent=inbox-assistant", nil), 200)
	n.api.asking.leave()
	ok[wire.SessionList](n.send("GET", sessionsPath, nil), 200)
	require.EqualValues(t, maxAsking-1, n.api.asking.n.Load(), "who has asked leaves")
}
