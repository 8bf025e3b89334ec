package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
)

// splitLines keeps the newlines.
func splitLines(text []byte) (lines [][]byte) {
	for line := range bytes.Lines(text) {
		lines = append(lines, line)
	}
	return lines
}

func joinLines(lines [][]byte) []byte { return bytes.Join(lines, nil) }

// evidence is a log on which one can try what one likes.
type evidence struct {
	files     map[string][]byte
	names     []string // oldest first
	witnesses []Checkpoint
	keys      map[string]ed25519.PublicKey
	last      Checkpoint // the one that reaches furthest
}

// gather makes a log of several small segments, the first of them removed after its time where pruned.
func gather(t testing.TB, pruned bool) *evidence {
	t.Helper()
	o := testOptions(t.TempDir())
	o.CheckpointRecords = 24
	o.SegmentBytes, o.tinyBounds = 7<<10, true
	if pruned {
		o.RetainBytes, o.HardBytes = 15<<10, 15<<10
	}
	e := &evidence{files: map[string][]byte{}, keys: keysOf("n1")}
	witness := func(l *Log) {
		if c, ok := l.Checkpoint(); ok {
			e.witnesses = append(e.witnesses, c)
		}
	}
	l := openLog(t, o)
	for i := range 44 {
		appendAll(t, l, i, i+1)
		if i == 30 {
			witness(l)
		}
	}
	if pruned {
		require.NoError(t, l.house.clean(t.Context()))
	}
	appendAll(t, l, 44, 48)
	closeLog(t, l)
	witness(l)
	e.last = e.witnesses[len(e.witnesses)-1]
	firsts, _, err := segmentNames(os.DirFS(o.Dir))
	require.NoError(t, err)
	require.Greater(t, len(firsts), 2)
	require.Equal(t, pruned, firsts[0] > 1)
	for _, first := range firsts {
		e.names = append(e.names, segmentName(first))
		e.files[segmentName(first)], err = os.ReadFile(filepath.Join(o.Dir, segmentName(first)))
		require.NoError(t, err)
	}
	return e
}

func (e *evidence) clone() *evidence {
	c := *e
	c.files = map[string][]byte{}
	for name, text := range e.files {
		c.files[name] = bytes.Clone(text)
	}
	return &c
}

func (e *evidence) verify(t testing.TB) *Report {
	t.Helper()
	folder := fstest.MapFS{"lock": {}}
	for name, text := range e.files {
		folder[name] = &fstest.MapFile{Data: text}
	}
	r, err := verify(context.Background(), folder, VerifyOptions{Keys: e.keys, Checkpoints: e.witnesses})
	if err != nil {
		t.Error(err)
		return &Report{}
	}
	return r
}

// text is the log in one piece.
func (e *evidence) text() []byte {
	var all []byte
	for _, name := range slices.Sorted(maps.Keys(e.files)) {
		all = append(all, e.files[name]...)
	}
	return all
}

// lost reports whether what is left is the log but for whole records at its end that nobody has a checkpoint of.
func (e *evidence) lost(from *evidence) bool {
	left, all := e.text(), from.text()
	if !bytes.HasPrefix(all, left) || (len(left) > 0 && left[len(left)-1] != '\n') {
		return false
	}
	for name := range e.files {
		if _, ok := from.files[name]; !ok || !bytes.HasPrefix(from.files[name], e.files[name]) {
			return false
		}
	}
	return bytes.Contains(left, fmt.Appendf(nil, `","seq":%d,`, from.last.Through))
}

func (e *evidence) name(dice *rand.Rand) string { return e.names[dice.IntN(len(e.names))] }

// line picks one of a random segment.
func (e *evidence) line(dice *rand.Rand) (name string, lines [][]byte, i int) {
	name = e.name(dice)
	lines = splitLines(e.files[name])
	return name, lines, dice.IntN(len(lines))
}

// forge changes a record and makes the chain from there on fit, as whoever has the file but no key can.
func (e *evidence) forge(dice *rand.Rand) {
	name, _, target := e.line(dice)
	var c chain
	begun := false
	for _, n := range e.names {
		lines := splitLines(e.files[n])
		for i, line := range lines {
			_, _, f, err := cutLine(line)
			if err != nil {
				panic(err)
			}
			hit := n == name && i == target
			begun = begun || hit
			if !begun {
				c.sequence, c.head = f.sequence, f.hash
				continue
			}
			content := f.content[bytes.Index(f.content, []byte(partTime))+1:]
			if hit {
				content = append(bytes.Clone(content), `,"forged":true`...)
			}
			c.sequence = f.sequence - 1
			lines[i] = c.append(nil, f.node, content)
		}
		e.files[n] = joinLines(lines)
	}
}

