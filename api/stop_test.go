package api

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

func TestEveryStopIsDeniedWhereItWasAskedFor(t *testing.T) {
	t.Parallel()
	g, _, _ := newInbox(t, 2)
	n := g.nodes[1]
	lent := ok[wire.Delegation](n.send("POST", "/api/v1/delegations?ensure_principal=true", `{"principal_id":"a@x","agent_id":"inbox-assistant","scopes":["gmail.read"],"duration_seconds":3600}`), 201)
	key := ok[wire.APIToken](n.send("POST", "/api/v1/api-tokens", wire.APITokenRequest{Name: "x", Roles: []identity.Role{identity.RoleAuditor}}), 201)
	crd := ok[wire.NewCredential](n.send("POST", "/api/v1/agents/inbox-assistant/credentials", nil), 201)
	session := identity.NewID(identity.PrefixSession, 1, [10]byte{1})
	agent := func() identity.Handle {
		a, _ := g.nodes[0].fsm.View().Agent("inbox-assistant")
		return a.Handle()
	}
	principal := func() identity.Handle {
		p, _ := g.nodes[0].fsm.View().Principal("a@x")
		return p.Handle()
	}
	for _, s := range []struct {
		method, path string
		body         any
		handle       identity.Handle
	}{
		{"POST", "/api/v1/revocations", `{"session_id":"` + session + `"}`, identity.Handle(session)},
		{"DELETE", "/api/v1/sessions/" + session, nil, identity.Handle(session)},
		{"DELETE", "/api/v1/sessions?agent=inbox-assistant", nil, "agent"},
		{"DELETE", "/api/v1/sessions?principal=a@x&reason=r", nil, "principal"},
		{"POST", "/api/v1/revocations", `{"handles":["key_x"]}`, "key_x"},
		{"POST", "/api/v1/revocations", `{"agent_id":"inbox-assistant"}`, "agent"},
		{"POST", "/api/v1/agents/inbox-assistant/lifecycle/activate", nil, "agent"},
		{"POST", "/api/v1/agents/inbox-assistant/revoke", `{"keep_active":true}`, "agent"},
		{"POST", "/api/v1/agents/inbox-assistant/lifecycle/suspend", nil, "agent"},
		{"POST", "/api/v1/agents/inbox-assistant/lifecycle/deactivate", nil, "agent"},
		{"DELETE", "/api/v1/agents/inbox-assistant/credentials/" + crd.ID, nil, identity.CredentialHandle(crd.ID)},
		{"DELETE", "/api/v1/api-tokens/" + key.ID, nil, identity.CredentialHandle(key.ID)},
		{"POST", "/api/v1/revocations", `{"principal_id":"a@x"}`, "principal"},
		{"PATCH", "/api/v1/principals/a@x", `{"status":"deactivated"}`, "principal"},
		{"POST", "/api/v1/principals/a@x/revoke", nil, "principal"},
		{"POST", "/api/v1/revocations", `{"delegation_id":"` + lent.ID + `"}`, identity.Handle(lent.ID)},
		{"DELETE", "/api/v1/delegations/" + lent.ID, nil, identity.Handle(lent.ID)},
		{"DELETE", "/api/v1/principals/a@x", nil, "principal"},
		{"DELETE", "/api/v1/agents/inbox-assistant", nil, "agent"},
	} {
		t.Run(s.method+" "+s.path, func(t *testing.T) {
			n.t = t
			switch s.handle {
			case "agent":
				s.handle = agent()
			case "principal":
				s.handle = principal()
			}
			var atProposal bool
			g.mu.Lock()
			g.onPropose = func(committed bool) error {
				atProposal = atProposal || (!committed && n.revoked.Revoked(s.handle))
				return nil
			}
			g.mu.Unlock()
			before, _ := n.denials.seen()
			options := []option{}
			if s.method == "PATCH" {
				options = append(options, mergePatchBody)
			}
			a := n.send(s.method, s.path, s.body, options...)
			require.Equal(t, 200, a.Status, "%s", a.Body)
			denied, released := n.denials.seen()
			require.Len(t, denied, len(before)+1)
			require.Equal(t, []identity.Handle{s.handle}, denied[len(before)])
			require.Equal(t, len(denied), released, "its outcome is known")
			require.True(t, atProposal, "before anything was proposed")
		})
	}
	denied, _ := g.nodes[0].denials.seen()
	require.Empty(t, denied, "the leader leaves it to the node that was asked")
}

