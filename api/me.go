package api

import (
	"errors"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// What users do for themselves. They are known by an ID token of a trusted issuer and see their own delegations and
// nothing else: those of others are not there.

const myDelegationsPath = "/api/v1/me/delegations"

func userRoutes() []Route {
	return []Route{
		{
			Method: "GET", Path: myDelegationsPath, Name: "listMyDelegations", Kind: KindRead, User: true, Query: append([]Param{activeParam}, paging...),
			Response: []wire.Delegation{}, Status: 200, Summary: "List what I have lent to agents, by an ID token", handler: (*API).myDelegations,
		},
		{
			Method: "DELETE", Path: myDelegationsPath + "/{id}", Name: "withdrawMyDelegation", Kind: KindWrite, Kept: true, User: true, Query: reasonQuery,
			Response: wire.Deleted{}, Status: 200, Summary: "Withdraw my consent, by an ID token: end the delegation and what rests on it", handler: (*API).withdrawMine, stops: (*API).stopMine,
		},
	}
}

// identifyUser reads `Authorization: Bearer <ID token>`.
func (c *call) identifyUser() error {
	scheme, token := authorization(c.ctx)
	if !equalFold(scheme, "bearer") || len(token) == 0 {
		return identity.Errorf(identity.CodeUnauthenticated, "the request has no ID token").
			WithHint("send Authorization: Bearer <ID token of a trusted issuer>")
	}
	who, err := c.api.proveUser(c, token, "")
	if err != nil {
		var refusal *identity.Error
		if errors.As(err, &refusal) && refusal.Code == identity.CodeSubjectInvalid {
			return identity.Errorf(identity.CodeUnauthenticated, "%s", refusal.Message).WithHint("%s", refusal.Hint)
		}
		return err
	}
	c.caller = caller{user: &who}
	return nil
}

func (a *API) myDelegations(c *call) error {
	return a.answerDelegations(c, "", c.caller.user.Principal)
}

// mine returns the delegation that the path names, if the user has lent it.
func (c *call) mine() (*identity.Delegation, error) {
	id, err := c.param("id")
	if err != nil {
		return nil, err
	}
	delegation, ok := c.view.Delegation(id)
	if !ok || delegation.Principal != c.caller.user.Principal {
		return nil, notFound("delegation", id)
	}
	return delegation, nil
}

func (a *API) stopMine(c *call) (*stop, error) {
	if _, err := c.mine(); err != nil {
		return &stop{}, nil // the leader may know more
	}
	return a.stopDelegation(c)
}

func (a *API) withdrawMine(c *call) error {
	if _, err := c.mine(); err != nil {
		return err
	}
	return a.withdrawDelegation(c)
}