// manipulations, each of which changes one thing.
var manipulations = []struct {
	name   string
	change func(e *evidence, dice *rand.Rand)
}{
	{"flip a bit", func(e *evidence, dice *rand.Rand) {
		text := e.files[e.name(dice)]
		text[dice.IntN(len(text))] ^= 1 << dice.IntN(8)
	}},
	{"overwrite some bytes", func(e *evidence, dice *rand.Rand) {
		text := e.files[e.name(dice)]
		at := dice.IntN(len(text))
		for i := at; i < min(at+1+dice.IntN(40), len(text)); i++ {
			text[i] = byte(dice.Uint32())
		}
	}},
	{"insert a byte", func(e *evidence, dice *rand.Rand) {
		name := e.name(dice)
		e.files[name] = slices.Insert(e.files[name], dice.IntN(len(e.files[name])+1), []byte{byte(dice.Uint32()), '\n', ' '}[dice.IntN(3)])
	}},
	{"drop a line", func(e *evidence, dice *rand.Rand) {
		name, lines, i := e.line(dice)
		e.files[name] = joinLines(slices.Delete(lines, i, i+1))
	}},
	{"drop lines from somewhere on", func(e *evidence, dice *rand.Rand) {
		name, lines, i := e.line(dice)
		e.files[name] = joinLines(lines[:i])
	}},
	{"drop lines at the front", func(e *evidence, dice *rand.Rand) {
		name, lines, i := e.line(dice)
		e.files[name] = joinLines(lines[min(i+1, len(lines)):])
	}},
	{"swap two lines", func(e *evidence, dice *rand.Rand) {
		a, lines, i := e.line(dice)
		b, others, j := e.line(dice)
		if a == b {
			lines[i], lines[j] = lines[j], lines[i]
			e.files[a] = joinLines(lines)
			return
		}
		lines[i], others[j] = others[j], lines[i]
		e.files[a], e.files[b] = joinLines(lines), joinLines(others)
	}},
	{"repeat a line", func(e *evidence, dice *rand.Rand) {
		_, lines, i := e.line(dice)
		to, others, j := e.line(dice)
		e.files[to] = joinLines(slices.Insert(others, j+dice.IntN(2), lines[i]))
	}},
	{"move a line", func(e *evidence, dice *rand.Rand) {
		name, lines, i := e.line(dice)
		line := lines[i]
		lines = slices.Delete(lines, i, i+1)
		e.files[name] = joinLines(slices.Insert(lines, dice.IntN(len(lines)+1), line))
	}},
	{"cut a file", func(e *evidence, dice *rand.Rand) {
		name := e.name(dice)
		e.files[name] = e.files[name][:dice.IntN(len(e.files[name]))]
	}},
	{"cut the log", func(e *evidence, dice *rand.Rand) {
		at := dice.IntN(len(e.names))
		for _, name := range e.names[at+1:] {
			delete(e.files, name)
		}
		lines := splitLines(e.files[e.names[at]])
		e.files[e.names[at]] = joinLines(lines[:1+dice.IntN(len(lines))])
	}},
	{"remove a file", func(e *evidence, dice *rand.Rand) { delete(e.files, e.name(dice)) }},
	{"remove the first files", func(e *evidence, dice *rand.Rand) {
		for _, name := range e.names[:1+dice.IntN(len(e.names)-1)] {
			delete(e.files, name)
		}
	}},
	{"swap two files", func(e *evidence, dice *rand.Rand) {
		a, b := e.name(dice), e.name(dice)
		e.files[a], e.files[b] = e.files[b], e.files[a]
	}},
	{"copy a file", func(e *evidence, dice *rand.Rand) {
		e.files[segmentName(1+uint64(dice.IntN(100)))] = e.files[e.name(dice)]
	}},
	{"rename a file", func(e *evidence, dice *rand.Rand) {
		name := e.name(dice)
		text := e.files[name]
		delete(e.files, name)
		e.files[[]string{segmentName(1 + uint64(dice.IntN(100))), "x" + name, "1.jsonl"}[dice.IntN(3)]] = text
	}},
	{"join two files", func(e *evidence, dice *rand.Rand) {
		i := dice.IntN(len(e.names) - 1)
		e.files[e.names[i]] = append(e.files[e.names[i]], e.files[e.names[i+1]]...)
		delete(e.files, e.names[i+1])
	}},
	{"forge a record and all that follows", func(e *evidence, dice *rand.Rand) { e.forge(dice) }},
}

// TestEveryManipulationIsFound changes one thing of a log, ten thousand times, in every way that is listed. What nobody
// can find is that whole records after the last checkpoint that is known anywhere are gone.
func TestEveryManipulationIsFound(t *testing.T) {
	rounds := 10_000
	if raceEnabled {
		rounds = 2_000 // nothing in it is concurrent
	}
	if n, err := strconv.Atoi(os.Getenv("DEPUTY_AUDIT_MANIPULATIONS")); err == nil {
		rounds = n
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	logs := []*evidence{gather(t, false), gather(t, true)}
	for _, original := range logs {
		require.Empty(t, original.verify(t).Problems)
	}
	var mu sync.Mutex
	flaws, beyond := map[Flaw]int{}, 0
	const workers = 2
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			dice := rand.New(rand.NewPCG(seed, uint64(worker)))
			for round := 0; round < rounds/workers; {
				original := logs[dice.IntN(len(logs))]
				m := manipulations[dice.IntN(len(manipulations))]
				changed := original.clone()
				m.change(changed, dice)
				if maps.EqualFunc(changed.files, original.files, bytes.Equal) {
					continue
				}
				round++
				report := changed.verify(t)
				mu.Lock()
				switch {
				case !report.OK():
					flaws[report.Problems[0].Flaw]++
				case changed.lost(original):
					beyond++
				default:
					t.Errorf("%s was not found (seed %d, worker %d, round %d)", m.name, seed, worker, round)
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	t.Logf("%d manipulations, all found but for %d cuts after the last known checkpoint; first flaws: %v", rounds, beyond, flaws)
}
