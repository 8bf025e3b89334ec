// Package identity is the domain of Deputy: agents, the people who lend them authority, the
// applications they call, the delegations in between, and the handles by which any of it is stopped.
//
// It is the ground floor of the project: standard library only, no I/O and no clock. Whoever needs a
// time or randomness passes it in, so that everything here is a pure function of its arguments and may
// run inside a replicated state machine.
//
// Fields carry `codec` tags because these types are stored in the replicated log and in snapshots. A tag,
// once released, keeps its name and meaning for ever; a field may only be added.
package identity

// Bounds of the domain. Each is far above what a person types and far below what hurts a node that holds
// a million of them; the messages of validation name them.
const (
	MaxNameLength        = 64   // a slug, as typed in commands and URLs
	MaxDescriptionLength = 1024 // shown in lists
	MaxReasonLength      = 512  // kept with every delegation and revocation
	MaxScopes            = 256  // per agent, delegation, application or request
	MaxScopeLength       = 128  // one scope-token, RFC 6749 section 3.3
	MaxApplications      = 64   // assignments per agent, and audiences per token
	MaxGroups            = 64   // per agent or principal
	MaxGroupLength       = 128
	MaxLabels            = 32
	MaxLabelLength       = 128      // key or value
	MaxCredentials       = 16       // per agent or application: enough to rotate, too few to hoard
	MaxAudienceLength    = 256      // an absolute URI
	MaxKeysLength        = 16 << 10 // a JWKS of some public keys
	MaxPrincipalLength   = 255      // as OpenID Connect Core section 2 bounds "sub"
	MaxChain             = 2        // agents in one chain: user → agent → sub-agent, and no further

	MinSessionSeconds    = 60          // shorter tokens would be dead on arrival
	MaxSessionSeconds    = 24 * 3600   // the longest any token may live, so that revocations can be forgotten
	MinDelegationSeconds = 60          //
	MaxDelegationSeconds = 365 * 86400 // a delegation is time-bound, always
)

// Status is where an agent or a principal stands in its lifecycle.
type Status string

// An entity is born active; suspension can be undone; a deactivated one must be activated by an admin
// before anything else may happen to it.
const (
	StatusActive      Status = "active"
	StatusSuspended   Status = "suspended"
	StatusDeactivated Status = "deactivated"
)
