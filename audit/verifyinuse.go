package audit

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
)

// A log may be verified while its node writes to it, begins segments and removes them.

// patiently repeats what a running node may have got in the way of: it removes old segments, a line that is being
// written has no end yet, and a log that was closed when its head was read may have been opened since.
func patiently(verify func() (*Report, error)) (r *Report, err error) {
	const (
		mostMissed = 10 // times that a segment is gone which was there a moment ago: often at the first
		mostRead   = 3  // times that all is read
	)
	for missed, read := 0, 0; missed < mostMissed && read < mostRead; {
		r, err = verify()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missed++
		case err == nil && len(r.Problems) == 1 && r.Problems[0].passing():
			read++
		default:
			return r, err
		}
	}
	return r, err
}

// passing reports whether it may be gone in a moment.
func (p *Problem) passing() bool {
	return p.Flaw == FlawTorn || p.Flaw == FlawAdded || p.Flaw == FlawHead
}

// Verify does so for this log, up to its last record, and with the checkpoints given.
func (l *Log) Verify(ctx context.Context, o VerifyOptions) (*Report, error) {
	o.live = l.catalog.ends
	return patiently(func() (*Report, error) { return verify(ctx, os.DirFS(l.options.Dir), o) })
}

// oldest is the first of the segments, 0 where there is none.
func oldest(sizes map[uint64]int64) uint64 {
	if len(sizes) == 0 {
		return 0
	}
	return slices.Min(slices.Collect(maps.Keys(sizes)))
}
