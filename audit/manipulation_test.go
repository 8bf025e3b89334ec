package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/racedetector"
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
	files    map[string][]byte
	keys     map[string]ed25519.PublicKey
	segments []string       // names, oldest first
	all      []string       // names of everything that a manipulation may hit: segments, their indexes, the sealed head
	sealed   map[string]int // how much of each file is sealed
}

// read takes the files of a log whose head is sealed.
func (e *evidence) read(t testing.TB, dir string) *evidence {
	t.Helper()
	e.files, e.sealed, e.keys = map[string][]byte{}, map[string]int{}, keysOf("n1")
	firsts, _, err := segmentNames(os.DirFS(dir))
	require.NoError(t, err)
	require.Greater(t, len(firsts), 2)
	take := func(name string) {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		e.files[name], e.sealed[name] = text, len(text)
		e.all = append(e.all, name)
	}
	for i, first := range firsts {
		take(segmentName(first))
		e.segments = append(e.segments, segmentName(first))
		if i < len(firsts)-1 {
			take(indexName(first))
		}
	}
	take(headFile)
	through := headOf(t, dir).Through
	last := e.segments[len(e.segments)-1]
	require.Greater(t, through, firsts[len(firsts)-1])
	e.sealed[last] = 0
	for _, line := range splitLines(e.files[last])[:through-firsts[len(firsts)-1]+1] {
		e.sealed[last] += len(line)
	}
	require.Empty(t, e.verify(t).Problems)
	return e
}

func tinySegments(dir string) Options {
	o := testOptions(dir)
	o.SegmentBytes, o.tinyBounds = 4<<10, true
	return o
}

// closedEvidence is a log of several small segments that was closed in good order, the first of them removed after its
// time where pruned.
func closedEvidence(t testing.TB, pruned bool) *evidence {
	t.Helper()
	o := tinySegments(t.TempDir())
	records := 12
	if pruned {
		o.RetainBytes, o.HardBytes = 7<<10, 7<<10
		records = 24
	}
	e := &evidence{}
	l := openLog(t, o)
	appendAll(t, l, 0, records)
	if pruned {
		require.NoError(t, l.house.clean(t.Context()))
	}
	appendAll(t, l, records, records+2)
	l.indexes.fill(t.Context(), 99)
	closeLog(t, l)
	e.read(t, o.Dir)
	require.Equal(t, pruned, e.segments[0] != segmentName(1))
	require.True(t, headOf(t, o.Dir).Closed)
	return e
}

// killedEvidence is a log whose process was killed by kill -9: while it had nothing to do for a moment, so that all is
// sealed, or while it had written some records that were not sealed yet.
func killedEvidence(t testing.TB, unsealed int) *evidence {
	t.Helper()
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), envChild+"="+dir, envUnsealed+"="+strconv.Itoa(unsealed))
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	said, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, errors.Join(err, child.Process.Kill()))
	require.ErrorContains(t, child.Wait(), "killed")
	require.Equal(t, "ready\n", said)
	e := (&evidence{}).read(t, dir)
	require.False(t, headOf(t, dir).Closed)
	last := e.segments[len(e.segments)-1]
	require.Len(t, splitLines(e.files[last][e.sealed[last]:]), unsealed)
	return e
}

// envUnsealed has the process that envChild makes append some records, of which so many are not sealed, and wait to be
// killed.
const envUnsealed = "DEPUTY_AUDIT_UNSEALED"

