package api

import (
	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
)

// introspectBatch is POST /oauth2/introspect/batch: what introspect answers, for as many tokens as a gateway has at
// hand, in their order. All are judged under one lease: if it has lapsed none of them is answered.
func (a *API) introspectBatch(c *call) error {
	if err := a.enter(c, (*call).identifyByHeader); err != nil {
		return err
	}
	var request wire.IntrospectionBatch
	if err := c.body(&request); err != nil {
		return err
	}
	switch n := len(request.Tokens); {
	case n == 0:
		return invalidField("/tokens", "is empty; send 1 to %d tokens", wire.MaxIntrospectionBatch)
	case n > wire.MaxIntrospectionBatch:
		return invalidField("/tokens", "has %d entries; at most %d are allowed", n, wire.MaxIntrospectionBatch)
	}
	if err := c.toolOf(request.Tool); err != nil {
		return err
	}
	var counts [2]int
	b := append(c.buf[:0], `{"results":[`...)
	for i, token := range request.Tokens {
		if token == "" {
			return invalidField("/tokens", "holds an empty token, at place %d", i)
		}
		claims, err := a.judged(c, []byte(token))
		if err != nil {
			return err
		}
		if i > 0 {
			b = append(b, ',')
		}
		var active bool
		b, active = c.appendAnswer(b, claims)
		if err := a.accountIntrospection(c, claims, active); err != nil {
			return err
		}
		counts[bit(active)]++
	}
	c.buf = append(b, `]}`...)
	if err := a.fresh(c); err != nil {
		return err
	}
	for active, n := range counts {
		a.metrics.introspected[active].Add(float64(n))
	}
	noStore(&c.ctx.Response, fasthttp.StatusOK)
	c.ctx.Response.SetBody(c.buf)
	return nil
}

// identifyByHeader finds the application by HTTP Basic alone: the body is no form.
func (c *call) identifyByHeader() error {
	scheme, rest := authorization(c.ctx)
	if !equalFold(scheme, "basic") {
		return unknownClient("the request has no Basic credentials")
	}
	given, err := c.basicCredentials(rest)
	if err != nil {
		return err
	}
	if !c.proves(given, clientApplication) {
		return unknownClient("the application is unknown, or its secret is wrong or expired")
	}
	return nil
}
