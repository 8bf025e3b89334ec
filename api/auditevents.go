package api

import (
	"context"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/sessions"
)

// maxEventText bounds each text of a reported event but the detail.
const (
	maxEventText   = 320
	maxEventDetail = 1024
)

// reportEvent is POST /api/v1/audit/events: an enforcement point adds what it decided of a tool call, and what came of
// it, under the identity of the session. The token of the session says whose it is; with the id alone it is who the nodes
// remember it to be.
func (a *API) reportEvent(c *call) error {
	if err := a.authenticateReporter(c); err != nil {
		return err
	}
	var event wire.AuditEvent
	if err := c.body(&event); err != nil {
		return err
	}
	if err := checkEvent(&event); err != nil {
		return err
	}
	r, err := a.eventRecord(c, &event)
	if err != nil {
		return err
	}
	r.Kind, r.Tool, r.Decision, r.Outcome = audit.KindTool, event.Tool, audit.Decision(event.Decision), audit.Outcome(event.Outcome)
	r.Action, r.Target, r.Reason, r.Detail = event.Action, event.Target, event.Reason, event.Detail
	sequence, err := a.append(c, r)
	if err != nil {
		return err
	}
	return c.answer(fasthttp.StatusCreated, wire.AuditReceipt{Node: a.NodeID, Sequence: sequence})
}

func (a *API) authenticateReporter(c *call) error {
	if scheme, _ := authorization(c.ctx); equalFold(scheme, "basic") {
		return a.enter(c, (*call).identifyByHeader)
	}
	return a.authorize(c)
}

func checkEvent(e *wire.AuditEvent) error {
	switch {
	case (e.Token == "") == (e.SessionID == ""):
		return invalidField("", "must have exactly one of token and session_id")
	case e.Tool == "":
		return invalidField("/tool", "is missing")
	case e.Decision != string(audit.Allowed) && e.Decision != string(audit.Denied):
		return invalidField("/decision", "is %.40q; it must be %s or %s", e.Decision, audit.Allowed, audit.Denied)
	case e.Outcome != "" && e.Outcome != string(audit.Success) && e.Outcome != string(audit.Failure):
		return invalidField("/outcome", "is %.40q; it must be %s or %s", e.Outcome, audit.Success, audit.Failure)
	case e.Decision == string(audit.Denied) && e.Outcome == string(audit.Success):
		return invalidField("/outcome", "is success, of a call that was denied")
	case len(e.Detail) > maxEventDetail:
		return invalidField("/detail", "has %d bytes; at most %d are allowed", len(e.Detail), maxEventDetail)
	}
	for _, text := range []struct{ pointer, value string }{
		{"/tool", e.Tool}, {"/action", e.Action}, {"/target", e.Target}, {"/reason", e.Reason},
	} {
		if len(text.value) > maxEventText {
			return invalidField(text.pointer, "has %d bytes; at most %d are allowed", len(text.value), maxEventText)
		}
	}
	if _, err := identity.ParseScopes(e.Scope); err != nil {
		return invalidField("/scope", "%v", err)
	}
	if e.SessionID != "" {
		if _, err := identity.ParseID(identity.PrefixSession, e.SessionID); err != nil {
			return invalidField("/session_id", "%v", err)
		}
	}
	return nil
}

// eventRecord begins the record with whose session it is.
func (a *API) eventRecord(c *call, event *wire.AuditEvent) (*audit.Record, error) {
	if event.Token != "" {
		claims, err := a.judged(c, []byte(event.Token))
		if err != nil {
			return nil, err
		}
		if claims == nil {
			return nil, unacceptable("token", "it is no token of this server, has ended or was revoked").
				WithHint("report what was refused for that reason with the session_id")
		}
		if err := c.mayReport(claims.Audience, append([]string{claims.ClientID}, claims.Actors...)); err != nil {
			return nil, err
		}
		r := a.draft(c)
		r.Scope = event.Scope
		c.account.tellClaims(r, claims)
		return r, nil
	}
	var session sessions.Entry
	var found bool
	if err := a.ask(func() { session, found, _ = a.Sessions.Find(context.Background(), event.SessionID) }); err != nil {
		return nil, err
	}
	if found {
		if err := c.mayReport(session.Audience, session.Chain); err != nil {
			return nil, err
		}
	} else if c.caller.token != nil && !c.reportsForAll() {
		return nil, identity.Errorf(identity.CodeForbidden, "no node that answered remembers the session, so it can't be told whether API token %s runs its agent", c.caller.token.ID).
			WithHint("send the token of the session in place of its id")
	}
	r := a.draft(c)
	r.Session, r.Scope = event.SessionID, event.Scope
	if found {
		c.account.tellSession(r, &session)
	}
	return r, nil
}

// mayReport wants that the application is one that the session is for, or that the API token may run one of its agents.
func (c *call) mayReport(audience, agents []string) error {
	if c.caller.application != nil {
		for _, uri := range audience {
			if uri == c.caller.application.Audience {
				return nil
			}
		}
		return identity.Errorf(identity.CodeForbidden, "the session is not meant for application %s", c.caller.application.Name).
			WithHint("an application reports calls of sessions that have it in their audience")
	}
	if c.reportsForAll() {
		return nil
	}
	for _, agent := range agents {
		if c.caller.token.MayRun(agent) {
			return nil
		}
	}
	return identity.Errorf(identity.CodeForbidden, "API token %s may report for the agents that it runs, and for no others", c.caller.token.ID)
}

// reportsForAll reports whether the caller may report for any agent.
func (c *call) reportsForAll() bool {
	return c.caller.token.Has(identity.RoleOperator) || c.caller.token.MayRun(identity.AnyAgent)
}

// tellSession fills in what the nodes remember of a session.
func (to *account) tellSession(r *audit.Record, e *sessions.Entry) {
	r.Agent, r.Principal, r.Delegation, r.Audience, r.Expires = e.Agent(), e.Principal, e.Delegation, e.Audience, e.Expires
	links := to.links[:0]
	if e.Principal != "" {
		links = append(links, audit.Link{User: e.Principal})
	}
	for i, agent := range e.Chain {
		link := audit.Link{Agent: agent}
		if i == 0 {
			link.Delegation = e.Delegation
		}
		if len(links) < len(to.links) {
			links = append(links, link)
		}
	}
	r.Chain = links
}
