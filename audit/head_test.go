package audit

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/virtualtime"
)

func TestHeadFollowsWhatIsOnTheDiskAndNeverRunsAhead(t *testing.T) {
	for _, mode := range []Sync{SyncBackground, SyncAlways} {
		t.Run(string(mode), func(t *testing.T) {
			virtualtime.Test(t, func(t *testing.T) {
				o, d := withDisk(t.TempDir())
				o.Sync, o.CheckpointEvery = mode, time.Hour
				l := openLog(t, o)
				appendAll(t, l, 0, 5)
				time.Sleep(2 * defaultSyncWithin)
				last, hash := l.Last()
				h := headOf(t, o.Dir)
				require.Equal(t, []any{last, hash, false}, []any{h.Through, h.Head, h.Closed}, "soon all is sealed")

				// What isn't on the disk for certain is not sealed, even if it was acknowledged.
				d.set(func(d *disk) { d.syncErr = syscall.EIO })
				_ = l.Append(t.Context(), numbered(5))
				time.Sleep(2 * defaultSyncWithin)
				require.Error(t, l.Failing())
				require.Equal(t, last, headOf(t, o.Dir).Through)
				d.set(func(d *disk) { d.syncErr = nil })
				time.Sleep(2 * probeAfter)
				require.NoError(t, l.Failing())
				last, _ = l.Last()
				require.Equal(t, last, headOf(t, o.Dir).Through, "once it was read back and written again, it is")

				// What a failed write left and was cut off again is not, either.
				d.set(func(d *disk) { d.writeErr, d.half = syscall.ENOSPC, true })
				require.ErrorIs(t, l.Append(t.Context(), numbered(6)), ErrWrite)
				time.Sleep(2 * defaultSyncWithin)
				require.Equal(t, last, headOf(t, o.Dir).Through)
				d.set(func(d *disk) { d.writeErr = nil })
				time.Sleep(2 * probeAfter)

				closeLog(t, l)
				last, hash = l.Last()
				h = headOf(t, o.Dir)
				require.Equal(t, []any{last, hash, true}, []any{h.Through, h.Head, h.Closed}, "a log that is closed ends sealed")
				r := requireWhole(t, o.Dir)
				require.Equal(t, []any{last, true}, []any{r.Sealed, r.Closed})

				l = openLog(t, o)
				require.False(t, headOf(t, o.Dir).Closed, "and is not closed any more before it goes on")
				closeLog(t, l)
			})
		})
	}
}

// Whole records cut off at the end of a log are named without anybody's help, and a restart doesn't take their traces away.
func TestCutTailIsNamedByVerifyAndAtTheStart(t *testing.T) {
	source := t.TempDir()
	l := openLog(t, testOptions(source))
	appendAll(t, l, 0, 20)
	closeLog(t, l)
	lines := linesOf(t, source)
	require.Len(t, lines, 22, "a header, 20 records and a checkpoint")
	for name, c := range map[string]struct {
		left []byte
		says string
	}{
		"the checkpoint":    {joinLines(lines[:21]), "record 22 was cut off"},
		"ten records":       {joinLines(lines[:12]), "records 13 to 22 were cut off"},
		"and half of one":   {append(joinLines(lines[:11]), lines[11][:50]...), "records 12 to 22 were cut off"},
		"all but half":      {lines[0][:50], "records 1 to 22"},
		"all but the file":  {nil, "records 1 to 22"},
		"the last replaced": {append(joinLines(lines[:21]), forged(t, lines[21])...), "record 22 is not the one"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyFolder(t, source)
			path := filepath.Join(dir, segmentName(1))
			require.NoError(t, os.WriteFile(path, c.left, 0o600))
			require.NotEmpty(t, problemsOf(t, dir))

			_, err := Open(testOptions(dir))
			require.ErrorIs(t, err, ErrCorrupt)
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, "head.lost")
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(c.left), string(after), "evidence is not touched")

			// The advice works, and what was lost stays visible.
			require.NoError(t, os.Rename(filepath.Join(dir, headFile), filepath.Join(dir, headLost)))
			l := openLog(t, testOptions(dir))
			appendAll(t, l, 100, 103)
			closeLog(t, l)
			require.NoFileExists(t, filepath.Join(dir, headLost))
			problems := problemsOf(t, dir)
			require.Len(t, problems, 1)
			require.Equal(t, FlawHead, problems[0].Flaw)
			require.Contains(t, problems[0].Detail, "was of record 22")
			l = openLog(t, testOptions(dir))
			closeLog(t, l)
			require.Equal(t, problems, problemsOf(t, dir))
		})
	}
}

// forged is a record in place of another, with a hash that fits it.
func forged(t *testing.T, line []byte) []byte {
	t.Helper()
	_, _, f, err := cutLine(line)
	require.NoError(t, err)
	c := chain{sequence: f.sequence - 1, head: f.prev}
	return c.append(nil, f.node, appendBody(nil, numbered(7), f.instant()))
}

