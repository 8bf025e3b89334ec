package api

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
	"github.com/deputy-id/deputy/tokens"
)

// Auditor takes the record of a decision. It is an *audit.Log, whose Patience bounds how long a request waits for it.
type Auditor interface {
	Queue(ctx context.Context, r *audit.Record) (audit.Ticket, error)
	// Failing says why nothing can be recorded at present.
	Failing() error
}

// Introspections says which introspections are recorded.
type Introspections string

// Which introspections are recorded.
const (
	IntrospectionsAll   Introspections = "all"
	IntrospectionsTools Introspections = "tools" // those that name the tool for whose call they are asked
	IntrospectionsNone  Introspections = "none"
)

// account is what a request leaves to be recorded. Handlers only mark what the request itself does not say.
type account struct {
	kind   audit.Kind // "": that of the route
	agent  string     // asked for, where it is not the caller
	user   string     // asked for
	scope  identity.Scopes
	tool   string
	reason string // why a token is not good
	// approval that was asked for ahead
	approval string
	claims   *tokens.Claims // of the token that the request is about
	handles  []identity.Handle
	code     identity.Code // of the leader's refusal
	closed   bool          // it is recorded, by whoever served it

	ticket audit.Ticket
	queued bool // the record of a grant is on its way

	record   audit.Record
	links    [identity.MaxChain + 1]audit.Link
	policies [8]string
	trail    [16]string // of handles
}

// mayChange refuses a change whose record could not be written. What stops something is made in any case.
func (a *API) mayChange(c *call) error {
	if c.route.stops != nil || c.origin != nil || a.UnrecordedAnswers {
		return nil
	}
	if err := a.Audit.Failing(); err != nil {
		return a.unrecorded(c, err)
	}
	return nil
}

// enroll sets the record of what was granted on its way, before the token is made: writing the one takes as long as
// signing the other.
func (a *API) enroll(c *call) error {
	r := a.draft(c)
	c.tellGrant(r)
	r.Decision = audit.Allowed
	var err error
	if c.account.ticket, err = a.Audit.Queue(context.Background(), r); err != nil {
		return a.unrecorded(c, err)
	}
	c.account.queued = true
	return nil
}

// recorded waits for the record of what was granted: without it there is no token.
func (a *API) recorded(c *call) error {
	if _, err := c.account.ticket.Wait(context.Background()); err != nil {
		return a.unrecorded(c, err)
	}
	c.account.closed = true
	return nil
}

// append records a decision that is complete, and waits.
func (a *API) append(c *call, r *audit.Record) (sequence uint64, err error) {
	ticket, err := a.Audit.Queue(context.Background(), r)
	if err == nil {
		sequence, err = ticket.Wait(context.Background())
	}
	if err != nil {
		return 0, a.unrecorded(c, err)
	}
	return sequence, nil
}

// unrecorded is what becomes of an answer whose record can't be written: by default there is none.
func (a *API) unrecorded(c *call, err error) error {
	a.metrics.unrecorded.Inc()
	a.logger.Error("a decision can't be recorded", "request", string(c.id), "route", c.route.pattern(), "error", err)
	if a.UnrecordedAnswers {
		return nil
	}
	return identity.Errorf(identity.CodeAuditUnavailable, "this node can't write its audit log, and answers nothing that it can't record").
		WithHint("ask another node; the log of this one says what is wrong").WithCause(err)
}

// account records what came of a request, if that was a decision, and returns what to answer.
func (a *API) account(c *call, refusal error) error {
	if c.origin != nil || c.route.Kind == KindPublic {
		return refusal // the node that was asked records it; nothing is decided of whoever reads what is public
	}
	code := c.account.code
	if refusal != nil {
		code = asError(refusal).Code
	}
	switch {
	case c.caller.id() == "":
		if code == identity.CodeUnauthenticated || code == identity.CodeProofInvalid {
			a.strangers.note(c, code)
		}
		return refusal
	case code == identity.CodeAuditUnavailable || code == identity.CodeRateLimited:
		return refusal
	case c.account.closed && refusal == nil:
		return nil
	}
	kind := c.kindOfRecord(code)
	if kind == "" {
		return refusal
	}
	r := a.draft(c)
	r.Kind = kind
	c.tell(r, code)
	if refusal != nil {
		c.tellRefusal(r, asError(refusal))
	}
	if _, err := a.append(c, r); err != nil {
		return c.withoutRecord(err, refusal)
	}
	return refusal
}

// withoutRecord answers a request that was served and could not be recorded. A stop holds all the same, and is not to be
// taken for one that failed. A change that was made is said to be so.
func (c *call) withoutRecord(err, refusal error) error {
	switch {
	case c.route.stops != nil || c.account.kind == audit.KindRevoke:
		return refusal
	case refusal == nil && c.route.Kind == KindWrite && c.ctx.Response.StatusCode() < 300:
		return identity.Errorf(identity.CodeAuditUnavailable, "the change was made, but this node could not record it in its audit log").
			WithHint("the index in this answer is that of the change; the log of the node says what is wrong").WithCause(err)
	}
	return err
}

