package api

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// payments is an application with a tool that only a human's yes lets an agent call.
type payments struct {
	*group
	application, agent string // secrets
	session            wire.Token
}

func newPayments(t *testing.T, size int, options ...func(*Options)) *payments {
	t.Helper()
	p := &payments{group: newGroup(t, size, options...)}
	n := p.nodes[0]
	p.application = n.applicationWithSecret(`{"name":"payments","audience":"https://payments.example.com","scopes":["payments.send"]}`)
	p.agent = n.agentWithSecret(`{"profile":{"name":"bookkeeper","agent_type":"autonomous"},"default_scopes":["payments.send"],"max_session_duration_seconds":7200,"applications":["payments"]}`)
	p.setUp(t, fsm.PutPolicy{Policy: identity.Policy{ID: "payments-need-a-human", Text: `@approval("required") forbid (principal is Agent, action == Action::"CallTool", resource == Tool::"send") unless { context.approval };`}})
	p.addToken(t, approverToken, identity.APIToken{Name: "ann", Roles: []identity.Role{identity.RoleApprover}})
	p.session = n.mint("bookkeeper", p.agent, nil)
	return p
}

func argumentsHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// call asks about a call of the tool with some arguments.
func (p *payments) call(tool, arguments, approval string) string {
	context := ""
	if approval != "" {
		context = fmt.Sprintf(`,"context":{"approval":{"id":%q}}`, approval)
	}
	return fmt.Sprintf(`{"subject":{"type":"session","id":%q},"action":{"name":"CallTool"},"resource":{"type":"tool","id":%q,
		"properties":{"application":"payments","required_scope":"payments.send","arguments_hash":%q}}%s}`, p.session.AccessToken, tool, argumentsHash(arguments), context)
}

func (p *payments) evaluates(n *node, body string, as option) wire.AccessDecision {
	p.nodes[0].t.Helper()
	return ok[wire.AccessDecision](n.send("POST", evaluationPath, body, as), 200)
}

// denied wants a denial that a human could lift, and returns what was asked of one.
func (p *payments) denied(n *node, body string, as option) *wire.AccessRequest {
	t := p.nodes[0].t
	t.Helper()
	d := p.evaluates(n, body, as)
	require.False(t, d.Decision)
	require.Equal(t, identity.CodeApprovalRequired, d.Context.Code)
	require.True(t, d.Context.ApprovalRequired)
	require.NotNil(t, d.Context.AccessRequest, d.Context.ReasonAdmin)
	require.NotEmpty(t, d.Context.EvaluationID)
	return d.Context.AccessRequest
}

