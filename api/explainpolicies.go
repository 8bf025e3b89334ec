package api

import (
	"net/netip"
	"slices"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
	"github.com/deputy-id/deputy/tokens"
)

// explainPolicies adds what policies say to what a good token is asked about. They decide on the call of a tool. That a
// session like the token's could not be started any more does not make the token bad, so then they are only told.
func (a *API) explainPolicies(c *call, r *wire.ExplainRequest, wanted identity.Scopes, claims *tokens.Claims, answer *wire.Explanation) error {
	if r.Tool == "" && r.Audience == "" && wanted == "" {
		return nil
	}
	var source netip.Addr
	if r.SourceIP != "" {
		var err error
		if source, err = netip.ParseAddr(r.SourceIP); err != nil {
			return invalidField("/source_ip", "is %.64q; it must be an IP address", r.SourceIP)
		}
	}
	switch {
	case r.Tool != "" && r.Audience == "":
		return invalidField("/audience", "is missing: whose tool is it?")
	case len(r.Tool) > maxToolName:
		return invalidField("/tool", "has %d bytes; at most %d are allowed", len(r.Tool), maxToolName)
	}
	if err := validToolCall("", r.ArgumentsHash); err != nil {
		return invalidField("/arguments_hash", "%v", err)
	}
	session := claims.Session()
	if r.Tool == "" {
		x, err := a.explainRenewal(c, session, r.Audience, wanted, source)
		if x != nil {
			answer.Policies = showOutcomes(x.Policies)
		}
		return err
	}
	request, refusal := a.toolRequest(c, session)
	if refusal != nil {
		answer.Allowed, answer.Reason, answer.Detail = false, string(refusal.Code), refusal.Message
		return nil
	}
	request.Tool = policy.Tool{Name: r.Tool, Application: r.Audience}
	request.ArgumentsHash, request.SourceIP = r.ArgumentsHash, source
	x := a.Policy.ExplainTool(request)
	answer.Policies = showOutcomes(x.Policies)
	if answer.Allowed && !x.Allowed {
		answer.Allowed, answer.Reason, answer.Detail, answer.PolicyID = false, string(x.Refusal.Code), x.Refusal.Message, x.Refusal.Policy
	}
	return nil
}

// explainRenewal explains how a session that is like another would fare, were it started now. It returns nil where the
// agent is not there any more.
func (a *API) explainRenewal(c *call, s *identity.Session, audience string, wanted identity.Scopes, source netip.Addr) (*policy.Explanation, error) {
	agent, ok := c.view.Agent(s.Actor().Agent)
	if !ok {
		return nil, nil
	}
	c.request = policy.Request{
		Agent: agent, Credential: s.Credential, Requested: s.Scopes, Audience: slices.Clone(s.Audience), Confirmation: s.Confirmation,
		MaxSeconds: int64(s.Expires-s.Issued) / 1000,
	}
	if wanted != "" {
		c.request.Requested = wanted
	}
	if audience != "" {
		c.request.Audience = []string{audience}
	} else if slices.Contains(s.Audience, c.view.Settings().Issuer) {
		c.request.Audience = nil // the token is for no application
	}
	if len(s.Chain) > 1 {
		parent := *s
		parent.Chain = s.Chain[:len(s.Chain)-1]
		c.under(&parent, []identity.Handle{identity.SessionHandle(s.ID)})
	} else if s.Principal != "" {
		if principal, ok := c.view.Principal(s.Principal); ok {
			c.request.Principal = principal
			if delegation, ok := c.view.Delegation(s.Delegation); ok {
				c.request.Delegation = delegation
			}
		}
	}
	if err := a.prepare(c); err != nil {
		return nil, err
	}
	c.request.SourceIP = source
	return a.Policy.Explain(&c.request), nil
}