// kindOfRecord says what kind of record a request leaves, or "" for none.
func (c *call) kindOfRecord(code identity.Code) audit.Kind {
	switch {
	case c.account.kind != "":
		return c.account.kind
	case c.route.Kind == KindRead && c.route.Produces != mediaBinary: // a backup is more than a read
		if code == identity.CodeForbidden {
			return audit.KindRefuse
		}
		return ""
	case code == identity.CodeForbidden:
		return audit.KindRefuse
	case c.route.Kind == KindOAuth || c.route.Kind == KindMint:
		return ""
	case len(c.account.handles) > 0 || c.route.Kept:
		return audit.KindRevoke
	}
	for _, of := range kindsOfPaths {
		if strings.HasPrefix(c.route.Path, of.path) {
			return of.kind
		}
	}
	return audit.KindAdmin
}

var kindsOfPaths = []struct {
	path string
	kind audit.Kind
}{
	{"/api/v1/cluster/", audit.KindCluster},
	{"/api/v1/policies", audit.KindPolicy},
	{"/api/v1/approvals", audit.KindApproval},
}

// draft begins a record with what is known of every request. It lies in the call, and is good until the next one.
func (a *API) draft(c *call) *audit.Record {
	r := &c.account.record
	*r = audit.Record{
		Kind: c.account.kind, Action: c.route.Name, Credential: c.caller.credential,
		SourceIP: c.source, RequestID: textOf(c.id), Tool: c.account.tool,
	}
	r.TraceID, r.SpanID = audit.ParseTraceparent(textOf(c.ctx.Request.Header.PeekCanonical(headerTraceparent)))
	switch {
	case c.caller.application != nil:
		r.Application = c.caller.application.Name
	case c.caller.user != nil:
		r.Principal = c.caller.user.Principal
	}
	return r
}

// tellGrant fills in what was granted.
func (c *call) tellGrant(r *audit.Record) {
	session := c.grant.Session()
	r.Agent, r.Principal, r.Session = session.Actor().Agent, session.Principal, session.ID
	r.Chain = c.account.chain(session.Principal, session.Delegation, session.Chain)
	r.Scope, r.Delegation, r.AgentType = string(session.Scopes), session.Delegation, session.AgentType
	r.Audience, r.Expires, r.Detail = session.Audience, session.Expires, session.TriggerReason
	c.tellRequest(r)
	c.account.tellPolicies(r, c.grant.Diagnostics())
}

// tellRequest fills in what else is known of a session that was asked for.
func (c *call) tellRequest(r *audit.Record) {
	if c.request.Parent != nil {
		r.Target = c.request.Parent.ID
	}
	if r.Target == "" && c.account.claims != nil {
		r.Target = c.account.claims.SessionID // of a parent that is not good any more
	}
	if c.request.Approval != nil {
		r.Approval = c.request.Approval.ID
	}
}

func (to *account) tellPolicies(r *audit.Record, d *policy.Diagnostics) {
	r.Policies = append(append(to.policies[:0], d.Forbidding...), d.Approved...)
	r.Monitored = d.Monitored
}

// chain writes down who lends to whom.
func (to *account) chain(principal, delegation string, agents []identity.Actor) []audit.Link {
	links := to.links[:0]
	if principal != "" {
		links = append(links, audit.Link{User: principal})
	}
	for i := range agents {
		link := audit.Link{Agent: agents[i].Agent}
		if i == 0 {
			link.Delegation = delegation
		}
		links = append(links, link)
	}
	return links
}

// tell fills in what came of a request that is over.
func (c *call) tell(r *audit.Record, code identity.Code) {
	r.Reason = string(code)
	r.Decision, r.Outcome = audit.Allowed, audit.Success
	if code != "" {
		r.Outcome = audit.Failure
	}
	switch r.Kind {
	case audit.KindMint, audit.KindExchange:
		c.tellWish(r)
		if !c.account.queued { // else policy had granted it
			r.Decision = audit.Denied
		}
	case audit.KindIntrospect:
		c.tellIntrospection(r)
	default:
		if code != "" && denies(code) {
			r.Decision = audit.Denied
		}
		if c.route.Path == backchannelPath {
			c.tellWish(r)
			r.Approval = c.account.approval
			return
		}
		c.tellChange(r)
		if r.Kind == audit.KindApproval {
			c.tellApproval(r)
		}
	}
}

// denies tells a refusal to let somebody do something from the failure of what they may do.
func denies(code identity.Code) bool {
	status := verdicts[code].status
	return status == fasthttp.StatusForbidden || status == fasthttp.StatusUnauthorized
}

