package api

import (
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/tokens"
)

var inactive = []byte(`{"active":false}`)

// presented reads the form, lets the caller in, and returns the claims of the token that it asks about, or nil
// where the token is not good, whatever the reason.
func (a *API) presented(c *call, identify func(*call) error) (*tokens.Claims, error) {
	if err := c.readForm(); err != nil {
		return nil, err
	}
	if err := a.enter(c, identify); err != nil {
		return nil, err
	}
	token := c.form.value(formToken)
	if len(token) == 0 {
		return nil, identity.Errorf(identity.CodeInvalid, "the parameter token is missing")
	}
	return a.judged(c, token)
}

// introspect is POST /oauth2/introspect. An application hears only of tokens that are meant for it; of every
// other, good or bad, exactly that it is not active.
func (a *API) introspect(c *call) error {
	claims, err := a.presented(c, (*call).identifyApplication)
	if err != nil {
		return err
	}
	if err := c.toolOf(c.formText(formTool)); err != nil {
		return err
	}
	var active bool
	c.buf, active = c.appendAnswer(c.buf[:0], claims)
	if err := a.accountIntrospection(c, claims, active); err != nil {
		return err
	}
	if err := a.fresh(c); err != nil {
		return err
	}
	a.metrics.introspected[bit(active)].Inc()
	noStore(&c.ctx.Response, fasthttp.StatusOK)
	c.ctx.Response.SetBody(c.buf)
	return nil
}

// appendAnswer appends what the calling application hears of a token, whose claims are nil where it is not good.
func (c *call) appendAnswer(b []byte, claims *tokens.Claims) (_ []byte, active bool) {
	if claims == nil || !claims.HasAudience(c.caller.application.Audience) {
		return append(b, inactive...), false
	}
	return appendIntrospection(b, claims), true
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func appendIntrospection(b []byte, t *tokens.Claims) []byte {
	b = append(b, `{"active":true,"scope":`...)
	b = appendJSONString(b, t.Scopes)
	b = append(b, `,"client_id":`...)
	b = appendJSONString(b, t.ClientID)
	b = append(b, `,"token_type":"`...)
	b = append(b, tokenType(t.Confirmation)...)
	b = append(b, `","exp":`...)
	b = strconv.AppendInt(b, t.Expires, 10)
	b = append(b, `,"iat":`...)
	b = strconv.AppendInt(b, t.IssuedAt, 10)
	b = append(b, `,"sub":`...)
	b = appendJSONString(b, t.Subject)
	b = append(b, `,"aud":`...)
	if len(t.Audience) == 1 {
		b = appendJSONString(b, t.Audience[0])
	} else {
		for i, uri := range t.Audience {
			if i == 0 {
				b = append(b, '[')
			} else {
				b = append(b, ',')
			}
			b = appendJSONString(b, uri)
		}
		b = append(b, ']')
	}
	b = append(b, `,"iss":`...)
	b = appendJSONString(b, t.Issuer)
	b = append(b, `,"jti":`...)
	b = appendJSONString(b, t.JTI)
	b = append(b, `,"sid":`...)
	b = appendJSONString(b, t.SessionID)
	for _, actor := range t.Actors {
		b = append(b, `,"act":{"sub":`...)
		b = appendJSONString(b, actor)
	}
	for range t.Actors {
		b = append(b, '}')
	}
	b = append(b, `,"agent_type":`...)
	b = appendJSONString(b, t.AgentType)
	if t.Confirmation != "" {
		b = append(b, `,"cnf":{"jkt":`...)
		b = appendJSONString(b, t.Confirmation)
		b = append(b, '}')
	}
	return append(b, '}')
}

// tokenType says how a token is to be used: by whoever bears it, or with proofs of a key (RFC 9449 section 5).
func tokenType(confirmation string) string {
	if confirmation == "" {
		return "Bearer"
	}
	return "DPoP"
}

// revokeToken is POST /oauth2/revoke: an agent ends a session of its own, an application one that came to it.
// A token that is no good any more, or never was, is a success (RFC 7009 section 2.2).
func (a *API) revokeToken(c *call) error {
	claims, err := a.presented(c, (*call).identifyEither)
	if err != nil {
		return err
	}
	if claims == nil {
		// Nothing to do, if this node knows all keys and revocations that it should.
		if err := a.fresh(c); err != nil {
			return err
		}
		noStore(&c.ctx.Response, fasthttp.StatusOK)
		return nil
	}
	if !c.mayEnd(claims) {
		return &oauthRefusal{identity.Errorf(identity.CodeForbidden, "the token was neither issued to this client nor meant for it"), "unauthorized_client"}
	}
	handles := []identity.Handle{identity.SessionHandle(claims.SessionID)}
	c.account.kind, c.account.claims = audit.KindRevoke, claims
	body := fsm.Revoke{Handles: handles, Reason: "revoked at the token endpoint by " + c.caller.id()}
	return a.writeStop(c, &stop{handles: handles, keep: body}, func(a *API, c *call) error {
		if _, _, err := stopped[*fsm.Revoked](a, c, body); err != nil {
			return err
		}
		c.command.outcome = outcome{handles: handles}
		noStore(&c.ctx.Response, fasthttp.StatusOK)
		return nil
	})
}

// mayEnd reports whether the client is in the token's chain of agents or in its audience.
func (c *call) mayEnd(t *tokens.Claims) bool {
	if c.caller.application != nil {
		return t.HasAudience(c.caller.application.Audience)
	}
	name := c.caller.agent.Name
	if t.ClientID == name || (t.Principal() == "" && t.Subject == name) {
		return true
	}
	for _, actor := range t.Actors {
		if actor == name {
			return true
		}
	}
	return false
}
