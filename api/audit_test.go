package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/tokens"
)

const mailingAgent = `{"profile": {"name": "summary-agent", "agent_type": "scheduled"}, "default_scopes": ["gmail.read"],
	"max_session_duration_seconds": 3600, "applications": ["gmail"]}`

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestMintLeavesARecordWithAllItsFields(t *testing.T) {
	l := newLent(t)
	n := l.g.nodes[1]
	minted := ok[wire.Token](n.send("POST", tokenPath, exchangeForm(l.delegation.ID, typeDelegation, url.Values{"trigger_reason": {"user asked"}}), l.inbox,
		with("Traceparent", traceparent), with(wire.HeaderRequestID, "req-1")), 200)
	r := n.record(audit.Query{Session: minted.SessionID})
	require.Equal(t, audit.KindExchange, r.Kind)
	require.Equal(t, "inbox-assistant", r.Agent)
	require.Equal(t, "user@company.com", r.Principal)
	require.Equal(t, []audit.Link{{User: "user@company.com"}, {Agent: "inbox-assistant", Delegation: l.delegation.ID}}, r.Chain)
	require.Equal(t, "gmail.draft gmail.read", r.Scope)
	require.Equal(t, audit.Allowed, r.Decision)
	require.Equal(t, audit.Success, r.Outcome)
	require.Equal(t, l.delegation.ID, r.Delegation)
	require.Equal(t, []string{"https://gmail.example.com"}, r.Audience)
	require.Equal(t, identity.AgentUserDelegated, r.AgentType)
	require.Equal(t, "user asked", r.Detail)
	require.Equal(t, "req-1", r.RequestID)
	require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", r.TraceID)
	require.Equal(t, "00f067aa0ba902b7", r.SpanID)
	require.True(t, strings.HasPrefix(r.Credential, identity.PrefixCredential), r.Credential)
	require.NotZero(t, r.Expires)
	require.NotContains(t, string(r.Line), minted.AccessToken)

	hop := l.exchange(l.sub, minted.AccessToken, typeAccessToken, nil)
	r = l.n.record(audit.Query{Session: hop.SessionID})
	require.Equal(t, "summary-agent", r.Agent)
	require.Equal(t, minted.SessionID, r.Target, "what it was a hop of")
	require.Equal(t, []audit.Link{{User: "user@company.com"}, {Agent: "inbox-assistant", Delegation: l.delegation.ID}, {Agent: "summary-agent"}}, r.Chain)
}

func TestRefusedMintLeavesARecord(t *testing.T) {
	l := newLent(t)
	l.g.setUp(t, fsm.PutPolicy{Policy: identity.Policy{ID: "no-drafts", Text: `forbid (principal, action == Action::"CreateSession", resource) when { context.scopes.contains("gmail.draft") };`}})
	l.g.setUp(t, fsm.PutPolicy{Policy: identity.Policy{ID: "no-mail", Mode: identity.PolicyMonitor, Text: `forbid (principal, action == Action::"CreateSession", resource);`}})
	l.n.send("POST", tokenPath, exchangeForm(l.delegation.ID, typeDelegation, nil), l.inbox).refusedOAuth(400, "access_denied")
	r := l.n.record(audit.Query{Kinds: []audit.Kind{audit.KindExchange}})
	require.Equal(t, audit.Denied, r.Decision)
	require.Equal(t, audit.Failure, r.Outcome)
	require.Equal(t, string(identity.CodePolicyDenied), r.Reason)
	require.Equal(t, []string{"no-drafts"}, r.Policies)
	require.Equal(t, []string{"no-mail"}, r.Monitored)
	require.Equal(t, "user@company.com", r.Principal)
	require.Len(t, r.Chain, 2)
	require.Empty(t, r.Session, "there is none")

	l.n.send("POST", "/api/v1/sessions", `{"agent_id":"summary-agent","requested_scopes":["bank.pay"]}`).refused(identity.CodeScopeNotAllowed)
	r = l.n.record(audit.Query{Kinds: []audit.Kind{audit.KindMint}})
	require.Equal(t, "summary-agent", r.Agent)
	require.Equal(t, audit.Autonomous, r.Principal)
	require.Equal(t, "bank.pay", r.Scope)
	require.Equal(t, string(identity.CodeScopeNotAllowed), r.Reason)
	require.Equal(t, "createSession", r.Action)

	l.n.send("POST", "/api/v1/sessions", `{"agent_id":"nobody","principal_user_id":"user@company.com"}`).refused(identity.CodeNotFound)
	r = l.n.record(audit.Query{Agent: "nobody"})
	require.Equal(t, audit.Denied, r.Decision)
	require.Equal(t, "user@company.com", r.Principal)
}

