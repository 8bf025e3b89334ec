package api

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// world is what random requests are made in: agents of each type, users, and policies that come, go and change.
type world struct {
	g       *group
	n       *node
	secrets map[string]string
	parents []string // tokens of sessions that hops start from
	minted  int
	refused map[string]int
	decided map[bool]int // on tool calls
}

var (
	worldAgents     = []string{"autonomous", "delegated", "scheduled", "helper"}
	worldPrincipals = []string{"", "ann@example.com", "bob@example.com", "new@example.com"}
	worldScopes     = []string{"crm.read", "crm.write", "ledger.post", "notes.read"}
	worldAudiences  = []string{"crm", "ledger", "https://notes.example.com", "nowhere"}
	worldPolicies   = []string{
		`forbid (principal is Agent, action == Action::"CreateSession", resource) unless { context.default_scopes.containsAll(context.requested_scopes) };`,
		`forbid (principal is Agent, action == Action::"CreateSession", resource) when { context.chain_depth > 1 && context.autonomous };`,
		`@approval("required") forbid (principal is Agent, action == Action::"CreateSession", resource) when { principal.agent_type == "autonomous" && resource.tags.contains("production-write") } unless { context.approval };`,
		`forbid (principal is Agent, action == Action::"CreateSession", resource == Application::"crm") when { context.requested_scopes.contains("crm.write") };`,
		`forbid (principal is Agent, action == Action::"CreateSession", resource) when { context.max_seconds > 1800 };`,
		`forbid (principal is Agent, action == Action::"CreateSession", resource) when { context.trigger_reason like "*night*" };`,
		`forbid (principal is Agent, action == Action::"CreateSession", resource) when { context has user && context.user in Group::"contractors" };`,
		`forbid (principal is User, action == Action::"Delegate", resource) when { context.requested_scopes.contains("ledger.post") };`,
		`forbid (principal == Agent::"helper", action == Action::"CreateSession", resource) when { context has parent_agent && context.parent_agent == "delegated" };`,
		`forbid (principal is Agent, action, resource) when { context.max_seconds * 9223372036854775807 > 1 && context.hour > 12 };`,
		`forbid (principal is Agent, action == Action::"CallTool", resource) when { resource.name == "post" || resource.tags.contains("production-write") };`,
		`@approval("required") forbid (principal is Agent, action == Action::"CallTool", resource == Tool::"read") when { context.hour < 10 } unless { context.approval };`,
	}
)

func newWorld(t *testing.T) *world {
	t.Helper()
	g := newGroup(t, 1)
	w := &world{g: g, n: g.nodes[0], secrets: map[string]string{}, refused: map[string]int{}, decided: map[bool]int{}}
	for _, body := range []string{
		`{"name":"crm","audience":"https://crm.example.com","scopes":["crm.read","crm.write"]}`,
		`{"name":"ledger","audience":"https://ledger.example.com","scopes":["ledger.post"],"tags":["production-write"]}`,
		`{"name":"notes","audience":"https://notes.example.com","verification":"offline"}`,
	} {
		ok[wire.Application](w.n.send("POST", "/api/v1/applications", body), 201)
	}
	for name, body := range map[string]string{
		"autonomous": `"agent_type":"autonomous"},"default_scopes":["crm.read","ledger.post","notes.read"],"applications":["crm","ledger","notes"],"max_session_duration_seconds":3600`,
		"delegated":  `"agent_type":"user-delegated"},"default_scopes":["crm.read","crm.write","notes.read"],"applications":["crm","notes"],"max_session_duration_seconds":7200`,
		"scheduled":  `"agent_type":"scheduled"},"default_scopes":["ledger.post"],"applications":["crm"],"max_session_duration_seconds":900`,
		"helper":     `"agent_type":"autonomous"},"default_scopes":["crm.read","crm.write","notes.read"],"applications":["crm","notes"],"max_session_duration_seconds":3600`,
	} {
		w.secrets[name] = w.n.agentWithSecret(fmt.Sprintf(`{"profile":{"name":%q,%s}`, name, body))
	}
	ok[wire.Principal](w.n.send("POST", "/api/v1/principals", `{"id":"ann@example.com"}`), 201)
	ok[wire.Principal](w.n.send("POST", "/api/v1/principals", `{"id":"bob@example.com","groups":["contractors"]}`), 201)
	g.addToken(t, runtimeToken, identity.APIToken{Name: "runtime", Roles: []identity.Role{identity.RoleRuntime}, Agents: []string{identity.AnyAgent}})
	return w
}