func TestWhatEndsNothingDeniesNothing(t *testing.T) {
	t.Parallel()
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	g.addToken(t, "dpt_auditor", identity.APIToken{Name: "a", Roles: []identity.Role{identity.RoleAuditor}})
	principal := ok[wire.Principal](n.send("POST", "/api/v1/principals", `{"id":"a@x"}`), 201)
	missing := identity.NewID(identity.PrefixCredential, 1, [10]byte{1})
	for _, s := range []struct {
		method, path string
		body         any
		options      []option
	}{
		{"POST", "/api/v1/agents/inbox-assistant/revoke?dry_run=true", nil, nil},
		{"POST", "/api/v1/principals/a@x/revoke?dry_run=true", nil, nil},
		{"POST", "/api/v1/agents/inbox-assistant/lifecycle/activate", nil, nil}, // it is active
		{"PATCH", "/api/v1/agents/inbox-assistant", `{"labels":{"a":"b"}}`, nil},
		// A narrower profile is no emergency, and one that turns out not to be valid must end nothing.
		{"PATCH", "/api/v1/agents/inbox-assistant?revoke=true", `{"labels":{"a":"b"}}`, nil},
		{"PATCH", "/api/v1/principals/a@x", `{"display_name":"A"}`, nil},
		{"PATCH", "/api/v1/principals/a@x", `{"status":"dead"}`, nil},
		{"POST", "/api/v1/agents/inbox-assistant/revoke", nil, []option{token("dpt_auditor")}}, // 403
		{"POST", "/api/v1/agents/inbox-assistant/revoke", nil, []option{token("dpt_nobody")}},  // 401
		{"POST", "/api/v1/agents/inbox-assistant/revoke?dry-run=true", nil, nil},               // mistyped
		{"POST", "/api/v1/agents/inbox-assistant/revoke", `{"wait":"forever"}`, nil},
		{"POST", "/api/v1/revocations", `{"agent_id":"inbox-assistant","principal_id":"a@x"}`, nil},
		{"DELETE", "/api/v1/agents/nobody", nil, nil},
		{"DELETE", "/api/v1/agents/inbox-assistant/credentials/" + missing, nil, nil},
		{"DELETE", "/api/v1/sessions/ses_x", nil, nil},
	} {
		n.send(s.method, s.path, s.body, s.options...)
		denied, _ := n.denials.seen()
		require.Empty(t, denied, "%s %s", s.method, s.path)
	}
	require.False(t, n.revoked.Revoked(principal.Handle))
}

func TestDryRunCountsAndChangesNothing(t *testing.T) {
	t.Parallel()
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	for _, id := range []string{"a@x", "b@x"} {
		ok[wire.Delegation](n.send("POST", "/api/v1/delegations?ensure_principal=true", `{"principal_id":"`+id+`","agent_id":"inbox-assistant","scopes":["gmail.read"],"duration_seconds":3600}`), 201)
	}
	before := n.fsm.Applied()
	k := ok[wire.Kill](n.send("POST", "/api/v1/agents/inbox-assistant/revoke?dry_run=true&wait=fenced", nil), 200)
	require.Equal(t, [3]int{2, 1, 2}, [3]int{k.ActiveDelegations, k.Agents, k.Principals})
	require.True(t, k.DryRun)
	require.False(t, k.Committed || k.Fenced || k.Truncated)
	k = ok[wire.Kill](n.send("POST", "/api/v1/principals/a@x/revoke?dry_run=true", nil), 200)
	require.Equal(t, [3]int{1, 1, 1}, [3]int{k.ActiveDelegations, k.Agents, k.Principals})
	require.Equal(t, before, n.fsm.Applied())
	require.Empty(t, n.cluster.raised())
}

