package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// newDocuments is what the specification's examples are about, as far as it is Deputy's: a store of documents that an
// agent may read, but for one of them, and never edit.
func newDocuments(t *testing.T) (g *group, secret, session string) {
	t.Helper()
	g = newGroup(t, 1)
	n := g.nodes[0]
	secret = n.applicationWithSecret(`{"name":"records","audience":"https://records.example.com","scopes":["records.read"]}`)
	ok[wire.Agent](n.send("POST", "/api/v1/agents", `{"profile":{"name":"alice","agent_type":"autonomous"},"default_scopes":["records.read"],"applications":["records"]}`), 201)
	for id, text := range map[string]string{
		"sealed":  `@description("It is sealed") forbid (principal is Agent, action == Action::"CallTool", resource == Tool::"document/2");`,
		"no-edit": `@description("Nobody edits") forbid (principal is Agent, action == Action::"CallTool", resource == Tool::"can_edit");`,
		"inside":  `forbid (principal is Agent, action == Action::"CallTool", resource == Tool::"inside") unless { context has source_ip && context.source_ip.isInRange(ip("10.0.0.0/8")) };`,
		"asked":   `@approval("required") forbid (principal is Agent, action == Action::"CallTool", resource == Tool::"send") unless { context.approval };`,
	} {
		g.setUp(t, fsm.PutPolicy{Policy: identity.Policy{ID: id, Text: text}})
	}
	session = ok[wire.Session](n.send("POST", "/api/v1/sessions", `{"agent_id":"alice"}`), 201).AccessToken
	return g, secret, session
}

func documentResource(id string) string {
	return fmt.Sprintf(`{"resource":{"type":"tool","id":"document/%s"}}`, id)
}

// "Evaluate read action for three documents using all three semantics": what the specification says of 1, 2 and 3.
func TestThreeSemanticsOfTheSpecification(t *testing.T) {
	g, secret, session := newDocuments(t)
	n := g.nodes[0]
	for semantic, want := range map[string][]bool{
		"":                         {true, false, true},
		`"execute_all"`:            {true, false, true},
		`"deny_on_first_deny"`:     {true, false},
		`"permit_on_first_permit"`: {true},
	} {
		options := ""
		if semantic != "" {
			options = `"options":{"evaluations_semantic":` + semantic + `,"another_option":"value"},`
		}
		body := fmt.Sprintf(`{"subject":{"type":"session","id":%q},"action":{"name":"CallTool"},%s"evaluations":[%s,%s,%s]}`,
			session, options, documentResource("1"), documentResource("2"), documentResource("3"))
		answer := ok[wire.AccessDecisions](n.send("POST", "/access/v1/evaluations", body, basic("records", secret)), 200)
		var got []bool
		for _, e := range answer.Evaluations {
			got = append(got, e.Decision)
		}
		require.Equal(t, want, got, semantic)
		require.Nil(t, answer.Decision, "the key is left out where there are evaluations")
	}
	n.send("POST", "/access/v1/evaluations", `{"options":{"evaluations_semantic":"any"}}`, basic("records", secret)).refused(identity.CodeInvalid)
}

// The example of a default that one of three evaluations overrides, and of context that all of them share.
func TestDefaultsAreOverridden(t *testing.T) {
	g, secret, session := newDocuments(t)
	n := g.nodes[0]
	resource := `"resource":{"type":"application","id":"records"}`
	body := fmt.Sprintf(`{"subject":{"type":"token","id":%q},"context":{"time":"2024-05-31T15:22-07:00"},"action":{"name":"can_read"},
		"evaluations":[{%s},{%s},{"action":{"name":"can_edit"},%s}]}`, session, resource, resource, resource)
	answer := ok[wire.AccessDecisions](n.send("POST", "/access/v1/evaluations", body, basic("records", secret)), 200)
	require.Len(t, answer.Evaluations, 3)
	require.True(t, answer.Evaluations[0].Decision)
	require.Nil(t, answer.Evaluations[0].Context)
	require.True(t, answer.Evaluations[1].Decision)
	require.False(t, answer.Evaluations[2].Decision)
	require.Equal(t, "no-edit", answer.Evaluations[2].Context.PolicyID)

	// Without evaluations it is a single one.
	single := n.send("POST", "/access/v1/evaluations", fmt.Sprintf(`{"subject":{"type":"session","id":%q},"action":{"name":"can_edit"},%s,"evaluations":[]}`, session, resource), basic("records", secret))
	one := ok[wire.AccessDecisions](single, 200)
	require.NotNil(t, one.Decision)
	require.False(t, *one.Decision)
	require.Contains(t, string(single.Body), `"decision":false`)
	n.send("POST", "/access/v1/evaluations", `{"evaluations":[{`+resource+`}]}`, basic("records", secret)).refused(identity.CodeInvalid)
}

