package audit

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func TestAcknowledgedRecordsAreInTheFile(t *testing.T) {
	o := testOptions(t.TempDir())
	l := openLog(t, o)
	for i := range 20 {
		ticket, err := l.Queue(t.Context(), numbered(i))
		require.NoError(t, err)
		sequence, err := ticket.Wait(t.Context())
		require.NoError(t, err)
		// Read past the log, as somebody else would after a kill.
		found := false
		for _, line := range linesOf(t, o.Dir) {
			e, err := ParseEntry(line)
			require.NoError(t, err)
			if e.RequestID == numbered(i).RequestID {
				require.Equal(t, sequence, e.Sequence)
				found = true
			}
		}
		require.True(t, found)
	}
}

func TestManyCallersShareWritesAndKeepTheirOrder(t *testing.T) {
	o := testOptions(t.TempDir())
	o.SegmentBytes = minSegmentBytes
	o.CheckpointRecords = 100
	l := openLog(t, o)
	const callers, each = 32, 200
	var group sync.WaitGroup
	for c := range callers {
		group.Go(func() {
			last := uint64(0)
			for i := range each {
				ticket, err := l.Queue(t.Context(), numbered(c*each+i))
				if err != nil {
					t.Error(err)
					return
				}
				sequence, err := ticket.Wait(t.Context())
				if err != nil || sequence <= last {
					t.Errorf("record %d after %d: %v", sequence, last, err)
					return
				}
				last = sequence
			}
		})
	}
	group.Wait()
	closeLog(t, l)
	report := requireWhole(t, o.Dir)
	require.Greater(t, report.Segments, 2)
	require.Greater(t, report.Checkpoints, callers*each/100)
	require.Zero(t, report.Unsigned, "closing signs everything")
	require.GreaterOrEqual(t, report.Records, uint64(callers*each))
}

func TestChainGoesOnAfterARestart(t *testing.T) {
	o := testOptions(t.TempDir())
	var id string
	for round := range 3 {
		l := openLog(t, o)
		node, log, _ := l.Identity()
		require.Equal(t, "n1", node)
		if round > 0 {
			require.Equal(t, id, log)
		}
		id = log
		appendAll(t, l, round*10, round*10+10)
		closeLog(t, l)
	}
	report := requireWhole(t, o.Dir)
	require.Equal(t, 1, report.Segments)
	require.EqualValues(t, 1, report.First)

	o.Node, o.Signer = "n2", keyOfNode("n2")
	_, err := Open(o)
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, `node "n1"`)
}

func TestOneProcessHasTheLog(t *testing.T) {
	o := testOptions(t.TempDir())
	openLog(t, o)
	_, err := Open(o)
	require.ErrorIs(t, err, ErrInUse)
}

func TestSegmentsAreBegunBySizeAndAge(t *testing.T) {
	o := testOptions(t.TempDir())
	o.SegmentBytes = minSegmentBytes
	o.SegmentAge = time.Second
	l := openLog(t, o)
	appendAll(t, l, 0, 3000)
	require.Greater(t, len(l.catalog.all()), 1, "by size")
	n := len(l.catalog.all())
	eventually(t, "a segment that holds records is replaced after its age", func() bool { return len(l.catalog.all()) > n })
	closeLog(t, l)
	report := requireWhole(t, o.Dir)
	for _, s := range l.catalog.all() {
		require.LessOrEqual(t, s.size, o.SegmentBytes)
	}
	require.EqualValues(t, len(linesOf(t, o.Dir)), report.Records)
}

func TestCheckpointsComeByTimeAndByNumber(t *testing.T) {
	o := testOptions(t.TempDir())
	o.CheckpointRecords = 10
	o.CheckpointEvery = time.Hour
	var given atomic.Uint64
	o.OnCheckpoint = func(c Checkpoint) {
		if c.Verify(keyOfNode("n1").Public()) == nil {
			given.Store(c.Through)
		}
	}
	l := openLog(t, o)
	appendAll(t, l, 0, 9) // and the header
	c, ok := l.Checkpoint()
	require.True(t, ok)
	require.EqualValues(t, 10, c.Through)
	eventually(t, "the callback has it", func() bool { return given.Load() == 10 })
	appendAll(t, l, 9, 12)
	closeLog(t, l)

	o.CheckpointEvery = 10 * time.Millisecond
	l = openLog(t, o)
	c, _ = l.Checkpoint()
	require.EqualValues(t, 14, c.Through, "the last one is known after a restart")
	appendAll(t, l, 12, 13)
	eventually(t, "in time", func() bool { c, _ := l.Checkpoint(); return c.Through == 16 })
}

func TestClosedLogTakesNothingAndHasEverything(t *testing.T) {
	o := testOptions(t.TempDir())
	l := openLog(t, o)
	var tickets []Ticket
	for i := range 500 {
		ticket, err := l.Queue(t.Context(), numbered(i))
		require.NoError(t, err)
		tickets = append(tickets, ticket)
	}
	closeLog(t, l)
	closeLog(t, l) // twice is fine
	for _, ticket := range tickets {
		_, err := ticket.Wait(t.Context())
		require.NoError(t, err)
	}
	require.ErrorIs(t, l.Append(t.Context(), numbered(0)), ErrClosed)
	require.Equal(t, 500, countKind(t, o.Dir, KindTool))
}