func TestStopWithoutAMajorityIsKept(t *testing.T) {
	t.Parallel() // it waits for an election in vain
	for name, lose := range map[string]func(*group){
		"no leader": func(g *group) { g.lead(-1) },
		"an unknown outcome": func(g *group) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.onPropose = func(bool) error { return identity.Errorf(identity.CodeOutcomeUnknown, "leadership was lost") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, _, _ := newInbox(t, 2)
			n := g.nodes[1]
			lent := ok[wire.Delegation](n.send("POST", "/api/v1/delegations?ensure_principal=true", `{"principal_id":"a@x","agent_id":"inbox-assistant","scopes":["gmail.read"],"duration_seconds":3600}`), 201)
			agent := ok[wire.Agent](n.send("GET", "/api/v1/agents/inbox-assistant", nil), 200).Handle
			principal := ok[wire.Principal](n.send("GET", "/api/v1/principals/a@x", nil), 200).Handle
			session := identity.NewID(identity.PrefixSession, 1, [10]byte{1})
			lose(g)
			n.stale = true // what it knows of the caller may be old: to stop is safe
			type row struct {
				method, path string
				body         any
				handles      []identity.Handle
				known        bool
				command      fsm.Body
			}
			rows := []row{
				{"POST", "/api/v1/agents/inbox-assistant/revoke", `{"reason":"r","keep_active":true}`, []identity.Handle{agent}, true, fsm.KillAgent{Name: "inbox-assistant", KeepActive: true, Reason: "r"}},
				{"DELETE", "/api/v1/delegations/" + lent.ID + "?reason=r", nil, []identity.Handle{identity.Handle(lent.ID)}, true, fsm.WithdrawDelegation{ID: lent.ID, Reason: "r"}},
			}
			if name == "no leader" { // each takes an election's time
				rows = append(rows,
					row{"POST", "/api/v1/principals/a@x/revoke", nil, []identity.Handle{principal}, true, fsm.KillPrincipal{ID: "a@x"}},
					row{"DELETE", "/api/v1/sessions/" + session, nil, []identity.Handle{identity.Handle(session)}, false, fsm.Revoke{Handles: []identity.Handle{identity.Handle(session)}}},
					row{"POST", "/api/v1/revocations", `{"handles":["key_x"]}`, []identity.Handle{"key_x"}, false, fsm.Revoke{Handles: []identity.Handle{"key_x"}}},
					row{"POST", "/api/v1/revocations", `{"agent_id":"unheard-of"}`, []identity.Handle{}, false, fsm.KillAgent{Name: "unheard-of"}},
				)
			}
			for i, s := range rows {
				a := n.send(s.method, s.path, s.body)
				require.Equal(t, 202, a.Status, "%s", a.Body)
				require.Equal(t, "false", a.Header.Get(wire.HeaderFresh))
				require.Empty(t, a.Header.Values(wire.HeaderIndex))
				r := ok[struct {
					wire.Stop
					ID      string            `json:"id"`
					Status  string            `json:"status"`
					Handles []identity.Handle `json:"handles"`
					Known   bool              `json:"known"`
					Counts  int               `json:"active_delegations"`
					Agents  int               `json:"agents"`
					Humans  int               `json:"principals"`
				}](a, 202)
				require.False(t, r.Committed)
				require.False(t, r.Fenced)
				require.Equal(t, s.known, r.Known)
				require.Equal(t, s.handles, r.Handles)
				require.Contains(t, r.Detail, "keeps it")
				require.Len(t, n.denials.kept, i+1)
				require.Equal(t, s.command, n.denials.kept[i].Body)
				require.NotZero(t, n.denials.kept[i].ID)
				require.NotEmpty(t, n.denials.kept[i].By)
				require.False(t, n.denials.kept[i].ClientKey)
			}
			denied, released := n.denials.seen()
			require.Equal(t, len(denied), released, "what is kept is repeated by who keeps it")
		})
	}
}

// The kept command is the very one that was proposed, so that it is made once even if the first attempt was
// committed after all.
func TestKeptStopIsTheOneThatWasProposed(t *testing.T) {
	t.Parallel() // it waits for an election in vain
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	g.mu.Lock()
	g.onPropose = func(committed bool) error {
		if committed {
			return identity.Errorf(identity.CodeOutcomeUnknown, "the answer was lost")
		}
		return nil
	}
	g.mu.Unlock()
	require.Equal(t, 202, n.send("POST", "/api/v1/agents/inbox-assistant/revoke?wait=fenced", nil).Status)
	g.mu.Lock()
	g.onPropose = nil
	g.mu.Unlock()
	before := ok[wire.Agent](n.send("GET", "/api/v1/agents/inbox-assistant", nil), 200).Handle
	result, err := n.Propose(t.Context(), n.denials.kept[0])
	require.NoError(t, err)
	require.Nil(t, result.Err)
	require.Equal(t, before, ok[wire.Agent](n.send("GET", "/api/v1/agents/inbox-assistant", nil), 200).Handle, "killed once")
}

func TestOnlyWhatStopsIsKept(t *testing.T) {
	t.Parallel() // it waits for an election in vain
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	g.lead(-1)
	n.send("DELETE", "/api/v1/agents/inbox-assistant", nil).refused(identity.CodeNoLeader)
	n.send("POST", "/api/v1/agents/inbox-assistant/lifecycle/suspend", nil).refused(identity.CodeNoLeader)
	require.Empty(t, n.denials.kept)
	n.denials.full = identity.Errorf(identity.CodeOverloaded, "10000 wait already")
	n.send("POST", "/api/v1/agents/inbox-assistant/revoke", nil).refused(identity.CodeNoLeader)
	require.Contains(t, n.logs.String(), "10000 wait already")
}

