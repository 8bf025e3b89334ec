package api

import (
	"encoding/json"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

const (
	productionSession = `{"agent_id":"support-triage-agent","requested_scopes":["zendesk.tickets.assign"],"trigger_reason":"ticket 7","max_duration_seconds":600}`
	approverToken     = "dpt_approver-token-of-the-tests"
	triageRuntime     = "dpt_triage-runtime-of-the-tests"
)

// newProduction has the article's autonomous agent assigned to a system that only a human lets it write to.
func newProduction(t *testing.T, size int) (g *group, agent, application string) {
	t.Helper()
	g = newGroup(t, size)
	for _, p := range policy.Shipped() {
		g.setUp(t, fsm.PutPolicy{Policy: p})
	}
	n := g.nodes[0]
	application = n.applicationWithSecret(`{"name":"zendesk","audience":"https://zendesk.example.com","scopes":["zendesk.tickets.read","zendesk.tickets.assign"],"tags":["production-write"]}`)
	agent = n.agentWithSecret(strings.Replace(articleAgent, `"max_session`, `"applications": ["zendesk"], "max_session`, 1))
	g.addToken(t, approverToken, identity.APIToken{Name: "ann", Roles: []identity.Role{identity.RoleApprover}})
	g.addToken(t, triageRuntime, identity.APIToken{Name: "runtime", Roles: []identity.Role{identity.RoleRuntime}, Agents: []string{"support-triage-agent"}})
	return g, agent, application
}

// approve decides as somebody who did not ask.
func (n *node) approve(id, verb string) wire.Approval {
	n.t.Helper()
	return ok[wire.Approval](n.send("POST", "/api/v1/approvals/"+id+"/"+verb, `{"note":"INC-7"}`, token(approverToken)), 200)
}

// A session that needs a human is refused, approved by another person, and minted once, whichever nodes are asked.
func TestApprovedSessionIsMintedOnce(t *testing.T) {
	g, secret, application := newProduction(t, 3)
	own := basic("support-triage-agent", secret)
	for name, caller := range map[string]option{"runtime": token(triageRuntime), "agent": own} {
		t.Run(name, func(t *testing.T) {
			start := func(n *node, body string) answer { return n.send("POST", "/api/v1/sessions", body, caller) }
			refused := start(g.nodes[2], productionSession).refused(identity.CodeApprovalRequired)
			require.Equal(t, "production-write-needs-approval", refused.PolicyID)
			require.NotEmpty(t, refused.ApprovalID)
			before := g.nodes[0].fsm.Applied()
			require.Equal(t, refused.ApprovalID, start(g.nodes[1], productionSession).refused(identity.CodeApprovalRequired).ApprovalID)
			require.Equal(t, before, g.nodes[0].fsm.Applied(), "to ask again is to read")

			seen := ok[wire.Approval](g.nodes[1].send("GET", "/api/v1/approvals/"+refused.ApprovalID, nil, own), 200)
			require.Equal(t, identity.ApprovalPending, seen.Status)
			require.Equal(t, "ticket 7", seen.TriggerReason)
			require.Equal(t, identity.Scopes("zendesk.tickets.assign"), seen.RequestedScopes)
			require.EqualValues(t, 600, seen.MaxDuration)
			require.Len(t, seen.RequestedBy, 1)

			approved := g.nodes[1].approve(refused.ApprovalID, "approve")
			require.Equal(t, "INC-7", approved.Note)
			for _, altered := range []string{
				strings.Replace(productionSession, "tickets.assign", "tickets.read", 1), strings.Replace(productionSession, "ticket 7", "ticket 8", 1),
				strings.Replace(productionSession, "600", "3600", 1),
				strings.Replace(productionSession, "{", `{"audience":["zendesk"],`, 1),
			} {
				other := start(g.nodes[2], strings.Replace(altered, "{", `{"approval_id":"`+refused.ApprovalID+`",`, 1)).refused(identity.CodeApprovalRequired)
				require.NotEqual(t, refused.ApprovalID, other.ApprovalID)
				require.Contains(t, other.Detail, "is for another request")
			}
			minted := ok[wire.Session](start(g.nodes[2], productionSession), 201)
			require.EqualValues(t, 600, minted.ExpiresIn)
			require.True(t, g.nodes[0].introspect("zendesk", application, minted.AccessToken).Active)
			used := ok[wire.Approval](g.nodes[0].send("GET", "/api/v1/approvals/"+refused.ApprovalID, nil), 200)
			require.Equal(t, identity.ApprovalConsumed, used.Status)
			require.Equal(t, minted.SessionID, used.UsedFor)

			again := start(g.nodes[0], strings.Replace(productionSession, "{", `{"approval_id":"`+refused.ApprovalID+`",`, 1)).refused(identity.CodeApprovalRequired)
			require.NotEqual(t, refused.ApprovalID, again.ApprovalID, "the next one has to be approved anew")
			require.Contains(t, again.Detail, "was used up")
			g.nodes[0].approve(again.ApprovalID, "deny")
			g.advance(2 * time.Hour)
		})
	}
}

func TestWhoAskedCannotApproveAndWhoApprovedCannotUse(t *testing.T) {
	g, _, _ := newProduction(t, 2)
	n := g.nodes[1]
	both := "dpt_both-roles-of-the-tests"
	g.addToken(t, both, identity.APIToken{Name: "both", Roles: []identity.Role{identity.RoleApprover, identity.RoleRuntime}, Agents: []string{"support-triage-agent"}})
	start := func(who string) answer { return n.send("POST", "/api/v1/sessions", productionSession, token(who)) }
	first := start(triageRuntime).refused(identity.CodeApprovalRequired)
	require.Equal(t, first.ApprovalID, start(both).refused(identity.CodeApprovalRequired).ApprovalID)
	approve := "/api/v1/approvals/" + first.ApprovalID + "/approve"
	refused := n.send("POST", approve, nil, token(both)).refused(identity.CodeForbidden)
	require.Contains(t, refused.Detail, "somebody else has to decide")
	require.Contains(t, refused.Hint, "another person")
	require.Contains(t, n.send("POST", approve, nil, token(triageRuntime)).refused(identity.CodeForbidden).Detail, "approver")
	n.approve(first.ApprovalID, "approve")
	ok[wire.Session](start(triageRuntime), 201)

	// Root asks for itself: not even an admin approves that.
	mine := start(n.root).refused(identity.CodeApprovalRequired)
	n.send("POST", "/api/v1/approvals/"+mine.ApprovalID+"/approve", nil).refused(identity.CodeForbidden)
	n.approve(mine.ApprovalID, "approve")
	ok[wire.Session](start(n.root), 201)

	second := start(triageRuntime).refused(identity.CodeApprovalRequired)
	ok[wire.Approval](n.send("POST", "/api/v1/approvals/"+second.ApprovalID+"/approve", nil, token(both)), 200)
	start(both).refused(identity.CodeForbidden)
	ok[wire.Session](start(triageRuntime), 201)
}

func TestDeniedAndExpiredApprovalsAreRefused(t *testing.T) {
	g, secret, _ := newProduction(t, 2)
	n := g.nodes[1]
	own := basic("support-triage-agent", secret)
	start := func() answer { return n.send("POST", "/api/v1/sessions", productionSession, own) }
	first := start().refused(identity.CodeApprovalRequired).ApprovalID
	n.approve(first, "deny")
	refused := start().refused(identity.CodeApprovalDenied)
	require.Equal(t, first, refused.ApprovalID)
	require.Contains(t, refused.Detail, "INC-7")
	require.Equal(t, "production-write-needs-approval", refused.PolicyID)
	n.send("POST", "/api/v1/approvals/"+first+"/approve", nil, token(approverToken)).refused(identity.CodeConflict)

	g.advance(time.Hour)
	second := start().refused(identity.CodeApprovalRequired).ApprovalID
	require.NotEqual(t, first, second, "a denial ends with its time")
	n.approve(second, "approve")
	g.advance(time.Hour)
	require.Equal(t, wire.ApprovalExpired, ok[wire.Approval](n.send("GET", "/api/v1/approvals/"+second, nil, own), 200).Status)
	third := n.send("POST", "/api/v1/sessions", strings.Replace(productionSession, "{", `{"approval_id":"`+second+`",`, 1), own).refused(identity.CodeApprovalRequired)
	require.NotEqual(t, second, third.ApprovalID)
	require.Contains(t, third.Detail, "has expired")
	n.send("POST", "/api/v1/approvals/"+second+"/deny", nil, token(approverToken)).refused(identity.CodeConflict)

	// A yes that was taken back before its use, and one to an agent that was stopped since.
	n.approve(third.ApprovalID, "approve")
	n.approve(third.ApprovalID, "deny")
	start().refused(identity.CodeApprovalDenied)
	g.advance(time.Hour)
	fourth := start().refused(identity.CodeApprovalRequired).ApprovalID
	n.approve(fourth, "approve")
	g.setUp(t, fsm.KillAgent{Name: "support-triage-agent", KeepActive: true})
	require.NotEqual(t, fourth, start().refused(identity.CodeApprovalRequired).ApprovalID)
}

// However many ask at once at however many nodes: one yes is one token.
func TestConcurrentUsesOfOneApprovalMintOneToken(t *testing.T) {
	g, _, _ := newProduction(t, 3)
	for range 10 {
		id := g.nodes[1].send("POST", "/api/v1/sessions", productionSession, token(triageRuntime)).refused(identity.CodeApprovalRequired).ApprovalID
		g.nodes[0].approve(id, "approve")
		var wait sync.WaitGroup
		statuses := make(chan int, 8)
		for i := range 8 {
			wait.Go(func() {
				statuses <- g.nodes[i%3].send("POST", "/api/v1/sessions", productionSession, token(triageRuntime)).Status
			})
		}
		wait.Wait()
		close(statuses)
		minted := 0
		for status := range statuses {
			if status == 201 {
				minted++
			} else {
				require.Equal(t, 403, status, "who comes too late has to have another one approved")
			}
		}
		require.Equal(t, 1, minted)
		g.advance(2 * time.Hour) // what those have asked for that came too late
	}
}

// A leader that is lost after it has committed the use does not cost the approval: the next one knows the command.
func TestUseThatIsRepeatedAtTheNextLeaderIsTheSameUse(t *testing.T) {
	g, secret, _ := newProduction(t, 3)
	n := g.nodes[2]
	own := basic("support-triage-agent", secret)
	id := n.send("POST", "/api/v1/sessions", productionSession, own).refused(identity.CodeApprovalRequired).ApprovalID
	n.approve(id, "approve")
	lost := false
	g.onPropose = func(committed bool) error {
		if committed && !lost {
			lost, g.leader = true, 1
			return identity.Errorf(identity.CodeOutcomeUnknown, "leadership was lost")
		}
		return nil
	}
	ok[wire.Session](n.send("POST", "/api/v1/sessions", productionSession, own), 201)
	require.True(t, lost)
	g.onPropose = nil
	n.send("POST", "/api/v1/sessions", productionSession, own).refused(identity.CodeApprovalRequired)
}

func TestNoLeaderNoApproval(t *testing.T) {
	g, secret, _ := newProduction(t, 2)
	n := g.nodes[1]
	own := basic("support-triage-agent", secret)
	id := n.send("POST", "/api/v1/sessions", productionSession, own).refused(identity.CodeApprovalRequired).ApprovalID
	n.approve(id, "approve")
	g.lead(-1)
	n.send("POST", "/api/v1/sessions", productionSession, own).refused(identity.CodeNoLeader)
	g.lead(0)
	ok[wire.Session](n.send("POST", "/api/v1/sessions", productionSession, own), 201)
}

// failure after the use: the answer says what it has cost.
func TestMintThatFailsAfterTheUseSaysSo(t *testing.T) {
	g, secret, _ := newProduction(t, 1)
	n := g.nodes[0]
	own := basic("support-triage-agent", secret)
	id := n.send("POST", "/api/v1/sessions", productionSession, own).refused(identity.CodeApprovalRequired).ApprovalID
	n.approve(id, "approve")
	g.onPropose = func(committed bool) error {
		if committed {
			n.stale = true
		}
		return nil
	}
	p := n.send("POST", "/api/v1/sessions", productionSession, own).refused(identity.CodeNotFresh)
	require.Equal(t, id, p.ApprovalID)
	require.Contains(t, p.Detail, "was used up by this attempt")
}

// The OAuth endpoint refuses and mints in the same way, whatever the client proves itself with, at a node that does not
// lead.
func TestTokenEndpointAsksForApproval(t *testing.T) {
	g, secret, _ := newProduction(t, 2)
	n := g.nodes[1]
	key := newSigner(t, "a")
	key.register(n, "/api/v1/agents/support-triage-agent")
	basicAuth := func() []any {
		return []any{url.Values{"grant_type": {"client_credentials"}}, basic("support-triage-agent", secret)}
	}
	for name, authenticated := range map[string]func() []any{
		"client_secret_basic": basicAuth,
		"client_secret_post": func() []any {
			return []any{url.Values{"grant_type": {"client_credentials"}, "client_id": {"support-triage-agent"}, "client_secret": {secret}}, option(anonymous)}
		},
		"private_key_jwt": func() []any {
			return []any{asserted(credentialsGrant, key.assertion(g, "support-triage-agent", nil)), option(anonymous)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			mint := func() answer {
				parts := authenticated()
				form := url.Values{}
				for field, values := range parts[0].(url.Values) {
					form[field] = values
				}
				form.Set("trigger_reason", name)
				return n.send("POST", "/oauth2/token", form, parts[1].(option))
			}
			a := mint()
			description := a.refusedOAuth(400, "access_denied")
			var refused wire.OAuthError
			require.NoError(t, json.Unmarshal(a.Body, &refused))
			require.NotEmpty(t, refused.ApprovalID)
			require.Contains(t, description, refused.ApprovalID)
			mint().refusedOAuth(400, "access_denied")
			n.approve(refused.ApprovalID, "approve")
			ok[wire.Token](mint(), 200)
			mint().refusedOAuth(400, "access_denied")
		})
	}
}

func TestApprovalsAreSeenByWhomTheyConcern(t *testing.T) {
	g, secret, _ := newProduction(t, 2)
	n := g.nodes[1]
	id := n.send("POST", "/api/v1/sessions", productionSession, token(triageRuntime)).refused(identity.CodeApprovalRequired).ApprovalID
	path := "/api/v1/approvals/" + id
	g.addToken(t, "dpt_other-runtime", identity.APIToken{Name: "other", Roles: []identity.Role{identity.RoleRuntime}, Agents: []string{"inbox-assistant"}})
	stranger := n.agentWithSecret(`{"profile":{"name":"stranger","owner_group":"x","agent_type":"autonomous"},"default_scopes":["x.y"],"max_session_duration_seconds":600}`)
	ok[wire.Approval](n.send("GET", path, nil, token(triageRuntime)), 200)
	ok[wire.Approval](n.send("GET", path, nil, basic("support-triage-agent", secret)), 200)
	n.send("GET", path, nil, token("dpt_other-runtime")).refused(identity.CodeNotFound)
	n.send("GET", path, nil, basic("stranger", stranger)).refused(identity.CodeNotFound)
	n.send("POST", "/api/v1/approvals", `{"agent_id":"support-triage-agent"}`, basic("stranger", stranger)).refused(identity.CodeForbidden)
	n.send("POST", path+"/consume", `{"binding":"x"}`, basic("stranger", stranger)).refused(identity.CodeForbidden)
	n.send("POST", path+"/consume", `{"binding":"x"}`, token(triageRuntime)).refused(identity.CodeConflict)
	n.send("GET", path+"?wait_seconds=31", nil).refused(identity.CodeInvalid)
	n.send("GET", "/api/v1/approvals?status=open", nil).refused(identity.CodeInvalid)

	list := func(query string) []wire.Approval {
		return ok[[]wire.Approval](n.send("GET", "/api/v1/approvals"+query, nil, token(approverToken)), 200)
	}
	require.Len(t, list("?status=pending"), 1)
	require.Len(t, list("?agent=support-triage-agent&limit=1"), 1)
	require.Empty(t, list("?status=denied"))
	n.approve(id, "deny")
	require.Len(t, list("?status=denied"), 1)
	g.advance(time.Hour)
	require.Empty(t, list("?status=pending"))
}

// Whoever waits hears of the decision as soon as the node does.
func TestWaitingEndsWithTheDecision(t *testing.T) {
	g, secret, _ := newProduction(t, 2)
	n := g.nodes[1]
	own := basic("support-triage-agent", secret)
	id := n.send("POST", "/api/v1/sessions", productionSession, own).refused(identity.CodeApprovalRequired).ApprovalID
	require.Equal(t, identity.ApprovalPending, ok[wire.Approval](n.send("GET", "/api/v1/approvals/"+id+"?wait_seconds=1", nil, own), 200).Status)
	waited := make(chan answer, 1)
	go func() { waited <- n.send("GET", "/api/v1/approvals/"+id+"?wait_seconds=30", nil, own) }()
	require.Eventually(t, func() bool { return n.api.polling.n.Load() == 1 }, 5*time.Second, time.Millisecond)
	g.nodes[0].approve(id, "approve")
	select {
	case a := <-waited:
		require.Equal(t, identity.ApprovalApproved, ok[wire.Approval](a, 200).Status)
	case <-time.After(20 * time.Second):
		t.Fatal("the decision was not heard of")
	}
}

// An approval may be asked for ahead, and is good for just the session that it shows.
func TestApprovalAskedForAhead(t *testing.T) {
	g, _, _ := newProduction(t, 2)
	n := g.nodes[1]
	ask := `{"agent_id":"support-triage-agent","requested_scopes":["zendesk.tickets.assign"],"trigger_reason":"ticket 7","max_duration_seconds":600,"expires_in_seconds":120}`
	asked := ok[wire.Approval](n.send("POST", "/api/v1/approvals", ask, token(triageRuntime)), 201)
	require.Equal(t, g.time().Add(2*time.Minute), asked.ExpiresAt.Time())
	require.Equal(t, asked.ID, ok[wire.Approval](n.send("POST", "/api/v1/approvals", ask, token(triageRuntime)), 201).ID)
	n.approve(asked.ID, "approve")
	ok[wire.Session](n.send("POST", "/api/v1/sessions", productionSession, token(triageRuntime)), 201)
	for _, bad := range []string{
		`{"agent_id":"support-triage-agent","expires_in_seconds":59}`, `{"agent_id":"support-triage-agent","policy_id":"none"}`,
		`{"agent_id":"support-triage-agent","kind":"tool"}`, `{"agent_id":"support-triage-agent","kind":"lunch"}`,
		`{"agent_id":"support-triage-agent","parent_session_id":"ses_1"}`, `{"agent_id":"support-triage-agent","trigger_reason":"` + strings.Repeat("x", 513) + `"}`,
	} {
		require.Equal(t, 400, n.send("POST", "/api/v1/approvals", bad, token(triageRuntime)).Status, bad)
	}
	session := identity.NewID(identity.PrefixSession, 1, [10]byte{})
	tool := ok[wire.Approval](n.send("POST", "/api/v1/approvals",
		`{"kind":"tool","agent_id":"support-triage-agent","session_id":"`+session+`","application":"zendesk","tool":"delete","arguments_hash":"`+argumentsHash("x")+`"}`, token(triageRuntime)), 201)
	require.Equal(t, policy.ToolBinding(&policy.ToolRequest{
		Session: &identity.Session{ID: session}, Tool: policy.Tool{Name: "delete", Application: "zendesk"}, ArgumentsHash: argumentsHash("x"),
	}), tool.Binding)
}
