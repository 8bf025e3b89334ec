package api

import (
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

const (
	backchannelPath = "/oauth2/bc-authorize"
	grantCIBA       = "urn:openid:params:grant-type:ciba"

	// pollInterval is what a client has to leave between two polls (CIBA section 7.3), and by how much more each time that
	// it does not (section 11).
	pollInterval    = 5 * time.Second
	longestInterval = 60 * time.Second
	// maxPaces bounds the approvals whose polls are remembered: all that can be pending for a hundred agents.
	maxPaces = identity.MaxApprovals
)

// Parameters of CIBA.
const (
	formAuthRequestID  = "auth_req_id"
	formLoginHint      = "login_hint"
	formBindingMessage = "binding_message"
	formExpiry         = "requested_expiry"
	formApprovalID     = "approval_id"
)

// backchannel is POST /oauth2/bc-authorize (OpenID Connect CIBA section 7): an agent asks a human for an approval of a
// session ahead of it. What no approval could make possible is refused here, so that nobody is asked for nothing.
func (a *API) backchannel(c *call) error {
	if err := c.readForm(); err != nil {
		return err
	}
	c.account.kind = audit.KindApproval
	if err := a.enter(c, (*call).identifyAgent); err != nil {
		return err
	}
	form := &c.form
	for _, name := range []string{"login_hint_token", "id_token_hint", "request"} {
		if form.has(name) {
			return identity.Errorf(identity.CodeInvalid, "the parameter %s is not supported", name).
				WithHint("name the principal with login_hint, or leave it out for an autonomous run")
		}
	}
	scopes, err := identity.ParseScopes(c.formText(formScope))
	if err != nil {
		return &oauthRefusal{identity.Errorf(identity.CodeInvalid, "the parameter scope %v", err), "invalid_scope"}
	}
	if err := c.readAudience(); err != nil {
		return err
	}
	c.request.Agent, c.request.Credential = c.caller.agent, c.caller.credential
	c.request.Requested, c.request.Audience = scopes, c.audience
	if c.request.MaxSeconds, err = c.formSeconds(formMaxDuration); err != nil {
		return err
	}
	expiry, err := c.formSeconds(formExpiry)
	if err != nil {
		return err
	}
	c.request.TriggerReason = c.formText(formBindingMessage)
	if len(c.request.TriggerReason) > identity.MaxReasonLength {
		return &oauthRefusal{
			identity.Errorf(identity.CodeInvalid, "the parameter binding_message has %d bytes; at most %d are allowed", len(c.request.TriggerReason), identity.MaxReasonLength),
			"invalid_binding_message",
		}
	}
	if principal := c.formText(formLoginHint); principal != "" {
		c.account.user = principal
		if err := c.underDelegation(principal); err != nil {
			return err
		}
	}
	needs := a.decideAlone(c)
	if needs != nil && identity.CodeOf(needs) != identity.CodeApprovalRequired {
		return needs
	}
	wanted := wantedFor(&c.request, policy.SessionBinding(&c.request), "")
	if needs != nil {
		wanted.Policy = asError(needs).Policy
	}
	if expiry > 0 {
		wanted.Expires = c.now + identity.Instant(min(max(expiry, identity.MinApprovalSeconds), identity.MaxApprovalSeconds)*1000)
	}
	asked, err := a.requireApproval(c, wanted)
	if err != nil {
		return err
	}
	c.account.approval = asked.ID
	if asked.Status == identity.ApprovalDenied {
		return denied(asked)
	}
	return c.answer(fasthttp.StatusOK, wire.Backchannel{
		AuthRequestID: asked.ID, ExpiresIn: max(int64(asked.Expires-c.now)/1000, 1), Interval: int64(pollInterval / time.Second),
	})
}

// underDelegation has the request be on behalf of a principal.
func (c *call) underDelegation(principal string) error {
	lent, refusal := c.view.ActiveDelegation(c.request.Agent.Name, principal, c.request.Requested, c.now)
	if refusal != nil {
		return refusal
	}
	c.lent = lent
	c.request.Principal, c.request.Delegation = lent.Principal, &c.lent.Delegation
	return nil
}

// redeem fills in the request for a session from the approval that the client polls for, once somebody has said yes (CIBA
// section 10.1). The mint uses the approval up.
func (a *API) redeem(c *call) error {
	id := c.formText(formAuthRequestID)
	if id == "" {
		return identity.Errorf(identity.CodeInvalid, "the parameter auth_req_id is missing")
	}
	approval, ok := c.view.Approval(id)
	if !ok && c.mayBeYoung(id) {
		return awaited("authorization_pending", "this node has not heard of the request yet")
	}
	if !ok || approval.Agent != c.caller.agent.Name {
		return badGrant("there is no such auth_req_id of this client")
	}
	switch {
	case approval.Kind != identity.ApprovalSession || approval.Parent != "":
		return badGrant("the approval is not for a session of the client's own").
			hint("repeat the request that was refused; it finds its approval by itself")
	case approval.Status == identity.ApprovalConsumed:
		return badGrant("the auth_req_id was used; it is good for one token")
	case approval.Generation != c.caller.agent.Generation:
		return badGrant("the agent was stopped since it asked").hint("ask again")
	case approval.Status == identity.ApprovalDenied:
		return denied(approval)
	case c.now >= approval.Expires:
		return &oauthRefusal{identity.Errorf(identity.CodeConflict, "the auth_req_id has expired").WithHint("ask again").WithApproval(id), "expired_token"}
	case approval.Status == identity.ApprovalPending:
		if wait := a.paces.poll(id, a.Clock()); wait > 0 {
			return awaited("slow_down", "nobody has decided yet, and the last poll was too short a time ago; leave "+
				strconv.Itoa(int(wait/time.Second))+" seconds between two of them")
		}
		return awaited("authorization_pending", "nobody has decided yet")
	}
	c.request.Agent, c.request.Credential = c.caller.agent, c.caller.credential
	c.request.Requested, c.request.Audience = approval.Scopes, approval.Audience
	c.request.TriggerReason, c.request.MaxSeconds = approval.Reason, approval.Seconds
	if approval.Principal != "" {
		if err := c.underDelegation(approval.Principal); err != nil {
			return err
		}
	}
	c.granted, c.redeems = approval, true
	return nil
}

// mayBeYoung reports whether an id that this node does not know was made so lately that it may only not have heard of it.
func (c *call) mayBeYoung(id string) bool {
	made, err := idTime(identity.PrefixApproval, id)
	return err == nil && c.now < made.Add(c.view.LeaseBound()) && made < c.now.Add(c.view.LeaseBound())
}

// awaited is the answer to a poll that comes to nothing yet (CIBA section 11).
func awaited(name, text string) error {
	return &oauthRefusal{identity.Errorf(identity.CodeApprovalRequired, "%s", text), name}
}

func badGrant(text string) *oauthRefusal {
	return &oauthRefusal{identity.Errorf(identity.CodeConflict, "%s", text), "invalid_grant"}
}

func (r *oauthRefusal) hint(text string) *oauthRefusal {
	return &oauthRefusal{r.err.WithHint("%s", text), r.name}
}

// paces remembers how often clients poll this node for what is pending. Another node does not know of it: the pace
// protects a node, and no decision rests on it.
type paces struct {
	mu    sync.Mutex
	last  map[string]pace
	swept time.Time // when all that had not polled for a while were last forgotten
}

type pace struct {
	at       time.Time
	interval time.Duration
}

// poll notes a poll. Where it came too early it returns the interval that the client has to keep from now on.
func (p *paces) poll(id string, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.last[id]
	if !ok {
		p.makeRoom(now)
		p.last[id] = pace{now, pollInterval}
		return 0
	}
	early := now.Sub(known.at) < known.interval
	if early {
		known.interval = min(known.interval+pollInterval, longestInterval)
	}
	p.last[id] = pace{now, known.interval}
	if early {
		return known.interval
	}
	return 0
}

// makeRoom forgets those that have not polled for a while, at most once in that while, or any where all have.
func (p *paces) makeRoom(now time.Time) {
	if p.last == nil {
		p.last = make(map[string]pace)
	}
	if len(p.last) < maxPaces {
		return
	}
	if now.Sub(p.swept) >= longestInterval {
		p.swept = now
		for id, known := range p.last {
			if now.Sub(known.at) >= longestInterval {
				delete(p.last, id)
			}
		}
	}
	for id := range p.last {
		if len(p.last) < maxPaces {
			return
		}
		delete(p.last, id)
	}
}