func TestIntrospectionsThatNameAToolAreRecorded(t *testing.T) {
	for name, want := range map[Introspections][2]int{"": {1, 2}, IntrospectionsTools: {1, 2}, IntrospectionsAll: {2, 3}, IntrospectionsNone: {0, 0}} {
		g := newGroup(t, 1, func(o *Options) { o.Introspections = name })
		n := g.nodes[0]
		secret := n.applicationWithSecret(gmail)
		token := n.mint("summary-agent", n.agentWithSecret(mailingAgent), url.Values{"scope": {"gmail.read"}})
		ask := func(tool string) {
			form := url.Values{"token": {token.AccessToken}}
			if tool != "" {
				form.Set("tool", tool)
			}
			ok[wire.Introspection](n.send("POST", "/oauth2/introspect", form, basic("gmail", secret)), 200)
		}
		ask("")
		ask("gmail.search")
		all := n.records(audit.Query{Kinds: []audit.Kind{audit.KindIntrospect}})
		require.Len(t, all, want[0])
		if len(all) > 0 {
			r := all[len(all)-1]
			require.Equal(t, "gmail.search", r.Tool)
			require.Equal(t, audit.Allowed, r.Decision)
			require.Equal(t, token.SessionID, r.Session)
			require.Equal(t, "gmail", r.Application)
			require.Equal(t, []audit.Link{{Agent: "summary-agent"}}, r.Chain)
		}
		ok[wire.Revocation](n.send("DELETE", "/api/v1/sessions/"+token.SessionID, nil), 200)
		ask("gmail.search")
		denied := n.records(audit.Query{Kinds: []audit.Kind{audit.KindIntrospect}, Decision: audit.Denied})
		require.Len(t, denied, want[1]-want[0])
		if len(denied) > 0 {
			require.Equal(t, string(tokens.ReasonRevoked), denied[0].Reason, "the caller does not hear it, the trail does")
			require.Equal(t, token.SessionID, denied[0].Session)
		}
	}
}

// The node that was asked records a change, with what the leader said of it; the leader doesn't.
func TestChangesAreRecordedWhereTheyWereAskedFor(t *testing.T) {
	g := newGroup(t, 2)
	n := g.nodes[1]
	made := n.send("POST", "/api/v1/agents", inboxAgent)
	ok[wire.Agent](made, 201)
	r := n.record(audit.Query{})
	require.Equal(t, audit.KindAdmin, r.Kind)
	require.Equal(t, "createAgent", r.Action)
	require.Equal(t, "agents/inbox-assistant", r.Target)
	require.Equal(t, audit.Success, r.Outcome)
	require.NotZero(t, r.Index)
	require.True(t, strings.HasPrefix(r.Credential, identity.PrefixAPIToken))

	n.send("POST", "/api/v1/agents", inboxAgent).refused(identity.CodeAlreadyExists)
	r = n.record(audit.Query{Outcome: audit.Failure})
	require.Equal(t, audit.Allowed, r.Decision, "who asked may do so")
	require.Equal(t, string(identity.CodeAlreadyExists), r.Reason)

	ok[wire.Kill](n.send("POST", "/api/v1/agents/inbox-assistant/revoke", `{"reason":"INC-42"}`), 200)
	r = n.record(audit.Query{Kinds: []audit.Kind{audit.KindRevoke}})
	require.Equal(t, []string{"agt_inbox-assistant#1"}, r.Handles)
	require.Equal(t, "INC-42", r.Detail)
	require.Equal(t, "agents/inbox-assistant", r.Target)

	g.addToken(t, "dpt_auditor", identity.APIToken{Name: "a", Roles: []identity.Role{identity.RoleAuditor}})
	n.send("DELETE", "/api/v1/agents/inbox-assistant", nil, token("dpt_auditor")).refused(identity.CodeForbidden)
	r = n.record(audit.Query{Kinds: []audit.Kind{audit.KindRefuse}})
	require.Equal(t, audit.Denied, r.Decision)
	require.Equal(t, "deleteAgent", r.Action)

	ok[wire.JoinToken](n.send("POST", "/api/v1/cluster/join-tokens", nil), 201)
	require.Equal(t, "createJoinToken", n.record(audit.Query{Kinds: []audit.Kind{audit.KindCluster}}).Action)
	require.Empty(t, g.nodes[0].records(audit.Query{}))
}