// change moves the world on a little: another policy or mode, an hour, a delegation or a change of heart.
func (w *world) change(t *rapid.T) {
	switch rapid.IntRange(0, 9).Draw(t, "change") {
	case 0, 1, 2:
		i := rapid.IntRange(0, len(worldPolicies)-1).Draw(t, "policy")
		mode := rapid.SampledFrom(identity.PolicyModes()).Draw(t, "mode")
		w.g.setUp(w.n.t, fsm.PutPolicy{Policy: identity.Policy{ID: fmt.Sprintf("p-%d", i), Text: worldPolicies[i], Mode: mode}})
	case 3:
		w.g.advance(time.Duration(rapid.IntRange(1, 90).Draw(t, "minutes")) * time.Minute)
	case 4:
		agent := rapid.SampledFrom(worldAgents).Draw(t, "suspended")
		status := rapid.SampledFrom([]identity.Status{identity.StatusActive, identity.StatusActive, identity.StatusSuspended}).Draw(t, "status")
		w.g.setUp(w.n.t, fsm.SetAgentStatus{Name: agent, Status: status})
	case 5:
		for _, d := range w.n.fsm.View().Delegations(fsm.DelegationFilter{ActiveAt: identity.InstantOf(w.g.time())}, "", 1) {
			w.g.setUp(w.n.t, fsm.WithdrawDelegation{ID: d.ID})
		}
	}
}

func (w *world) request(t *rapid.T) wire.SimulateRequest {
	scopes, err := identity.NewScopes(rapid.SliceOfNDistinct(rapid.SampledFrom(worldScopes), 0, 2, rapid.ID).Draw(t, "scopes"))
	require.NoError(w.n.t, err)
	return wire.SimulateRequest{
		AgentID:         rapid.SampledFrom(worldAgents).Draw(t, "agent"),
		PrincipalUserID: rapid.SampledFrom(worldPrincipals).Draw(t, "principal"),
		RequestedScopes: scopes,
		Audience:        rapid.SliceOfNDistinct(rapid.SampledFrom(worldAudiences), 0, 2, rapid.ID).Draw(t, "audience"),
		TriggerReason:   rapid.SampledFrom([]string{"", "a job at night", "a click"}).Draw(t, "reason"),
		MaxDuration:     rapid.SampledFrom([]int64{0, 60, 1800, 1801, 100_000}).Draw(t, "seconds"),
	}
}

// simulated is what the simulation says, whether it is an answer or the refusal of a request that makes no sense.
func (w *world) simulated(s wire.SimulateRequest) wire.Simulation {
	w.n.t.Helper()
	a := w.n.send("POST", "/api/v1/policies/simulate", s)
	if a.Status == 200 {
		return ok[wire.Simulation](a, 200)
	}
	p := a.problem()
	return wire.Simulation{Refusal: &wire.Refusal{Code: p.Code(), Detail: p.Detail, Hint: p.Hint, PolicyID: p.PolicyID}}
}

// session compares the simulation with POST /api/v1/sessions, by a runtime or by the agent itself.
func (w *world) session(t require.TestingT, s wire.SimulateRequest, runtime bool) {
	s.Lends = runtime
	said := w.simulated(s)
	as := basic(s.AgentID, w.secrets[s.AgentID])
	if runtime {
		as = token(runtimeToken)
	}
	real := wire.SessionRequest{
		AgentID: s.AgentID, RequestedScopes: s.RequestedScopes.List(), Audience: s.Audience, TriggerReason: s.TriggerReason, MaxDuration: s.MaxDuration,
	}
	if s.PrincipalUserID != "" {
		real.PrincipalUserID = &s.PrincipalUserID
	}
	a := w.n.send("POST", "/api/v1/sessions", real, as)
	if a.Status != 201 {
		p := a.problem()
		w.disagree(t, said, fmt.Sprint(p.Code(), p.PolicyID, p.Detail), func(r *wire.Refusal) string { return fmt.Sprint(r.Code, r.PolicyID, r.Detail) })
		w.refused[string(p.Code())]++
		return
	}
	made := ok[wire.Session](a, 201)
	require.True(t, said.Allowed, "minted, and simulated as refused: %+v", said.Refusal)
	require.Equal(t, made.Scope, string(said.Session.Scopes))
	require.Equal(t, made.ExpiresIn, said.Session.ExpiresIn)
	if said.Session.DelegationID != "" {
		require.Equal(t, made.DelegationID, said.Session.DelegationID)
	}
	w.minted++
	if w.parents = append(w.parents, made.AccessToken); len(w.parents) > 8 {
		w.parents = w.parents[1:]
	}
}

