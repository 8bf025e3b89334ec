package api

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// replays asks what drafts would make of the last day.
func (n *node) replays(r wire.ReplayRequest, drafts ...wire.PolicyRequest) wire.Replay {
	n.t.Helper()
	if r.From.IsZero() && r.SinceSeconds == 0 {
		r.SinceSeconds = 24 * 3600
	}
	answer := ok[wire.Replay](n.send("POST", "/api/v1/policies/simulate", wire.SimulateRequest{Policies: drafts, Replay: &r}), 200)
	require.Equal(n.t, answer.Records, answer.Allowed+answer.Denied+answer.Breaks+answer.Frees+answer.Stale+answer.Skipped)
	return answer
}

func draft(id, condition string) wire.PolicyRequest {
	return newPolicy(id, `forbid (principal is Agent, action, resource) `+condition+`;`, "")
}

// A day of sessions, hops and tool calls at three nodes: a draft is told whom it would break.
func TestDraftIsReplayedOverTheTrail(t *testing.T) {
	l := newLent(t)
	one, other := l.g.nodes[0], l.g.nodes[1]
	gmail := basic("gmail", l.application)
	mint := func(n *node, scope string) wire.Token {
		return ok[wire.Token](n.send("POST", tokenPath, exchangeForm(l.delegation.ID, typeDelegation, url.Values{"scope": {scope}, "trigger_reason": {"asked for " + scope}}), l.inbox), 200)
	}
	var parent wire.Token
	for i := range 6 {
		parent = mint([]*node{one, other}[i%2], "gmail.read")
		l.g.advance(time.Minute)
	}
	drafts := mint(other, "gmail.draft gmail.read")
	hop := l.exchange(l.sub, parent.AccessToken, typeAccessToken, nil)
	ok[wire.Session](one.send("POST", "/api/v1/sessions", `{"agent_id":"summary-agent"}`), 201)
	one.send("POST", "/api/v1/sessions", `{"agent_id":"summary-agent","requested_scopes":["bank.pay"]}`).refused(identity.CodeScopeNotAllowed)
	for _, tool := range []string{"search", "send"} {
		for _, token := range []string{hop.AccessToken, drafts.AccessToken} {
			body := fmt.Sprintf(`{"subject":{"type":"session","id":%q},"action":{"name":"CallTool"},"resource":{"type":"tool","id":%q},"context":{"source_ip":"203.0.113.7"}}`, token, tool)
			require.True(t, ok[wire.AccessDecision](other.send("POST", evaluationPath, body, gmail), 200).Decision)
		}
	}

	nothing := one.replays(wire.ReplayRequest{}, draft("nothing", `when { context.chain_depth > 7 }`))
	require.True(t, nothing.Complete)
	require.Empty(t, nothing.Cursor)
	require.Empty(t, nothing.Reasons)
	require.EqualValues(t, []int64{15, 14, 1, 0}, []int64{nothing.Records, nothing.Allowed, nothing.Denied, nothing.Breaks}, "with the delegation that was made")
	require.Empty(t, nothing.Agents)

	answer := other.replays(wire.ReplayRequest{}, draft("no-drafts", `when { context.requested_scopes.contains("gmail.draft") }`))
	require.EqualValues(t, 3, answer.Breaks, "a session, and two calls under it")
	require.Equal(t, []wire.ReplayAgent{{AgentID: "inbox-assistant", ReplayTally: wire.ReplayTally{Breaks: 3}, LastAt: answer.Agents[0].LastAt}}, answer.Agents)
	require.Equal(t, []wire.ReplayScope{{Scope: "gmail.draft", ReplayTally: wire.ReplayTally{Breaks: 3}}, {Scope: "gmail.read", ReplayTally: wire.ReplayTally{Breaks: 3}}}, answer.Scopes)
	require.Equal(t, []wire.ReplayPolicy{{PolicyID: "no-drafts", Breaks: 3}}, answer.Policies)
	for _, x := range answer.Examples {
		require.Equal(t, wire.ReplayBreaks, x.Outcome)
		require.Equal(t, identity.CodePolicyDenied, x.Refusal.Code)
		require.Equal(t, "no-drafts", x.Refusal.PolicyID)
		require.Equal(t, drafts.SessionID, x.SessionID)
		require.Equal(t, "user@company.com", x.PrincipalUserID)
		node, sequence, _ := strings.Cut(x.Record, ":")
		require.Equal(t, "n2", node)
		require.True(t, slices.ContainsFunc(other.records(audit.Query{Session: drafts.SessionID}), func(e audit.Entry) bool { return fmt.Sprint(e.Sequence) == sequence }))
	}

	// Each fact that a policy may ask about is that of then.
	for condition, want := range map[string]int64{
		`when { context has parent_agent && context.parent_agent == "inbox-assistant" }`:                3, // the hop, and its calls
		`when { context.chain_depth > 1 && context has user && context.user.id == "user@company.com" }`: 3,
		`when { context.autonomous }`:                               1,
		`when { context.trigger_reason == "asked for gmail.read" }`: 6,
		`when { context has source_ip }`:                            4, // the sessions came from nowhere that is known
		`when { context has source_ip && context.source_ip.isInRange(ip("203.0.113.0/24")) && context.applications.contains("gmail") }`: 4,
		`when { resource == Tool::"send" }`:                              2,
		`when { principal.agent_type == "scheduled" }`:                   4,
		`when { context.hour != 8 }`:                                     0,
		`when { context.max_seconds < 3600 && resource is Application }`: 0,
	} {
		require.Equal(t, want, one.replays(wire.ReplayRequest{}, draft("d", condition)).Breaks, condition)
	}
	lends := one.replays(wire.ReplayRequest{}, newPolicy("short", `forbid (principal is User, action == Action::"Delegate", resource) when { context.max_seconds >= 14400 && context.requested_scopes.contains("gmail.draft") };`, ""))
	require.EqualValues(t, 1, lends.Breaks)
	require.Equal(t, "admin", lends.Examples[0].Kind)

	// An approval would lift it; a draft that is only to be watched breaks nothing.
	asks := one.replays(wire.ReplayRequest{}, newPolicy("ask", `@approval("required") forbid (principal is Agent, action == Action::"CallTool", resource) unless { context.approval };`, ""))
	require.EqualValues(t, 4, asks.Breaks)
	require.EqualValues(t, 4, asks.ApprovalRequired)
	require.EqualValues(t, 4, asks.Policies[0].ApprovalRequired)
	watched := draft("watched", `when { context.autonomous }`)
	watched.Mode = identity.PolicyMonitor
	seen := one.replays(wire.ReplayRequest{}, watched)
	require.Zero(t, seen.Breaks)
	require.Equal(t, []wire.ReplayPolicy{{PolicyID: "watched", Monitored: 1}}, seen.Policies)

	require.EqualValues(t, 3, one.replays(wire.ReplayRequest{AgentID: "summary-agent"}, draft("d", `when { context.chain_depth == 2 }`)).Breaks)
	require.Zero(t, one.replays(wire.ReplayRequest{AgentID: "summary-agent", SinceSeconds: 1, To: identity.InstantOf(l.g.time().Add(-time.Hour))}, draft("d", ``)).Records)
	require.Empty(t, one.api.OwnPolicyHits("").Hits, "nothing is counted")

	// Whoever does not answer is named, and the rest is told; when they are back, the cursor goes on with theirs alone.
	other.silent = true
	part := one.replays(wire.ReplayRequest{}, draft("all", ``))
	require.False(t, part.Complete)
	require.Equal(t, wire.AuditNode{ID: "n2", Error: "it did not answer"}, part.Nodes[1])
	other.silent = false
	rest := one.replays(wire.ReplayRequest{After: part.Cursor}, draft("all", ``))
	require.True(t, rest.Complete)
	whole := one.replays(wire.ReplayRequest{}, draft("all", ``))
	require.Equal(t, whole.Records, part.Records+rest.Records)
	require.Equal(t, whole.Breaks, part.Breaks+rest.Breaks)

	// In parts of three records it comes to the same.
	var sum, asked int64
	for after := ""; ; asked++ {
		page := other.replays(wire.ReplayRequest{Records: 3, After: after}, draft("all", ``))
		require.LessOrEqual(t, page.Records, int64(3))
		sum += page.Breaks
		if after = page.Cursor; after == "" {
			break
		}
	}
	require.Equal(t, whole.Breaks, sum)
	require.GreaterOrEqual(t, asked, int64(4))
}