func TestHeadThatIsMissingOrNotTheNodesIsAFinding(t *testing.T) {
	source := t.TempDir()
	l := openLog(t, testOptions(source))
	appendAll(t, l, 0, 5)
	closeLog(t, l)
	good, err := os.ReadFile(filepath.Join(source, headFile))
	require.NoError(t, err)
	other := t.TempDir()
	l = openLog(t, testOptions(other))
	appendAll(t, l, 0, 2)
	closeLog(t, l)
	another, err := os.ReadFile(filepath.Join(other, headFile))
	require.NoError(t, err)
	stranger := headOf(t, source)
	stranger.Through--
	stranger.Signature = keyOfNode("n2").Sign(stranger.appendMessage(nil))

	for name, text := range map[string][]byte{
		"missing":          nil,
		"empty":            {},
		"cut":              good[:len(good)-1],
		"longer":           append(good[:len(good):len(good)], '\n'),
		"another record":   []byte(strings.Replace(string(good), `"through":7`, `"through":6`, 1)),
		"not closed":       []byte(strings.Replace(string(good), "true", "false", 1)),
		"another key":      stranger.appendFile(nil),
		"another log":      another,
		"spelt otherwise":  []byte(strings.Replace(string(good), `{"node"`, `{ "node"`, 1)),
		"something else":   make([]byte, 1<<20),
		"a member more":    []byte(strings.Replace(string(good), `{"node"`, `{"x":1,"node"`, 1)),
		"an unknown node":  []byte(strings.Replace(string(good), `"n1"`, `"n9"`, 1)),
		"nothing but JSON": []byte("{}\n"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyFolder(t, source)
			path := filepath.Join(dir, headFile)
			require.NoError(t, os.Remove(path))
			if text != nil {
				require.NoError(t, os.WriteFile(path, text, 0o600))
			}
			problems := problemsOf(t, dir)
			require.Len(t, problems, 1)
			require.Equal(t, FlawHead, problems[0].Flaw, problems[0].String())
			_, err := Open(testOptions(dir))
			require.ErrorIs(t, err, ErrCorrupt)
			require.ErrorContains(t, err, path)

			_ = os.Remove(path)
			require.NoError(t, os.WriteFile(filepath.Join(dir, headLost), nil, 0o600))
			require.Equal(t, headLost, problemsOf(t, dir)[0].File)
			l := openLog(t, testOptions(dir))
			appendAll(t, l, 5, 8)
			closeLog(t, l)
			problems = problemsOf(t, dir)
			require.Len(t, problems, 1)
			require.Equal(t, FlawHead, problems[0].Flaw)
			require.EqualValues(t, 8, problems[0].Sequence)
		})
	}
}

func TestNothingIsAddedToAClosedLog(t *testing.T) {
	o := testOptions(t.TempDir())
	l := openLog(t, o)
	appendAll(t, l, 0, 5)
	closeLog(t, l)
	lines := linesOf(t, o.Dir)
	_, _, f, err := cutLine(lines[len(lines)-1])
	require.NoError(t, err)
	c := chain{sequence: f.sequence, head: f.hash}
	more := c.append(joinLines(lines), f.node, appendBody(nil, numbered(9), f.instant()))
	path := filepath.Join(o.Dir, segmentName(1))
	require.NoError(t, os.WriteFile(path, more, 0o600))
	problems := problemsOf(t, o.Dir)
	require.Len(t, problems, 1)
	require.Equal(t, FlawAdded, problems[0].Flaw)
	_, err = Open(o)
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, "record 8 was added")

	// But a program that knows of no heads may have gone on, and then the node has signed what it wrote.
	made, err := c.checkpoint("n1", headOf(t, o.Dir).Log, f.instant(), keyOfNode("n1"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, c.appendCheckpoint(more, f.node, appendCheckpointBody(nil, &made)), 0o600))
	requireWhole(t, o.Dir)
	l = openLog(t, o)
	closeLog(t, l)
	requireWhole(t, o.Dir)
}