// hop compares it with a token exchange for one more hop.
func (w *world) hop(t *rapid.T, s wire.SimulateRequest) {
	s.ParentToken, s.PrincipalUserID = rapid.SampledFrom(w.parents).Draw(t, "parent"), ""
	said := w.simulated(s)
	form := url.Values{
		"grant_type": {grantExchange}, "subject_token": {s.ParentToken}, "subject_token_type": {typeAccessToken}, "audience": s.Audience,
		"scope": {string(s.RequestedScopes)}, "trigger_reason": {s.TriggerReason},
	}
	if s.MaxDuration > 0 {
		form.Set("max_duration_seconds", fmt.Sprint(s.MaxDuration))
	}
	a := w.n.send("POST", "/oauth2/token", form, basic(s.AgentID, w.secrets[s.AgentID]))
	if a.Status != 200 {
		var e wire.OAuthError
		require.NoError(t, json.Unmarshal(a.Body, &e), "%s", a.Body)
		if strings.Contains(e.Description, "is no token of this server") { // the parent has ended
			require.False(t, said.Allowed)
			w.parents = slices.DeleteFunc(w.parents, func(p string) bool { return p == s.ParentToken })
			return
		}
		w.disagree(t, said, e.Description, func(r *wire.Refusal) string { return oauthText(r.Detail + "; " + r.Hint) })
		w.refused["hop"]++
		return
	}
	made := ok[wire.Token](a, 200)
	require.True(t, said.Allowed, "minted, and simulated as refused: %+v", said.Refusal)
	require.Equal(t, made.Scope, string(said.Session.Scopes))
	require.Equal(t, made.ExpiresIn, said.Session.ExpiresIn)
	w.minted++
}

// tool compares what an auditor hears of a token with what a service is answered about the same call.
func (w *world) tool(t *rapid.T) {
	parent := rapid.SampledFrom(w.parents).Draw(t, "token")
	name := rapid.SampledFrom([]string{"post", "read", "list"}).Draw(t, "tool")
	application := rapid.SampledFrom([]string{"crm", "ledger", "notes"}).Draw(t, "application")
	scope := rapid.SampledFrom(append(worldScopes, "")).Draw(t, "needs")
	said := ok[wire.Explanation](w.n.send("POST", "/api/v1/tokens/explain", wire.ExplainRequest{Token: parent, Audience: application, Scope: scope, Tool: name}), 200)
	made := w.n.decides(fmt.Sprintf(`{"type":"session","id":%q}`, parent), "CallTool",
		fmt.Sprintf(`"resource":{"type":"tool","id":%q,"properties":{"application":%q,"required_scope":%q}}`, name, application, scope))
	require.Equal(t, made.Decision, said.Allowed, "%+v", said)
	if !made.Decision && said.PolicyID != "" {
		require.Equal(t, made.Context.PolicyID, said.PolicyID)
	}
	w.decided[made.Decision]++
}

func (w *world) disagree(t require.TestingT, said wire.Simulation, real string, word func(*wire.Refusal) string) {
	require.False(t, said.Allowed, "refused, and simulated as allowed: %s", real)
	require.Equal(t, real, word(said.Refusal))
}

// What explain and simulate say is what is enforced: random requests at random moments, of which each is simulated and
// then made. For more of them: go test ./api -run Agree -rapid.checks=100000
func TestSimulationsAgreeWithWhatIsEnforced(t *testing.T) {
	w := newWorld(t)
	w.session(t, wire.SimulateRequest{AgentID: "autonomous", RequestedScopes: "crm.read", Audience: []string{"crm"}}, false) // while nothing forbids it
	require.Equal(t, 1, w.minted)
	agree := func(t *rapid.T) {
		w.change(t)
		if len(w.parents) > 0 && rapid.IntRange(0, 4).Draw(t, "call") == 0 {
			w.tool(t)
			return
		}
		s := w.request(t)
		if len(w.parents) > 0 && rapid.IntRange(0, 2).Draw(t, "hop") == 0 {
			w.hop(t, s)
			return
		}
		w.session(t, s, rapid.Bool().Draw(t, "runtime"))
	}
	// The world goes on: now and then it is one for long in which hardly anything is granted.
	for round := 0; round < 10 && (round == 0 || w.minted < 2); round++ {
		rapid.Check(t, agree)
	}
	t.Logf("%d minted; refused: %v; tool calls allowed: %d, denied: %d", w.minted, w.refused, w.decided[true], w.decided[false])
	require.GreaterOrEqual(t, w.minted, 2, "of the random ones, too")
	require.NotEmpty(t, w.refused)
}