// What policies have denied is decided again, too: with a draft in the place of a policy, and with that policy turned off.
func TestReplayTellsWhatADraftWouldLetThrough(t *testing.T) {
	p := newPayments(t, 1)
	n, as := p.nodes[0], basic("payments", p.application)
	p.setUp(t, fsm.PutPolicy{Policy: identity.Policy{ID: "no-nights", Text: `forbid (principal is Agent, action == Action::"CreateSession", resource) when { context.max_seconds > 3600 };`}})
	body := `{"agent_id":"bookkeeper","max_duration_seconds":%d}`
	n.send("POST", "/api/v1/sessions", fmt.Sprintf(body, 5400)).refused(identity.CodePolicyDenied)
	n.send("POST", "/api/v1/sessions", fmt.Sprintf(body, 7200)).refused(identity.CodePolicyDenied)
	ok[wire.Session](n.send("POST", "/api/v1/sessions", fmt.Sprintf(body, 3600)), 201)
	id := p.denied(n, p.call("send", "x", ""), as).Task.ID
	n.approve(id, "approve")
	require.True(t, p.evaluates(n, p.call("send", "x", id), as).Decision)

	looser := n.replays(wire.ReplayRequest{}, newPolicy("no-nights", `forbid (principal is Agent, action == Action::"CreateSession", resource) when { context.max_seconds > 5400 };`, ""))
	require.EqualValues(t, 1, looser.Frees, "90 minutes, and not two hours")
	require.EqualValues(t, 2, looser.Denied)
	require.EqualValues(t, 2, looser.Allowed, "the hour, and the call that was approved")
	require.EqualValues(t, 1, looser.Stale, "two hours, from before there was the policy")
	require.Equal(t, wire.ReplayFrees, looser.Examples[0].Outcome)
	require.Nil(t, looser.Examples[0].Refusal)
	off := newPolicy("payments-need-a-human", `forbid (principal is Agent, action, resource);`, "off")
	require.EqualValues(t, 1, n.replays(wire.ReplayRequest{}, off).Frees)
	exactly := n.replays(wire.ReplayRequest{}, draft("exactly", `when { context has arguments_hash && context.arguments_hash == "`+argumentsHash("x")+`" }`))
	require.EqualValues(t, 1, exactly.Breaks)
}

