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

// What is asked from outside shows nothing that the yes is not bound to: a call for somebody else than the session's
// principal is another one, and a reason a call has none.
func TestApproverIsShownOnlyWhatTheYesIsFor(t *testing.T) {
	p := newPayments(t, 1)
	n, as := p.nodes[0], basic("payments", p.application)
	ask := func(more string) answer {
		return n.send("POST", approvalsPath, fmt.Sprintf(`{"kind":"tool","agent_id":"bookkeeper","session_id":%q,"application":"payments","tool":"send","arguments_hash":%q%s}`,
			p.session.SessionID, argumentsHash("x"), more), as)
	}
	ask(`,"trigger_reason":"the CFO wants it"`).refused(identity.CodeValidation)
	ask(`,"principal_user_id":"a\u202eb"`).refused(identity.CodeValidation)
	ask(fmt.Sprintf(`,"principal_user_id":%q`, strings.Repeat("x", identity.MaxPrincipalLength+1))).refused(identity.CodeValidation)

	posed := ok[wire.Approval](ask(`,"principal_user_id":"cfo@example.com"`), 201)
	require.Equal(t, "cfo@example.com", posed.PrincipalUserID)
	n.approve(posed.ID, "approve")
	refused := p.evaluates(n, p.call("send", "x", posed.ID), as)
	require.False(t, refused.Decision)
	require.Contains(t, refused.Context.ReasonAdmin["403"], "is for another request")

	honest := ok[wire.Approval](ask(""), 201)
	require.Equal(t, refused.Context.AccessRequest.Task.ID, honest.ID)
	n.approve(honest.ID, "approve")
	require.True(t, p.evaluates(n, p.call("send", "x", honest.ID), as).Decision)
}

// An application asks about the agents that come to it, and does not learn which others there are.
func TestApplicationAsksAboutAgentsAssignedToItOnly(t *testing.T) {
	p := newPayments(t, 1)
	n, as := p.nodes[0], basic("payments", p.application)
	n.agentWithSecret(`{"profile":{"name":"stranger","agent_type":"autonomous"},"default_scopes":["x.y"],"max_session_duration_seconds":600}`)
	ask := func(agent string) answer {
		return n.send("POST", approvalsPath, fmt.Sprintf(`{"kind":"tool","agent_id":%q,"session_id":%q,"application":"payments","tool":"send","arguments_hash":%q}`,
			agent, p.session.SessionID, argumentsHash("x")), as)
	}
	unassigned, unknown := ask("stranger").refused(identity.CodeForbidden), ask("nobody").refused(identity.CodeForbidden)
	unassigned.Instance, unknown.Instance = "", ""
	require.Equal(t, unassigned, unknown)
	ok[wire.Approval](ask("bookkeeper"), 201)
}

// Who fills its share locks nobody out but itself: neither the agent nor others that ask in its name.
func TestOneAskerCanNotTakeAllThatMayBePending(t *testing.T) {
	p := newPayments(t, 2)
	n, as := p.nodes[1], basic("payments", p.application)
	p.addToken(t, triageRuntime, identity.APIToken{Name: "runtime", Roles: []identity.Role{identity.RoleRuntime}, Agents: []string{"bookkeeper"}})
	ask := func(i int, as option) answer {
		return n.send("POST", approvalsPath, fmt.Sprintf(`{"kind":"tool","agent_id":"bookkeeper","session_id":%q,"application":"payments","tool":"send","arguments_hash":%q}`,
			p.session.SessionID, argumentsHash(fmt.Sprint(i))), as)
	}
	for i := range identity.MaxApprovalShare {
		ok[wire.Approval](ask(i, as), 201)
	}
	require.Contains(t, ask(100, as).refused(identity.CodeLimitReached).Hint, "decided")
	ok[wire.Approval](ask(0, as), 201) // is asked already
	ok[wire.Approval](ask(100, token(triageRuntime)), 201)
	own := ok[wire.Approval](ask(101, basic("bookkeeper", p.agent)), 201)
	ok[wire.Approval](ask(101, as), 201) // asks along
	n.approve(own.ID, "deny")
	n.approve(ok[wire.Approval](ask(0, as), 201).ID, "deny")
	ok[wire.Approval](ask(102, as), 201)
	ask(103, as).refused(identity.CodeLimitReached)
	for i := range identity.MaxApprovalShare + 1 {
		ok[wire.Approval](ask(200+i, basic("bookkeeper", p.agent)), 201)
	}
}

// Whether it is of a session or of a call: where nothing can be recorded, no yes is used up and nobody is asked.
func TestNoYesIsSpentThatCanNotBeRecorded(t *testing.T) {
	log, breaking := newBreakingAudit()
	p := newPayments(t, 1, breaking)
	n, as := p.nodes[0], basic("payments", p.application)
	p.setUp(t, fsm.PutPolicy{Policy: identity.Policy{ID: "sessions-too", Text: `@approval("required") forbid (principal is Agent, action == Action::"CreateSession", resource) unless { context.approval };`}})
	own, start := basic("bookkeeper", p.agent), `{"agent_id":"bookkeeper"}`
	call := p.denied(n, p.call("send", "x", ""), as).Task.ID
	session := n.send("POST", "/api/v1/sessions", start, own).refused(identity.CodeApprovalRequired).ApprovalID
	n.approve(call, "approve")
	n.approve(session, "approve")
	before := n.fsm.Applied()

	log.failing.Store(true)
	n.send("POST", evaluationPath, p.call("send", "x", call), as).refused(identity.CodeAuditUnavailable)
	n.send("POST", evaluationPath, p.call("send", "y", ""), as).refused(identity.CodeAuditUnavailable)
	n.send("POST", "/api/v1/sessions", start, own).refused(identity.CodeAuditUnavailable)
	n.send("POST", "/api/v1/sessions", `{"agent_id":"bookkeeper","trigger_reason":"another"}`, own).refused(identity.CodeAuditUnavailable)
	require.Equal(t, before, n.fsm.Applied(), "nothing was written")

	log.failing.Store(false)
	require.True(t, p.evaluates(n, p.call("send", "x", call), as).Decision)
	ok[wire.Session](n.send("POST", "/api/v1/sessions", start, own), 201)
}

