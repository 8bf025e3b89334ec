package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/deputy-id/deputy/api/wire"
)

const (
	agentsPath       = "/api/v1/agents"
	principalsPath   = "/api/v1/principals"
	applicationsPath = "/api/v1/applications"
)

// secretQuery asks a create for one secret along with the object.
func secretQuery(withSecret bool) url.Values {
	if withSecret {
		return url.Values{"credentials": {"secret"}}
	}
	return nil
}

// CreateAgent makes an agent; withSecret also makes one credential, whose secret is in the answer, once.
// The body is a *wire.AgentRequest, or a json.RawMessage.
func (c *Client) CreateAgent(ctx context.Context, body any, withSecret bool) (*wire.Agent, error) {
	return write[wire.Agent](ctx, c, http.MethodPost, agentsPath, secretQuery(withSecret), body)
}

// Agent reads one agent.
func (c *Client) Agent(ctx context.Context, name string) (*wire.Agent, error) {
	return get[wire.Agent](ctx, c, at(agentsPath, name))
}

// Agents lists agents by name.
func (c *Client) Agents(ctx context.Context, l List) (*Page[wire.Agent], error) {
	return page[wire.Agent](ctx, c, agentsPath, l.query())
}

// ReplaceAgent puts the body, a *wire.AgentRequest or a json.RawMessage, in the place of what was there.
// With revoke it also ends the agent's sessions, which a narrower profile leaves alone.
func (c *Client) ReplaceAgent(ctx context.Context, name string, body any, revoke bool, options ...Option) (*wire.Agent, error) {
	return write[wire.Agent](ctx, c, http.MethodPut, at(agentsPath, name), flagQuery("revoke", revoke), body, options...)
}

// PatchAgent applies a JSON merge patch (RFC 7396) to an agent. With revoke it also ends the agent's
// sessions, which a narrower profile leaves alone.
func (c *Client) PatchAgent(ctx context.Context, name string, patch any, revoke bool, options ...Option) (*wire.Agent, error) {
	return write[wire.Agent](ctx, c, http.MethodPatch, at(agentsPath, name), flagQuery("revoke", revoke), patch, options...)
}

// DeleteAgent removes an agent, which ends every token that rests on it.
func (c *Client) DeleteAgent(ctx context.Context, name, reason string, options ...Option) (*wire.Deleted, error) {
	return write[wire.Deleted](ctx, c, http.MethodDelete, at(agentsPath, name), reasonQuery(reason), nil, options...)
}

// Lifecycle is a step in an agent's life.
type Lifecycle string

// Steps of POST /api/v1/agents/{id}/lifecycle/….
const (
	Activate   Lifecycle = "activate"
	Suspend    Lifecycle = "suspend"
	Deactivate Lifecycle = "deactivate"
)

// AgentLifecycle activates, suspends or deactivates an agent.
func (c *Client) AgentLifecycle(ctx context.Context, name string, step Lifecycle, reason string, options ...Option) (*wire.AgentStatus, error) {
	return write[wire.AgentStatus](ctx, c, http.MethodPost, at(agentsPath, name, "lifecycle", string(step)), nil, reasonBody(reason), options...)
}

// KillAgent ends everything that runs as the agent. With dryRun it only counts what it would touch.
func (c *Client) KillAgent(ctx context.Context, name string, kill wire.KillRequest, dryRun bool, options ...Option) (*wire.Kill, error) {
	return repeat[wire.Kill](ctx, c, at(agentsPath, name, "revoke"), flagQuery("dry_run", dryRun), kill, options...)
}

// AgentAccess says what an agent may get right now, and why.
func (c *Client) AgentAccess(ctx context.Context, name string) (*wire.Access, error) {
	return get[wire.Access](ctx, c, at(agentsPath, name, "access"))
}

// CreateAgentCredential makes one more credential of an agent.
func (c *Client) CreateAgentCredential(ctx context.Context, name string, r wire.CredentialRequest) (*wire.NewCredential, error) {
	return write[wire.NewCredential](ctx, c, http.MethodPost, at(agentsPath, name, "credentials"), nil, r)
}

// AgentCredentials lists an agent's credentials.
func (c *Client) AgentCredentials(ctx context.Context, name string) (*Page[wire.Credential], error) {
	return page[wire.Credential](ctx, c, at(agentsPath, name, "credentials"), nil)
}

// RevokeAgentCredential removes a credential and ends every token that was asked for with it.
func (c *Client) RevokeAgentCredential(ctx context.Context, name, id, reason string, options ...Option) (*wire.Deleted, error) {
	return write[wire.Deleted](ctx, c, http.MethodDelete, at(agentsPath, name, "credentials", id), reasonQuery(reason), nil, options...)
}

// CreatePrincipal makes a principal. The body is a *wire.PrincipalRequest, or a json.RawMessage.
func (c *Client) CreatePrincipal(ctx context.Context, body any) (*wire.Principal, error) {
	return write[wire.Principal](ctx, c, http.MethodPost, principalsPath, nil, body)
}

// Principal reads one principal.
func (c *Client) Principal(ctx context.Context, id string) (*wire.Principal, error) {
	return get[wire.Principal](ctx, c, at(principalsPath, id))
}