// A call that needs a human is denied, approved by another person, and allowed once, whichever nodes are asked.
func TestApprovedToolCallIsAllowedOnce(t *testing.T) {
	p := newPayments(t, 3)
	p.addToken(t, triageRuntime, identity.APIToken{Name: "runtime", Roles: []identity.Role{identity.RoleRuntime}, Agents: []string{"bookkeeper"}})
	for name, as := range map[string]option{"application": basic("payments", p.application), "runtime": token(triageRuntime)} {
		t.Run(name, func(t *testing.T) {
			to := "pay 100 to " + name
			request := p.denied(p.nodes[2], p.call("send", to, ""), as)
			require.Equal(t, "approval-required", request.Reason)
			require.Equal(t, "payments-need-a-human", request.Template)
			require.Equal(t, identity.ApprovalPending, request.Task.Status)
			require.Equal(t, p.time().Add(time.Hour), request.ExpiresAt.Time())
			id := request.Task.ID
			require.Equal(t, testIssuer+"/api/v1/approvals/"+id, request.Task.StatusEndpoint)
			before := p.nodes[0].fsm.Applied()
			require.Equal(t, id, p.denied(p.nodes[1], p.call("send", to, ""), as).Task.ID)
			require.Equal(t, before, p.nodes[0].fsm.Applied(), "to ask again is to read")

			seen := ok[wire.Approval](p.nodes[1].send("GET", strings.TrimPrefix(request.Task.StatusEndpoint, testIssuer), nil, as), 200)
			require.Equal(t, identity.ApprovalTool, seen.Kind)
			require.Equal(t, "bookkeeper payments send "+argumentsHash(to)+" "+p.session.SessionID,
				strings.Join([]string{seen.AgentID, seen.Application, seen.Tool, seen.ArgumentsHash, seen.SessionID}, " "))
			require.Equal(t, id, p.denied(p.nodes[1], p.call("send", to, id), as).Task.ID, "nobody has said yes yet")

			p.nodes[1].approve(id, "approve")
			unnamed := p.denied(p.nodes[2], p.call("send", to, ""), as)
			require.Equal(t, identity.ApprovalApproved, unnamed.Task.Status, "a question that does not name it does not use it up")
			altered := p.evaluates(p.nodes[2], p.call("send", "pay 100000 to "+name, id), as)
			require.False(t, altered.Decision)
			require.NotEqual(t, id, altered.Context.AccessRequest.Task.ID)
			require.Contains(t, altered.Context.ReasonAdmin["403"], "approval "+id+" is for another request")

			allowed := p.evaluates(p.nodes[2], p.call("send", to, id), as)
			require.True(t, allowed.Decision)
			require.Equal(t, id, allowed.Context.Approval.ID)
			require.Equal(t, identity.ApprovalConsumed, ok[wire.Approval](p.nodes[0].send("GET", "/api/v1/approvals/"+id, nil), 200).Status)

			again := p.evaluates(p.nodes[0], p.call("send", to, id), as)
			require.False(t, again.Decision)
			require.Contains(t, again.Context.ReasonAdmin["403"], "approval "+id+" was used up at")
			require.NotEqual(t, id, again.Context.AccessRequest.Task.ID, "the next one has to be approved anew")
		})
	}
}

func TestUsesOfToolApprovalsThatAreRefused(t *testing.T) {
	p := newPayments(t, 2)
	n, as := p.nodes[1], basic("payments", p.application)
	why := func(arguments, id string) string {
		d := p.evaluates(n, p.call("send", arguments, id), as)
		require.False(t, d.Decision)
		return d.Context.ReasonAdmin["403"]
	}
	// Who asked can't say yes, though they may approve what others ask for.
	both := "dpt_both-roles-of-the-tests"
	p.addToken(t, both, identity.APIToken{Name: "both", Roles: []identity.Role{identity.RoleApprover, identity.RoleRuntime}, Agents: []string{"bookkeeper"}})
	own := p.denied(n, p.call("send", "own", ""), token(both)).Task.ID
	require.Contains(t, n.send("POST", "/api/v1/approvals/"+own+"/approve", nil, token(both)).refused(identity.CodeForbidden).Detail, "somebody else has to decide")
	// Nor use the yes that they have given to somebody else.
	others := p.denied(n, p.call("send", "others", ""), as).Task.ID
	ok[wire.Approval](n.send("POST", "/api/v1/approvals/"+others+"/approve", nil, token(both)), 200)
	d := p.evaluates(n, p.call("send", "others", others), token(both))
	require.False(t, d.Decision)
	require.Contains(t, d.Context.ReasonAdmin["403"], "has given approval "+others+" itself")
	require.True(t, p.evaluates(n, p.call("send", "others", others), as).Decision)

	no := p.denied(n, p.call("send", "no", ""), as).Task.ID
	n.approve(no, "deny")
	refused := p.evaluates(n, p.call("send", "no", no), as)
	require.Equal(t, identity.CodeApprovalDenied, refused.Context.Code)
	require.Nil(t, refused.Context.AccessRequest, "the no stands")
	require.Contains(t, refused.Context.ReasonAdmin["403"], "INC-7")

	late := p.denied(n, p.call("send", "late", ""), as).Task.ID
	n.approve(late, "approve")
	p.advance(time.Hour)
	require.Contains(t, why("late", late), "approval "+late+" has expired at")
	require.Contains(t, why("late", "apr_01ks8n1x5b5e5fh2wwt0rrnq7a"), "there is no approval")

	// Another session of the same agent, and one of before the agent was stopped.
	mine := p.denied(n, p.call("send", "mine", ""), as).Task.ID
	n.approve(mine, "approve")
	first := p.session
	p.session = n.mint("bookkeeper", p.agent, nil)
	require.Contains(t, why("mine", mine), "is for another request")
	ok[wire.Kill](n.send("POST", "/api/v1/agents/bookkeeper/revoke", `{"keep_active":true}`), 200)
	p.session = first
	stopped := p.evaluates(n, p.call("send", "mine", mine), as)
	require.False(t, stopped.Decision)
	require.Equal(t, identity.CodeSubjectInvalid, stopped.Context.Code)
}

