package api

import (
	"fmt"
	"io"
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

const (
	tokenPath              = "/oauth2/token"
	grantClientCredentials = "client_credentials"
)

// token is POST /oauth2/token. It reads one View, writes nothing, and checks as the last thing that this node
// may speak.
func (a *API) token(c *call) error {
	if err := c.readForm(); err != nil {
		return err
	}
	c.account.kind = audit.KindMint
	if err := a.enter(c, (*call).identifyAgent); err != nil {
		return err
	}
	form := &c.form
	exchanges := false
	switch grant := form.value(formGrantType); string(grant) {
	case grantClientCredentials:
	case grantExchange:
		exchanges, c.account.kind = true, audit.KindExchange
	case grantCIBA:
		return a.tokenForApproval(c)
	case "":
		return identity.Errorf(identity.CodeInvalid, "the parameter grant_type is missing").
			WithHint("send grant_type=%s, %s or %s", grantClientCredentials, grantExchange, grantCIBA)
	default:
		return &oauthRefusal{identity.Errorf(identity.CodeInvalid, "the grant type %.64q is not supported", grant).
			WithHint("the metadata lists those that are"), "unsupported_grant_type"}
	}
	scopes, err := identity.ParseScopes(c.formText(formScope))
	if err != nil {
		return &oauthRefusal{identity.Errorf(identity.CodeInvalid, "the parameter scope %v", err), "invalid_scope"}
	}
	if err := c.readAudience(); err != nil {
		return err
	}
	seconds, err := c.formSeconds(formMaxDuration)
	if err != nil {
		return err
	}
	c.request.Agent, c.request.Credential = c.caller.agent, c.caller.credential
	c.request.Requested, c.request.Audience = scopes, c.audience
	c.request.TriggerReason, c.request.MaxSeconds = c.formText(formTriggerReason), seconds
	if len(c.request.TriggerReason) > identity.MaxReasonLength {
		return invalidParameter("trigger_reason", "has %d bytes; at most %d are allowed", len(c.request.TriggerReason), identity.MaxReasonLength)
	}
	c.approvalID = c.formText(formApprovalID)
	if err := a.confirm(c); err != nil {
		return err
	}
	if exchanges {
		if err := a.exchange(c); err != nil {
			return err
		}
	}
	return a.answerToken(c, exchanges)
}

// tokenForApproval mints what a human has approved.
func (a *API) tokenForApproval(c *call) error {
	if err := a.redeem(c); err != nil {
		return err
	}
	if err := a.confirm(c); err != nil {
		return err
	}
	return a.answerToken(c, false)
}

// answerToken decides, mints and answers.
func (a *API) answerToken(c *call, exchanges bool) error {
	if err := a.decide(c); err != nil {
		return err
	}
	b, err := a.mint(c, append(c.buf[:0], `{"access_token":"`...))
	if err != nil {
		return err
	}
	session := c.grant.Session()
	b = append(b, `","token_type":"`...)
	b = append(b, tokenType(session.Confirmation)...)
	b = append(b, `","expires_in":`...)
	b = strconv.AppendInt(b, session.Expires.Unix()-session.Issued.Unix(), 10)
	b = append(b, `,"scope":`...)
	b = appendJSONString(b, session.Scopes)
	b = append(b, `,"session_id":`...)
	b = appendJSONString(b, session.ID)
	if exchanges {
		b = append(b, `,"issued_token_type":"`+typeAccessToken+`"`...)
	}
	c.buf = append(b, '}')
	return a.answerMint(c, fasthttp.StatusOK)
}

// decide asks policy for the session that the call's request describes, and a human where policy wants one.
func (a *API) decide(c *call) error {
	err := a.decideAlone(c)
	if err == nil || identity.CodeOf(err) != identity.CodeApprovalRequired {
		return err
	}
	return a.decideApproved(c, err)
}

// decideAlone asks policy, where anything may be minted at all.
func (a *API) decideAlone(c *call) error {
	if err := a.mayMint(c.view); err != nil {
		return err
	}
	if err := a.prepare(c); err != nil {
		return err
	}
	return a.Policy.Decide(&c.request, &c.grant)
}

// prepare completes the call's request with what is the same for every one of them. What is only simulated goes through
// here, too.
func (a *API) prepare(c *call) error {
	if _, err := io.ReadFull(a.Entropy, c.entropy[:]); err != nil {
		return fmt.Errorf("drawing a session id: %w", err)
	}
	settings := c.view.Settings()
	c.request.Now, c.request.SessionID = c.now, identity.NewID(identity.PrefixSession, c.now, c.entropy)
	c.request.Applications, c.request.Issuer = viewApplications{c.view}, settings.Issuer
	c.request.OfflineTTLSeconds, c.request.SourceIP = settings.OfflineTTLSeconds, c.source
	c.request.Policies, c.request.Approval = a.policiesOf(c), c.granted
	return nil
}

// viewApplications is a View as policy wants it.
type viewApplications struct{ *fsm.View }

// answerMint sends what is in the call's buffer, if this node may still speak.
func (a *API) answerMint(c *call, status int) error {
	if err := a.recorded(c); err != nil {
		return c.spent(err)
	}
	if err := a.fresh(c); err != nil {
		c.account.closed = false
		return c.spent(err)
	}
	run := mintAutonomous
	if c.request.Principal != nil {
		run = mintDelegated
	}
	a.metrics.mints[run].Inc()
	a.Sessions.Started(c.grant.Session(), c.grant.Handles(), c.signedBy)
	noStore(&c.ctx.Response, status)
	c.ctx.Response.SetBody(c.buf)
	return nil
}

// noStore prepares an answer that no cache may keep (RFC 6749 section 5.1).
func noStore(r *fasthttp.Response, status int) {
	r.SetStatusCode(status)
	r.Header.SetContentTypeBytes(valueJSON)
	r.Header.SetCanonical(headerCacheControl, valueNoStore)
}
