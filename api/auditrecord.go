package api

// What a record says of a request. When it is written, and what becomes of an answer whose record can't be, is in audit.go.

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
	"github.com/deputy-id/deputy/tokens"
)

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
	if c.account.stated {
		return c.account.statement
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
