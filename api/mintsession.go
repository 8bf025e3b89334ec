package api

import (
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/identity"
)

// sessionRequest is wire.SessionRequest as read by hand: this is the hot path of fleets.
type sessionRequest struct {
	agent, principal, reason string
	scopes                   identity.Scopes
	audience                 []string
	seconds                  int64
	approval                 string
}

func readSessionRequest(data []byte) (sessionRequest, error) {
	var s sessionRequest
	var seen uint8
	r := jsonReader{data: data}
	if r.next() == 0 {
		return s, identity.Errorf(identity.CodeInvalid, "the request has no body").WithHint("send a JSON object")
	}
	text := func(to *string) error {
		if r.null() {
			return nil
		}
		value, err := r.str()
		*to = value
		return err
	}
	err := r.object(func(name []byte) (err error) {
		var bit uint8
		switch string(name) {
		case "agent_id":
			bit = 1
			s.agent, err = r.str()
		case "principal_user_id":
			bit = 2
			err = text(&s.principal)
			if err == nil && s.principal == "" && r.data[r.pos-1] == '"' {
				err = r.fail("is empty; leave it out, or null, for an autonomous run")
			}
		case "requested_scopes":
			bit = 4
			var names []string
			if names, err = r.strings(identity.MaxScopes); err == nil {
				if s.scopes, err = identity.NewScopes(names); err != nil {
					err = r.fail("%v", err)
				}
			}
		case "trigger_reason":
			bit = 8
			err = text(&s.reason)
		case "max_duration_seconds":
			bit = 16
			if !r.null() {
				s.seconds, err = r.integer()
			}
		case "audience":
			bit = 32
			s.audience, err = r.strings(identity.MaxApplications)
		case "approval_id":
			bit = 64
			err = text(&s.approval)
		default:
			return r.fail("is unknown; the fields here are agent_id, principal_user_id, requested_scopes, trigger_reason, max_duration_seconds, audience, approval_id")
		}
		if err == nil && seen&bit != 0 {
			return r.fail("is there twice")
		}
		seen |= bit
		return err
	})
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return s, err
	}
	return s, s.validate()
}

func (s *sessionRequest) validate() error {
	switch {
	case s.agent == "":
		return invalidField("/agent_id", "is missing")
	case s.seconds < 0:
		return invalidField("/max_duration_seconds", "is %d; it must not be negative", s.seconds)
	case len(s.reason) > identity.MaxReasonLength:
		return invalidField("/trigger_reason", "has %d bytes; at most %d are allowed", len(s.reason), identity.MaxReasonLength)
	}
	if s.principal != "" {
		if err := identity.ValidPrincipal(s.principal); err != nil {
			return invalidField("/principal_user_id", "%v", err)
		}
	}
	return nil
}

// createSession is POST /api/v1/sessions. Only where it has to make a delegation does it write anything.
func (a *API) createSession(c *call) error {
	c.account.kind = audit.KindMint
	if err := a.authenticateRunner(c); err != nil {
		return err
	}
	if err := c.wantMedia(contentTypeJSON); err != nil {
		return err
	}
	s, err := readSessionRequest(c.ctx.PostBody())
	if err != nil {
		return err
	}
	c.account.agent, c.account.user, c.account.scope = s.agent, s.principal, s.scopes
	if err := c.mayRun(s.agent); err != nil {
		return err
	}
	var refusal *identity.Error
	if s.principal == "" {
		c.lent.Agent, _ = c.view.Agent(s.agent)
	} else {
		c.lent, refusal = c.view.ActiveDelegation(s.agent, s.principal, s.scopes, c.now)
	}
	if c.lent.Agent == nil {
		return notFound("agent", s.agent)
	}
	c.request.Agent, c.request.Credential = c.lent.Agent, c.caller.credential
	c.request.Requested, c.request.Audience = s.scopes, s.audience
	c.request.TriggerReason, c.request.MaxSeconds = s.reason, s.seconds
	c.approvalID = s.approval
	if err := a.confirm(c); err != nil {
		return err
	}
	if s.principal != "" {
		if err := a.findDelegation(c, &s, refusal); err != nil {
			return err
		}
	}
	if err := a.decide(c); err != nil {
		return err
	}
	return a.answerSession(c, &s)
}

// authenticateRunner finds out who wants a session: a runtime by its API token, or an agent by HTTP Basic.
func (a *API) authenticateRunner(c *call) error {
	if scheme, _ := authorization(c.ctx); equalFold(scheme, "basic") {
		return a.enter(c, (*call).identifyRunner)
	}
	return a.authorize(c)
}

// mayRun wants that the caller is the agent, or may run it.
func (c *call) mayRun(agent string) error {
	if c.caller.agent != nil {
		if c.caller.agent.Name == agent {
			return nil
		}
		return identity.Errorf(identity.CodeForbidden, "agent %q can't start sessions of agent %q", c.caller.agent.Name, agent)
	}
	if c.caller.token.MayRun(agent) {
		return nil
	}
	return mayNotRun(c.caller.token, agent)
}