// tellWish fills in what a session was asked for that was not started.
func (c *call) tellWish(r *audit.Record) {
	if c.account.queued && c.grant.Valid() {
		c.tellGrant(r)
		return
	}
	r.Agent, r.Principal, r.Scope = c.account.agent, c.account.user, string(c.account.scope)
	if c.caller.agent != nil && r.Agent == "" {
		r.Agent = c.caller.agent.Name
	}
	var delegation string
	var agents []identity.Actor
	if parent := c.request.Parent; parent != nil {
		r.Principal, delegation, agents = parent.Principal, parent.Delegation, parent.Chain
	}
	if agent := c.request.Agent; agent != nil {
		r.Agent, r.AgentType = agent.Name, agent.Type
	}
	if c.request.Principal != nil {
		r.Principal = c.request.Principal.ID
	}
	if c.request.Delegation != nil {
		delegation = c.request.Delegation.ID
	}
	if c.request.Requested != "" {
		r.Scope = string(c.request.Requested)
	}
	r.Chain, r.Delegation = c.account.chain(r.Principal, delegation, agents), delegation
	if len(r.Chain) < len(c.account.links) {
		link := audit.Link{Agent: r.Agent}
		if len(agents) == 0 {
			link.Delegation = delegation
		}
		r.Chain = append(r.Chain, link)
	}
	r.Audience, r.Detail = c.request.Audience, c.request.TriggerReason
	if c.request.MaxSeconds > 0 { // as was asked for: nothing of it has begun
		r.Expires = c.now + identity.Instant(min(c.request.MaxSeconds, identity.MaxSessionSeconds)*1000)
	}
	c.tellRequest(r)
	c.account.tellPolicies(r, c.grant.Diagnostics())
}

// tellRefusal fills in the policy that refused, or agrees, and the approval that would help.
func (c *call) tellRefusal(r *audit.Record, e *identity.Error) {
	if r.Approval == "" {
		r.Approval = e.Approval
	}
	if e.Policy == "" {
		return
	}
	for _, id := range r.Policies {
		if id == e.Policy {
			return
		}
	}
	r.Policies = append(r.Policies, e.Policy)
}

// tellClaims fills in whose token it is that the request is about.
func (to *account) tellClaims(r *audit.Record, t *tokens.Claims) {
	if t == nil {
		return
	}
	r.Agent, r.Principal, r.Session, r.AgentType = t.ClientID, t.Principal(), t.SessionID, t.AgentType
	if r.Scope == "" {
		r.Scope = string(t.Scopes)
	}
	for _, h := range t.Ancestry {
		if strings.HasPrefix(string(h), identity.PrefixDelegation) {
			r.Delegation = string(h)
			break
		}
	}
	links := to.links[:0]
	first := t.Subject
	if r.Principal != "" {
		links = append(links, audit.Link{User: r.Principal})
		first = ""
	}
	if first != "" {
		links = append(links, audit.Link{Agent: first})
	}
	for i := len(t.Actors) - 1; i >= 0 && len(links) < len(to.links); i-- {
		link := audit.Link{Agent: t.Actors[i]}
		if first == "" && i == len(t.Actors)-1 {
			link.Delegation = r.Delegation
		}
		links = append(links, link)
	}
	r.Chain, r.Audience, r.Expires = links, t.Audience, t.ExpiresAt()
}

// tellChange fills in what was changed, and how that went.
func (c *call) tellChange(r *audit.Record) {
	if c.caller.agent != nil {
		r.Agent = c.caller.agent.Name
	}
	c.account.tellClaims(r, c.account.claims)
	response := &c.ctx.Response
	r.Target = c.targetOfChange()
	r.Index, _ = strconv.ParseUint(textOf(response.Header.PeekBytes(headerIndex)), 10, 64)
	handles := c.account.handles
	if len(c.command.outcome.handles) > 0 {
		handles = c.command.outcome.handles
	}
	r.Handles = c.account.trail[:0]
	for _, h := range handles {
		r.Handles = append(r.Handles, string(h))
	}
	r.Detail = c.reasonOfChange()
	if response.StatusCode() == fasthttp.StatusAccepted && r.Reason == "" {
		r.Detail = strings.TrimSpace("kept until a majority is back; " + r.Detail)
	}
	if dry, _ := c.flag("dry_run"); dry {
		r.Detail = strings.TrimSpace("dry run, nothing was changed; " + r.Detail)
	}
}

// targetOfChange is the object of a write, as its path below /api/v1: agents/inbox-assistant.
func (c *call) targetOfChange() string {
	const root = "/api/v1/"
	if location := string(c.ctx.Response.Header.Peek(fasthttp.HeaderLocation)); location != "" {
		return strings.TrimPrefix(location, root)
	}
	template, found := strings.CutPrefix(c.route.Path, root)
	if !found {
		return ""
	}
	parts := strings.Split(template, "/")
	last := 0
	for i, part := range parts {
		if strings.HasPrefix(part, "{") {
			parts[i], _ = c.param(strings.Trim(part, "{}"))
			last = i
		}
	}
	if last == 0 {
		return template
	}
	return strings.Join(parts[:last+1], "/")
}

// reasonOfChange is what whoever asked gave as their reason, in the query or in the body.
func (c *call) reasonOfChange() string {
	if reason := c.query("reason"); reason != "" {
		return reason
	}
	var body struct {
		Reason string `json:"reason"`
	}
	if c.route.Media != "" || len(c.ctx.PostBody()) == 0 || // a backup comes as a stream, which is not to be read here
		json.Unmarshal(c.ctx.PostBody(), &body) != nil {
		return ""
	}
	return body.Reason
}
