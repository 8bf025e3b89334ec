package fsm

import (
	"hash/maphash"
	"slices"
	"strconv"
	"time"
	"unique"

	"github.com/hashicorp/go-memdb"
	"github.com/tidwall/btree"

	"github.com/deputy-id/deputy/identity"
)

// View is the whole state at one log index. Getting one is a single atomic load, so that everything that is
// read from it fits together; it never changes, and methods may be called by any number of goroutines.
//
// What the mint path reads lies in copy-on-write trees and indexes, looked up without locks or allocation; what only
// operators and nodes read lies in go-memdb. Values handed out are shared and must not be modified.
type View struct {
	index        uint64
	time         identity.Instant
	settings     *identity.Settings
	seed         maphash.Seed // of the hashes of names
	keysRevision uint64
	horizon      horizon

	policiesRevision  uint64
	approvalsRevision uint64

	agents         *btree.BTreeG[named[*agentRow]]
	agentsByName   face[*agentRow]
	principals     *btree.BTreeG[named[*principalRow]]
	principalsByID face[*principalRow]
	applications   *btree.BTreeG[named[*identity.Application]]
	audiences      *btree.BTreeG[named[*identity.Application]]
	scopes         *btree.BTreeG[named[*identity.Application]]
	owners         *btree.BTreeG[named[Owner]]
	policies       *btree.BTreeG[named[*identity.Policy]]

	approvals          *btree.BTreeG[named[*identity.Approval]]
	approvalsByBinding *btree.BTreeG[named[*identity.Approval]]

	delegations                *btree.BTreeG[*record]
	delegationsByAgent         *btree.BTreeG[placed]
	delegationsByPrincipal     *btree.BTreeG[placed]
	pairs                      *indexNode[pair]
	recentByAgent              []*record // that the order by agent lacks
	recentByPrincipal          []*record
	bars                       *btree.BTreeG[bar]
	revocations                frozenRevocations
	small                      *memdb.Txn
	secrets                    secrets // of the API tokens in small
	apiTokenCount, memberCount int

	closed                     string
	restoring                  *restoring
	forgotten                  identity.Instant
	lineage                    uint64
	longerLease, longerOffline longer

	generation uint64
	gone       []gone
	superseded chan struct{} // closed when the next View is published
}

// agentRow is an agent with what only the FSM needs to know.
type agentRow struct {
	identity.Agent
	born uint64                // its first generation
	text unique.Handle[string] // its name, as records have it
}

func newAgentRow(a identity.Agent, texts *texts) *agentRow {
	row := &agentRow{Agent: a, text: unique.Make(a.Name)}
	row.Name = row.text.Value()
	row.share(texts)
	return row
}

// share lets agents have the same bytes where they say the same. A mint reads these texts, and memory that every
// agent points to is in the processor's caches.
func (r *agentRow) share(texts *texts) {
	r.Type = identity.AgentType(texts.intern(string(r.Type)))
	r.Status = identity.Status(texts.intern(string(r.Status)))
	r.DefaultScopes = identity.Scopes(texts.intern(string(r.DefaultScopes)))
	r.Applications = texts.internList(r.Applications)
}

// principalRow is a principal with what only the FSM needs to know.
type principalRow struct {
	identity.Principal
	born     uint64
	killed   uint64 // generation counter at the last kill: delegations made before are withdrawn
	killedAt identity.Instant
}

// Index is the log index that the View shows; no entry up to it is missing, and none after it is included.
func (v *View) Index() uint64 { return v.index }

// Time is FSM time: the largest time that any command carried. It never goes back.
func (v *View) Time() identity.Instant { return v.time }

// Log names the log that Index is of. It is the same at every node and for as long as the log goes on; after a recovery
// from a lost quorum, where indexes come again with other contents, it is another. It is empty before the first
// PutSettings.
func (v *View) Log() string {
	if v.settings.ClusterID == "" {
		return ""
	}
	return v.settings.ClusterID + "." + strconv.FormatUint(v.lineage, 36)
}