func TestTokenEndpointKeepsARevocation(t *testing.T) {
	t.Parallel() // it waits for an election in vain
	g, application, agent := newInbox(t, 1)
	n := g.nodes[0]
	ok[wire.Delegation](n.send("POST", "/api/v1/delegations?ensure_principal=true", `{"principal_id":"a@x","agent_id":"inbox-assistant","scopes":["gmail.read"],"duration_seconds":3600}`), 201)
	s := ok[wire.Session](n.send("POST", "/api/v1/sessions", `{"agent_id":"inbox-assistant","principal_user_id":"a@x"}`, basic("inbox-assistant", agent)), 201)
	g.lead(-1)
	n.stale = true
	a := n.send("POST", "/oauth2/revoke", url.Values{"token": {s.AccessToken}}, basic("gmail", application))
	require.Equal(t, 200, a.Status)
	require.Empty(t, a.Body)
	require.Equal(t, []identity.Handle{identity.SessionHandle(s.SessionID)}, n.denials.keptFor[0])
	n.send("POST", "/oauth2/revoke", url.Values{"token": {"garbage"}}, basic("gmail", application)).refusedForNow()
	n.denials.full = identity.Errorf(identity.CodeOverloaded, "full")
	n.send("POST", "/oauth2/revoke", url.Values{"token": {s.AccessToken}}, basic("gmail", application)).refusedOAuth(503, "temporarily_unavailable")
}

func TestHandlesAreRevokedByOperators(t *testing.T) {
	t.Parallel()
	g, _, _ := newInbox(t, 1)
	n := g.nodes[0]
	g.addToken(t, "dpt_op", identity.APIToken{Name: "o", Roles: []identity.Role{identity.RoleOperator}})
	g.addToken(t, "dpt_prov", identity.APIToken{Name: "p", Roles: []identity.Role{identity.RoleProvisioner}})
	other := g.addToken(t, "dpt_other", identity.APIToken{Name: "x", Roles: []identity.Role{identity.RoleAuditor}})
	agent := ok[wire.Agent](n.send("GET", "/api/v1/agents/inbox-assistant", nil), 200).Handle
	list := wire.RevocationRequest{Handles: []identity.Handle{agent, "key_x"}, Reason: "replayed"}
	n.send("POST", "/api/v1/revocations", list, token("dpt_prov")).refused(identity.CodeForbidden)
	r := ok[wire.Revocation](n.send("POST", "/api/v1/revocations", list, token("dpt_op")), 200)
	require.Equal(t, list.Handles, r.Handles)
	require.True(t, n.revoked.Revoked(agent))
	require.NotEqual(t, agent, ok[wire.Agent](n.send("GET", "/api/v1/agents/inbox-assistant", nil), 200).Handle, "the generation has ended")

	key := wire.RevocationRequest{Handles: []identity.Handle{identity.CredentialHandle(other.ID)}}
	n.send("POST", "/api/v1/revocations", key, token("dpt_op")).refused(identity.CodeForbidden)
	ok[wire.Revocation](n.send("POST", "/api/v1/revocations", key), 200)
	n.send("GET", "/api/v1/revocations", nil, token("dpt_other")).refused(identity.CodeUnauthenticated)

	for _, handles := range [][]identity.Handle{{"nonsense"}, {"agt_x"}, {"agt_x#07"}, make([]identity.Handle, wire.MaxHandles+1)} {
		n.send("POST", "/api/v1/revocations", wire.RevocationRequest{Handles: handles}).refused(identity.CodeInvalid)
	}
}

func TestForwardedStopIsAskedForInTime(t *testing.T) {
	t.Parallel()
	g, _, _ := newInbox(t, 2)
	n := g.nodes[1]
	g.nodes[0].cluster.onFence = slowFence
	deadline := time.Now().Add(10 * time.Second) // it would take 15 seconds of its own accord
	a := n.send("POST", "/api/v1/revocations?timeout_seconds=1", `{"agent_id":"inbox-assistant","wait":"fenced"}`)
	require.False(t, ok[wire.Revocation](a, 200).Fenced)
	require.True(t, time.Now().Before(deadline), "the leader keeps to what is left of the client's time")
}