func TestDelegationThatASessionIsLentIsRecordedToo(t *testing.T) {
	g, _, _ := newInbox(t, 2)
	n := g.nodes[1]
	session := ok[wire.Session](n.send("POST", "/api/v1/sessions", `{"agent_id":"inbox-assistant","principal_user_id":"user@company.com"}`), 201)
	r := n.record(audit.Query{Target: "delegations/" + session.DelegationID})
	require.Equal(t, audit.KindAdmin, r.Kind)
	require.Less(t, r.Sequence, n.record(audit.Query{Session: session.SessionID}).Sequence)
}

func TestUsersConsentIsRecordedUnderTheirName(t *testing.T) {
	l := newLent(t)
	me := bearer(l.issuer.idToken(l.g, "user@company.com", nil))
	ok[wire.Deleted](l.n.send("DELETE", "/api/v1/me/delegations/"+l.delegation.ID, nil, me), 200)
	r := l.n.record(audit.Query{Kinds: []audit.Kind{audit.KindRevoke}})
	require.Equal(t, "user@company.com", r.Principal)
	require.Equal(t, []string{l.delegation.ID}, r.Handles)
}

func TestNoRecordNoToken(t *testing.T) {
	l := newLent(t)
	parent := l.exchange(l.inbox, l.delegation.ID, typeDelegation, nil)
	require.NoError(t, l.n.log.Close(context.Background())) // as good as a disk that takes nothing any more

	l.n.send("POST", tokenPath, exchangeForm(l.delegation.ID, typeDelegation, nil), l.inbox).refusedOAuth(503, "temporarily_unavailable")
	l.n.send("POST", "/api/v1/sessions", `{"agent_id":"inbox-assistant"}`).refused(identity.CodeAuditUnavailable)
	l.n.send("POST", "/oauth2/introspect", url.Values{"token": {parent.AccessToken}, "tool": {"x"}}, basic("gmail", l.application)).
		refusedOAuth(503, "temporarily_unavailable")
	require.True(t, l.n.introspect("gmail", l.application, parent.AccessToken).Active, "nothing of this is to be recorded")

	// What stops something is done in any case.
	ok[wire.Revocation](l.n.send("DELETE", "/api/v1/sessions/"+parent.SessionID, nil), 200)
	require.False(t, l.n.introspect("gmail", l.application, parent.AccessToken).Active)
	require.Positive(t, l.n.unrecorded())
}

func TestAnswersGoOutUnrecordedWhereAnOperatorWantsThat(t *testing.T) {
	g := newGroup(t, 1, func(o *Options) { o.UnrecordedAnswers = true })
	n := g.nodes[0]
	n.applicationWithSecret(gmail)
	secret := n.agentWithSecret(mailingAgent)
	require.NoError(t, n.log.Close(context.Background()))
	require.NotEmpty(t, n.mint("summary-agent", secret, url.Values{"scope": {"gmail.read"}}).AccessToken)
	require.Positive(t, n.unrecorded())
}

