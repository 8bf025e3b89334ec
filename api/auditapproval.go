package api

import (
	"strings"

	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/identity"
)

// tellApproval fills in what the approval is about that was asked for, decided on or used up.
func (c *call) tellApproval(r *audit.Record) {
	id, named := strings.CutPrefix(r.Target, "approvals/")
	if !named {
		return
	}
	r.Approval = id
	x, ok := c.api.FSM.View().Approval(id)
	if !ok {
		return
	}
	r.Agent, r.Principal, r.Session, r.Scope = x.Agent, x.Principal, x.Session, string(x.Scopes)
	r.Tool, r.ArgumentsHash, r.Audience, r.Expires = x.Tool, x.ArgumentsHash, x.Audience, x.Expires
	if x.Kind == identity.ApprovalTool {
		r.Audience = append(r.Audience, x.Application)
	}
	if x.Policy != "" {
		r.Policies = append(c.account.policies[:0], x.Policy)
	}
	if r.Detail = x.Reason; x.Note != "" && c.route.Name != askRoute.Name {
		r.Detail = x.Note
	}
}
