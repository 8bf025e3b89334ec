package api

import (
	"strings"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// Kind says how a route is served.
type Kind uint8

// Kinds of routes.
const (
	KindPublic Kind = iota // no authentication; charged to the address
	KindRead               // an API token; served from this node's view
	KindWrite              // an API token; run at the leader
	KindMint               // an API token or a client by HTTP Basic; local
	KindOAuth              // an OAuth client; errors as RFC 6749 has them
	KindLead               // an API token; only at the leader, which reads the body as it arrives
)

// Param is a query parameter.
type Param struct {
	Name string
	Doc  string
	Type string // of JSON Schema: string, integer, boolean
}

// Route is one row of the table that everything is made from.
type Route struct {
	Method string
	Path   string
	Name   string // operationId
	Kind   Kind
	Roles  []identity.Role // any one of them; admin always may
	Query  []Param
	// Summary is one line of documentation.
	Summary string
	// Request and Response are zero values of their wire types; nil is no body.
	Request  any
	Response any
	// Or is another type that may be answered in place of Response.
	Or any
	// Media is the request's media type where it isn't JSON.
	Media string
	// Optional says that the request may have no body.
	Optional bool
	// Status is that of success.
	Status int
	// Produces is the response's media type where it isn't JSON.
	Produces string
	// User says that the caller is a user, known by an ID token, and not the holder of an API token.
	User bool
	// Clients says that agents and applications may call it as well, with their own credentials.
	Clients bool
	// Once says that a write is not repeated where its outcome is unknown.
	Once bool
	// Kept says that where no majority can be had, the answer may be 202: the stop is kept.
	Kept bool
	// Slow says that a write waits for more than the log: for another node's lease to end.
	Slow bool
	// Applications says that an application may ask as well, with credentials of its own (HTTP Basic).
	Applications bool
	// Echoes says that X-Request-Id comes back as it was sent, also where it is not taken over.
	Echoes bool
	// Unchanged says that a conditional request may be answered 304.
	Unchanged bool

	handler func(*API, *call) error
	// stops says what a write is about to end, at the node that was asked. Nil: nothing.
	stops func(*API, *call) (*stop, error)
}

const (
	mediaForm       = "application/x-www-form-urlencoded"
	mediaMergePatch = "application/merge-patch+json"
	mediaBinary     = "application/octet-stream"
)

func (r *Route) pattern() string { return r.Method + " " + r.Path }

func (r *Route) speaksOAuth() bool { return r.Kind == KindOAuth }

// takes reports whether the route has a query parameter.
func (r *Route) takes(name string) bool {
	for i := range r.Query {
		if r.Query[i].Name == name {
			return true
		}
	}
	return false
}

func (r *Route) queryNames() string {
	names := make([]string, len(r.Query))
	for i := range r.Query {
		names[i] = r.Query[i].Name
	}
	return strings.Join(names, ", ")
}

// Who may do what. Admin may do all of it.
var (
	readers      = []identity.Role{identity.RoleAuditor, identity.RoleOperator, identity.RoleProvisioner}
	provisioners = []identity.Role{identity.RoleProvisioner}
	operators    = []identity.Role{identity.RoleOperator}
	admins       = []identity.Role{identity.RoleAdmin}
	auditors     = []identity.Role{identity.RoleAuditor}
	watchers     = []identity.Role{identity.RoleAuditor, identity.RoleOperator}
	runtimes     = []identity.Role{identity.RoleRuntime}
	lenders      = []identity.Role{identity.RoleProvisioner, identity.RoleRuntime}
	// stoppers may end things: whoever runs or administers may also say stop.
	stoppers       = []identity.Role{identity.RoleOperator, identity.RoleProvisioner}
	sessionEnders  = []identity.Role{identity.RoleOperator, identity.RoleProvisioner, identity.RoleRuntime}
	sessionReaders = []identity.Role{identity.RoleAuditor, identity.RoleOperator, identity.RoleProvisioner, identity.RoleRuntime}
)

// Query parameters that several routes share.
var (
	queryWait        = Param{"wait", "committed, the default: answer when a quorum has the change on disk; fenced: when, besides, no node acts any more on what was before", "string"}
	queryTimeout     = Param{"timeout_seconds", "1 to 60, 15 where absent: how long to wait for the fence; the answer then says which node is missing", "integer"}
	queryDryRun      = Param{"dry_run", "true: only tell what it would touch", "boolean"}
	queryReason      = Param{"reason", "kept with the revocation, shown to auditors", "string"}
	queryRevoke      = Param{"revoke", "true: also end the agent's sessions, which a narrower profile leaves alone", "boolean"}
	queryCredentials = Param{"credentials", "secret: also make a secret, shown once in the answer", "string"}
	queryEnsure      = Param{"ensure_principal", "true: make the principal where there is none", "boolean"}

	paging = []Param{
		{"limit", "items to answer, 1 to 1000; 100 where absent", "integer"},
		{"after", "cursor: the last id of the page before", "string"},
	}
	writeQuery  = writing()
	reasonQuery = writing(queryReason)
)

// writing are the parameters of a write: those of every one, and its own.
func writing(own ...Param) []Param { return append([]Param{queryWait, queryTimeout}, own...) }

// Routes returns the table.
func Routes() []Route {
	var table []Route
	for _, part := range [][]Route{
		oauthRoutes(), agentRoutes(), principalRoutes(), applicationRoutes(), delegationRoutes(),
		sessionRoutes(), revocationRoutes(), streamRoutes(), clusterRoutes(), issuerRoutes(), userRoutes(),
		policyRoutes(), decisionRoutes(), auditRoutes(), approvalRoutes(),
	} {
		table = append(table, part...)
	}
	return table
}

func oauthRoutes() []Route {
	return []Route{
		{
			Method: "POST", Path: "/oauth2/token", Name: "token", Kind: KindOAuth, Media: mediaForm, Request: wire.TokenRequest{}, Response: wire.Token{}, Status: 200,
			Summary: "Mint a token (RFC 6749: client_credentials; RFC 8693: token exchange; OpenID Connect CIBA)", handler: (*API).token,
		},
		{
			Method: "POST", Path: "/oauth2/introspect", Name: "introspect", Kind: KindOAuth, Media: mediaForm, Request: wire.IntrospectionForm{}, Response: wire.Introspection{}, Status: 200,
			Summary: "Ask whether a token is good for the calling application (RFC 7662)", handler: (*API).introspect,
		},
		{
			Method: "POST", Path: "/oauth2/introspect/batch", Name: "introspectBatch", Kind: KindOAuth, Request: wire.IntrospectionBatch{}, Response: wire.IntrospectionResults{}, Status: 200,
			Summary: "Ask of up to 100 tokens at once, by HTTP Basic", handler: (*API).introspectBatch,
		},
		{
			Method: "POST", Path: "/oauth2/revoke", Name: "revokeToken", Kind: KindOAuth, Media: mediaForm, Request: wire.TokenForm{}, Status: 200,
			Summary: "Revoke a token's session (RFC 7009)", handler: (*API).revokeToken,
		},
		{
			Method: "POST", Path: backchannelPath, Name: "backchannelAuthentication", Kind: KindOAuth, Media: mediaForm, Request: wire.BackchannelRequest{}, Response: wire.Backchannel{}, Status: 200,
			Summary: "Ask a human to approve a session, and poll for the answer at the token endpoint (OpenID Connect CIBA)", handler: (*API).backchannel,
		},
		{
			Method: "GET", Path: "/.well-known/jwks.json", Name: "jwks", Kind: KindPublic, Response: wire.JWKS{}, Status: 200, Unchanged: true,
			Summary: "Public keys of all nodes (RFC 7517)", handler: (*API).jwks,
		},
		{
			Method: "GET", Path: "/.well-known/oauth-authorization-server", Name: "metadata", Kind: KindPublic, Response: wire.Metadata{}, Status: 200,
			Summary: "What this authorization server can do (RFC 8414)", handler: (*API).metadata,
		},
		{
			Method: "GET", Path: "/openapi.json", Name: "openapi", Kind: KindPublic, Response: map[string]any{}, Status: 200, Unchanged: true,
			Summary: "This document", handler: (*API).serveOpenAPI,
		},
	}
}

func agentRoutes() []Route {
	const path = "/api/v1/agents"
	lifecycle := func(verb, name, summary string, status identity.Status) Route {
		return Route{
			Method: "POST", Path: path + "/{id}/lifecycle/" + verb, Name: name, Kind: KindWrite, Roles: provisioners, Query: writeQuery,
			Request: wire.Reason{}, Optional: true, Response: wire.AgentStatus{}, Status: 200, Summary: summary, handler: setAgentStatus(status), stops: stopStatus(status),
		}
	}
	return append([]Route{
		{
			Method: "POST", Path: path, Name: "createAgent", Kind: KindWrite, Roles: provisioners, Query: writing(queryCredentials),
			Request: wire.AgentRequest{}, Response: wire.Agent{}, Status: 201, Summary: "Create an agent", handler: (*API).createAgent,
		},
		{
			Method: "GET", Path: path, Name: "listAgents", Kind: KindRead, Roles: readers, Query: paging,
			Response: []wire.Agent{}, Status: 200, Summary: "List agents by id", handler: (*API).listAgents,
		},
		{
			Method: "GET", Path: path + "/{id}", Name: "getAgent", Kind: KindRead, Roles: readers,
			Response: wire.Agent{}, Status: 200, Summary: "Get an agent", handler: (*API).getAgent,
		},
		{
			Method: "PUT", Path: path + "/{id}", Name: "replaceAgent", Kind: KindWrite, Roles: provisioners, Query: writing(queryRevoke),
			Request: wire.AgentRequest{}, Response: wire.Agent{}, Status: 200, Summary: "Replace what may be set of an agent", handler: (*API).replaceAgent,
		},
		{
			Method: "PATCH", Path: path + "/{id}", Name: "patchAgent", Kind: KindWrite, Roles: provisioners, Query: writing(queryRevoke), Media: mediaMergePatch,
			Request: wire.AgentRequest{}, Response: wire.Agent{}, Status: 200, Summary: "Change some of an agent (RFC 7396)", handler: (*API).patchAgent,
		},
		{
			Method: "DELETE", Path: path + "/{id}", Name: "deleteAgent", Kind: KindWrite, Roles: provisioners, Query: reasonQuery,
			Response: wire.Deleted{}, Status: 200, Summary: "Delete an agent, its delegations and its sessions", handler: (*API).deleteAgent, stops: (*API).stopAgent,
		},
		{
			Method: "GET", Path: path + "/{id}/access", Name: "getAgentAccess", Kind: KindRead, Roles: readers,
			Response: wire.Access{}, Status: 200, Summary: "What the agent may get right now, and where each scope comes from", handler: (*API).agentAccess,
		},
		{
			Method: "POST", Path: path + "/{id}/revoke", Name: "revokeAgent", Kind: KindWrite, Kept: true, Roles: stoppers, Query: writing(queryDryRun),
			Request: wire.KillRequest{}, Optional: true, Response: wire.Kill{}, Status: 200, Summary: "The kill switch: end every session of the agent", handler: (*API).revokeAgent, stops: (*API).stopAgentKill,
		},
		lifecycle("activate", "activateAgent", "Let the agent start sessions again", identity.StatusActive),
		lifecycle("suspend", "suspendAgent", "End the agent's sessions and let none start", identity.StatusSuspended),
		lifecycle("deactivate", "deactivateAgent", "Take the agent out of service", identity.StatusDeactivated),
	}, credentialRoutes(path, "Agent", ownerAgent)...)
}

func principalRoutes() []Route {
	const path = "/api/v1/principals"
	return []Route{
		{
			Method: "POST", Path: path, Name: "createPrincipal", Kind: KindWrite, Roles: provisioners, Query: writeQuery,
			Request: wire.PrincipalRequest{}, Response: wire.Principal{}, Status: 201, Summary: "Create a principal", handler: (*API).createPrincipal,
		},
		{
			Method: "GET", Path: path, Name: "listPrincipals", Kind: KindRead, Roles: readers, Query: paging,
			Response: []wire.Principal{}, Status: 200, Summary: "List principals by id", handler: (*API).listPrincipals,
		},
		{
			Method: "GET", Path: path + "/{id}", Name: "getPrincipal", Kind: KindRead, Roles: readers,
			Response: wire.Principal{}, Status: 200, Summary: "Get a principal", handler: (*API).getPrincipal,
		},
		{
			Method: "PATCH", Path: path + "/{id}", Name: "patchPrincipal", Kind: KindWrite, Roles: provisioners, Query: reasonQuery, Media: mediaMergePatch,
			Request: wire.PrincipalUpdate{}, Response: wire.Principal{}, Status: 200, Summary: "Change some of a principal (RFC 7396)", handler: (*API).patchPrincipal, stops: (*API).stopPatched,
		},
		{
			Method: "DELETE", Path: path + "/{id}", Name: "deletePrincipal", Kind: KindWrite, Roles: provisioners, Query: reasonQuery,
			Response: wire.Deleted{}, Status: 200, Summary: "Delete a principal, their delegations and what rests on them", handler: (*API).deletePrincipal, stops: (*API).stopPrincipal,
		},
		{
			Method: "POST", Path: path + "/{id}/revoke", Name: "revokePrincipal", Kind: KindWrite, Kept: true, Roles: stoppers, Query: writing(queryDryRun),
			Request: wire.KillRequest{}, Optional: true, Response: wire.Kill{}, Status: 200, Summary: "End everything that rests on the principal", handler: (*API).revokePrincipal, stops: (*API).stopPrincipalKill,
		},
		{
			Method: "GET", Path: path + "/{id}/delegations", Name: "listPrincipalDelegations", Kind: KindRead, Roles: readers, Query: append([]Param{activeParam}, paging...),
			Response: []wire.Delegation{}, Status: 200, Summary: "List what the principal has lent", handler: (*API).principalDelegations,
		},
	}
}

func applicationRoutes() []Route {
	const path = "/api/v1/applications"
	return append([]Route{
		{
			Method: "POST", Path: path, Name: "createApplication", Kind: KindWrite, Roles: provisioners, Query: writing(queryCredentials),
			Request: wire.ApplicationRequest{}, Response: wire.Application{}, Status: 201, Summary: "Create an application", handler: (*API).createApplication,
		},
		{
			Method: "GET", Path: path, Name: "listApplications", Kind: KindRead, Roles: readers, Query: paging,
			Response: []wire.Application{}, Status: 200, Summary: "List applications by id", handler: (*API).listApplications,
		},
		{
			Method: "GET", Path: path + "/{id}", Name: "getApplication", Kind: KindRead, Roles: readers,
			Response: wire.Application{}, Status: 200, Summary: "Get an application", handler: (*API).getApplication,
		},
		{
			Method: "PUT", Path: path + "/{id}", Name: "replaceApplication", Kind: KindWrite, Roles: provisioners, Query: writeQuery,
			Request: wire.ApplicationRequest{}, Response: wire.Application{}, Status: 200, Summary: "Replace what may be set of an application", handler: (*API).replaceApplication,
		},
		{
			Method: "PATCH", Path: path + "/{id}", Name: "patchApplication", Kind: KindWrite, Roles: provisioners, Query: writeQuery, Media: mediaMergePatch,
			Request: wire.ApplicationRequest{}, Response: wire.Application{}, Status: 200, Summary: "Change some of an application (RFC 7396)", handler: (*API).patchApplication,
		},
		{
			Method: "DELETE", Path: path + "/{id}", Name: "deleteApplication", Kind: KindWrite, Roles: provisioners, Query: writeQuery,
			Response: wire.Deleted{}, Status: 200, Summary: "Delete an application and its credentials", handler: (*API).deleteApplication,
		},
	}, credentialRoutes(path, "Application", ownerApplication)...)
}

func credentialRoutes(path, owner string, kind credentialOwner) []Route {
	return []Route{
		{
			Method: "POST", Path: path + "/{id}/credentials", Name: "add" + owner + "Credential", Kind: KindWrite, Roles: provisioners, Query: writeQuery,
			Request: wire.CredentialRequest{}, Optional: true, Response: wire.NewCredential{}, Status: 201, Summary: "Make a secret, shown once", handler: kind.add,
		},
		{
			Method: "GET", Path: path + "/{id}/credentials", Name: "list" + owner + "Credentials", Kind: KindRead, Roles: readers,
			Response: []wire.Credential{}, Status: 200, Summary: "List credentials, without their secrets", handler: kind.list,
		},
		{
			Method: "DELETE", Path: path + "/{id}/credentials/{credential}", Name: "remove" + owner + "Credential", Kind: KindWrite, Roles: provisioners, Query: reasonQuery,
			Response: wire.Deleted{}, Status: 200, Summary: "Remove a credential and end what was minted with it", handler: kind.remove, stops: kind.stop,
		},
	}
}

var activeParam = Param{"active", "true: only those that are neither withdrawn nor expired", "boolean"}

func delegationRoutes() []Route {
	const path = "/api/v1/delegations"
	filters := append([]Param{{"agent", "only those of this agent", "string"}, {"principal", "only those of this principal", "string"}, activeParam}, paging...)
	return []Route{
		{
			Method: "POST", Path: path, Name: "createDelegation", Kind: KindWrite, Roles: lenders, Query: writing(queryEnsure),
			Request: wire.DelegationRequest{}, Response: wire.Delegation{}, Status: 201, Summary: "Lend a slice of a principal's authority to an agent; an admin's lifts a withdrawal of consent", handler: (*API).createDelegation,
		},
		{
			Method: "GET", Path: path, Name: "listDelegations", Kind: KindRead, Roles: readers, Query: filters,
			Response: []wire.Delegation{}, Status: 200, Summary: "List delegations by id", handler: (*API).listDelegations,
		},
		{
			Method: "GET", Path: path + "/{id}", Name: "getDelegation", Kind: KindRead, Roles: readers,
			Response: wire.Delegation{}, Status: 200, Summary: "Get a delegation", handler: (*API).getDelegation,
		},
		{
			Method: "DELETE", Path: path + "/{id}", Name: "withdrawDelegation", Kind: KindWrite, Kept: true, Roles: stoppers, Query: reasonQuery,
			Response: wire.Deleted{}, Status: 200, Summary: "Withdraw consent: end the delegation and what rests on it", handler: (*API).withdrawDelegation, stops: (*API).stopDelegation,
		},
		{
			Method: "POST", Path: "/api/v1/bulk", Name: "bulk", Kind: KindWrite, Roles: provisioners, Query: writing(queryEnsure),
			Request: wire.Bulk{}, Response: wire.BulkAnswer{}, Status: 200, Summary: "Create up to 1000 agents, principals and delegations in one write", handler: (*API).bulk,
		},
	}
}

func sessionRoutes() []Route {
	const path = "/api/v1/sessions"
	return []Route{
		{
			Method: "POST", Path: path, Name: "createSession", Kind: KindMint, Roles: runtimes, Request: wire.SessionRequest{}, Response: wire.Session{}, Status: 201,
			Summary: "Start a session: by an API token with role runtime, or with the agent's own credentials (HTTP Basic)", handler: (*API).createSession,
		},
		{
			Method: "GET", Path: path, Name: "listSessions", Kind: KindRead, Roles: sessionReaders, Query: sessionFilters(),
			Response: wire.SessionList{}, Status: 200, Summary: "List the sessions that have not ended, by id, as the nodes remember them", handler: (*API).listSessions,
		},
		{
			Method: "DELETE", Path: path, Name: "endSessions", Kind: KindWrite, Kept: true, Roles: stoppers, Query: endFilters(),
			Response: wire.SessionsEnded{}, Status: 200, Summary: "End all sessions of an agent or of a principal, who may start new ones", handler: (*API).endSessions, stops: (*API).stopSessions,
		},
		{
			Method: "GET", Path: path + "/{id}", Name: "getSession", Kind: KindRead, Roles: sessionReaders,
			Response: wire.SessionState{}, Status: 200, Summary: "Tell what is known of a session, and whether it was revoked", handler: (*API).getSession,
		},
		{
			Method: "DELETE", Path: path + "/{id}", Name: "revokeSession", Kind: KindWrite, Kept: true, Roles: sessionEnders, Query: reasonQuery,
			Response: wire.Revocation{}, Status: 200, Summary: "End a session", handler: (*API).revokeSession, stops: (*API).stopSession,
		},
	}
}

func revocationRoutes() []Route {
	return []Route{
		{
			Method: "POST", Path: "/api/v1/revocations", Name: "revoke", Kind: KindWrite, Kept: true, Roles: stoppers, Query: writeQuery,
			Request: wire.RevocationRequest{}, Response: wire.Revocation{}, Status: 200, Summary: "Stop a session, a delegation, an agent or a principal; operators also by handles", handler: (*API).revoke, stops: (*API).stopRequest,
		},
		{
			Method: "GET", Path: "/api/v1/revocations", Name: "listRevocations", Kind: KindRead, Roles: watchers, Query: paging,
			Response: []wire.RevocationRecord{}, Status: 200, Summary: "List the revocation set by handle", handler: (*API).listRevocations,
		},
		{
			Method: "POST", Path: "/api/v1/tokens/explain", Name: "explainToken", Kind: KindRead, Roles: auditors,
			Request: wire.ExplainRequest{}, Response: wire.Explanation{}, Status: 200, Summary: "Tell why a token is good or bad", handler: (*API).explain,
		},
	}
}