// Settings returns the settings, never nil; before the first PutSettings they hold the defaults and no
// cluster id.
func (v *View) Settings() *identity.Settings { return v.settings }

// Agent returns an agent by name.
func (v *View) Agent(name string) (*identity.Agent, bool) {
	row, ok := v.agentsByName.find(name)
	if !ok {
		return nil, false
	}
	return &row.Agent, true
}

// Agents lists agents by name, strictly after the one given.
func (v *View) Agents(after string, limit int) []*identity.Agent {
	return page(v.agents, after, limit, func(r *agentRow) *identity.Agent { return &r.Agent })
}

// Principal returns a principal by id.
func (v *View) Principal(id string) (*identity.Principal, bool) {
	row, ok := v.principalsByID.find(id)
	if !ok {
		return nil, false
	}
	return &row.Principal, true
}

// Principals lists principals by id, strictly after the one given.
func (v *View) Principals(after string, limit int) []*identity.Principal {
	return page(v.principals, after, limit, func(r *principalRow) *identity.Principal { return &r.Principal })
}

// Application returns an application by name.
func (v *View) Application(name string) (*identity.Application, bool) {
	return find(v.applications, name)
}

// Applications lists applications by name, strictly after the one given.
func (v *View) Applications(after string, limit int) []*identity.Application {
	return page(v.applications, after, limit, func(a *identity.Application) *identity.Application { return a })
}

// ApplicationByAudience returns the application with that audience URI.
func (v *View) ApplicationByAudience(uri string) (*identity.Application, bool) {
	return find(v.audiences, uri)
}

// ApplicationOwning returns the application that a scope belongs to.
func (v *View) ApplicationOwning(scope string) (*identity.Application, bool) {
	return find(v.scopes, scope)
}

// CredentialOwner returns the agent or application that a credential is filed under.
func (v *View) CredentialOwner(id string) (Owner, bool) { return find(v.owners, id) }

// Revocation returns what is known of a revoked handle. The set of revocation.Set decides whether a token is
// dead; this is for people who ask why.
func (v *View) Revocation(handle identity.Handle) (*identity.Revocation, bool) {
	return v.revocations.get(handle)
}

// Revocations lists revocations by handle, strictly after the one given.
func (v *View) Revocations(after identity.Handle, limit int) []*identity.Revocation {
	var out []*identity.Revocation
	v.revocations.ascend(after, func(r *identity.Revocation) bool {
		if len(out) < limit && r.Handle != after {
			out = append(out, r)
		}
		return len(out) < limit
	})
	return out
}

// RevocationsKept is how long a handle that is denied now is known at least.
func (v *View) RevocationsKept() time.Duration { return v.horizon.lifetime() }

// DeletionsKnownSince is since when the revocations have every deletion of an agent, a principal, a credential, an
// application or an API token; zero where none was ever forgotten.
func (v *View) DeletionsKnownSince() identity.Instant {
	if v.forgotten.IsZero() {
		return 0
	}
	return v.forgotten + 1 // of those in the very same millisecond some may be forgotten
}

// APIToken returns an API token by id.
func (v *View) APIToken(id string) (*identity.APIToken, bool) {
	return first[identity.APIToken](v.small, tableAPITokens, indexID, id)
}

// APITokenByHash returns the API token whose secret has that SHA-256.
func (v *View) APITokenByHash(hash [32]byte) (*identity.APIToken, bool) {
	return v.secrets.find(hash[:])
}

// APITokens lists API tokens by id, strictly after the one given.
func (v *View) APITokens(after string, limit int) []*identity.APIToken {
	return list[identity.APIToken](v.small, tableAPITokens, after, limit)
}

// TrustedIssuer returns a trusted issuer by id.
func (v *View) TrustedIssuer(id string) (*identity.TrustedIssuer, bool) {
	return first[identity.TrustedIssuer](v.small, tableIssuers, indexID, id)
}

// TrustedIssuerByURL returns the trusted issuer whose `iss` is exactly this.
func (v *View) TrustedIssuerByURL(issuer string) (*identity.TrustedIssuer, bool) {
	return first[identity.TrustedIssuer](v.small, tableIssuers, indexURL, issuer)
}