func countKind(t testing.TB, dir string, k Kind) (n int) {
	t.Helper()
	for _, line := range linesOf(t, dir) {
		e, err := ParseEntry(line)
		require.NoError(t, err)
		if e.Kind == k {
			n++
		}
	}
	return n
}

func TestOptionsAreCheckedAllAtOnce(t *testing.T) {
	_, err := Open(Options{Node: "N 1", Full: "maybe", CheckpointRecords: -1, Sinks: []SinkOptions{{Name: "a"}, {Name: "a", Sink: NewFileSink("x")}}})
	for _, says := range []string{"folder", "node's name", "full is \"maybe\"", "between two checkpoints", "signer is missing", "two sinks", "leads nowhere"} {
		require.ErrorContains(t, err, says)
	}
	o := testOptions(t.TempDir())
	o.Signer = liar{keyOfNode("n1")}
	_, err = Open(o)
	require.ErrorContains(t, err, "doesn't hold against its own public key")
}

type liar struct{ testKey }

func (liar) Sign([]byte) []byte { return make([]byte, 64) }

// What DESIGN.md says of checking a log without this program.
func TestAnyShellCanCheckTheChain(t *testing.T) {
	for _, tool := range []string{"sh", "sed", "sha256sum", "jq", "openssl", "base64", "tail"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	o := testOptions(t.TempDir())
	l := openLog(t, o)
	r := sample()
	r.Detail = `quotes " and \ and ünicode`
	require.NoError(t, l.Append(t.Context(), &r))
	appendAll(t, l, 0, 30)
	closeLog(t, l)

	design, err := os.ReadFile("DESIGN.md")
	require.NoError(t, err)
	var scripts []string
	for _, part := range strings.Split(string(design), "```sh\n")[1:] {
		script, _, _ := strings.Cut(part, "```")
		scripts = append(scripts, script)
	}
	require.Len(t, scripts, 3, "for the chain, for a checkpoint's signature, and for the head's")

	key := filepath.Join(t.TempDir(), "n1.pub.der")
	spki := append([]byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00}, keyOfNode("n1").Public()...)
	require.NoError(t, os.WriteFile(key, spki, 0o600))
	run := func(script string) (string, error) {
		shell := exec.Command("sh", "-c", script)
		shell.Dir = t.TempDir()
		shell.Env = append(os.Environ(), "SEGMENT="+filepath.Join(o.Dir, segmentName(1)), "KEY="+key)
		out, err := shell.CombinedOutput()
		return string(out), err
	}
	out, err := run(scripts[0])
	require.NoError(t, err, out)
	require.Contains(t, out, fmt.Sprintf("%d records follow from each other", len(linesOf(t, o.Dir))))
	for _, script := range scripts[1:] {
		out, err = run(script)
		require.NoError(t, err, out)
		require.Contains(t, out, "Signature Verified Successfully")
	}

	segment := filepath.Join(o.Dir, segmentName(1))
	text, err := os.ReadFile(segment)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(segment, bytes.Replace(text, []byte("agent-3"), []byte("agent-4"), 1), 0o600))
	out, err = run(scripts[0])
	require.Error(t, err, out)
}

func TestMetricsTellOfTheLog(t *testing.T) {
	o := testOptions(t.TempDir())
	registry := prometheus.NewRegistry()
	o.Registerer = registry
	o.Sinks = []SinkOptions{{Name: "copy", Sink: NewFileSink(filepath.Join(t.TempDir(), "copy.jsonl"))}}
	l := openLog(t, o)
	appendAll(t, l, 0, 10)
	values := map[string]float64{}
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch {
			case m.GetCounter() != nil:
				values[f.GetName()] += m.GetCounter().GetValue()
			case m.GetGauge() != nil:
				values[f.GetName()] += m.GetGauge().GetValue()
			case m.GetHistogram() != nil:
				values[f.GetName()] += float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	require.EqualValues(t, 10, values["deputy_audit_records_total"])
	require.Zero(t, values["deputy_audit_failing"])
	require.GreaterOrEqual(t, values["deputy_audit_sequence"], 11.0)
	require.EqualValues(t, 1, values["deputy_audit_segments"])
	require.Positive(t, values["deputy_audit_bytes"])
	require.Positive(t, values["deputy_audit_write_seconds"])
	require.Zero(t, values["deputy_audit_seal_failures_total"])
	require.Contains(t, values, "deputy_audit_sealed_sequence")
	require.Contains(t, values, "deputy_audit_sink_lag_records")
	require.Contains(t, values, "deputy_audit_sink_failing")
	closeLog(t, l)
	families, err = registry.Gather()
	require.NoError(t, err)
	require.Empty(t, families, "a closed log takes its metrics along")
}