// The record of a call may fail once its approval is used up: the caller hears what that has cost.
func TestCallWhoseRecordFailsAfterTheUseSaysSo(t *testing.T) {
	log, breaking := newBreakingAudit()
	p := newPayments(t, 1, breaking)
	n, as := p.nodes[0], basic("payments", p.application)
	id := p.denied(n, p.call("send", "x", ""), as).Task.ID
	n.approve(id, "approve")
	kind := audit.KindEvaluate
	log.unwanted.Store(&kind)
	refused := n.send("POST", evaluationPath, p.call("send", "x", id), as).refused(identity.CodeAuditUnavailable)
	require.Equal(t, id, refused.ApprovalID)
	require.Contains(t, refused.Detail, "was used up by this attempt")
}

// What makes no sense among several questions is recorded as what it is, and not as about the token of the one before.
func TestMalformedQuestionIsNotRecordedUnderTheOneBefore(t *testing.T) {
	p := newPayments(t, 1)
	n, as := p.nodes[0], basic("payments", p.application)
	ok[wire.Revocation](n.send("DELETE", "/api/v1/sessions/"+p.session.SessionID, nil), 200)
	body := fmt.Sprintf(`{"evaluations":[%s,{"subject":{"type":"session","id":"x"},"action":{"name":"CallTool"},"resource":{"type":"tool","id":""}}]}`, p.call("list", "x", ""))
	ok[wire.AccessDecisions](n.send("POST", evaluationsPath, body, as), 200)
	records := n.records(audit.Query{Kinds: []audit.Kind{audit.KindEvaluate}})
	require.Len(t, records, 2)
	of := func(r string) (found audit.Entry) {
		for _, one := range records {
			if one.Reason == r {
				found = one
			}
		}
		return found
	}
	require.Equal(t, p.session.SessionID, of("revoked").Session)
	malformed := of(string(identity.CodeInvalid))
	require.Equal(t, audit.Denied, malformed.Decision)
	require.Empty(t, malformed.Session)
	require.Empty(t, malformed.Agent)
}

// An approval that no call could ever match is refused where it is asked for, and an application may be named either way.
func TestToolApprovalIsOfAKnownApplicationAndOfArguments(t *testing.T) {
	p := newPayments(t, 1)
	n := p.nodes[0]
	ask := func(application, hash string) answer {
		return n.send("POST", approvalsPath, fmt.Sprintf(`{"kind":"tool","agent_id":"bookkeeper","session_id":%q,"application":%q,"tool":"send","arguments_hash":%q}`,
			p.session.SessionID, application, hash))
	}
	for _, hash := range []string{"", "abc", strings.Repeat("x", 64), argumentsHash("x") + "00"} {
		ask("payments", hash).refused(identity.CodeValidation)
	}
	for _, application := range []string{"", "nowhere"} {
		require.Equal(t, 400, ask(application, argumentsHash("x")).Status, application)
	}
	named := ok[wire.Approval](ask("payments", argumentsHash("x")), 201)
	byAudience := ok[wire.Approval](ask("https://payments.example.com", argumentsHash("x")), 201)
	require.Equal(t, "payments", byAudience.Application)
	require.Equal(t, named.ID, byAudience.ID)
	require.Equal(t, named.ID, p.denied(n, p.call("send", "x", ""), basic("payments", p.application)).Task.ID)
}

// An agent and an application may have the same name; what the one asks for is none of the other's business.
func TestApplicationSeesToolApprovalsOfItsOwnOnly(t *testing.T) {
	p := newPayments(t, 1)
	n := p.nodes[0]
	namesake := basic("bookkeeper", n.applicationWithSecret(`{"name":"bookkeeper","audience":"https://bookkeeper.example.com"}`))
	agent, payments := basic("bookkeeper", p.agent), basic("payments", p.application)
	session := ok[wire.Approval](n.send("POST", approvalsPath, `{"agent_id":"bookkeeper","trigger_reason":"month's end"}`, agent), 201).ID
	tool := ok[wire.Approval](n.send("POST", approvalsPath, fmt.Sprintf(`{"kind":"tool","agent_id":"bookkeeper","session_id":%q,"application":"payments","tool":"send","arguments_hash":%q}`,
		p.session.SessionID, argumentsHash("x")), agent), 201).ID
	for _, id := range []string{session, tool} {
		ok[wire.Approval](n.send("GET", approvalsPath+"/"+id, nil, agent), 200)
		n.send("GET", approvalsPath+"/"+id, nil, namesake).refused(identity.CodeNotFound)
	}
	n.send("GET", approvalsPath+"/"+session, nil, payments).refused(identity.CodeNotFound)
	ok[wire.Approval](n.send("GET", approvalsPath+"/"+tool, nil, payments), 200)
}
