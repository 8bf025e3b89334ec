package client_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/internal/racedetector"
)

func percentile(took []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(took))
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

// A validator that made no request for it refuses a revoked token as good as at once: 99 of 100 within 50 ms of the
// answer that says committed. Of three tries one must do, since others use this machine.
func TestRevocationReachesAValidatorInTime(t *testing.T) {
	const promise, stops, tries = 50 * time.Millisecond, 200, 3
	limit := promise
	if racedetector.Enabled {
		limit *= 10
	}
	s := newService(t, 3, 0, nil)
	admin := s.cluster.Client()
	best := time.Hour
	for range tries {
		var fromRequest, fromAnswer []time.Duration
		for range stops {
			token := s.session(t)
			asked := time.Now()
			revoked := make(chan time.Time, 1)
			go func() {
				_, err := admin.Revoke(t.Context(), wire.RevocationRequest{SessionID: token.SessionID})
				if err != nil {
					t.Error(err)
				}
				revoked <- time.Now()
			}()
			deadline := asked.Add(30 * time.Second)
			for !s.refuses(t, token) && time.Now().Before(deadline) {
				<-time.After(100 * time.Microsecond)
			}
			refused := time.Now()
			require.True(t, refused.Before(deadline))
			fromRequest = append(fromRequest, refused.Sub(asked))
			fromAnswer = append(fromAnswer, max(0, refused.Sub(<-revoked)))
		}
		p99 := percentile(fromAnswer, 99)
		t.Logf("%d stops: refused after the answer p50 %s p99 %s worst %s; after the request p50 %s p99 %s worst %s", stops,
			percentile(fromAnswer, 50), p99, percentile(fromAnswer, 100), percentile(fromRequest, 50), percentile(fromRequest, 99), percentile(fromRequest, 100))
		if best = min(best, p99); best <= limit {
			return
		}
	}
	require.LessOrEqual(t, best, limit)
}

func TestValidateAllocatesNothing(t *testing.T) {
	if racedetector.Enabled {
		t.Skip("the race detector allocates")
	}
	n, m := newFakeNode(t), newMint(t)
	m.publish(n)
	n.valid = time.Minute
	v := ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience})
	token := m.token(nil)
	ctx := t.Context()
	validate := func() {
		if _, err := v.Validate(ctx, token); err != nil {
			panic(err)
		}
	}
	validate()
	require.Zero(t, testing.AllocsPerRun(1000, validate))
}

func BenchmarkValidate(b *testing.B) {
	n, m := newFakeNode(b), newMint(b)
	m.publish(n)
	n.valid = time.Minute
	v := ready(b, client.ValidatorOptions{Client: clientFor(b, n), Audience: audience})
	token := m.token(nil)
	if _, err := v.Validate(b.Context(), token); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := v.Validate(b.Context(), token); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
