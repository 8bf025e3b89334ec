package fsm

import (
	"bytes"
	"cmp"
	"hash/maphash"
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
	// What decides whether a session may rest on the delegation fills one line of the processor's cache.
	id        [16]byte // the UUID of dlg_…
	principal string
	agent     unique.Handle[string]
	scopes    unique.Handle[string]
	expires   identity.Instant
	// made is the FSM-wide generation counter at creation. Agent and principal have generations from the
	// same counter, so a delegation that is older than either of them belonged to another one of that name,
	// and one that is older than the principal's last kill was withdrawn by it.
	made uint64

	maxHops   uint8
	inactive  bool // withdrawn by itself
	origin    unique.Handle[string]
	reason    string
	created   identity.Instant
	withdrawn identity.Instant
	revision  uint64
}

func (r *record) key() string { return identity.FormatID(identity.PrefixDelegation, r.id) }

// delegation returns the record as the domain knows it.
func (r *record) delegation(p *principalRow) *identity.Delegation {
	d := new(identity.Delegation)
	r.fill(d, r.agent.Value(), p)
	return d
}

// fill is delegation for a caller that has room for it, and the name of its agent at hand. The principal's last
// kill, if it is younger than the record, has withdrawn it.
func (r *record) fill(d *identity.Delegation, agent string, p *principalRow) {
	*d = identity.Delegation{
		ID: r.key(), Principal: r.principal, Agent: agent, Scopes: identity.Scopes(r.scopes.Value()),
		Expires: r.expires, Reason: r.reason, Origin: r.origin.Value(), MaxHops: r.maxHops,
		Status: identity.DelegationActive, Created: r.created, Revision: r.revision,
	}
	switch {
	case r.inactive:
		d.Status, d.Withdrawn = identity.DelegationWithdrawn, r.withdrawn
	case r.made < p.killed:
		d.Status, d.Withdrawn = identity.DelegationWithdrawn, p.killedAt
	}
}

// activeAt is ActiveAt of the delegation, without making one.
func (r *record) activeAt(now identity.Instant, p *principalRow) bool {
	return !r.inactive && r.made >= p.killed && now < r.expires
}

// records is the delegation table: one record in each of four orders, and those of one pair findable at once. Three of the
// orders may lack the recent ones.
type records struct {
	seed        maphash.Seed
	byID        *tree[*record]
	byAgent     order // hash of the agent, id
	byPrincipal order // hash of the principal, id
	byExpiry    order // expires, id; for purges only, so no View has it
	pairs       hashIndex[pair]
	recent      recent // what byAgent, byPrincipal and byExpiry lack
}

// The orders. Each ends with the id, so that no two records are equal in any of them.

func byIDOrder(a, b *record) int { return bytes.Compare(a.id[:], b.id[:]) }

func byExpiryOrder(a, b *record) int {
	if c := cmp.Compare(a.expires, b.expires); c != 0 {
		return c
	}
	return byIDOrder(a, b)
}

func less[T any](order func(a, b T) int) func(a, b T) bool {
	return func(a, b T) bool { return order(a, b) < 0 }
}

func newRecords(seed maphash.Seed) *records {
	return &records{
		seed: seed, pairs: newHashIndex[pair](), byID: newTree(less(byIDOrder)),
		byAgent:     newOrder(func(r *record) uint64 { return nameKey(hashName(seed, r.agent.Value()), r.id) }),
		byPrincipal: newOrder(func(r *record) uint64 { return nameKey(hashName(seed, r.principal), r.id) }),
		byExpiry:    newOrder(func(r *record) uint64 { return expiryKey(r.expires) }),
	}
}

func (t *records) add(r *record) {
	t.byID.setNear(r) // ids begin with the time
	t.addRecent(r)
	if !r.inactive {
		t.pair(r)
	}
}

// replace puts a changed copy in the place of a record with the same id, agent, principal and expiry.
func (t *records) replace(r *record) {
	t.settle(r)
	if r.inactive {
		t.unpair([]*record{r})
	}
	t.byID.set(r)
	t.byAgent.set(r)
	t.byPrincipal.set(r)
	t.byExpiry.set(r)
}

func (t *records) remove(gone []*record) {
	paired := make([]*record, 0, len(gone))
	for _, r := range gone {
		t.settle(r)
		t.byID.delete(r)
		t.byAgent.delete(r)
		t.byPrincipal.delete(r)
		t.byExpiry.delete(r)
		if !r.inactive {
			paired = append(paired, r)
		}
	}
	t.unpair(paired)
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
