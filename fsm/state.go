package fsm

import (
	"hash/maphash"
	"math"
	"time"
	"unique"

	"github.com/hashicorp/go-memdb"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

// Bounds of the small tables, checked where a row is added (CodeLimitReached).
const (
	MaxAPITokens   = 10_000
	MaxJoinTokens  = 1000
	MaxMembers     = 10_000 // ever: the removed ones are kept, so that their ids are never used again
	MaxSigningKeys = 10_000
	maxRows        = math.MaxInt // a list without a bound of its own

	// MaxPairDelegations bounds the active delegations from one principal to one agent, as the mint path may
	// have to look at each of them to find one that covers the scopes asked for.
	MaxPairDelegations = 256
)

const (
	// verifyLeeway and maxSkew are what verifiers and the clocks of nodes are allowed; a revocation must
	// outlast both.
	verifyLeeway = 60 * time.Second
	maxSkew      = 2 * time.Second

	// keepExpired is how long an expired delegation or join token is kept, so that who asks hears that it
	// expired rather than that it never was.
	keepExpired = 24 * time.Hour

	// endOfTime is the last millisecond of the year 9999, the last that RFC 3339 can write.
	endOfTime = identity.Instant(253_402_300_799_999)
)

var noText = unique.Make("")

// horizon is what decides how long a token of the past may still be about. Both parts only grow.
type horizon struct {
	TokenSeconds int64 `codec:"t"` // the longest session that any agent was ever allowed
	LeaseMillis  int64 `codec:"l"` // the longest lease that was ever in force
}

// lifetime is how long after now a token that was minted now, by a node that knows no better, may be
// accepted.
func (h horizon) lifetime() time.Duration {
	lease := time.Duration(h.LeaseMillis) * time.Millisecond
	return time.Duration(h.TokenSeconds)*time.Second + lease + lease/clockSlew + verifyLeeway + 2*maxSkew
}

// raise takes in a session length and a lease, held to what the domain allows at most.
func (h *horizon) raise(tokenSeconds, leaseMillis int64) {
	h.TokenSeconds = max(h.TokenSeconds, min(tokenSeconds, identity.MaxSessionSeconds))
	h.LeaseMillis = max(h.LeaseMillis, min(leaseMillis, 60_000))
}

// state is what Apply writes. Only the goroutine that applies touches it; readers get Views.
type state struct {
	set  *revocation.Set // shared by all states of the process: it only ever grows
	seed maphash.Seed    // of the hashes that names are found by; nothing that is written or answered depends on it

	index        uint64
	time         identity.Instant
	by           string // of the command being applied
	generation   uint64 // the FSM-wide counter: every generation was its value once, and it never goes back
	horizon      horizon
	keysRevision uint64
	settings     *identity.Settings

	policiesRevision uint64 // log index of the last change of any policy; 0: there was none ever

	closed    string     // why no node may mint; "" where they may
	restoring *restoring // a restore that was begun and not ended; replaced, never modified

	// lineage is that of the log: it changes where a recovery has the log go on from less than it had come to.
	lineage uint64

	// forgotten is when the latest deletion was made of which nothing is known any more.
	forgotten identity.Instant

	longerLease, longerOffline longer // settings that were shortened a moment ago

	agents       *rows[*agentRow]
	principals   *rows[*principalRow]
	applications *tree[named[*identity.Application]]
	audiences    *tree[named[*identity.Application]] // by audience URI
	scopes       *tree[named[*identity.Application]] // by each scope it owns
	owners       *tree[named[Owner]]                 // by credential id
	policies     *tree[named[*identity.Policy]]

	approvals          *tree[named[*identity.Approval]] // by id, which is by age
	approvalsByBinding *tree[named[*identity.Approval]] // by agent, binding and id
	approvalsRevision  uint64                           // log index of the last change of any

	delegations *records
	bars        *tree[bar]
	revocations *revocations
	gone        []gone // deleted names whose delegations are yet to be removed; replaced, never modified
	texts       texts

	secrets    secretIndex // of the API tokens in small
	small      *memdb.MemDB
	smallRead  *memdb.Txn // as of the last View
	smallWrite *memdb.Txn // nil unless this batch wrote

	// How many rows the small tables have; memdb does not count.
	apiTokens, members, present, keys int

	internal *window
	clients  *window

	// What the entry being applied has changed in set, for its journal.
	denied []revocation.Entry
	purged bool
}

func newState(set *revocation.Set) *state {
	seed := maphash.MakeSeed()
	s := &state{
		set: set, seed: seed,
		settings: &identity.Settings{
			OfflineTTLSeconds: identity.DefaultOfflineTTLSeconds,
			LeaseMillis:       identity.DefaultLeaseMillis,
		},
		agents:     newRows(seed, func(r *agentRow) string { return r.Name }),
		principals: newRows(seed, func(r *principalRow) string { return r.ID }),

		applications: newNamed[*identity.Application](), audiences: newNamed[*identity.Application](),
		scopes: newNamed[*identity.Application](), owners: newNamed[Owner](), policies: newNamed[*identity.Policy](),
		approvals: newNamed[*identity.Approval](), approvalsByBinding: newNamed[*identity.Approval](),
		delegations: newRecords(seed), bars: newTree(lessBar),
		revocations: newRevocations(), small: newSmall(), secrets: secretIndex{newHashIndex[*identity.APIToken](), seed},
		internal: newWindow(internalAge), clients: newWindow(clientKeyAge),
	}
	s.horizon.raise(identity.MinSessionSeconds, s.settings.LeaseMillis)
	s.smallRead = s.small.Txn(false)
	return s
}

// view freezes the state.
func (s *state) view() *View {
	if s.smallWrite != nil {
		s.smallWrite.Commit()
		s.smallWrite, s.smallRead = nil, s.small.Txn(false)
	}
	return &View{
		index: s.index, time: s.time, seed: s.seed, settings: s.settings, keysRevision: s.keysRevision, horizon: s.horizon,
		agents: s.agents.freeze(), agentsByName: s.agents.freezeNames(),
		principals: s.principals.freeze(), principalsByID: s.principals.freezeNames(), applications: s.applications.freeze(),
		audiences: s.audiences.freeze(), scopes: s.scopes.freeze(), owners: s.owners.freeze(),
		delegations: s.delegations.byID.freeze(), delegationsByAgent: s.delegations.byAgent.freeze(),
		delegationsByPrincipal: s.delegations.byPrincipal.freeze(),
		pairs:                  s.delegations.pairs.freeze(), recentByAgent: s.delegations.recent.of(lateByAgent),
		recentByPrincipal: s.delegations.recent.of(lateByPrincipal),
		bars:              s.bars.freeze(), revocations: s.revocations.freeze(),
		small: s.smallRead, secrets: s.secrets.freeze(), apiTokenCount: s.apiTokens, memberCount: s.present,
		generation: s.generation, gone: s.gone,
		closed: s.closed, restoring: s.restoring, longerLease: s.longerLease, longerOffline: s.longerOffline,
		forgotten: s.forgotten, lineage: s.lineage,
		policies: s.policies.freeze(), policiesRevision: s.policiesRevision,
		approvals: s.approvals.freeze(), approvalsByBinding: s.approvalsByBinding.freeze(), approvalsRevision: s.approvalsRevision,
		superseded: make(chan struct{}),
	}
}

// rows is the small tables as this batch has left them so far.
func (s *state) rows() *memdb.Txn {
	if s.smallWrite != nil {
		return s.smallWrite
	}
	return s.smallRead
}

func (s *state) write() *memdb.Txn {
	if s.smallWrite == nil {
		s.smallWrite = s.small.Txn(true)
	}
	return s.smallWrite
}

func (s *state) put(table string, row any)    { must(s.write().Insert(table, row)) }
func (s *state) remove(table string, row any) { must(s.write().Delete(table, row)) }

// nextGeneration draws from the FSM-wide counter.
func (s *state) nextGeneration() uint64 {
	s.generation++
	return s.generation
}

// stamp returns t, or FSM time where t was not set.
func (s *state) stamp(t identity.Instant) identity.Instant {
	if t.IsZero() {
		return s.time
	}
	return t
}

// after adds to a time without ever passing endOfTime, as a command may carry any time whatever.
func after(t identity.Instant, d time.Duration) identity.Instant {
	if t > endOfTime-identity.Instant(d.Milliseconds()) {
		return endOfTime
	}
	return t.Add(d)
}

// deny puts handles into the revocation set at once, before any View shows it, and files why.
func (s *state) deny(reason string, handles ...identity.Handle) {
	for _, h := range handles {
		r := &identity.Revocation{Handle: h, Reason: reason, By: s.by, At: s.time, Expires: s.expiryOf(h), Index: s.index}
		s.file(r)
		s.enter(r)
	}
}

// file puts a revocation into the table. Where there is one of its handle, that one tells when and why, and it lasts as
// long as the longest.
func (s *state) file(r *identity.Revocation) {
	if old, ok := s.revocations.get(r.Handle); ok {
		old.Expires = max(old.Expires, r.Expires)
		*r = *old
	}
	s.revocations.set(r)
}

// enter puts a handle into the set.
func (s *state) enter(r *identity.Revocation) {
	e := revocation.Entry{Handle: r.Handle, Expires: r.Expires}
	s.set.Add(e)
	s.denied = append(s.denied, e)
}

// expiryOf returns until when a handle that is denied now must stay in the set. Whoever stole a signing key
// dates tokens as they like, and the last API token with role admin is not deleted by its revocation: their
// entries stay for ever.
func (s *state) expiryOf(h identity.Handle) identity.Instant {
	if isKey(h) || s.isLastAdminHandle(h) {
		return endOfTime
	}
	return after(s.time, s.horizon.lifetime())
}

func (s *state) isRevoked(h identity.Handle) bool {
	return s.revocations.has(h)
}

// texts shares the memory of texts that come again and again, such as reasons. It is bounded by starting
// over, and is no part of the state: two replicas may share differently.
type texts struct {
	seen  map[string]string
	lists map[string][]string // by their entries, each with a zero byte behind it
}

const maxTexts = 4096

func (t *texts) intern(text string) string {
	if text == "" {
		return ""
	}
	if shared, ok := t.seen[text]; ok {
		return shared
	}
	if t.seen == nil || len(t.seen) >= maxTexts {
		t.seen = make(map[string]string)
	}
	t.seen[text] = text
	return text
}

// internList is intern for a short list. The shared one has no room behind it, so that to append is to copy.
func (t *texts) internList(list []string) []string {
	if len(list) == 0 {
		return list
	}
	var key []byte
	for _, text := range list {
		key = append(append(key, text...), 0)
	}
	if shared, ok := t.lists[string(key)]; ok {
		return shared
	}
	if t.lists == nil || len(t.lists) >= maxTexts {
		t.lists = make(map[string][]string)
	}
	shared := make([]string, len(list))
	for i, text := range list {
		shared[i] = t.intern(text)
	}
	t.lists[string(key)] = shared
	return shared
}