// The example of the response with errors: one evaluation that makes no sense is denied, and the others are answered.
func TestErrorsOfSingleEvaluationsAreInTheirContext(t *testing.T) {
	g, _, session := newDocuments(t)
	n := g.nodes[0]
	body := fmt.Sprintf(`{"subject":{"type":"session","id":%q},"action":{"name":"can_read"},"evaluations":[
		{"resource":{"type":"application","id":"records"}},
		{"resource":{"type":"application","id":"nowhere"}},
		{"resource":{"type":"document","id":"boxcarring.md"}},
		{"action":{"name":"can_edit"},"resource":{"type":"application","id":"https://records.example.com"}}]}`, session)
	answer := ok[wire.AccessDecisions](n.send("POST", "/access/v1/evaluations", body), 200).Evaluations
	require.Len(t, answer, 4)
	require.True(t, answer[0].Decision)
	require.False(t, answer[1].Decision)
	require.EqualValues(t, 404, answer[1].Context.Error.Status)
	require.False(t, answer[2].Decision)
	require.EqualValues(t, 400, answer[2].Context.Error.Status)
	require.Contains(t, answer[2].Context.Error.Message, "/evaluations/2/resource/type")
	require.False(t, answer[3].Decision)
	require.Contains(t, answer[3].Context.ReasonAdmin["403"], `policy "no-edit" forbids this call: Nobody edits`)
	require.Equal(t, map[string]string{"403": "A policy forbids this"}, answer[3].Context.ReasonUser)
}

// The specification's own single request, an account that a user reads, is well-formed and about no agent. What is not
// known is denied (a decision of false, by status 200); only what is no evaluation at all is a status of 400.
func TestWhatIsNotDeputysToDecideIsDenied(t *testing.T) {
	g, secret, session := newDocuments(t)
	n := g.nodes[0]
	as := basic("records", secret)
	for pointer, body := range map[string]string{
		"/subject/type":  `{"subject":{"type":"user","id":"alice@example.com"},"resource":{"type":"account","id":"123"},"action":{"name":"can_read","properties":{"method":"GET"}},"context":{"time":"1985-10-26T01:22-07:00"}}`,
		"/resource/type": fmt.Sprintf(`{"subject":{"type":"session","id":%q},"resource":{"type":"todo","id":"1"},"action":{"name":"can_read"}}`, session),
		"/action/name":   `{"subject":{"type":"agent","id":"alice"},"action":{"name":"can_read"},"resource":{"type":"tool","id":"x"}}`,
	} {
		decision := ok[wire.AccessDecision](n.send("POST", "/access/v1/evaluation", body, as), 200)
		require.False(t, decision.Decision)
		require.EqualValues(t, 400, decision.Context.Error.Status)
		require.True(t, strings.HasPrefix(decision.Context.Error.Message, pointer+" is "), decision.Context.Error.Message)
		require.Equal(t, string(identity.CodeInvalid), n.records(audit.Query{Kinds: []audit.Kind{audit.KindEvaluate}, Decision: audit.Denied})[0].Reason)
	}
	for name, body := range map[string]string{
		"no action":             `{"subject":{"type":"agent","id":"alice"},"resource":{"type":"application","id":"records"}}`,
		"no subject":            `{"action":{"name":"x"},"resource":{"type":"application","id":"records"}}`,
		"no resource type":      `{"subject":{"type":"user","id":"alice"},"action":{"name":"x"},"resource":{"id":"records"}}`,
		"bad address":           `{"subject":{"type":"agent","id":"alice"},"action":{"name":"x"},"resource":{"type":"application","id":"records"},"context":{"source_ip":"here"}}`,
		"address that is none":  `{"subject":{"type":"agent","id":"alice"},"action":{"name":"x"},"resource":{"type":"application","id":"records"},"context":{"source_ip":7}}`,
		"hash that is none":     `{"subject":{"type":"agent","id":"alice"},"action":{"name":"x"},"resource":{"type":"application","id":"records","properties":{"arguments_hash":"abc"}}}`,
		"session with a user":   `{"subject":{"type":"session","id":"x","properties":{"principal":"u"}},"action":{"name":"x"},"resource":{"type":"application","id":"records"}}`,
		"session for a session": `{"subject":{"type":"session","id":"x"},"action":{"name":"session"},"resource":{"type":"application","id":"records"}}`,
		"approved session":      `{"subject":{"type":"agent","id":"alice"},"action":{"name":"session"},"resource":{"type":"application","id":"records"},"context":{"approval":{"id":"apr_1"}}}`,
		"approved agent":        `{"subject":{"type":"agent","id":"alice"},"action":{"name":"x"},"resource":{"type":"application","id":"records"},"context":{"approval":{"id":"apr_1"}}}`,
	} {
		if n.send("POST", "/access/v1/evaluation", body, as).problem().Status != 400 {
			require.Fail(t, name)
		}
	}
}

