package api

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/identity"
)

// Bounds of what is recorded of refusals to callers that have proved to be nobody: at most some twenty records a second,
// whoever sends how much from wherever. Otherwise anybody could fill the disk, or have what matters go after its time.
const (
	strangersWindow    = time.Second
	strangersEach      = 3   // records of one address in a window; what comes beyond is summed up
	strangersRecords   = 10  // records of all addresses
	strangersAddresses = 256 // addresses that are counted one by one
	strangersSums      = 8   // addresses with a record of their sum; that of the others is one
)

// strangers records refused proofs of identity, and sums them up where there are too many.
type strangers struct {
	api *API

	mu      sync.Mutex
	until   time.Time // of the window
	records int
	counts  map[netip.Prefix]*refusals
	others  int // refusals to addresses that are not counted
	summing bool
}

// refusals are those to one address within a window.
type refusals struct {
	address  netip.Addr // of the last
	recorded int
	more     int
}

func newStrangers(a *API) *strangers { return &strangers{api: a, counts: map[netip.Prefix]*refusals{}} }

// note records that somebody was refused. It waits for nothing but room in the queue: nothing was given to them.
func (s *strangers) note(c *call, code identity.Code) {
	if !s.count(c.source) {
		return
	}
	r := s.api.draft(c)
	r.Kind, r.Decision, r.Reason = audit.KindRefuse, audit.Denied, string(code)
	s.queue(r)
}

func (s *strangers) queue(r *audit.Record) {
	if _, err := s.api.Audit.Queue(context.Background(), r); err != nil {
		s.api.metrics.unrecorded.Inc()
	}
}

// count returns whether the refusal is to be recorded by itself.
func (s *strangers) count(source netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); !now.Before(s.until) && !s.summing {
		clear(s.counts)
		s.until, s.records, s.others = now.Add(strangersWindow), 0, 0
	}
	from, ok := s.counts[network(source)]
	if !ok && len(s.counts) < strangersAddresses {
		from = &refusals{}
		s.counts[network(source)] = from
	}
	if from == nil {
		s.others++
	} else {
		from.address = source
		if from.recorded < strangersEach && s.records < strangersRecords {
			from.recorded++
			s.records++
			return true
		}
		from.more++
	}
	if !s.summing {
		s.summing = true
		time.AfterFunc(time.Until(s.until), s.sum)
	}
	return false
}

// network is what one caller may have to themselves: an IPv4 address, or an IPv6 network of 64 bits.
func network(source netip.Addr) netip.Prefix {
	bits := 32
	if source.Is6() {
		bits = 64
	}
	prefix, err := source.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address at all
	}
	return prefix
}

// sum records how many refusals of a window were not recorded by themselves.
func (s *strangers) sum() {
	s.mu.Lock()
	others, addresses := s.others, 0
	var many []refusals
	for _, from := range s.counts {
		if from.more > 0 {
			many = append(many, *from)
		}
	}
	s.summing, s.until = false, time.Time{}
	s.mu.Unlock()
	slices.SortFunc(many, func(x, y refusals) int { return cmp.Compare(y.more, x.more) })
	for i, from := range many {
		if i < strangersSums {
			s.queue(&audit.Record{
				Kind: audit.KindRefuse, Decision: audit.Denied, Reason: string(identity.CodeUnauthenticated), SourceIP: from.address,
				Detail: fmt.Sprintf("%d more refusals to this address within %s", from.more, strangersWindow),
			})
			continue
		}
		others, addresses = others+from.more, addresses+1
	}
	if others > 0 {
		s.queue(&audit.Record{
			Kind: audit.KindRefuse, Decision: audit.Denied, Reason: string(identity.CodeUnauthenticated),
			Detail: fmt.Sprintf("%d more refusals to %d or more other addresses within %s", others, max(1, addresses), strangersWindow),
		})
	}
}