// TrustedIssuers lists trusted issuers by id, strictly after the one given.
func (v *View) TrustedIssuers(after string, limit int) []*identity.TrustedIssuer {
	return list[identity.TrustedIssuer](v.small, tableIssuers, after, limit)
}

// JoinToken returns a join token by id.
func (v *View) JoinToken(id string) (*identity.JoinToken, bool) {
	return first[identity.JoinToken](v.small, tableJoinTokens, indexID, id)
}

// JoinTokenByHash returns the join token whose secret has that SHA-256.
func (v *View) JoinTokenByHash(hash []byte) (*identity.JoinToken, bool) {
	return first[identity.JoinToken](v.small, tableJoinTokens, indexHash, string(hash))
}

// JoinTokens lists join tokens by id, strictly after the one given.
func (v *View) JoinTokens(after string, limit int) []*identity.JoinToken {
	return list[identity.JoinToken](v.small, tableJoinTokens, after, limit)
}

// Member returns a member by node id, also one that was removed.
func (v *View) Member(id string) (*identity.Member, bool) {
	return first[identity.Member](v.small, tableMembers, indexID, id)
}

// MemberByKey returns the member with that Ed25519 public key, also one that was removed.
func (v *View) MemberByKey(public []byte) (*identity.Member, bool) {
	return first[identity.Member](v.small, tableMembers, indexKey, string(public))
}

// Members lists the members that were not removed, by id.
func (v *View) Members() []*identity.Member {
	return slices.DeleteFunc(v.AllMembers(), func(m *identity.Member) bool { return !m.Removed.IsZero() })
}

// AllMembers lists every member there ever was, by id.
func (v *View) AllMembers() []*identity.Member {
	return list[identity.Member](v.small, tableMembers, "", maxRows)
}

// SigningKey returns a signing key by its id.
func (v *View) SigningKey(kid string) (*identity.SigningKey, bool) {
	return first[identity.SigningKey](v.small, tableKeys, indexID, kid)
}

// SigningKeys lists the keys that verify, by kid: those in use, and retired ones until a Purge finds that
// their last token has ended. A key whose handle was revoked is not among them.
func (v *View) SigningKeys() []identity.SigningKey {
	keys := list[identity.SigningKey](v.small, tableKeys, "", maxRows)
	out := make([]identity.SigningKey, len(keys))
	for i, k := range keys {
		out[i] = *k
	}
	return out
}

// Policy returns a policy by id.
func (v *View) Policy(id string) (*identity.Policy, bool) { return find(v.policies, id) }

// Policies lists policies by id, strictly after the one given.
func (v *View) Policies(after string, limit int) []*identity.Policy {
	return page(v.policies, after, limit, func(p *identity.Policy) *identity.Policy { return p })
}

// AllPolicies lists every policy by id.
func (v *View) AllPolicies() []*identity.Policy { return v.Policies("", maxRows) }

// PoliciesRevision changes whenever a policy does, so that what is compiled from them can be kept until then. It is zero
// where the cluster never had a policy.
func (v *View) PoliciesRevision() uint64 { return v.policiesRevision }

// KeysRevision changes whenever SigningKeys does, so that a ring made of them can be kept until then.
func (v *View) KeysRevision() uint64 { return v.keysRevision }

// Counts says how many objects of each kind the state holds. Delegations include those that are withdrawn or
// expired and not purged yet; Members only those that were not removed.
type Counts struct {
	Agents, Principals, Applications, Delegations, Revocations, APITokens, Members, Policies, Approvals int
}

// Counts is O(1).
func (v *View) Counts() Counts {
	return Counts{
		Agents: v.agents.Len(), Principals: v.principals.Len(), Applications: v.applications.Len(),
		Delegations: v.delegations.Len(), Revocations: v.revocations.count,
		APITokens: v.apiTokenCount, Members: v.memberCount, Policies: v.policies.Len(),
		Approvals: v.approvals.Len(),
	}
}