// Nobody is asked about what no yes would be for, nor in the name of those who may not ask.
func TestNobodyIsAskedInVainAboutATool(t *testing.T) {
	p := newPayments(t, 1)
	n, as := p.nodes[0], basic("payments", p.application)
	p.addToken(t, "dpt_auditor", identity.APIToken{Name: "auditor", Roles: []identity.Role{identity.RoleAuditor}})
	before := n.fsm.Applied()
	unasked := func(body string, as option, why string) {
		t.Helper()
		d := p.evaluates(n, body, as)
		require.False(t, d.Decision)
		require.True(t, d.Context.ApprovalRequired)
		require.Nil(t, d.Context.AccessRequest)
		require.Contains(t, d.Context.ReasonAdmin["403"], why)
	}
	unasked(p.call("send", "x", ""), token("dpt_auditor"), "nobody was asked: ")
	unasked(strings.Replace(p.call("send", "x", ""), argumentsHash("x"), "", 1), as, "arguments_hash")
	unasked(strings.Replace(p.call("send", "x", ""), `"type":"session","id":"`+p.session.AccessToken, `"type":"agent","id":"bookkeeper`, 1), as, "send its token as the subject")
	many := ok[wire.AccessDecisions](n.send("POST", evaluationsPath, `{"evaluations":[`+p.call("send", "x", "")+`]}`, as), 200).Evaluations
	require.True(t, many[0].Context.ApprovalRequired)
	require.Nil(t, many[0].Context.AccessRequest, "of several questions none costs anybody's time")
	require.Equal(t, before, n.fsm.Applied())

	id := p.denied(n, p.call("send", "x", ""), as).Task.ID
	n.approve(id, "approve")
	many = ok[wire.AccessDecisions](n.send("POST", evaluationsPath, `{"evaluations":[`+p.call("send", "x", id)+`]}`, as), 200).Evaluations
	require.False(t, many[0].Decision, "nor anybody's yes")
	// A request of several that has only one is a single one.
	one := ok[wire.AccessDecisions](n.send("POST", evaluationsPath, p.call("send", "x", id), as), 200)
	require.True(t, *one.Decision)

	p.setUp(t, fsm.PutPolicy{Policy: identity.Policy{ID: "closed", Text: `forbid (principal is Agent, action == Action::"CallTool", resource == Tool::"send");`}})
	shut := p.evaluates(n, p.call("send", "y", ""), as)
	require.Equal(t, identity.CodePolicyDenied, shut.Context.Code, "where another policy forbids as well, an approval helps nobody")
	require.Nil(t, shut.Context.AccessRequest)
}

// However many ask at once at however many nodes: one yes is one call.
func TestConcurrentUsesOfOneToolApprovalAllowOneCall(t *testing.T) {
	p := newPayments(t, 3)
	as := basic("payments", p.application)
	for round := range 5 {
		arguments := fmt.Sprint("round ", round)
		id := p.denied(p.nodes[1], p.call("send", arguments, ""), as).Task.ID
		p.nodes[0].approve(id, "approve")
		var wait sync.WaitGroup
		answers := make(chan bool, 6)
		for i := range cap(answers) {
			wait.Go(func() { answers <- p.evaluates(p.nodes[i%3], p.call("send", arguments, id), as).Decision })
		}
		wait.Wait()
		close(answers)
		allowed := 0
		for yes := range answers {
			if yes {
				allowed++
			}
		}
		require.Equal(t, 1, allowed)
	}
}