// A log that a program wrote which knew of no heads gets one, and from then on has to have it.
func TestLogWithoutAHeadGetsOne(t *testing.T) {
	dir := t.TempDir()
	now := numbered(0).Time
	var c chain
	lines := c.append(nil, []byte(`"n1"`), appendHeaderBody(nil, now, &header{Format: segmentFormat, Log: logID(1), Began: now, Key: keyOfNode("n1").Public()}))
	for i := range 3 {
		lines = c.append(lines, []byte(`"n1"`), appendBody(nil, numbered(i), now))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, segmentName(1)), lines, 0o600))
	requireWhole(t, dir)
	before := splitLines(lines)

	// A crash may come after the head was written, and before the log says so.
	crashed := copyFolder(t, dir)
	leaveHead(t, crashed, before, len(before), false)
	for _, dir := range []string{dir, crashed} {
		l := openLog(t, testOptions(dir))
		appendAll(t, l, 3, 6)
		closeLog(t, l)
		require.Equal(t, 2, requireWhole(t, dir).Segments, "it goes on in a segment that says that there is a head")
		l = openLog(t, testOptions(dir))
		closeLog(t, l)
		require.Equal(t, 2, requireWhole(t, dir).Segments, "once")
		require.NoError(t, os.Remove(filepath.Join(dir, headFile)))
		require.Equal(t, FlawHead, problemsOf(t, dir)[0].Flaw)
	}
}

func TestLogGoesOnWhereItsHeadCannotBeWritten(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		o := testOptions(t.TempDir())
		o.CheckpointEvery = time.Hour
		var full atomic.Bool
		o.replaceHead = func(dir string, text []byte, lasting bool) error {
			if full.Load() {
				return syscall.ENOSPC
			}
			return replaceHead(dir, text, lasting)
		}
		l := openLog(t, o)
		appendAll(t, l, 0, 3)
		time.Sleep(time.Second)
		sealed := headOf(t, o.Dir).Through
		full.Store(true)
		appendAll(t, l, 3, 6)
		time.Sleep(10 * time.Second)
		require.NoError(t, l.Failing())
		require.Equal(t, sealed, headOf(t, o.Dir).Through)
		require.Equal(t, sealed, l.sealer.through())
		r := requireWhole(t, o.Dir)
		require.Equal(t, sealed, r.Sealed)
		require.Equal(t, sealed+3, r.Last, "verifying says how many records the head doesn't reach to")
		r, err := l.Verify(t.Context(), VerifyOptions{Keys: keysOf("n1")})
		require.NoError(t, err)
		require.Empty(t, r.Problems)

		full.Store(false)
		time.Sleep(2 * sealAgain)
		require.Equal(t, sealed+3, headOf(t, o.Dir).Through, "it is tried again though nothing is written")

		// Even at a start.
		closeLog(t, l)
		full.Store(true)
		l = openLog(t, o)
		appendAll(t, l, 6, 9)
		require.True(t, headOf(t, o.Dir).Closed)
		full.Store(false)
		time.Sleep(2 * sealAgain)
		last, _ := l.Last()
		require.Equal(t, last, headOf(t, o.Dir).Through)
		closeLog(t, l)
		requireWhole(t, o.Dir)
	})
}

// Whoever shortens the file under a running node is found by what the node has in memory.
func TestRunningNodeMissesWhatWasCutOff(t *testing.T) {
	o := testOptions(t.TempDir())
	l, err := Open(o)
	require.NoError(t, err)
	defer func() { _ = l.Close(t.Context()) }()
	appendAll(t, l, 0, 20)
	lines := linesOf(t, o.Dir)
	path := filepath.Join(o.Dir, segmentName(1))
	for _, left := range [][]byte{joinLines(lines[:15]), append(joinLines(lines[:15]), lines[15][:100]...)} {
		require.NoError(t, os.WriteFile(path, left, 0o600))
		r, err := l.Verify(t.Context(), VerifyOptions{Keys: keysOf("n1")})
		require.NoError(t, err)
		require.NotEmpty(t, r.Problems)
		require.Equal(t, FlawTruncated, r.Problems[len(r.Problems)-1].Flaw)
		require.Contains(t, r.Problems[len(r.Problems)-1].Detail, "were cut off")
	}
	require.NoError(t, os.WriteFile(path, append(joinLines(lines[:len(lines)-1]), forged(t, lines[len(lines)-1])...), 0o600))
	r, err := l.Verify(t.Context(), VerifyOptions{Keys: keysOf("n1")})
	require.NoError(t, err)
	require.NotEmpty(t, r.Problems)
}

// A log that is being written, rotated and shortened by retention is whole whenever somebody looks.
func TestVerifyingALogThatIsWrittenFindsNothing(t *testing.T) {
	o := small(t.TempDir())
	o.RetainBytes, o.HardBytes = 200<<10, 400<<10
	o.SyncWithin = 2 * time.Millisecond
	l := openLog(t, o)
	done := make(chan struct{})
	go func() {
		defer close(done)
		appendAll(t, l, 0, 1500)
	}()
	for rounds := 0; rounds < 10 || !closed(done); rounds++ {
		if rounds%2 == 0 {
			requireWhole(t, o.Dir)
			continue
		}
		r, err := l.Verify(t.Context(), VerifyOptions{Keys: keysOf("n1")})
		require.NoError(t, err)
		require.Empty(t, r.Problems)
	}
}

func closed(done chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