func TestReplayGuessesNothing(t *testing.T) {
	l := newLent(t)
	n := l.n
	gone := n.agentWithSecret(`{"profile":{"name":"gone","agent_type":"autonomous"},"default_scopes":["gmail.read"],"applications":["gmail"]}`)
	stopped := n.agentWithSecret(`{"profile":{"name":"stopped","agent_type":"autonomous"},"default_scopes":["gmail.read"],"applications":["gmail"]}`)
	n.mint("gone", gone, nil)
	n.mint("stopped", stopped, nil)
	session := l.exchange(l.inbox, l.delegation.ID, typeDelegation, url.Values{"scope": {"gmail.read"}})
	ok[wire.AuditReceipt](n.send("POST", "/api/v1/audit/events", wire.AuditEvent{Token: session.AccessToken, Tool: "send", Decision: "allowed"}, basic("gmail", l.application)), 201)
	l.exchange(l.inbox, l.delegation.ID, typeDelegation, url.Values{"scope": {"gmail.read"}, "trigger_reason": {"dps_" + strings.Repeat("x", 40)}})
	ok[wire.Deleted](n.send("DELETE", "/api/v1/agents/gone", nil), 200)
	ok[wire.AgentStatus](n.send("POST", "/api/v1/agents/stopped/lifecycle/suspend", nil), 200)
	ok[wire.Deleted](n.send("DELETE", "/api/v1/delegations/"+l.delegation.ID, nil), 200)
	ok[wire.BulkAnswer](n.send("POST", "/api/v1/bulk?ensure_principal=true", `{"delegations":[{"principal_id":"u@company.com","agent_id":"inbox-assistant","scopes":["gmail.read"],"duration_seconds":600}]}`), 200)

	answer := n.replays(wire.ReplayRequest{}, draft("all", ``))
	require.EqualValues(t, 1, answer.Breaks, "that consent was withdrawn since is no matter of policies")
	reasons := map[string]int64{}
	for _, r := range answer.Reasons {
		reasons[r.Reason+": "+r.Detail] = r.Count
		require.Len(t, r.Records, int(r.Count))
		require.True(t, strings.HasPrefix(r.Records[0], "n1:"))
	}
	require.Equal(t, map[string]int64{
		"gone: the agent is not there any more":                                                           1,
		"agent-suspended: a rule of the model refuses today what it did not then: The agent is suspended": 1,
		"decided-elsewhere: an enforcement point has decided by itself, and asked no policy":              1,
		"cut: the record had to leave out a part of what was asked":                                       1,
		"not-recorded: the trail does not tell what was to be lent":                                       1,
	}, reasons)
	for name, body := range map[string]string{
		"no drafts":           `{"replay":{"since_seconds":60}}`,
		"no time":             `{"replay":{},"policies":[{"id":"a","text":"forbid (principal is Agent, action, resource);"}]}`,
		"two times":           `{"replay":{"since_seconds":60,"from":"2026-04-17T07:00:00Z"},"policies":[{"id":"a","text":"forbid (principal is Agent, action, resource);"}]}`,
		"the other way round": `{"replay":{"from":"2026-04-17T07:00:00Z","to":"2026-04-17T06:00:00Z"},"policies":[{"id":"a","text":"forbid (principal is Agent, action, resource);"}]}`,
		"too many":            `{"replay":{"since_seconds":60,"records":100001},"policies":[{"id":"a","text":"forbid (principal is Agent, action, resource);"}]}`,
		"a request beside it": `{"agent_id":"x","replay":{"since_seconds":60},"policies":[{"id":"a","text":"forbid (principal is Agent, action, resource);"}]}`,
		"a bad cursor":        `{"replay":{"since_seconds":60,"after":"x"},"policies":[{"id":"a","text":"forbid (principal is Agent, action, resource);"}]}`,
	} {
		t.Run(name, func(t *testing.T) { n.send("POST", "/api/v1/policies/simulate", body).refused(identity.CodeInvalid) })
	}
	l.g.addToken(t, "dpt_operator", identity.APIToken{Name: "o", Roles: []identity.Role{identity.RoleOperator}})
	n.send("POST", "/api/v1/policies/simulate", `{"replay":{"since_seconds":60},"policies":[{"id":"a","text":"forbid (principal is Agent, action, resource);"}]}`, token("dpt_operator")).
		refused(identity.CodeForbidden)
	require.Equal(t, "/policies/0/text", n.send("POST", "/api/v1/policies/simulate", `{"replay":{"since_seconds":60},"policies":[{"id":"a","text":"forbid"}]}`).refused(identity.CodeValidation).Errors[0].Pointer)
}