// unrecorded is how many decisions could not be recorded.
func (n *node) unrecorded() (total float64) {
	families, err := n.registry.Gather()
	require.NoError(n.t, err)
	for _, f := range families {
		if f.GetName() == "deputy_api_unrecorded_total" {
			total += f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return total
}

// failingAudit is a log whose disk has failed, as the log tells of it.
type failingAudit struct{ Auditor }

func (failingAudit) Failing() error { return audit.ErrWrite }
func (failingAudit) Queue(context.Context, *audit.Record) (audit.Ticket, error) {
	return audit.Ticket{}, audit.ErrWrite
}

// breakingAudit is a log that works until it is told not to.
type breakingAudit struct {
	Auditor
	failing  *atomic.Bool                // known to have failed
	unwanted *atomic.Pointer[audit.Kind] // records of this kind can't be written
}

func (b breakingAudit) Failing() error {
	if b.failing.Load() {
		return audit.ErrWrite
	}
	return b.Auditor.Failing()
}

func (b breakingAudit) Queue(ctx context.Context, r *audit.Record) (audit.Ticket, error) {
	if kind := b.unwanted.Load(); b.failing.Load() || kind != nil && *kind == r.Kind {
		return audit.Ticket{}, audit.ErrWrite
	}
	return b.Auditor.Queue(ctx, r)
}

// newBreakingAudit makes the option that puts one under every node of a group.
func newBreakingAudit() (b breakingAudit, option func(*Options)) {
	b = breakingAudit{failing: new(atomic.Bool), unwanted: new(atomic.Pointer[audit.Kind])}
	return b, func(o *Options) { o.Audit = breakingAudit{o.Audit, b.failing, b.unwanted} }
}

func TestNothingIsChangedThatCanNotBeRecorded(t *testing.T) {
	g := newGroup(t, 1, func(o *Options) { o.Audit = failingAudit{o.Audit} })
	n := g.nodes[0]
	n.send("POST", "/api/v1/agents", inboxAgent).refused(identity.CodeAuditUnavailable)
	_, made := n.fsm.View().Agent("inbox-assistant")
	require.False(t, made)
	g.setUp(t, fsm.CreateAgent{Agent: identity.Agent{Name: "runaway", Type: identity.AgentAutonomous, Status: identity.StatusActive, MaxSessionSeconds: 60}})
	require.Equal(t, identity.StatusSuspended, ok[wire.Kill](n.send("POST", "/api/v1/agents/runaway/revoke", nil), 200).Status)
}

func TestStrangersCanNotFillTheLog(t *testing.T) {
	n := newGroup(t, 1).nodes[0]
	const flood = 300
	began := time.Now()
	for range flood {
		n.send("GET", "/api/v1/agents", nil, token("dpt_wrong")).refused(identity.CodeUnauthenticated)
	}
	counted := func() (records, summed int) {
		for _, r := range n.records(audit.Query{Kinds: []audit.Kind{audit.KindRefuse}, Limit: 1000}) {
			require.Equal(t, audit.Denied, r.Decision)
			more := 1
			if r.Detail != "" {
				more = 0
				for _, c := range strings.Fields(r.Detail)[0] {
					more = 10*more + int(c-'0')
				}
			}
			records, summed = records+1, summed+more
		}
		return records, summed
	}
	require.Eventually(t, func() bool { _, summed := counted(); return summed == flood }, 10*time.Second, 20*time.Millisecond, "all are accounted for")
	records, _ := counted()
	windows := int(time.Since(began)/strangersWindow) + 2
	require.LessOrEqual(t, records, windows*(strangersEach+2))
}

func TestTrailOfAllNodesIsReadByTime(t *testing.T) {
	g := newGroup(t, 3)
	for i := range 30 {
		n := g.nodes[i%3]
		if i%7 == 0 {
			n = g.nodes[0]
		}
		n.send("PATCH", "/api/v1/agents/a"+string(rune('a'+i%26)), `{}`, mergePatchBody).refused(identity.CodeNotFound)
		g.advance(time.Second)
	}
	for _, order := range []string{"oldest", "newest"} {
		var seen []wire.AuditRecord
		for next := "/api/v1/audit?limit=4&order=" + order; next != ""; {
			answered := g.nodes[2].send("GET", next, nil)
			page := ok[wire.AuditPage](answered, 200)
			require.True(t, page.Complete)
			require.Len(t, page.Nodes, 3)
			require.LessOrEqual(t, len(page.Records), 4)
			seen = append(seen, page.Records...)
			next, _, _ = strings.Cut(strings.TrimPrefix(answered.Header.Get("Link"), "<"), ">")
		}
		require.Len(t, seen, 30)
		for i := 1; i < len(seen); i++ {
			if order == "oldest" {
				require.Less(t, seen[i-1].Time, seen[i].Time)
			} else {
				require.Greater(t, seen[i-1].Time, seen[i].Time)
			}
		}
		for _, r := range seen {
			e, err := audit.ParseEntry(r.Line)
			require.NoError(t, err, "a record keeps its hash on its way")
			require.Equal(t, r.Hash, e.Hash.String())
		}
	}

	g.nodes[1].silent = true
	page := ok[wire.AuditPage](g.nodes[0].send("GET", "/api/v1/audit?decision=allowed&limit=1000", nil), 200)
	require.False(t, page.Complete)
	require.Equal(t, wire.AuditNode{ID: "n2", Error: "it did not answer"}, page.Nodes[1])
	for _, r := range page.Records {
		require.NotEqual(t, "n2", r.Node)
	}
	for _, bad := range []string{"decision=perhaps", "outcome=x", "kind=nothing", "from=yesterday", "order=up", "after=xyz", "after=n!!", "source_ip=home", "limit=0", "colour=red"} {
		g.nodes[0].send("GET", "/api/v1/audit?"+bad, nil).refused(identity.CodeInvalid)
	}
}

// Whoever follows the trail goes on from where they were, also where there was nothing new.
func TestTrailIsFollowed(t *testing.T) {
	g := newGroup(t, 2)
	read := func(after string) wire.AuditPage {
		return ok[wire.AuditPage](g.nodes[0].send("GET", "/api/v1/audit?order=oldest&after="+url.QueryEscape(after), nil), 200)
	}
	cursor := read("").Cursor
	require.NotEmpty(t, cursor)
	for i, n := range []*node{g.nodes[1], g.nodes[0], g.nodes[1]} {
		n.send("DELETE", "/api/v1/agents/unknown", nil).refused(identity.CodeNotFound)
		page := read(cursor)
		require.Len(t, page.Records, 1, "round %d", i)
		require.Equal(t, n.name(), page.Records[0].Node)
		cursor = page.Cursor
	}
	require.Empty(t, read(cursor).Records)
}

func TestEnforcementPointsReportUnderTheSessionsIdentity(t *testing.T) {
	l := newLent(t)
	session := l.exchange(l.inbox, l.delegation.ID, typeDelegation, nil)
	gmail := basic("gmail", l.application)
	receipt := ok[wire.AuditReceipt](l.n.send("POST", "/api/v1/audit/events", wire.AuditEvent{
		Token: session.AccessToken, Tool: "gmail.search", Action: "search", Target: "inbox", Decision: "allowed", Outcome: "failure", Reason: "timeout",
	}, gmail, with("Traceparent", traceparent)), 201)
	r := l.n.record(audit.Query{Tool: "gmail.search"})
	require.Equal(t, receipt, wire.AuditReceipt{Node: r.Node, Sequence: r.Sequence})
	require.Equal(t, audit.KindTool, r.Kind)
	require.Equal(t, session.SessionID, r.Session)
	require.Equal(t, "user@company.com", r.Principal)
	require.Equal(t, []audit.Link{{User: "user@company.com"}, {Agent: "inbox-assistant", Delegation: l.delegation.ID}}, r.Chain)
	require.Equal(t, audit.Failure, r.Outcome)
	require.Equal(t, "gmail", r.Application)
	require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", r.TraceID)

	// By the id alone, at another node.
	other := l.g.nodes[1]
	ok[wire.AuditReceipt](other.send("POST", "/api/v1/audit/events", wire.AuditEvent{SessionID: session.SessionID, Tool: "gmail.send", Decision: "denied"}, gmail), 201)
	r = other.record(audit.Query{Tool: "gmail.send"})
	require.Equal(t, "inbox-assistant", r.Agent)
	require.Equal(t, audit.Failure, r.Outcome)

	page := ok[wire.AuditPage](l.n.send("GET", "/api/v1/sessions/"+session.SessionID+"/audit", nil), 200)
	var did []string
	for _, r := range page.Records {
		did = append(did, r.Kind+" "+r.Tool)
	}
	require.Equal(t, []string{"exchange ", "tool gmail.search", "tool gmail.send"}, did)

	// Nobody reports of what is not theirs.
	stranger := basic("zendesk", l.n.applicationWithSecret(`{"name":"zendesk","audience":"https://zendesk.example.com","scopes":["zendesk.tickets.read"]}`))
	event := wire.AuditEvent{Token: session.AccessToken, Tool: "x", Decision: "allowed"}
	l.n.send("POST", "/api/v1/audit/events", event, stranger).refused(identity.CodeForbidden)
	l.g.addToken(t, "dpt_runtime", identity.APIToken{Name: "r", Roles: []identity.Role{identity.RoleRuntime}, Agents: []string{"summary-agent"}})
	l.n.send("POST", "/api/v1/audit/events", event, token("dpt_runtime")).refused(identity.CodeForbidden)
	l.g.addToken(t, "dpt_auditor", identity.APIToken{Name: "a", Roles: []identity.Role{identity.RoleAuditor}})
	l.n.send("POST", "/api/v1/audit/events", event, token("dpt_auditor")).refused(identity.CodeForbidden)
	for _, bad := range []string{
		`{}`, `{"token":"x","session_id":"y","tool":"t","decision":"allowed"}`, `{"token":"x","tool":"t","decision":"maybe"}`,
		`{"token":"x","decision":"allowed"}`, `{"token":"x","tool":"t","decision":"denied","outcome":"success"}`, `{"session_id":"nope","tool":"t","decision":"allowed"}`,
	} {
		l.n.send("POST", "/api/v1/audit/events", bad, gmail).refused(identity.CodeInvalid)
	}
	l.n.send("POST", "/api/v1/audit/events", wire.AuditEvent{Token: "x", Tool: "t", Decision: "allowed"}, gmail).refused(identity.CodeSubjectInvalid)
}

func TestRecordIsProvenByTheNodesKeyAlone(t *testing.T) {
	g := newGroup(t, 2)
	g.nodes[0].send("DELETE", "/api/v1/agents/unknown", nil).refused(identity.CodeNotFound)
	r := g.nodes[0].record(audit.Query{})
	var proof wire.AuditProof
	path := "/api/v1/audit/proof?node=n1&sequence=" + string(rune('0'+r.Sequence))
	require.Eventually(t, func() bool {
		a := g.nodes[1].send("GET", path, nil)
		return a.Status == http.StatusOK && json.Unmarshal(a.Body, &proof) == nil
	}, 10*time.Second, 20*time.Millisecond)
	text, err := json.Marshal(&proof)
	require.NoError(t, err)
	var p audit.Proof
	require.NoError(t, json.Unmarshal(text, &p))
	held := ok[wire.AuditCheckpoints](g.nodes[1].send("GET", "/api/v1/audit/checkpoints", nil), 200)
	require.NotEmpty(t, held.Keys)
	require.NoError(t, audit.VerifyProof(&p, r.Line, held.Keys[0].Key))
	require.Error(t, audit.VerifyProof(&p, bytes.Replace(r.Line, []byte("allowed"), []byte("denied"), 1), held.Keys[0].Key))
	g.nodes[1].send("GET", "/api/v1/audit/proof?node=n9&sequence=1", nil).refused(identity.CodeNotFound)
	g.nodes[1].send("GET", "/api/v1/audit/proof?node=n1&sequence=4711", nil).refused(identity.CodeNotFound)
	g.nodes[1].send("GET", "/api/v1/audit/proof?node=n1&sequence=x", nil).refused(identity.CodeInvalid)
}
