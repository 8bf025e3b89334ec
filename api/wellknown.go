package api

import (
	"bytes"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/proofs"
	"github.com/deputy-id/deputy/tokens"
)

// jwksCache is how long a validator may use the keys without asking again. A node's key is published well
// before its first use, so that a minute's delay is never seen.
const jwksCache = "public, max-age=60"

// noKeys is the document of an empty keyring.
var noKeys = (*tokens.Keyring)(nil).JWKS()

func (a *API) jwks(c *call) error {
	ring := a.Keys()
	if bytes.Equal(ring.JWKS(), noKeys) {
		// Not that there are none, but that this node has heard of none yet.
		if err := a.fresh(c); err != nil {
			return err
		}
	}
	c.ctx.Response.Header.Set(fasthttp.HeaderCacheControl, jwksCache)
	if a.fresh(c) != nil { // keys that came since may be missing
		c.ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
		c.ctx.Response.Header.Set(wire.HeaderFresh, "false")
	}
	if c.notModified(ring.ETag()) {
		return nil
	}
	c.ctx.Response.Header.SetContentType(contentTypeJSON)
	c.ctx.Response.SetBody(ring.JWKS())
	return nil
}

// metadata lists what works, and nothing else (RFC 8414).
func (a *API) metadata(c *call) error {
	issuer := c.view.Settings().Issuer
	if issuer == "" {
		if err := a.fresh(c); err != nil {
			return err
		}
	}
	methods := []string{"client_secret_basic", "client_secret_post", "private_key_jwt"}
	algorithms := words(proofs.Algorithms()...)
	c.ctx.Response.SetStatusCode(fasthttp.StatusOK)
	c.ctx.Response.Header.SetContentType(contentTypeJSON)
	c.ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "public, max-age=300")
	c.ctx.Response.SetBodyRaw(encodeJSON(wire.Metadata{
		Issuer:                           issuer,
		TokenEndpoint:                    issuer + "/oauth2/token",
		JWKSURI:                          issuer + "/.well-known/jwks.json",
		IntrospectionEndpoint:            issuer + "/oauth2/introspect",
		RevocationEndpoint:               issuer + "/oauth2/revoke",
		ResponseTypesSupported:           []string{},
		GrantTypesSupported:              []string{grantClientCredentials, grantExchange, grantCIBA},
		TokenEndpointAuthMethods:         methods,
		IntrospectionEndpointAuthMethods: methods,
		RevocationEndpointAuthMethods:    methods,

		TokenEndpointAuthAlgorithms:         algorithms,
		IntrospectionEndpointAuthAlgorithms: algorithms,
		RevocationEndpointAuthAlgorithms:    algorithms,
		BackchannelEndpoint:                 issuer + backchannelPath,
		BackchannelModes:                    []string{"poll"},

		DPoPAlgorithms: algorithms,
	}))
	return nil
}

func (a *API) serveOpenAPI(c *call) error {
	d, err := a.openapi()
	if err != nil {
		return err
	}
	c.ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "public, max-age=300")
	if c.notModified(d.tag) {
		return nil
	}
	c.ctx.Response.Header.SetContentType(contentTypeJSON)
	c.ctx.Response.SetBodyRaw(d.text)
	return nil
}