func appendAndWait(dir, unsealed string) int {
	o := tinySegments(dir)
	o.CheckpointEvery = time.Hour
	var stop atomic.Bool
	o.replaceHead = func(dir string, text []byte, lasting bool) error {
		if stop.Load() {
			return errors.New("it is to be killed first")
		}
		return replaceHead(dir, text, lasting)
	}
	n, err := strconv.Atoi(unsealed)
	l, notOpen := Open(o)
	if err = errors.Join(err, notOpen); err == nil {
		err = l.appendSealed(9, n, &stop)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	select {} // the parent kills it
}

// appendSealed appends records and has them sealed, and then some that are not.
func (l *Log) appendSealed(sealed, more int, stop *atomic.Bool) error {
	for i := range sealed + more {
		if err := l.Append(context.Background(), numbered(i)); err != nil {
			return err
		}
		if i == sealed-1 {
			l.indexes.fill(context.Background(), 99)
			if err := errors.Join(l.syncer.sync(), l.sealer.seal(false)); err != nil {
				return err
			}
			stop.Store(true)
		}
	}
	return nil
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
	r, err := verify(context.Background(), folder, VerifyOptions{Keys: e.keys})
	if err != nil {
		t.Error(err)
		return &Report{}
	}
	return r
}

// untouched reports whether a manipulation has left every byte that is sealed where it was, and added no file. Only a log
// that was killed has others: those of the records that its process had written less than 50 ms before.
func (e *evidence) untouched(original *evidence) bool {
	if len(e.files) != len(original.files) {
		return false
	}
	for name, sealed := range original.sealed {
		text, ok := e.files[name]
		if !ok || len(text) < sealed || !bytes.Equal(text[:sealed], original.files[name][:sealed]) {
			return false
		}
		if sealed == len(original.files[name]) && len(text) > sealed {
			return false
		}
	}
	return true
}

// segment picks one, and file any file.
func (e *evidence) segment(dice *rand.Rand) string { return e.segments[dice.IntN(len(e.segments))] }
func (e *evidence) file(dice *rand.Rand) string    { return e.all[dice.IntN(len(e.all))] }

// record picks a file without which records, or the proof of where they end, are gone. An index is none: it is made again
// from the records.
func (e *evidence) record(dice *rand.Rand) string {
	if dice.IntN(len(e.segments)+1) == 0 {
		return headFile
	}
	return e.segment(dice)
}

// line picks one of a random segment.
func (e *evidence) line(dice *rand.Rand) (name string, lines [][]byte, i int) {
	name = e.segment(dice)
	lines = splitLines(e.files[name])
	return name, lines, dice.IntN(len(lines))
}

// forge changes a record and makes the chain from there on fit, as whoever has the file but no key can.
func (e *evidence) forge(dice *rand.Rand) {
	name, _, target := e.line(dice)
	var c chain
	begun := false
	for _, n := range e.segments {
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
		text := e.files[e.file(dice)]
		text[dice.IntN(len(text))] ^= 1 << dice.IntN(8)
	}},
	{"overwrite some bytes", func(e *evidence, dice *rand.Rand) {
		text := e.files[e.file(dice)]
		at := dice.IntN(len(text))
		for i := at; i < min(at+1+dice.IntN(40), len(text)); i++ {
			text[i] = byte(dice.Uint32())
		}
	}},
	{"insert a byte", func(e *evidence, dice *rand.Rand) {
		name := e.file(dice)
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
		name := e.file(dice)
		e.files[name] = e.files[name][:dice.IntN(len(e.files[name]))]
	}},
	{"cut records off at the end", func(e *evidence, dice *rand.Rand) {
		name := e.segments[len(e.segments)-1]
		lines := splitLines(e.files[name])
		e.files[name] = joinLines(lines[:len(lines)-1-dice.IntN(len(lines)-1)])
	}},
	{"cut the log", func(e *evidence, dice *rand.Rand) {
		at := dice.IntN(len(e.segments))
		for _, name := range e.segments[at+1:] {
			delete(e.files, name)
		}
		lines := splitLines(e.files[e.segments[at]])
		e.files[e.segments[at]] = joinLines(lines[:1+dice.IntN(len(lines))])
	}},
	{"remove a file", func(e *evidence, dice *rand.Rand) { delete(e.files, e.record(dice)) }},
	{"remove the first files", func(e *evidence, dice *rand.Rand) {
		for _, name := range e.segments[:1+dice.IntN(len(e.segments)-1)] {
			delete(e.files, name)
		}
	}},
	{"swap two files", func(e *evidence, dice *rand.Rand) {
		a, b := e.file(dice), e.file(dice)
		e.files[a], e.files[b] = e.files[b], e.files[a]
	}},
	{"copy a file", func(e *evidence, dice *rand.Rand) {
		e.files[segmentName(1+uint64(dice.IntN(100)))] = e.files[e.file(dice)]
	}},
	{"rename a file", func(e *evidence, dice *rand.Rand) {
		name := e.record(dice)
		text := e.files[name]
		delete(e.files, name)
		e.files[[]string{segmentName(1 + uint64(dice.IntN(100))), "x" + name, "1.jsonl"}[dice.IntN(3)]] = text
	}},
	{"join two files", func(e *evidence, dice *rand.Rand) {
		i := dice.IntN(len(e.segments) - 1)
		e.files[e.segments[i]] = append(e.files[e.segments[i]], e.files[e.segments[i+1]]...)
		delete(e.files, e.segments[i+1])
	}},
	{"forge a record and all that follows", func(e *evidence, dice *rand.Rand) { e.forge(dice) }},
}

// TestEveryManipulationIsFound changes one thing of a log, ten thousand times, in every way that is listed, anywhere in
// its segments, their indexes and its sealed head, at logs that were closed and at logs that were killed. All of it is
// found, without the help of other nodes, be it before the last checkpoint or after it. What a killed process had written
// but not sealed yet, less than 50 ms before, is outside of this promise: a manipulation that hits nothing else is thrown
// again, as is one that changes no byte.
func TestEveryManipulationIsFound(t *testing.T) {
	rounds := 10_000
	if racedetector.Enabled {
		rounds = 2_000 // nothing in it is concurrent
	}
	if n, err := strconv.Atoi(os.Getenv("DEPUTY_AUDIT_MANIPULATIONS")); err == nil {
		rounds = n
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	logs := []*evidence{closedEvidence(t, false), closedEvidence(t, true), killedEvidence(t, 0), killedEvidence(t, 2)}
	var mu sync.Mutex
	flaws := map[Flaw]int{}
	const workers = 2
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			dice := rand.New(rand.NewPCG(seed, uint64(worker)))
			for round := 0; round < rounds/workers; {
				which := dice.IntN(len(logs))
				m := manipulations[dice.IntN(len(manipulations))]
				changed := logs[which].clone()
				m.change(changed, dice)
				if changed.untouched(logs[which]) {
					continue
				}
				round++
				report := changed.verify(t)
				mu.Lock()
				if report.OK() {
					t.Errorf("%s was not found (seed %d, worker %d, round %d, log %d)", m.name, seed, worker, round, which)
				} else {
					flaws[report.Problems[0].Flaw]++
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	t.Logf("%d manipulations, all found; first flaws: %v", rounds, flaws)
}