// findDelegation settles what the session rests on: the active delegation that the call has, unless there was a
// refusal, or, where the caller may lend in the principal's name, a new one.
func (a *API) findDelegation(c *call, s *sessionRequest, refusal *identity.Error) error {
	delegation, principal := &c.lent.Delegation, c.lent.Principal
	request := s.delegation(c.lent.Agent)
	if refusal == nil {
		if c.mayRenew(s, delegation) {
			// A session must not come to more than the delegation that it would have rested on.
			request.MaxHops = int64(delegation.MaxHops)
			if s.scopes == "" {
				request.Scopes = delegation.Scopes
			}
			if a.lendFor(c, &request, principal) == nil {
				return nil
			}
			// A short session is better than none.
		}
		c.request.Principal, c.request.Delegation = principal, delegation
		return nil
	}
	switch {
	case c.caller.token == nil:
		return refusal
	case refusal.Code == identity.CodeDelegationMissing, refusal.Code == identity.CodeDelegationExpired:
	case refusal.Code == identity.CodeDelegationWithdrawn && c.caller.token.Has(identity.RoleAdmin):
	default:
		return refusal
	}
	if principal == nil {
		principal = &identity.Principal{ID: s.principal, Status: identity.StatusActive}
	}
	return a.lendFor(c, &request, principal)
}

// mayRenew reports whether the delegation that was found leaves a session less than half the time that it could
// have, and the caller may lend another. Without this a runtime's sessions would shrink to nothing towards the
// end of a delegation that it once lent itself. Where consent was withdrawn once, what is left stays as it is.
func (c *call) mayRenew(s *sessionRequest, found *identity.Delegation) bool {
	wish := c.request.Agent.MaxSessionSeconds
	if s.seconds > 0 {
		wish = min(wish, s.seconds)
	}
	return 2*int64(found.Expires-c.now) < wish*1000 &&
		c.caller.token != nil && !c.view.ConsentBarred(found.Agent, found.Principal)
}

// lendFor makes the delegation that a session is to rest on, unless policy would refuse the session: then nothing is
// written.
func (a *API) lendFor(c *call, request *wire.DelegationRequest, principal *identity.Principal) error {
	provisional, err := c.provisional(request)
	if err != nil {
		return err
	}
	c.request.Principal, c.request.Delegation = principal, &provisional
	if err := a.decide(c); err != nil {
		return err
	}
	var made wire.Delegation
	if err := a.within(c, &lendRoute, lendRoute.Path+"?ensure_principal=true", request, &made); err != nil {
		return err
	}
	// The lease stays the one that the caller was looked up under; what is read from here on is newer.
	c.view = a.FSM.View()
	if c.view.Index() < made.Revision {
		return identity.Errorf(identity.CodeNotFresh, "the delegation was made, but this node has not heard of it yet").
			WithHint("try again in a second")
	}
	agent, alive := c.view.Agent(request.AgentID)
	delegation, found := c.view.Delegation(made.ID)
	principal, known := c.view.Principal(request.PrincipalID)
	if !found || !known || !alive {
		return identity.Errorf(identity.CodeConflict, "the delegation, its principal or its agent went away while the session was being made").
			WithHint("try again")
	}
	c.request.Agent, c.request.Principal, c.request.Delegation = agent, principal, delegation
	return nil
}

// delegation is what a runtime lends for a session: its scopes, for as long as it was asked to last.
func (s *sessionRequest) delegation(agent *identity.Agent) wire.DelegationRequest {
	scopes, seconds := s.scopes, s.seconds
	if scopes == "" {
		scopes = agent.DefaultScopes
	}
	if seconds == 0 {
		seconds = agent.MaxSessionSeconds
	}
	return wire.DelegationRequest{
		PrincipalID: s.principal, AgentID: agent.Name, Scopes: scopes,
		Duration: min(max(seconds, identity.MinDelegationSeconds), identity.MaxDelegationSeconds), Reason: s.reason,
	}
}

// provisional is the delegation that the request would make.
func (c *call) provisional(r *wire.DelegationRequest) (identity.Delegation, error) {
	hops := r.MaxHops
	if hops == 0 {
		hops = identity.MaxChain
	}
	d := identity.Delegation{
		ID: identity.NewID(identity.PrefixDelegation, c.now, c.entropy), Principal: r.PrincipalID, Agent: r.AgentID, Scopes: r.Scopes,
		Created: c.now, Expires: c.now + identity.Instant(r.Duration*1000), MaxHops: uint8(hops), Status: identity.DelegationActive,
	}
	return d, d.Validate()
}

// answerSession mints and answers.
func (a *API) answerSession(c *call, s *sessionRequest) error {
	session := c.grant.Session()
	b := append(c.buf[:0], `{"session_id":`...)
	b = appendJSONString(b, session.ID)
	b = append(b, `,"access_token":"`...)
	b, err := a.mint(c, b)
	if err != nil {
		return err
	}
	issued, expires := session.Issued.Unix(), session.Expires.Unix()
	b = append(b, `","token_type":"`...)
	b = append(b, tokenType(session.Confirmation)...)
	b = append(b, `","expires_at":"`...)
	b = identity.Instant(expires*1000).Time().AppendFormat(b, instantLayout)
	b = append(b, `","expires_in":`...)
	b = strconv.AppendInt(b, expires-issued, 10)
	b = append(b, `,"scope":`...)
	b = appendJSONString(b, session.Scopes)
	b = append(b, `,"agent_id":`...)
	b = appendJSONString(b, session.Actor().Agent)
	b = append(b, `,"principal_user_id":`...)
	if s.principal == "" {
		b = append(b, `null`...)
	} else {
		b = appendJSONString(b, s.principal)
	}
	if session.Delegation != "" {
		b = append(b, `,"delegation_id":`...)
		b = appendJSONString(b, session.Delegation)
	}
	c.buf = append(b, '}')
	return a.answerMint(c, fasthttp.StatusCreated)
}

// instantLayout is how identity.Instant writes itself.
const instantLayout = "2006-01-02T15:04:05.000Z07:00"
