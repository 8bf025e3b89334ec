package audit

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/virtualtime"
)

// slowDisk is a file whose syncs take as long as it says.
type slowDisk struct {
	file
	took  func(sync int) time.Duration
	syncs int
}

func (d *slowDisk) Sync() error {
	time.Sleep(d.took(d.syncs))
	d.syncs++
	return nil
}

// A sync begins as late as is safe on this disk: few of them where it is quick, in time where it is slow.
func TestSyncsBeginLateAndEndInTime(t *testing.T) {
	const within = 50 * time.Millisecond
	for name, c := range map[string]struct {
		took        func(sync int) time.Duration
		least, most int           // syncs a second
		late        time.Duration // at the worst
	}{
		"a quick disk":               {func(int) time.Duration { return 200 * time.Microsecond }, 24, 30, 0},
		"one that takes 5 ms":        {func(int) time.Duration { return 5 * time.Millisecond }, 27, 34, 0},
		"one that takes half of it":  {func(int) time.Duration { return within/2 - time.Millisecond }, 36, 42, 0},
		"one that is slow at times":  {func(n int) time.Duration { return time.Duration(1+23*(n%50/49)) * time.Millisecond }, 36, 42, 0},
		"one that gets slow at once": {func(n int) time.Duration { return time.Duration(1+10*min(n/800, 1)) * time.Millisecond }, 22, 42, 0},
		"and far slower": {
			func(n int) time.Duration { return time.Duration(1+19*min(n/800, 1)) * time.Millisecond }, 22, 42,
			20*time.Millisecond - within/4, // what the first one takes beyond a quarter
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtualtime.Test(t, func(t *testing.T) {
				d := &slowDisk{took: c.took}
				s := newSyncer(d, mark{}, within, newMetrics())
				began, through, late := time.Now(), uint64(0), time.Duration(0)
				s.onSynced = func(at mark) {
					oldest := began.Add(time.Duration(through+1) * time.Millisecond)
					late, through = max(late, time.Since(oldest)), at.sequence
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); s.run(ctx) }()
				const seconds = 60
				for n := range uint64(seconds * 1000) {
					time.Sleep(time.Millisecond)
					s.wrote(mark{sequence: n + 1}, true)
				}
				cancel()
				<-done
				require.LessOrEqual(t, late, within+c.late)
				require.Less(t, s.unsynced(time.Now()), within)
				require.GreaterOrEqual(t, d.syncs, c.least*seconds)
				require.LessOrEqual(t, d.syncs, c.most*seconds)
			})
		})
	}
}
