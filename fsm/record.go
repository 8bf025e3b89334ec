package fsm

import (
	"bytes"
	"cmp"
	"strings"
	"unique"

	"github.com/tidwall/btree"

	"github.com/deputy-id/deputy/identity"
)

// record is a delegation as it is kept by the million. What repeats is interned: agents, scopes and origins
// are few and cost eight bytes each, the principal's id shares its bytes with the principal. The reason is
// often a text of its own, which a table of unique texts would only make larger.
//
// A record is never modified once a tree holds it.
type record struct {
	id        [16]byte // the UUID of dlg_…
	agent     unique.Handle[string]
	scopes    unique.Handle[string]
	origin    unique.Handle[string]
	principal string
	reason    string
	created   identity.Instant
	expires   identity.Instant
	withdrawn identity.Instant
	revision  uint64
	// made is the FSM-wide generation counter at creation. Agent and principal have generations from the
	// same counter, so a delegation that is older than either of them belonged to another one of that name,
	// and one that is older than the principal's last kill was withdrawn by it.
	made     uint64
	maxHops  uint8
	inactive bool // withdrawn by itself
}

func (r *record) key() string { return identity.FormatID(identity.PrefixDelegation, r.id) }

// delegation returns the record as the domain knows it. The principal's last kill, if it is younger than the
// record, has withdrawn it.
func (r *record) delegation(p *principalRow) *identity.Delegation {
	d := &identity.Delegation{
		ID: r.key(), Principal: r.principal, Agent: r.agent.Value(), Scopes: identity.Scopes(r.scopes.Value()),
		Expires: r.expires, Reason: r.reason, Origin: r.origin.Value(), MaxHops: r.maxHops,
		Status: identity.DelegationActive, Created: r.created, Revision: r.revision,
	}
	switch {
	case r.inactive:
		d.Status, d.Withdrawn = identity.DelegationWithdrawn, r.withdrawn
	case r.made < p.killed:
		d.Status, d.Withdrawn = identity.DelegationWithdrawn, p.killedAt
	}
	return d
}

// activeAt is ActiveAt of the delegation, without making one.
func (r *record) activeAt(now identity.Instant, p *principalRow) bool {
	return !r.inactive && r.made >= p.killed && now < r.expires
}

// paired is a record beside the hash of its pair. A search compares hashes, which lie together in the node,
// and looks at records only of its own pair: names all over the memory cost far more.
type paired struct {
	hash uint64
	*record
}

func pairOf(r *record) paired {
	// One more round between the two names, so that they can't be shifted against each other.
	return paired{hashName(hashName(hashSeed, r.principal)*31, r.agent.Value()), r}
}

// lastOfPair sorts behind every record of a pair.
func lastOfPair(principal string, agent unique.Handle[string]) paired {
	return pairOf(&record{principal: principal, agent: agent, expires: endOfTime, id: lastID})
}

// records is the delegation table: one record in each of five orders.
type records struct {
	byID        *tree[*record]
	byAgent     *tree[*record] // agent, id
	byPrincipal *tree[*record] // principal, id
	byPair      *tree[paired]  // hash of the pair, principal, agent, expires, id; only those that were not withdrawn one by one
	byExpiry    *tree[*record] // expires, id; for purges only, so no View has it
}

func compareAgents(a, b *record) int {
	if a.agent == b.agent {
		return 0
	}
	return strings.Compare(a.agent.Value(), b.agent.Value())
}

// The orders. Each ends with the id, so that no two records are equal in any of them.

func byIDOrder(a, b *record) int { return bytes.Compare(a.id[:], b.id[:]) }

func byAgentOrder(a, b *record) int {
	if c := compareAgents(a, b); c != 0 {
		return c
	}
	return byIDOrder(a, b)
}

func byPrincipalOrder(a, b *record) int {
	if c := strings.Compare(a.principal, b.principal); c != 0 {
		return c
	}
	return byIDOrder(a, b)
}

func byPairOrder(a, b paired) int {
	if c := cmp.Compare(a.hash, b.hash); c != 0 {
		return c
	}
	if c := strings.Compare(a.principal, b.principal); c != 0 {
		return c
	}
	if c := compareAgents(a.record, b.record); c != 0 {
		return c
	}
	return byExpiryOrder(a.record, b.record)
}

func byExpiryOrder(a, b *record) int {
	if c := cmp.Compare(a.expires, b.expires); c != 0 {
		return c
	}
	return byIDOrder(a, b)
}

func less[T any](order func(a, b T) int) func(a, b T) bool {
	return func(a, b T) bool { return order(a, b) < 0 }
}

func newRecords() *records {
	return &records{
		byID: newTree(less(byIDOrder)), byAgent: newTree(less(byAgentOrder)), byPrincipal: newTree(less(byPrincipalOrder)),
		byPair: newTree(less(byPairOrder)), byExpiry: newTree(less(byExpiryOrder)),
	}
}

func (t *records) add(r *record) {
	t.byID.set(r)
	t.byAgent.set(r)
	t.byPrincipal.set(r)
	t.byExpiry.set(r)
	if !r.inactive {
		t.byPair.set(pairOf(r))
	}
}

// replace puts a changed copy in the place of a record with the same id, agent, principal and expiry.
func (t *records) replace(r *record) {
	if r.inactive {
		t.byPair.delete(pairOf(r))
	}
	t.byID.set(r)
	t.byAgent.set(r)
	t.byPrincipal.set(r)
	t.byExpiry.set(r)
}

func (t *records) remove(r *record) {
	t.byID.delete(r)
	t.byAgent.delete(r)
	t.byPrincipal.delete(r)
	t.byPair.delete(pairOf(r))
	t.byExpiry.delete(r)
}

// bar remembers that consent between a principal and an agent was withdrawn, or, after the principal's
// consent was withdrawn as a whole by a kill, that it was granted again.
type bar struct {
	principal string
	agent     string
	made      uint64 // the generation counter when it was set: it counts for principals that are no younger
	barred    bool
}

func lessBar(a, b bar) bool {
	if c := strings.Compare(a.principal, b.principal); c != 0 {
		return c < 0
	}
	return a.agent < b.agent
}

// barred decides by the latest of the pair's own mark and the principal's last kill.
func barred(bars *btree.BTreeG[bar], p *principalRow, agent string) bool {
	b, ok := bars.Get(bar{principal: p.ID, agent: agent})
	if ok && b.made >= p.born && b.made >= p.killed {
		return b.barred
	}
	return p.killed > 0
}