// "The PDP MUST include the same identifier in the response", which is an arbitrary string; for others than enforcement
// points an id that is not sane is replaced.
func TestRequestIdentifierComesBackAsItWas(t *testing.T) {
	g, secret, session := newDocuments(t)
	n := g.nodes[0]
	body := fmt.Sprintf(`{"subject":{"type":"session","id":%q},"action":{"name":"list"},"resource":{"type":"application","id":"records"}}`, session)
	for _, id := range []string{"bfe9eb29-ab87-4ca3-be83-a1d5d8305716", "any string: {é} at/all", strings.Repeat("long", 100)} {
		for path, text := range map[string]string{"/access/v1/evaluation": body, "/access/v1/evaluations": body, "/.well-known/authzen-configuration": ""} {
			options := []option{basic("records", secret), with(wire.HeaderRequestID, id)}
			a := n.send("POST", path, text, options...)
			if text == "" {
				a = n.send("GET", path, nil, options[1])
			}
			require.Equal(t, 200, a.Status)
			require.Equal(t, id, a.Header.Get(wire.HeaderRequestID))
		}
		require.Equal(t, id, n.send("POST", "/access/v1/evaluation", `{}`, basic("records", secret), with(wire.HeaderRequestID, id)).Header.Get(wire.HeaderRequestID), "also of an error")
		require.Equal(t, id, n.send("POST", "/access/v1/evaluation", body, basic("records", "wrong"), with(wire.HeaderRequestID, id)).Header.Get(wire.HeaderRequestID))
	}
	require.NotEqual(t, "a b", n.send("GET", "/api/v1/agents", nil, with(wire.HeaderRequestID, "a b")).Header.Get(wire.HeaderRequestID))
}

func (n *node) decides(subject, action, resource string, options ...option) wire.AccessDecision {
	n.t.Helper()
	return ok[wire.AccessDecision](n.send("POST", "/access/v1/evaluation", fmt.Sprintf(`{"subject":%s,"action":{"name":%q},%s}`, subject, action, resource), options...), 200)
}

func TestDecisionsOnSessionsAndTools(t *testing.T) {
	g, secret, session := newDocuments(t)
	n := g.nodes[0]
	as := basic("records", secret)
	alive := fmt.Sprintf(`{"type":"session","id":%q}`, session)
	tool := func(name, more string) string {
		return fmt.Sprintf(`"resource":{"type":"tool","id":%q,"properties":{"required_scope":"records.read","their_own":{"x":1}}}%s`, name, more)
	}
	require.True(t, n.decides(alive, "CallTool", tool("list", ""), as).Decision)
	missing := n.decides(alive, "CallTool", `"resource":{"type":"tool","id":"list","properties":{"required_scope":"records.write"}}`, as)
	require.False(t, missing.Decision)
	require.Equal(t, identity.CodeScopeNotAllowed, missing.Context.Code)

	// The address is what the enforcement point says of the agent, and never its own.
	require.False(t, n.decides(alive, "CallTool", tool("inside", ""), as).Decision)
	require.True(t, n.decides(alive, "CallTool", tool("inside", `,"context":{"source_ip":"10.1.2.3"}`), as).Decision)
	require.False(t, n.decides(alive, "CallTool", tool("inside", `,"context":{"source_ip":"192.0.2.1"}`), as).Decision)

	asked := n.decides(alive, "CallTool", tool("send", ""), as)
	require.True(t, asked.Context.ApprovalRequired)
	require.Equal(t, "asked", asked.Context.PolicyID)

	agent := `{"type":"agent","id":"alice"}`
	require.True(t, n.decides(agent, "session", `"resource":{"type":"application","id":"records"}`, as).Decision)
	require.True(t, n.decides(agent, "CallTool", tool("list", ""), as).Decision)
	require.Equal(t, "sealed", n.decides(agent, "CallTool", tool("document/2", ""), as).Context.PolicyID)
	require.Equal(t, identity.CodeApplicationNotAssigned, n.decides(`{"type":"agent","id":"nobody"}`, "session", `"resource":{"type":"application","id":"records"}`, as).Context.Code)
	require.Equal(t, identity.CodeDelegationMissing, n.decides(`{"type":"agent","id":"alice","properties":{"principal":"u@x.com"}}`, "session", `"resource":{"type":"application","id":"records"}`, as).Context.Code)

	g.setUp(t, fsm.SetPolicyMode{ID: "sealed", Mode: identity.PolicyMonitor})
	monitored := n.decides(alive, "CallTool", tool("document/2", ""), as)
	require.True(t, monitored.Decision)
	require.Equal(t, []string{"sealed"}, monitored.Context.Monitored)
	hits := ok[wire.PolicyHits](n.send("GET", "/api/v1/policies/sealed/hits", nil), 200)
	require.EqualValues(t, 1, hits.Monitored)
	require.EqualValues(t, 1, hits.Denied)
	require.Equal(t, "records.read", hits.Agents[0].Scopes[0].Scope)

	ok[wire.Kill](n.send("POST", "/api/v1/agents/alice/revoke", `{"keep_active":true}`), 200)
	require.False(t, n.decides(alive, "CallTool", tool("list", ""), as).Decision, "the session was revoked")
	n.stale = true
	n.send("POST", "/access/v1/evaluation", fmt.Sprintf(`{"subject":%s,"action":{"name":"CallTool"},%s}`, agent, tool("list", "")), as).refused(identity.CodeNotFresh)
}