// A leader that is lost after it has committed the use does not cost the approval: the next one knows the command. And a
// use whose outcome nobody knows is no decision.
func TestUseOfAToolApprovalAcrossLeaders(t *testing.T) {
	p := newPayments(t, 3)
	n, as := p.nodes[2], basic("payments", p.application)
	id := p.denied(n, p.call("send", "x", ""), as).Task.ID
	n.approve(id, "approve")
	lost := false
	p.onPropose = func(committed bool) error {
		if committed && !lost {
			lost, p.leader = true, 1
			return identity.Errorf(identity.CodeOutcomeUnknown, "leadership was lost")
		}
		return nil
	}
	require.True(t, p.evaluates(n, p.call("send", "x", id), as).Decision)
	require.False(t, p.evaluates(n, p.call("send", "x", id), as).Decision)

	p.onPropose = nil
	second := p.denied(n, p.call("send", "y", ""), as).Task.ID
	n.approve(second, "approve")
	p.onPropose = func(committed bool) error {
		if committed {
			n.stale = true
		}
		return nil
	}
	refused := n.send("POST", evaluationPath, p.call("send", "y", second), as).refused(identity.CodeNotFresh)
	require.Contains(t, refused.Detail, "was used up by this attempt")
}

// What was decided and by which approval stands in the trail, of single questions and of several, with all that the
// article wants of a record.
func TestEvaluationsLeaveARecordEach(t *testing.T) {
	p := newPayments(t, 2)
	n, as := p.nodes[1], basic("payments", p.application)
	p.setUp(t, fsm.PutPolicy{Policy: identity.Policy{ID: "watched", Mode: identity.PolicyMonitor, Text: `forbid (principal is Agent, action == Action::"CallTool", resource);`}})
	body := strings.Replace(p.call("list", "x", ""), `"resource"`, `"context":{"source_ip":"203.0.113.9"},"resource"`, 1)
	require.True(t, p.evaluates(n, body, as).Decision)
	r := n.record(audit.Query{Kinds: []audit.Kind{audit.KindEvaluate}})
	require.Equal(t, audit.Allowed, r.Decision)
	require.Equal(t, wire.ActionCallTool, r.Action)
	require.Equal(t, "bookkeeper", r.Agent)
	require.Equal(t, audit.Autonomous, r.Principal)
	require.Equal(t, p.session.SessionID, r.Session)
	require.Equal(t, []audit.Link{{Agent: "bookkeeper"}}, r.Chain)
	require.Equal(t, "list", r.Tool)
	require.Equal(t, "payments.send", r.Scope)
	require.Equal(t, "payments.send", r.RequiredScope)
	require.Equal(t, argumentsHash("x"), r.ArgumentsHash)
	require.Equal(t, []string{"watched"}, r.Monitored)
	require.Equal(t, "payments", r.Application)
	require.Equal(t, "applications/payments", r.Target)
	require.Equal(t, "203.0.113.9", r.SourceIP.String(), "that of the agent")
	require.NotEmpty(t, r.RequestID)
	require.NotEmpty(t, r.Credential)
	require.NotContains(t, string(r.Line), p.session.AccessToken)

	id := p.denied(n, p.call("send", "y", ""), as).Task.ID
	r = n.record(audit.Query{Kinds: []audit.Kind{audit.KindEvaluate}, Decision: audit.Denied})
	require.Equal(t, string(identity.CodeApprovalRequired), r.Reason)
	require.Equal(t, []string{"payments-need-a-human"}, r.Policies)
	require.Equal(t, id, r.Approval)
	asked := n.record(audit.Query{Kinds: []audit.Kind{audit.KindApproval}})
	require.Equal(t, "requestApproval", asked.Action)
	require.Equal(t, "approvals/"+id, asked.Target)
	require.Equal(t, id, asked.Approval)
	require.Equal(t, "bookkeeper", asked.Agent)
	require.Equal(t, p.session.SessionID, asked.Session)
	require.Equal(t, "send", asked.Tool)
	require.Equal(t, argumentsHash("y"), asked.ArgumentsHash)
	require.Equal(t, "payments", asked.Application)
	require.Equal(t, []string{"payments-need-a-human"}, asked.Policies)
	require.NotZero(t, asked.Index)
	require.Equal(t, r.RequestID, asked.RequestID)

	n.approve(id, "approve")
	require.True(t, p.evaluates(n, p.call("send", "y", id), as).Decision)
	var story []string
	for _, r := range n.records(audit.Query{Approval: id}) {
		story = append(story, string(r.Kind)+" "+r.Action+" "+string(r.Decision))
	}
	require.Equal(t, []string{
		"approval requestApproval allowed", "evaluate CallTool denied", "approval approve allowed", "approval consumeApproval allowed", "evaluate CallTool allowed",
	}, story)

	before := len(n.records(audit.Query{Kinds: []audit.Kind{audit.KindEvaluate}}))
	many := fmt.Sprintf(`{"evaluations":[%s,%s,{"subject":{"type":"user","id":"u"},"action":{"name":"x"},"resource":{"type":"y","id":"z"}},%s]}`,
		p.call("list", "a", ""), p.call("send", "b", ""), `{"subject":{"type":"agent","id":"bookkeeper"},"action":{"name":"session"},"resource":{"type":"application","id":"payments"}}`)
	ok[wire.AccessDecisions](n.send("POST", evaluationsPath, many, as), 200)
	var batch []string
	for _, r := range n.records(audit.Query{Kinds: []audit.Kind{audit.KindEvaluate}})[before:] {
		batch = append(batch, r.Action+" "+r.Tool+" "+string(r.Decision)+" "+r.Reason+" "+r.Agent)
	}
	require.Equal(t, []string{
		"CallTool list allowed  bookkeeper", "CallTool send denied approval-required bookkeeper", "CreateSession  denied invalid-request ", "CreateSession  allowed  bookkeeper",
	}, batch)

	// A token that is not good any more: whose it was, and why.
	ok[wire.Revocation](n.send("DELETE", "/api/v1/sessions/"+p.session.SessionID, nil), 200)
	require.False(t, p.evaluates(n, p.call("list", "gone", ""), as).Decision)
	all := n.records(audit.Query{Kinds: []audit.Kind{audit.KindEvaluate}, Session: p.session.SessionID})
	require.Equal(t, "revoked", all[len(all)-1].Reason)
	// And one that asks about what is not theirs.
	stranger := basic("elsewhere", n.applicationWithSecret(`{"name":"elsewhere","audience":"https://elsewhere.example.com"}`))
	n.send("POST", evaluationPath, p.call("list", "x", ""), stranger).refused(identity.CodeForbidden)
	require.Equal(t, "evaluateAccess", n.record(audit.Query{Kinds: []audit.Kind{audit.KindRefuse}, Application: "elsewhere"}).Action)
}

