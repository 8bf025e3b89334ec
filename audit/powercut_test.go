package audit

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/virtualtime"
)

// blackBox notes, at every moment that matters, what a power cut would leave: what is on the disk for certain, what may
// be, and which heads the name may hold.
type blackBox struct {
	mu      sync.Mutex
	written map[string][]byte // as the kernel has it
	durable map[string][]byte
	heads   [][]byte // the first is durable; the name of the others may not be
	moments []moment
}

type moment struct {
	written, durable map[string][]byte
	heads            [][]byte
}

func (b *blackBox) note(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	b.moments = append(b.moments, moment{maps.Clone(b.written), maps.Clone(b.durable), slices.Clone(b.heads)})
}

type watchedFile struct {
	*os.File
	box  *blackBox
	name string
}

func (f *watchedFile) WriteAt(p []byte, at int64) (int, error) {
	n, err := f.File.WriteAt(p, at)
	f.box.note(func() { f.box.written[f.name] = append(f.box.written[f.name][:at:at], p[:n]...) })
	return n, err
}

func (f *watchedFile) Sync() error {
	f.box.mu.Lock()
	certain := f.box.written[f.name] // what comes meanwhile may be missed
	f.box.mu.Unlock()
	err := f.File.Sync()
	f.box.note(func() { f.box.durable[f.name] = certain })
	return err
}

func (b *blackBox) watch(o *Options) {
	o.openFile = func(path string, create bool) (file, error) {
		f, err := openFile(path, create)
		if err != nil {
			return nil, err
		}
		return &watchedFile{File: f.(*os.File), box: b, name: filepath.Base(path)}, nil
	}
	o.replaceHead = func(dir string, text []byte, lasting bool) error {
		text = bytes.Clone(text)
		b.note(func() { b.heads = append(b.heads, text) })
		err := replaceHead(dir, text, lasting)
		if lasting {
			b.note(func() { b.heads = [][]byte{text} })
		}
		return err
	}
}

// after is what the power cut leaves: all that is durable, and anything of the rest.
func (m *moment) after(dice *rand.Rand) map[string][]byte {
	left := map[string][]byte{}
	for name, text := range m.written {
		certain := len(m.durable[name])
		if n := certain + dice.IntN(len(text)-certain+1); n > 0 || dice.IntN(2) == 0 {
			left[name] = text[:n]
		}
	}
	if len(m.heads) > 0 {
		left[headFile] = m.heads[dice.IntN(len(m.heads))]
	}
	return left
}

// However a crash of the machine comes between writes, syncs, new segments and heads, what it leaves is never taken for a
// log that somebody has changed, and the node starts with it.
func TestPowerCutIsNeverTakenForAManipulation(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	box := &blackBox{written: map[string][]byte{}, durable: map[string][]byte{}}
	virtualtime.Test(t, func(t *testing.T) {
		o := small(t.TempDir())
		o.SegmentBytes, o.SyncWithin, o.CheckpointRecords = 4<<10, 8*time.Millisecond, 64
		box.watch(&o)
		for run := range 2 {
			if run == 1 {
				o.Sync = SyncAlways
			}
			l := openLog(t, o)
			for i := range 15 {
				appendAll(t, l, i, i+1)
				time.Sleep(time.Duration(dice.IntN(6)) * time.Millisecond)
			}
			closeLog(t, l)
		}
	})
	keys := keysOf("n1")
	starts, torn, behind := 0, 0, 0
	for i := range box.moments {
		m := &box.moments[i]
		for range 2 {
			left := m.after(dice)
			folder := fstest.MapFS{}
			for name, text := range left {
				folder[name] = &fstest.MapFile{Data: text}
			}
			r, err := verify(context.Background(), folder, VerifyOptions{Keys: keys})
			require.NoError(t, err)
			for _, p := range r.Problems {
				switch p.Flaw {
				case FlawTorn:
					torn++
				case FlawEmpty:
					require.Zero(t, r.Last)
				default:
					t.Fatalf("moment %d: %s", i, p.String())
				}
			}
			if r.Last > r.Sealed {
				behind++
			}
			if dice.IntN(8) > 0 {
				continue
			}
			starts++
			dir := t.TempDir()
			for name, text := range left {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
			}
			l := openLog(t, testOptions(dir))
			closeLog(t, l)
			require.GreaterOrEqual(t, requireWhole(t, dir).Last, r.Last)
		}
	}
	require.Positive(t, torn)
	require.Positive(t, behind)
	t.Logf("%d moments, %d starts after a power cut; half a line was left %d times, and the head was behind %d times", len(box.moments), starts, torn, behind)
}