func TestWhoMayAskForDecisions(t *testing.T) {
	g, secret, session := newDocuments(t)
	n := g.nodes[0]
	n.applicationWithSecret(`{"name":"elsewhere","audience":"https://elsewhere.example.com"}`)
	body := func(application string) string {
		return fmt.Sprintf(`{"subject":{"type":"session","id":%q},"action":{"name":"list"},"resource":{"type":"application","id":%q}}`, session, application)
	}
	n.send("POST", "/access/v1/evaluation", body("records"), anonymous).refused(identity.CodeUnauthenticated)
	n.send("POST", "/access/v1/evaluation", body("records"), basic("records", "wrong")).refused(identity.CodeUnauthenticated)
	n.send("POST", "/access/v1/evaluation", body("elsewhere"), basic("records", secret)).refused(identity.CodeForbidden)
	n.send("POST", "/access/v1/evaluation", body("nowhere"), basic("records", secret)).refused(identity.CodeForbidden)
	for name, may := range map[string]bool{"auditor": true, "operator": false, "provisioner": false} {
		g.addToken(t, "dpt_"+name, identity.APIToken{Name: name, Roles: []identity.Role{identity.Role(name)}})
		a := n.send("POST", "/access/v1/evaluation", body("records"), token("dpt_"+name), with(wire.HeaderRequestID, "bfe9eb29-ab87-4ca3-be83-a1d5d8305716"))
		require.Equal(t, "bfe9eb29-ab87-4ca3-be83-a1d5d8305716", a.Header.Get(wire.HeaderRequestID))
		if may {
			require.True(t, ok[wire.AccessDecision](a, 200).Decision)
		} else {
			a.refused(identity.CodeForbidden)
		}
	}
	g.addToken(t, "dpt_mine", identity.APIToken{Name: "mine", Roles: []identity.Role{identity.RoleRuntime}, Agents: []string{"alice"}})
	g.addToken(t, "dpt_other", identity.APIToken{Name: "other", Roles: []identity.Role{identity.RoleRuntime}, Agents: []string{"bob"}})
	require.True(t, ok[wire.AccessDecision](n.send("POST", "/access/v1/evaluation", body("records"), token("dpt_mine")), 200).Decision)
	n.send("POST", "/access/v1/evaluation", body("records"), token("dpt_other")).refused(identity.CodeForbidden)

	many := `{"evaluations":[` + strings.Repeat(body("records")+",", wire.MaxEvaluations) + body("records") + `]}`
	n.send("POST", "/access/v1/evaluations", many).refused(identity.CodeInvalid)
}

func TestDecisionPointDescribesItself(t *testing.T) {
	n := newGroup(t, 1).nodes[0]
	require.Equal(t, wire.DecisionPoint{
		PolicyDecisionPoint:      testIssuer,
		AccessEvaluationEndpoint: testIssuer + "/access/v1/evaluation", AccessEvaluationsEndpoint: testIssuer + "/access/v1/evaluations",
	}, ok[wire.DecisionPoint](n.send("GET", "/.well-known/authzen-configuration", nil, anonymous), 200))
}