// Principals lists principals by id.
func (c *Client) Principals(ctx context.Context, l List) (*Page[wire.Principal], error) {
	return page[wire.Principal](ctx, c, principalsPath, l.query())
}

// PatchPrincipal applies a JSON merge patch (RFC 7396) to a principal.
func (c *Client) PatchPrincipal(ctx context.Context, id string, patch any, options ...Option) (*wire.Principal, error) {
	return write[wire.Principal](ctx, c, http.MethodPatch, at(principalsPath, id), nil, patch, options...)
}

// DeletePrincipal removes a principal, which ends every token that rests on them.
func (c *Client) DeletePrincipal(ctx context.Context, id, reason string, options ...Option) (*wire.Deleted, error) {
	return write[wire.Deleted](ctx, c, http.MethodDelete, at(principalsPath, id), reasonQuery(reason), nil, options...)
}

// KillPrincipal ends everything that runs on behalf of the principal and withdraws their delegations.
func (c *Client) KillPrincipal(ctx context.Context, id string, kill wire.KillRequest, dryRun bool, options ...Option) (*wire.Kill, error) {
	return repeat[wire.Kill](ctx, c, at(principalsPath, id, "revoke"), flagQuery("dry_run", dryRun), kill, options...)
}

// PrincipalDelegations lists what a principal has lent.
func (c *Client) PrincipalDelegations(ctx context.Context, id string, l List) (*Page[wire.Delegation], error) {
	return page[wire.Delegation](ctx, c, at(principalsPath, id, "delegations"), l.query())
}

// CreateApplication makes an application; withSecret also makes one credential, whose secret is in the
// answer, once. The body is a *wire.ApplicationRequest, or a json.RawMessage.
func (c *Client) CreateApplication(ctx context.Context, body any, withSecret bool) (*wire.Application, error) {
	return write[wire.Application](ctx, c, http.MethodPost, applicationsPath, secretQuery(withSecret), body)
}

// Application reads one application.
func (c *Client) Application(ctx context.Context, name string) (*wire.Application, error) {
	return get[wire.Application](ctx, c, at(applicationsPath, name))
}

// Applications lists applications by name.
func (c *Client) Applications(ctx context.Context, l List) (*Page[wire.Application], error) {
	return page[wire.Application](ctx, c, applicationsPath, l.query())
}

// ReplaceApplication puts the body, a *wire.ApplicationRequest or a json.RawMessage, in the place of what
// was there.
func (c *Client) ReplaceApplication(ctx context.Context, name string, body any) (*wire.Application, error) {
	return write[wire.Application](ctx, c, http.MethodPut, at(applicationsPath, name), nil, body)
}

// PatchApplication applies a JSON merge patch (RFC 7396) to an application.
func (c *Client) PatchApplication(ctx context.Context, name string, patch any) (*wire.Application, error) {
	return write[wire.Application](ctx, c, http.MethodPatch, at(applicationsPath, name), nil, patch)
}

// DeleteApplication removes an application.
func (c *Client) DeleteApplication(ctx context.Context, name string) (*wire.Deleted, error) {
	return write[wire.Deleted](ctx, c, http.MethodDelete, at(applicationsPath, name), nil, nil)
}

// CreateApplicationCredential makes one more credential of an application.
func (c *Client) CreateApplicationCredential(ctx context.Context, name string, r wire.CredentialRequest) (*wire.NewCredential, error) {
	return write[wire.NewCredential](ctx, c, http.MethodPost, at(applicationsPath, name, "credentials"), nil, r)
}

// ApplicationCredentials lists an application's credentials.
func (c *Client) ApplicationCredentials(ctx context.Context, name string) (*Page[wire.Credential], error) {
	return page[wire.Credential](ctx, c, at(applicationsPath, name, "credentials"), nil)
}

// RevokeApplicationCredential removes a credential of an application.
func (c *Client) RevokeApplicationCredential(ctx context.Context, name, id, reason string, options ...Option) (*wire.Deleted, error) {
	return write[wire.Deleted](ctx, c, http.MethodDelete, at(applicationsPath, name, "credentials", id), reasonQuery(reason), nil, options...)
}

// Bulk makes many objects in one write: a *wire.Bulk, or a json.RawMessage. The answer says how each fared.
// With ensurePrincipal a delegation makes its principal where there is none.
func (c *Client) Bulk(ctx context.Context, body any, ensurePrincipal bool) (*wire.BulkAnswer, error) {
	return write[wire.BulkAnswer](ctx, c, http.MethodPost, "/api/v1/bulk", flagQuery("ensure_principal", ensurePrincipal), body)
}

// reasonBody leaves the body out where there is nothing to say.
func reasonBody(reason string) any {
	if reason == "" {
		return nil
	}
	return wire.Reason{Reason: reason}
}

// flagQuery is a query parameter that is either true or left out.
func flagQuery(name string, set bool) url.Values {
	if set {
		return url.Values{name: {"true"}}
	}
	return nil
}

func reasonQuery(reason string) url.Values {
	if reason == "" {
		return nil
	}
	return url.Values{"reason": {reason}}
}