// What a replay says of a request is what comes of it once the draft is in force.
func TestReplayAgreesWithEnforcement(t *testing.T) {
	l := newLent(t)
	n := l.n
	requests := []url.Values{}
	for _, scope := range []string{"gmail.read", "gmail.draft", "gmail.draft gmail.read"} {
		for _, reason := range []string{"", "mail", "night"} {
			for _, seconds := range []string{"60", "600", "3600"} {
				requests = append(requests, exchangeForm(l.delegation.ID, typeDelegation, url.Values{"scope": {scope}, "trigger_reason": {reason}, "max_duration_seconds": {seconds}}))
			}
		}
	}
	sessions := map[string]url.Values{}
	for _, form := range requests {
		sessions[ok[wire.Token](n.send("POST", tokenPath, form, l.inbox), 200).SessionID] = form
	}
	conditions := []string{
		`when { context.requested_scopes.contains("gmail.draft") }`, `unless { context.requested_scopes.contains("gmail.read") }`,
		`when { context.trigger_reason == "night" }`, `when { context.trigger_reason == "" && context.max_seconds >= 600 }`, `when { context.max_seconds > 599 && context.max_seconds <= 600 }`,
		`when { context.hour == 8 && context has user && context.user.id like "*@company.com" && context.applications.contains("gmail") }`, `when { context has parent_agent }`,
	}
	end := identity.InstantOf(l.g.time()) + 1
	window := wire.ReplayRequest{From: end - 3_600_000, To: end, Examples: 200}
	for i, condition := range conditions {
		l.g.advance(time.Second)
		d := newPolicy(fmt.Sprint("draft-", i), `forbid (principal is Agent, action == Action::"CreateSession", resource) `+condition+`;`, "")
		foretold := n.replays(window, d)
		l.g.setUp(t, fsm.PutPolicy{Policy: identity.Policy{ID: d.ID, Text: d.Text, Mode: identity.PolicyEnforce}})
		denied := int64(0)
		for _, form := range sessions {
			if n.send("POST", tokenPath, form, l.inbox).Status != 200 {
				denied++
			}
		}
		require.Equal(t, denied, foretold.Breaks, condition)
		require.EqualValues(t, len(sessions)+1, foretold.Records, "and the delegation")
		require.Zero(t, foretold.Skipped, condition)
		// Those that it has denied by now would be allowed again without it.
		off := d
		off.Mode = identity.PolicyOff
		require.Equal(t, denied, n.replays(wire.ReplayRequest{From: identity.InstantOf(l.g.time())}, off).Frees, condition)
		l.g.setUp(t, fsm.DeletePolicy{ID: d.ID})
	}
}