// What an auditor hears of a token is what its holder would meet.
func TestExplainTellsOfPolicies(t *testing.T) {
	g, _, session := newDocuments(t)
	n := g.nodes[0]
	explain := func(more string) wire.Explanation {
		return ok[wire.Explanation](n.send("POST", "/api/v1/tokens/explain", fmt.Sprintf(`{"token":%q%s}`, session, more)), 200)
	}
	require.Empty(t, explain("").Policies)
	sealed := explain(`,"audience":"records","tool":"document/2"`)
	require.True(t, sealed.Active)
	require.False(t, sealed.Allowed)
	require.Equal(t, string(identity.CodePolicyDenied), sealed.Reason)
	require.Equal(t, "sealed", sealed.PolicyID)
	require.Equal(t, "forbids", outcomeOf(t, sealed.Policies, "sealed"))
	require.True(t, explain(`,"audience":"records","tool":"document/1"`).Allowed)
	require.False(t, explain(`,"audience":"records","tool":"inside"`).Allowed)
	require.True(t, explain(`,"audience":"records","tool":"inside","source_ip":"10.1.1.1"`).Allowed)

	// That no such session would be started any more does not make this one bad.
	g.setUp(t, fsm.PutPolicy{Policy: identity.Policy{ID: "no-more", Text: `forbid (principal is Agent, action == Action::"CreateSession", resource == Application::"records");`}})
	again := explain(`,"audience":"records","scope":"records.read"`)
	require.True(t, again.Allowed)
	require.Equal(t, "forbids", outcomeOf(t, again.Policies, "no-more"))
	n.send("POST", "/api/v1/tokens/explain", fmt.Sprintf(`{"token":%q,"tool":"x"}`, session)).refused(identity.CodeInvalid)

	access := ok[wire.Access](n.send("GET", "/api/v1/agents/alice/access", nil), 200)
	require.Len(t, access.Policies, 5)
	require.Equal(t, "asked", access.Policies[0].PolicyID)
	require.Equal(t, []string{"CallTool"}, access.Policies[0].Actions)
}

// An application can't find out, by asking, which sessions and agents of others there are, nor which policies are about them.
func TestApplicationHearsNothingOfWhatIsNotMeantForIt(t *testing.T) {
	g, secret, session := newDocuments(t)
	n := g.nodes[0]
	stranger := basic("elsewhere", n.applicationWithSecret(`{"name":"elsewhere","audience":"https://elsewhere.example.com"}`))
	hears := func(subject, action, resource string) wire.AccessDecision {
		d := n.decides(subject, action, `"resource":`+resource, stranger)
		require.False(t, d.Decision)
		return d
	}
	token := fmt.Sprintf(`{"type":"session","id":%q}`, session)
	sealed := `{"type":"tool","id":"document/2"}`
	live := hears(token, "CallTool", sealed)
	require.Empty(t, live.Context.PolicyID)
	require.Equal(t, live, hears(`{"type":"session","id":"no token at all"}`, "CallTool", sealed))
	require.Equal(t, "alice audience", func() string {
		for _, r := range n.records(audit.Query{Kinds: []audit.Kind{audit.KindEvaluate}}) {
			if r.Agent != "" {
				return r.Agent + " " + r.Reason
			}
		}
		return ""
	}(), "the record knows")
	require.Equal(t, "sealed", n.decides(token, "CallTool", `"resource":`+sealed, basic("records", secret)).Context.PolicyID)
	ok[wire.Kill](n.send("POST", "/api/v1/agents/alice/revoke", `{"keep_active":true}`), 200)
	require.Equal(t, live, hears(token, "CallTool", sealed))

	for _, properties := range []string{"", `,"properties":{"principal":"u@x.com"}`} {
		for action, resource := range map[string]string{"session": `{"type":"application","id":"elsewhere"}`, "CallTool": sealed} {
			told := func(agent string) string {
				d := hears(fmt.Sprintf(`{"type":"agent","id":%q%s}`, agent, properties), action, resource)
				require.Equal(t, identity.CodeApplicationNotAssigned, d.Context.Code)
				require.Empty(t, d.Context.PolicyID)
				return strings.ReplaceAll(fmt.Sprint(d.Context.ReasonAdmin), agent, "")
			}
			require.Equal(t, told("nobody"), told("alice"))
		}
	}
}
