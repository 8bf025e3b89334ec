package api

import (
	"encoding/json"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/proofs"
)

const issuersPath = "/api/v1/trusted-issuers"

func issuerRoutes() []Route {
	return []Route{
		{
			Method: "POST", Path: issuersPath, Name: "trustIssuer", Kind: KindWrite, Roles: admins, Query: writeQuery,
			Request: wire.TrustedIssuerRequest{}, Response: wire.TrustedIssuer{}, Status: 201, Summary: "Take an OpenID Connect issuer's word for who a user is", handler: (*API).trustIssuer,
		},
		{
			Method: "GET", Path: issuersPath, Name: "listTrustedIssuers", Kind: KindRead, Roles: readers, Query: paging,
			Response: []wire.TrustedIssuer{}, Status: 200, Summary: "List trusted issuers by id", handler: (*API).listIssuers,
		},
		{
			Method: "GET", Path: issuersPath + "/{id}", Name: "getTrustedIssuer", Kind: KindRead, Roles: readers,
			Response: wire.TrustedIssuer{}, Status: 200, Summary: "Get a trusted issuer", handler: (*API).getIssuer,
		},
		{
			Method: "DELETE", Path: issuersPath + "/{id}", Name: "distrustIssuer", Kind: KindWrite, Roles: admins, Query: writeQuery,
			Response: wire.Deleted{}, Status: 200, Summary: "Take an issuer's word no longer; what it has begun goes on", handler: (*API).distrustIssuer,
		},
	}
}

func showIssuer(t *identity.TrustedIssuer) wire.TrustedIssuer {
	return wire.TrustedIssuer{
		ID: t.ID, Issuer: t.Issuer, ClientIDs: entries(t.Clients), PrincipalClaim: t.Principal, EmailDomains: t.Domains,
		MaxAgeSeconds: t.MaxAge, JWKS: rawKeys(t.Keys), JWKSURI: t.KeysURI, CreatedAt: t.Created, Revision: t.Revision,
	}
}

// publicKeys reads a JWKS, or one JWK, of a request, and spells it for the log.
func publicKeys(pointer string, given json.RawMessage) (string, error) {
	if len(given) == 0 {
		return "", nil
	}
	keys, err := proofs.ParseKeys(given)
	if err != nil {
		return "", invalidField(pointer, "%v", err)
	}
	return string(keys.Canonical()), nil
}

func (a *API) trustIssuer(c *call) error {
	var request wire.TrustedIssuerRequest
	if err := c.body(&request); err != nil {
		return err
	}
	keys, err := publicKeys("/jwks", request.JWKS)
	if err != nil {
		return err
	}
	issuer := identity.TrustedIssuer{
		ID: c.newID(identity.PrefixIssuer), Issuer: request.Issuer, Clients: sortedSet(request.ClientIDs),
		Principal: request.PrincipalClaim, Domains: sortedSet(request.EmailDomains), MaxAge: request.MaxAgeSeconds,
		Keys: keys, KeysURI: request.JWKSURI, Created: c.now,
	}
	if issuer.Principal == "" {
		issuer.Principal = identity.ClaimEmail
	}
	if issuer.MaxAge == 0 {
		issuer.MaxAge = identity.DefaultIDTokenAgeSeconds
	}
	if err := issuer.Validate(); err != nil {
		return err
	}
	if issuer.Issuer == c.view.Settings().Issuer {
		return invalidField("/issuer", "is this cluster itself, whose tokens are no ID tokens")
	}
	trusted, _, err := proposed[*identity.TrustedIssuer](a, c, fsm.TrustIssuer{Issuer: issuer})
	if err != nil {
		return err
	}
	return c.created(issuersPath, trusted.ID, showIssuer(trusted))
}

func (a *API) listIssuers(c *call) error {
	limit, err := c.limit()
	if err != nil {
		return err
	}
	list := c.view.TrustedIssuers(c.query("after"), limit+1)
	return answerList(c, list, limit, showIssuer, func(t *identity.TrustedIssuer) string { return t.ID })
}

func (a *API) getIssuer(c *call) error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	issuer, ok := c.view.TrustedIssuer(id)
	if !ok {
		return notFound("trusted issuer", id)
	}
	return c.answer(fasthttp.StatusOK, showIssuer(issuer))
}

func (a *API) distrustIssuer(c *call) error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	gone, result, err := stopped[*identity.TrustedIssuer](a, c, fsm.DistrustIssuer{ID: id})
	if err != nil {
		return err
	}
	return c.answerStop(&wire.Deleted{ID: gone.ID, Known: true, Index: result.Index}, nil)
}