// A node that can't vouch for its state does not tell what policies of now would make of anything.
func TestReplayHoldsToFreshness(t *testing.T) {
	g, _, _ := newDocuments(t)
	n := g.nodes[0]
	body := wire.SimulateRequest{Policies: []wire.PolicyRequest{draft("nothing", `when { context.chain_depth > 7 }`)}, Replay: &wire.ReplayRequest{SinceSeconds: 3600}}
	ok[wire.Replay](n.send("POST", "/api/v1/policies/simulate", body), 200)
	n.stale = true
	n.send("POST", "/api/v1/policies/simulate", body).refused(identity.CodeNotFresh)
}

// While records are decided again the call is of their time and place; afterwards it is of its own, for whatever is still
// to be said of it.
func TestCallIsItsOwnAgainAfterAReplay(t *testing.T) {
	g, secret, session := newDocuments(t)
	n := g.nodes[0]
	require.True(t, n.decides(fmt.Sprintf(`{"type":"session","id":%q}`, session), "CallTool", `"resource":{"type":"tool","id":"list"},"context":{"source_ip":"203.0.113.7"}`, basic("records", secret)).Decision)
	g.advance(time.Minute)
	c := n.api.calls.get()
	defer n.api.calls.put(c)
	c.api, c.ctx, c.route, c.caller = n.api, new(fasthttp.RequestCtx), &Route{Kind: KindRead}, caller{token: &identity.APIToken{Roles: []identity.Role{identity.RoleAuditor}}}
	n.api.look(c)
	now := c.now
	c.source = netip.MustParseAddr("192.0.2.1")
	var s simulation
	s.Policies, s.Replay = []wire.PolicyRequest{draft("nothing", `when { context.chain_depth > 7 }`)}, &wire.ReplayRequest{SinceSeconds: 3600}
	require.NoError(t, n.api.replayTrail(c, &s))
	var answer wire.Replay
	require.NoError(t, json.Unmarshal(c.ctx.Response.Body(), &answer))
	require.EqualValues(t, 2, answer.Allowed)
	require.Equal(t, now, c.now)
	require.Equal(t, "192.0.2.1", c.source.String())
}
