package api

import (
	"bytes"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/tokens"
)

const (
	grantExchange = "urn:ietf:params:oauth:grant-type:token-exchange"

	typeAccessToken = "urn:ietf:params:oauth:token-type:access_token"
	typeJWT         = "urn:ietf:params:oauth:token-type:jwt"
	typeIDToken     = "urn:ietf:params:oauth:token-type:id_token"
	typeDelegation  = "urn:deputy:params:oauth:token-type:delegation"
)

// exchange fills in what the session rests on from the subject of a token exchange (RFC 8693): a user, proven by an ID
// token; a delegation; or a parent session, from which the calling agent is one more hop. Policy decides on the rest.
func (a *API) exchange(c *call) error {
	form := &c.form
	switch requested := form.value(formRequestedType); textOf(requested) {
	case "", typeAccessToken, typeJWT:
	default:
		return identity.Errorf(identity.CodeInvalid, "the parameter requested_token_type is %.100q; only access tokens are issued", requested).
			WithHint("leave it out, or send %s", typeAccessToken)
	}
	subject := form.value(formSubjectToken)
	if len(subject) == 0 {
		return identity.Errorf(identity.CodeInvalid, "the parameter subject_token is missing")
	}
	if err := a.checkActor(c); err != nil {
		return err
	}
	switch kind := form.value(formSubjectType); textOf(kind) {
	case typeIDToken:
		return a.actForUser(c, subject)
	case typeDelegation:
		return a.actUnder(c, string(subject))
	case typeAccessToken, typeJWT:
		return a.hop(c, subject)
	case "":
		return identity.Errorf(identity.CodeInvalid, "the parameter subject_token_type is missing")
	default:
		return identity.Errorf(identity.CodeInvalid, "the parameter subject_token_type is %.100q, which is not supported", kind).
			WithHint("it may be %s, %s, %s or %s", typeIDToken, typeDelegation, typeAccessToken, typeJWT)
	}
}

// checkActor holds an actor_token, which need not be there, to be a session token of the client's own: it is the client
// that acts.
func (a *API) checkActor(c *call) error {
	form := &c.form
	token, kind := form.value(formActorToken), form.value(formActorType)
	switch {
	case len(token) == 0 && len(kind) == 0:
		return nil
	case len(token) == 0 || len(kind) == 0:
		return identity.Errorf(identity.CodeInvalid, "the parameters actor_token and actor_token_type come together or not at all")
	case textOf(kind) != typeAccessToken && textOf(kind) != typeJWT:
		return identity.Errorf(identity.CodeInvalid, "the parameter actor_token_type is %.100q, which is not supported", kind).
			WithHint("it may be %s or %s; or leave both out: the client acts", typeAccessToken, typeJWT)
	}
	claims, err := a.shown(c, token, "actor_token")
	if err != nil {
		return err
	}
	if claims.ClientID != c.caller.agent.Name {
		return unacceptable("actor_token", "it is another agent's; the client that asks is the one that acts")
	}
	return nil
}

// shown returns the claims of a session token that was sent in a parameter.
func (a *API) shown(c *call, token []byte, parameter string) (*tokens.Claims, error) {
	claims, err := a.judged(c, token)
	if err != nil {
		return nil, err
	}
	if claims == nil {
		return nil, unacceptable(parameter, "it is no token of this server, has ended or was revoked").
			WithHint("POST /api/v1/tokens/explain tells an auditor which")
	}
	if err := c.mayShow(claims.Confirmation, parameter); err != nil {
		return nil, err
	}
	return claims, nil
}

// unacceptable is a subject or actor token that is not good (RFC 8693 section 2.2.2).
func unacceptable(parameter, why string) *identity.Error {
	return identity.Errorf(identity.CodeSubjectInvalid, "the %s can't be accepted: %s", parameter, why)
}

// actForUser has the agent act for the user that an ID token names, under a delegation of theirs.
func (a *API) actForUser(c *call, token []byte) error {
	user, err := a.proveUser(c, token, c.formText(formNonce))
	if err != nil {
		return err
	}
	if !user.allows(c.view.Settings().Issuer, c.caller.agent.Name) {
		return unacceptable("subject_token", "its may_act names another agent")
	}
	lent, refusal := c.view.ActiveDelegation(c.caller.agent.Name, user.Principal, c.request.Requested, c.now)
	if refusal != nil {
		return refusal
	}
	c.lent = lent
	c.request.Principal, c.request.Delegation = lent.Principal, &c.lent.Delegation
	return nil
}

// actUnder has the agent act under a delegation that it names. One that was lent to another agent is none to it.
func (a *API) actUnder(c *call, id string) error {
	delegation, ok := c.view.Delegation(id)
	if !ok || delegation.Agent != c.caller.agent.Name {
		return unacceptable("subject_token", "there is no such delegation to this agent")
	}
	principal, ok := c.view.Principal(delegation.Principal)
	if !ok {
		return unacceptable("subject_token", "the principal of the delegation is not there any more")
	}
	c.request.Principal, c.request.Delegation = principal, delegation
	return nil
}

// hop has the agent act as the sub-agent of a parent session: never with more scope, time or reach than that has.
func (a *API) hop(c *call, token []byte) error {
	claims, err := a.shown(c, token, "subject_token")
	if err != nil {
		return err
	}
	c.under(claims.Session(), claims.Handles())
	return nil
}

// under has the request be a hop from a parent session, for its principal and under its delegation. Where either of
// these is gone, policy says so.
func (c *call) under(parent *identity.Session, handles []identity.Handle) {
	c.request.Parent, c.request.ParentHandles = parent, handles
	if parent.Principal == "" {
		return
	}
	if principal, ok := c.view.Principal(parent.Principal); ok {
		c.request.Principal = principal
		if delegation, ok := c.view.Delegation(parent.Delegation); ok {
			c.request.Delegation = delegation
		}
	}
}

// readAudience takes audience (RFC 8693 section 2.1), the name or URI of an application, and resource (RFC 8707 section
// 2), which is a URI. Both may come several times.
func (c *call) readAudience() error {
	for name, value := range c.form.all() {
		resource := name == formResource
		if !resource && name != formAudience || len(value) == 0 {
			continue
		}
		if resource && bytes.IndexByte(value, ':') < 0 {
			return identity.Errorf(identity.CodeUnknownAudience, "the parameter resource is %.100q; it must be an absolute URI (RFC 8707 section 2)", value).
				WithHint("send the audience URI of an application, or its name as audience")
		}
		if len(c.audience) >= identity.MaxApplications {
			return identity.Errorf(identity.CodeInvalid, "more than %d audiences were asked for", identity.MaxApplications)
		}
		c.audience = append(c.audience, string(value))
	}
	return nil
}
