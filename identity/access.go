package identity

import "slices"

// Role is what a holder of an API token may do.
type Role string

// Roles of the admin surface. Admin includes all the others.
const (
	RoleAdmin       Role = "admin"
	RoleOperator    Role = "operator"    // members, snapshots, join tokens
	RoleProvisioner Role = "provisioner" // agents, principals, applications, credentials
	RoleRuntime     Role = "runtime"     // sessions on behalf of users, for the agents listed
	RoleApprover    Role = "approver"    // says yes or no to approvals
	RoleAuditor     Role = "auditor"     // reads everything, changes nothing
)

// Roles lists every role, in the order they are shown.
func Roles() []Role {
	return []Role{RoleAdmin, RoleOperator, RoleProvisioner, RoleRuntime, RoleApprover, RoleAuditor}
}

// AnyAgent in APIToken.Agents lets role runtime act for every agent.
const AnyAgent = "*"

// APIToken is an operator's or a runtime's access to the admin surface. A session that it asked for carries its
// id as a handle, like that of a credential, so that revoking a leaked one kills what it minted.
type APIToken struct {
	ID      string   `codec:"i"` // tok_…
	Name    string   `codec:"n"`
	Hash    []byte   `codec:"h"` // SHA-256 of the secret's text
	Roles   []Role   `codec:"ro"`
	Agents  []string `codec:"a,omitempty"` // for role runtime: names, or AnyAgent
	Created Instant  `codec:"ct"`
	Expires Instant  `codec:"et,omitempty"` // zero: never
	// Imported says that it came with a backup: until minting is opened again nobody knows whether it was deleted since.
	Imported bool `codec:"im,omitempty"`
}

// Has reports whether the token carries the role, by itself or as admin.
func (t *APIToken) Has(role Role) bool {
	for _, r := range t.Roles {
		if r == role || r == RoleAdmin {
			return true
		}
	}
	return false
}

// MayRun reports whether the token may create sessions for the agent on behalf of users.
func (t *APIToken) MayRun(agent string) bool {
	for _, r := range t.Roles {
		if r == RoleAdmin {
			return true
		}
		if r == RoleRuntime && (slices.Contains(t.Agents, agent) || slices.Contains(t.Agents, AnyAgent)) {
			return true
		}
	}
	return false
}

// ActiveAt reports whether the token may be used at now.
func (t *APIToken) ActiveAt(now Instant) bool { return t.Expires.IsZero() || now < t.Expires }

// Validate holds every field that a caller may set to its bound.
func (t *APIToken) Validate() error {
	var v violations
	v.text("/name", t.Name, MaxNameLength)
	if t.Name == "" {
		v.add("/name", "is missing; it tells tokens apart in lists")
	}
	if len(t.Roles) == 0 {
		v.add("/roles", "is empty; name at least one of %v", Roles())
	}
	for _, r := range t.Roles {
		if !slices.Contains(Roles(), r) {
			v.add("/roles", "holds %q; the roles are %v", r, Roles())
		}
	}
	if slices.Contains(t.Roles, RoleRuntime) && len(t.Agents) == 0 {
		v.add("/agents", `is empty; role runtime names the agents it runs, or "*" for all`)
	}
	if len(t.Agents) > MaxScopes {
		v.add("/agents", "has %d names; at most %d are allowed", len(t.Agents), MaxScopes)
	}
	for _, name := range t.Agents {
		if name != AnyAgent {
			v.name("/agents", name)
		}
	}
	if !t.Expires.IsZero() && t.Expires <= t.Created {
		v.add("/expires_at", "lies in the past")
	}
	return v.err("the API token is not valid")
}

// Revocation is one entry of the revocation set, with what an operator wants to know of it.
type Revocation struct {
	Handle  Handle  `codec:"h"`
	Reason  string  `codec:"re,omitempty"`
	By      string  `codec:"b,omitempty"` // who asked: an API token's, agent's or node's id
	At      Instant `codec:"at"`
	Expires Instant `codec:"et"` // no token that carries the handle outlives it
	Index   uint64  `codec:"ix"` // log index at which it was committed
}
