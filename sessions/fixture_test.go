package sessions

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

// t0 is when the tests begin.
const t0 = identity.Instant(1_776_412_800_000)

const testKey = identity.Handle("key_n1")

// started is a session with the handles that policy would list for it.
type started struct {
	identity.Session
	handles []identity.Handle
}

func newID(prefix string, at identity.Instant, n uint64) string {
	var entropy [10]byte
	n *= 0x9e3779b97f4a7c15 // spread like random ones
	n = (n ^ n>>31) * 0xbf58476d1ce4e5b9
	binary.BigEndian.PutUint64(entropy[2:], n^n>>29)
	return identity.NewID(prefix, at, entropy)
}

// run starts the n-th session of an agent at an instant.
func run(n uint64, at identity.Instant, seconds int64, agents ...string) *started {
	s := &started{Session: identity.Session{
		ID: newID(identity.PrefixSession, at, n), AgentType: identity.AgentAutonomous, Scopes: "a b", Audience: []string{"https://api.example.com"},
		Credential: newID(identity.PrefixCredential, t0, 1), TriggerReason: "by the clock", Issued: at, Expires: at + identity.Instant(seconds*1000),
	}}
	for _, agent := range agents {
		s.Chain = append(s.Chain, identity.Actor{Agent: agent, Generation: 7})
	}
	return s.rest()
}

// rest lists what the session rests on, as policy does.
func (s *started) rest() *started {
	s.handles = []identity.Handle{identity.SessionHandle(s.ID)}
	if s.Delegation != "" {
		s.handles = append(s.handles, identity.DelegationHandle(s.Delegation))
	}
	for _, a := range slices.Backward(s.Chain) {
		s.handles = append(s.handles, identity.AgentHandle(a.Agent, a.Generation))
	}
	if s.Principal != "" {
		s.handles = append(s.handles, identity.PrincipalHandle(s.Principal, 93))
	}
	s.handles = append(s.handles, identity.CredentialHandle(s.Credential))
	return s
}

// behalf has the session act for a principal.
func (s *started) behalf(principal string) *started {
	s.Principal, s.Delegation = principal, newID(identity.PrefixDelegation, t0, uint64(len(principal)))
	return s.rest()
}

func (x *Index) add(sessions ...*started) {
	for _, s := range sessions {
		x.Add(&s.Session, s.handles, testKey)
	}
}

func (p *Page) ids() []string {
	ids := []string{}
	for i := range p.Sessions {
		ids = append(ids, p.Sessions[i].ID)
	}
	return ids
}

// walk reads a list page by page.
func walk(t require.TestingT, x *Index, q Query) (ids []string, pages int) {
	ids = []string{}
	for range 1 << 12 {
		page := x.List(q)
		pages++
		require.LessOrEqual(t, len(page.Sessions), q.Limit)
		ids = append(ids, page.ids()...)
		if !page.More {
			return ids, pages
		}
		require.Greater(t, page.Through, q.After, "the cursor moves on")
		if n := len(page.Sessions); n > 0 {
			require.GreaterOrEqual(t, page.Through, page.Sessions[n-1].ID)
		}
		q.After = page.Through
	}
	require.FailNow(t, "a list without end")
	return nil, 0
}

// requireWhole holds the parts of every shard to each other.
func requireWhole(t require.TestingT, x *Index) {
	for i := range x.shards {
		s := &x.shards[i]
		require.Equal(t, s.n, s.order.n)
		require.Len(t, s.ends, s.n)
		require.LessOrEqual(t, s.bytes, s.limit)
		bytes, listed := recordCost*s.n, 0
		for number := uint32(1); number < s.names.used; number++ {
			symbol := s.names.at(number)
			if symbol.refs == 0 {
				require.Zero(t, *symbol)
				continue
			}
			bytes += symbol.key.cost()
			if symbol.key.kind != kindReason {
				require.EqualValues(t, number, s.names.numbers[symbol.key])
			}
			n, before := 0, ref(0)
			for at := symbol.head; at != 0; at = s.link(at).after {
				if got := s.link(at).before; got != before { // require would take most of the time
					require.Equal(t, before, got)
				}
				n, before = n+1, at
			}
			require.EqualValues(t, n, symbol.n)
			listed += n
		}
		for number := uint32(1); number < s.shapes.used; number++ {
			if shape := s.shapes.at(number); shape.refs > 0 {
				bytes += shapeCost + len(shape.text)
			}
		}
		require.Equal(t, bytes, s.bytes)
		keys, lanesTaken, previous := 0, 0, id{}
		for _, b := range s.order.blocks {
			require.Equal(t, b.first, b.keys[0].id)
			for _, k := range b.keys[:b.n] {
				r := s.records.at(k.slot)
				if compareIDs(previous, k.id) >= 0 || r.id != k.id {
					require.Negative(t, compareIDs(previous, k.id))
					require.Equal(t, k.id, r.id)
				}
				for _, agent := range s.shapes.at(r.shape).chain {
					lanesTaken += int(min(agent, 1))
				}
				lanesTaken += int(min(r.principal, 1))
				keys, previous = keys+1, k.id
			}
		}
		require.Equal(t, s.n, keys)
		require.Equal(t, lanesTaken, listed)
	}
}

func newTestIndex(t testing.TB) *Index {
	x := NewIndex(MinBytes)
	t.Cleanup(func() { requireWhole(t, x) })
	return x
}
