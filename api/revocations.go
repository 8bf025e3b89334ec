package api

import (
	"errors"
	"fmt"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/tokens"
)

func showRevocation(r *identity.Revocation) wire.RevocationRecord {
	return wire.RevocationRecord{
		Handle: r.Handle, Reason: r.Reason, By: r.By, RevokedAt: r.At, ExpiresAt: r.Expires, Index: r.Index,
	}
}

// revocationRequest reads the body of POST /api/v1/revocations, which names one thing, or handles.
func (c *call) revocationRequest() (request wire.RevocationRequest, err error) {
	if err := c.body(&request); err != nil {
		return request, err
	}
	if err := c.wishes(request.Wait); err != nil {
		return request, err
	}
	if err := checkReason(request.Reason); err != nil {
		return request, err
	}
	named := 0
	for _, id := range []string{request.SessionID, request.DelegationID, request.AgentID, request.PrincipalID} {
		if id != "" {
			named++
		}
	}
	if len(request.Handles) > 0 {
		named++
	}
	if named != 1 {
		return request, invalidField("", "names %d things; it must name exactly one of session_id, delegation_id, agent_id, principal_id, handles", named)
	}
	switch {
	case request.Replay && len(request.Handles) == 0:
		return request, invalidField("/replay", "is for handles only")
	case request.SessionID != "":
		if _, err := identity.ParseID(identity.PrefixSession, request.SessionID); err != nil {
			return request, invalidField("/session_id", "%v", err)
		}
	case request.DelegationID != "":
		if _, err := identity.ParseID(identity.PrefixDelegation, request.DelegationID); err != nil {
			return request, invalidField("/delegation_id", "%v", err)
		}
	case len(request.Handles) > 0:
		return request, c.mayRevoke(request.Handles)
	}
	return request, nil
}

// mayRevoke holds a list of handles to its bounds, and the caller to what may be ended by them. Handles name
// anything, also what a provisioner could not end one by one, and API tokens, which are an admin's.
func (c *call) mayRevoke(handles []identity.Handle) error {
	if err := requireRole(c.caller.token, operators); err != nil {
		return err
	}
	if len(handles) > wire.MaxHandles {
		return invalidField("/handles", "has %d entries; at most %d are allowed", len(handles), wire.MaxHandles)
	}
	for i, h := range handles {
		if _, err := identity.ParseHandle(string(h)); err != nil {
			return invalidField(fmt.Sprintf("/handles/%d", i), "%v", err)
		}
		if strings.HasPrefix(string(h), identity.PrefixAPIToken) {
			if err := requireRole(c.caller.token, admins); err != nil {
				return err
			}
		}
	}
	return nil
}

// revoke stops what the request names. Naming an agent or a principal is the kill switch; naming a delegation
// withdraws consent.
func (a *API) revoke(c *call) error {
	request, err := c.revocationRequest()
	if err != nil {
		return err
	}
	switch {
	case request.SessionID != "":
		return a.deny(c, []identity.Handle{identity.SessionHandle(request.SessionID)}, request.Reason)
	case request.DelegationID != "":
		return a.revokeDelegation(c, request.DelegationID, request.Reason)
	case request.AgentID != "":
		change, result, err := stopped[*fsm.AgentChange](a, c, fsm.KillAgent{Name: request.AgentID, Reason: request.Reason})
		if err != nil {
			return err
		}
		return c.answerRevocation(change.Handles, result)
	case request.PrincipalID != "":
		change, result, err := stopped[*fsm.PrincipalChange](a, c, fsm.KillPrincipal{ID: request.PrincipalID, Reason: request.Reason})
		if err != nil {
			return err
		}
		return c.answerRevocation(change.Handles, result)
	default:
		return a.denyBy(c, fsm.Revoke{Handles: request.Handles, Reason: request.Reason, Replay: request.Replay})
	}
}

func (c *call) answerRevocation(handles []identity.Handle, result fsm.Result) error {
	return c.answerStop(&wire.Revocation{Handles: entries(handles), Known: true, Index: result.Index}, handles)
}

// revokeDelegation withdraws a delegation, or denies the handle of one that no node has seen.
func (a *API) revokeDelegation(c *call, id, reason string) error {
	if _, known := c.view.Delegation(id); !known {
		return a.deny(c, []identity.Handle{identity.DelegationHandle(id)}, reason)
	}
	change, result, err := stopped[*fsm.DelegationChange](a, c, fsm.WithdrawDelegation{ID: id, Reason: reason})
	if err != nil {
		return err
	}
	return c.answerRevocation(change.Handles, result)
}

func (a *API) listRevocations(c *call) error {
	limit, err := c.limit()
	if err != nil {
		return err
	}
	revocations := c.view.Revocations(identity.Handle(c.query("after")), limit+1)
	return answerList(c, revocations, limit, showRevocation, func(r *identity.Revocation) string { return string(r.Handle) })
}

// explain tells what the verifier makes of a token, and how each of its handles stands.
func (a *API) explain(c *call) error {
	var request wire.ExplainRequest
	if err := c.body(&request); err != nil {
		return err
	}
	wanted, err := identity.ParseScopes(request.Scope)
	if err != nil {
		return invalidField("/scope", "%v", err)
	}
	token := []byte(request.Token)
	claims, err := a.Verifier.Verify(token)
	answer := wire.Explanation{Active: err == nil, Reason: "good"}
	if err != nil {
		var refusal *tokens.VerifyError
		if !errors.As(err, &refusal) {
			return err
		}
		answer.Reason, answer.Detail = string(refusal.Reason), refusal.Detail
		// Not to be trusted, but what an operator wants to see: the answer says that it is not active.
		if claims, err = tokens.Decode(token); err != nil {
			claims = nil
		}
	}
	if claims != nil {
		answer.Claims = showClaims(claims)
		for _, handle := range claims.Handles() {
			answer.Handles = append(answer.Handles, wire.HandleState{
				Handle: handle, Revoked: a.Revocations.Revoked(handle), Revocation: c.revocation(handle),
			})
		}
	}
	if answer.Active {
		answer.Allowed, answer.Reason, answer.Detail = c.allows(claims, request.Audience, wanted)
		if err := a.explainPolicies(c, &request, wanted, claims, &answer); err != nil {
			return err
		}
	}
	// As with introspection: a node that may have missed a key or a revocation explains nothing.
	if err := a.fresh(c); err != nil {
		return err
	}
	return c.answer(fasthttp.StatusOK, answer)
}

// allows holds a good token to the audience and the scopes that were asked about.
func (c *call) allows(claims *tokens.Claims, audience string, wanted identity.Scopes) (allowed bool, reason, detail string) {
	if audience != "" {
		uri := audience
		if application, ok := c.view.Application(audience); ok {
			uri = application.Audience
		}
		if !claims.HasAudience(uri) {
			return false, "audience", "the token is not meant for " + uri
		}
	}
	if outside := wanted.FirstOutside(claims.Scopes); outside != "" {
		return false, "scope", "the token lacks the scope " + outside
	}
	return true, "good", ""
}

func showClaims(c *tokens.Claims) *wire.Claims {
	return &wire.Claims{
		Issuer: c.Issuer, Subject: c.Subject, Audience: entries(c.Audience), ClientID: c.ClientID, Scope: string(c.Scopes),
		IssuedAt: c.IssuedAt, ExpiresAt: c.Expires, ID: c.JTI, SessionID: c.SessionID, Actors: entries(c.Actors),
		Ancestry: entries(c.Ancestry), AgentType: string(c.AgentType), KeyID: c.KID,
	}
}
