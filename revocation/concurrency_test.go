package revocation_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

// What was added before a read began is seen by it, whatever grows, rises or is purged at the same time.
func TestReadersSeeEveryCompletedAdd(t *testing.T) {
	const (
		writers   = 4
		perWriter = 1000
	)
	s := revocation.NewSet()
	var added [writers]atomic.Int64 // how many of each writer's entries are in for good
	handle := func(writer, i int) identity.Handle {
		return tokenHandles(writer*perWriter + i)[i%5]
	}

	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range perWriter {
				s.Add(revocation.Entry{Handle: handle(w, i), Expires: now, Provisional: true})
				s.Add(revocation.Entry{Handle: handle(w, i), Expires: now + hour})
				s.Add(revocation.Entry{Handle: id(identity.PrefixDelegation, -1-w*perWriter-i), Expires: 1}) // soon purged
				added[w].Store(int64(i) + 1)
			}
		})
	}
	stop := make(chan struct{})
	reading.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.Purge(now)
				s.PurgeProvisional(now)
			}
		}
	})
	for r := range 3 {
		reading.Go(func() {
			for i := r; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				w := i % writers
				n := int(added[w].Load())
				if n == 0 {
					continue
				}
				if h := handle(w, i*7919%n); !s.Revoked(h) {
					t.Errorf("%s was added and is not seen", h)
					return
				}
				if s.Revoked("agt_never-added#1", id(identity.PrefixSession, -1)) {
					t.Error("a handle that nobody added is revoked")
					return
				}
			}
		})
	}
	reading.Go(func() {
		for {
			least := 0
			for w := range writers {
				least += int(added[w].Load())
			}
			if got := len(final(s)); got < least {
				t.Errorf("a snapshot holds %d entries where %d were added", got, least)
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	writing.Wait()
	close(stop)
	reading.Wait()

	s.Purge(now)
	require.Equal(t, writers*perWriter, s.Len())
}

// The count that lets an empty set answer at once must never hide an entry.
func TestEntryIsSeenWhileOthersComeAndGo(t *testing.T) {
	for range 50 {
		s := revocation.NewSet()
		var churn sync.WaitGroup
		stop := make(chan struct{})
		for w := range 2 {
			churn.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
						s.Add(revocation.Entry{Handle: id(identity.PrefixSession, w<<20+i), Expires: 1})
						s.Purge(1)
					}
				}
			})
		}
		s.Add(revocation.Entry{Handle: "agt_killed#1", Expires: now})
		for range 200 {
			if !s.Revoked("agt_killed#1") {
				t.Error("the entry is not seen")
			}
		}
		close(stop)
		churn.Wait()
	}
}