func TestNoRecordNoDecision(t *testing.T) {
	p := newPayments(t, 1)
	n, as := p.nodes[0], basic("payments", p.application)
	require.NoError(t, n.log.Close(t.Context()))
	n.send("POST", evaluationPath, p.call("list", "x", ""), as).refused(identity.CodeAuditUnavailable)
	n.send("POST", evaluationsPath, `{"evaluations":[`+p.call("list", "x", "")+`]}`, as).refused(identity.CodeAuditUnavailable)
}

// The binding is over the tool, its application, the arguments and the session, and nothing of it can be swapped.
func TestToolApprovalIsBoundToTheCall(t *testing.T) {
	of := func(session, principal, application, tool, hash string) string {
		return policy.ToolBinding(&policy.ToolRequest{Session: &identity.Session{ID: session, Principal: principal}, Tool: policy.Tool{Name: tool, Application: application}, ArgumentsHash: hash})
	}
	r := func(session, application, tool, hash string) string { return of(session, "", application, tool, hash) }
	seen := map[string]bool{r("s", "a", "t", "h"): true}
	for _, other := range []string{r("s2", "a", "t", "h"), r("s", "a2", "t", "h"), r("s", "a", "t2", "h"), r("s", "a", "t", "h2"), r("s", "at", "", "h"), r("sa", "", "t", "h"), of("s", "u", "a", "t", "h")} {
		require.False(t, seen[other])
		seen[other] = true
	}
}
