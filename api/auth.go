package api

import (
	"bytes"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/identity"
)

// enter finds out who calls, charges the request to them, and sees to it that the state is as new as the
// request asks for. It waits last, so that nobody waits for free. A credential that this node does not know may
// be one that was made at another node a moment ago: after the wait it is looked up again. A proof that is good
// only once is used up when all that is done.
func (a *API) enter(c *call, identify func(*call) error) error {
	if err := a.find(c, identify); err != nil {
		return err
	}
	return a.useUp(c)
}

func (a *API) find(c *call, identify func(*call) error) error {
	c.identify = identify
	unknown := identify(c)
	if err := a.admit(c); err != nil {
		return err
	}
	if !c.consulted { // nothing was shown that a newer state might know
		return unknown
	}
	moved, err := a.reach(c)
	if err != nil {
		return err
	}
	if !moved {
		return unknown
	}
	return c.identifyAgain()
}

// identifyAgain finds the caller in another view than before.
func (c *call) identifyAgain() error {
	c.caller, c.assertion = caller{}, nil
	return c.identify(c)
}

// authorize finds out who calls an admin route and whether they may.
func (a *API) authorize(c *call) error {
	if c.route.User {
		return a.enter(c, (*call).identifyUser)
	}
	if c.asApplication() {
		return a.enter(c, (*call).identifyValidator)
	}
	identify := (*call).identifyToken
	if c.route.Clients {
		identify = (*call).identifyAsker
	}
	if err := a.enter(c, identify); err != nil {
		return err
	}
	return c.mayCall()
}

// mayCall wants of the holder of an API token one of the route's roles. Of what agents and applications may do, where
// they may call it at all, the handler knows.
func (c *call) mayCall() error {
	if c.caller.token == nil && c.route.Clients {
		return nil
	}
	return requireRole(c.caller.token, c.route.Roles)
}

// requireRole wants any one of the roles, if there are any; admin stands for all.
func requireRole(token *identity.APIToken, roles []identity.Role) error {
	if len(roles) == 0 {
		return nil
	}
	for _, role := range roles {
		if token.Has(role) {
			return nil
		}
	}
	names := make([]string, len(roles))
	for i, role := range roles {
		names[i] = string(role)
	}
	return identity.Errorf(identity.CodeForbidden, "API token %s lacks the role: this needs %s", token.ID, strings.Join(names, " or ")).
		WithHint("an admin can make a token that has it: deputy api-token create --role %s", names[0])
}

// identifyToken reads `Authorization: SSWS …` or `Bearer …`.
func (c *call) identifyToken() error {
	scheme, secret := authorization(c.ctx)
	if !equalFold(scheme, "ssws") && !equalFold(scheme, "bearer") || len(secret) == 0 {
		return identity.Errorf(identity.CodeUnauthenticated, "the request has no API token").
			WithHint("send Authorization: SSWS <token>")
	}
	c.consulted = true
	token, ok := c.view.APITokenByHash(identity.HashSecret(textOf(secret)))
	if !ok || !token.ActiveAt(c.now) {
		return identity.Errorf(identity.CodeUnauthenticated, "the API token is unknown, deleted or expired")
	}
	if token.Imported && c.view.Closed() != "" {
		return identity.Errorf(identity.CodeUnauthenticated, "the API token comes from the backup, and may have been deleted since").
			WithHint("use one of this cluster's own until `deputy cluster open`")
	}
	c.caller = caller{token: token, credential: token.ID}
	return nil
}

// authorization splits the header into scheme and credentials. Two such headers are none: another server on
// the way may have looked at the other one.
func authorization(ctx *fasthttp.RequestCtx) (scheme, rest []byte) {
	headers := ctx.Request.Header.PeekAll(fasthttp.HeaderAuthorization)
	if len(headers) != 1 {
		return nil, nil
	}
	scheme, rest, _ = bytes.Cut(headers[0], []byte{' '})
	return scheme, bytes.TrimSpace(rest)
}

// challenge is the WWW-Authenticate of a 401.
func (r *Route) challenge(c *call) string {
	if r.speaksOAuth() {
		return `Basic realm="deputy"`
	}
	if c.asApplication() {
		return `Basic realm="deputy"`
	}
	if scheme, _ := authorization(c.ctx); len(scheme) > 0 {
		return `Bearer realm="deputy", error="invalid_token"`
	}
	return `Bearer realm="deputy"`
}
