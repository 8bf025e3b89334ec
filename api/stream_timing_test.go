package api

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

// BenchmarkStreamFanOut is one commit, and the time until all who follow have its event, without the network: what the
// one who applies the log waits for (commit-us), and what all of it takes.
func BenchmarkStreamFanOut(b *testing.B) {
	for _, followers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(followers), func(b *testing.B) {
			n := newGroup(b, 1).nodes[0]
			last := []byte(`ses_over`)
			var have atomic.Int64
			var reading sync.WaitGroup
			var open []*eventStream
			for range followers {
				s := openStream(b, n)
				open = append(open, s)
				reading.Go(func() {
					piece := make([]byte, 32<<10)
					for {
						k, err := s.Read(piece)
						if err != nil || bytes.Contains(piece[:k], last) {
							return
						}
						have.Add(int64(bytes.Count(piece[:k], []byte("event: commit"))))
					}
				})
			}
			index := n.journal.Position().Applied
			commit := func(h identity.Handle) {
				e := revocation.Entry{Handle: h, Expires: 4e12}
				n.revoked.Add(e)
				index++
				n.journal.Commit(index, []revocation.Entry{e})
			}
			var applying time.Duration
			b.ResetTimer()
			for i := range b.N {
				before := time.Now()
				commit(identity.Handle(fmt.Sprintf("agt_a#%d", i)))
				applying += time.Since(before)
				for have.Load() < int64(i+1)*int64(followers) {
					<-time.After(10 * time.Microsecond)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(applying.Microseconds())/float64(b.N), "commit-us")
			commit(identity.Handle(last))
			reading.Wait()
			for _, s := range open {
				_ = s.Close()
			}
		})
	}
}
