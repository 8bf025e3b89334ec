package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/virtualtime"
)

// clock is a time that a test sets.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock(at time.Time) *clock { return &clock{at: at} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) set(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
}

// fakeSink keeps what it is given.
type fakeSink struct {
	mu     sync.Mutex
	err    error
	got    []uint64
	lines  [][]byte
	calls  int
	late   uint64 // how many records behind the last it confirms
	closed bool
}

func (s *fakeSink) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *fakeSink) Deliver(_ context.Context, lines []Line) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.err != nil {
		return s.err
	}
	for _, l := range lines {
		s.got = append(s.got, l.Sequence)
		s.lines = append(s.lines, bytes.Clone(l.JSON))
	}
	return nil
}

func (s *fakeSink) Confirmed() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.got) == 0 || s.got[len(s.got)-1] < s.late {
		return 0
	}
	return s.got[len(s.got)-1] - s.late
}

func (s *fakeSink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *fakeSink) sequences() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]uint64(nil), s.got...)
}

// requireEach wants every record of the log at least once, and in order but for what comes again.
func requireEach(t testing.TB, got []uint64, last uint64) {
	t.Helper()
	next := uint64(1)
	for _, n := range got {
		require.LessOrEqual(t, n, next, "records are missing before %d", n)
		next = max(next, n+1)
	}
	require.Equal(t, last, next-1)
}

func TestDeadSinkLosesNothingAndHoldsUpNobody(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		o := testOptions(t.TempDir())
		o.SegmentBytes = minSegmentBytes
		sink, live := &fakeSink{}, &fakeSink{}
		o.Sinks = []SinkOptions{{Name: "siem", Sink: sink}, {Name: "copy", Sink: live}}
		l := openLog(t, o)
		appendAll(t, l, 0, 10)
		time.Sleep(3 * time.Second)
		require.EqualValues(t, 0, l.Sinks()[0].Behind)

		sink.fail(errors.New("connection refused"))
		for i := range 720 {
			began := time.Now()
			appendAll(t, l, 10+i, 11+i)
			require.Zero(t, time.Since(began), "no append waits for a sink")
			time.Sleep(5 * time.Second)
		}
		s := l.Sinks()[0]
		require.GreaterOrEqual(t, s.Behind, uint64(720))
		require.InDelta(t, time.Hour, s.Lag, float64(10*time.Second))
		require.ErrorContains(t, s.Err, "connection refused")
		require.Less(t, s.Failures, uint64(100), "it is asked ever more rarely")
		require.Zero(t, l.Sinks()[1].Behind, "the other goes on")

		sink.fail(nil)
		time.Sleep(2 * longestPause)
		require.Zero(t, l.Sinks()[0].Behind)
		require.NoError(t, l.Sinks()[0].Err)
		closeLog(t, l)
		last, _ := l.Last()
		requireEach(t, sink.sequences(), last)
		requireEach(t, live.sequences(), last)
		require.True(t, sink.closed)
	})
}

func TestSinkGoesOnWhereItStoodAfterARestart(t *testing.T) {
	o := testOptions(t.TempDir())
	first := &fakeSink{late: 5}
	o.Sinks = []SinkOptions{{Name: "siem", Sink: first}}
	l := openLog(t, o)
	appendAll(t, l, 0, 50)
	closeLog(t, l)
	last, _ := l.Last()
	requireEach(t, first.sequences(), last)

	second := &fakeSink{}
	o.Sinks = []SinkOptions{{Name: "siem", Sink: second}, {Name: "later", Sink: &fakeSink{}, FromNow: true}}
	l = openLog(t, o)
	require.EqualValues(t, last, l.Sinks()[1].Confirmed)
	appendAll(t, l, 50, 60)
	closeLog(t, l)
	require.EqualValues(t, last-4, second.sequences()[0], "what wasn't confirmed comes again, and nothing else")

	path := filepath.Join(o.Dir, sinksFolder, "siem.json")
	require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
	_, err := Open(o)
	require.ErrorContains(t, err, path)
	require.ErrorContains(t, err, "remove it")

	// A cursor of another log, as after the folder was lost.
	require.NoError(t, os.WriteFile(path, []byte(`{"log":"`+logID(9)+`","confirmed":9999}`), 0o600))
	third := &fakeSink{}
	o.Sinks = []SinkOptions{{Name: "siem", Sink: third}}
	l = openLog(t, o)
	closeLog(t, l)
	last, _ = l.Last()
	requireEach(t, third.sequences(), last)
}

func TestSinkThatConfirmsLateGetsTheRestAgain(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		o := testOptions(t.TempDir())
		sink := &fakeSink{late: 20}
		o.Sinks = []SinkOptions{{Name: "siem", Sink: sink, Batch: 7}}
		l := openLog(t, o)
		appendAll(t, l, 0, 100)
		time.Sleep(5 * time.Second)
		delivered := len(sink.sequences())
		sink.fail(errors.New("broken pipe"))
		appendAll(t, l, 100, 101)
		time.Sleep(5 * time.Second)
		sink.fail(nil)
		time.Sleep(time.Minute)
		got := sink.sequences()
		require.EqualValues(t, got[delivered-1]-19, got[delivered])
		closeLog(t, l)
		last, _ := l.Last()
		requireEach(t, sink.sequences(), last)
	})
}

func TestFileSinkKeepsWholeLinesOnly(t *testing.T) {
	o := testOptions(t.TempDir())
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	require.NoError(t, os.WriteFile(path, []byte("{\"whole\":1}\n{\"prev\":\"half"), 0o600))
	o.Sinks = []SinkOptions{{Name: "file", Sink: NewFileSink(path), Linger: time.Millisecond}}
	l := openLog(t, o)
	appendAll(t, l, 0, 20)
	eventually(t, "all of it", func() bool { return l.Sinks()[0].Behind == 0 })

	// Rotated by renaming, it begins another.
	require.NoError(t, os.Rename(path, path+".1"))
	appendAll(t, l, 20, 30)
	closeLog(t, l)
	old, err := os.ReadFile(path + ".1")
	require.NoError(t, err)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "{\"whole\":1}\n"+string(joinLines(linesOf(t, o.Dir))), string(old)+string(text), "the chain is in the copy, byte for byte")

	pipe := NewFileSink(os.DevNull)
	require.ErrorContains(t, pipe.Deliver(t.Context(), []Line{{}}), "no regular file")
	other := filepath.Join(t.TempDir(), "other")
	require.NoError(t, os.WriteFile(other, make([]byte, 2*MaxLine), 0o600))
	require.ErrorContains(t, NewFileSink(other).Deliver(t.Context(), []Line{{}}), "something else")
}

func TestStandardOutputGetsTheLines(t *testing.T) {
	o := testOptions(t.TempDir())
	var out bytes.Buffer
	o.Sinks = []SinkOptions{{Name: "stdout", Sink: NewWriterSink(&out)}}
	l := openLog(t, o)
	appendAll(t, l, 0, 20)
	closeLog(t, l)
	require.Equal(t, string(joinLines(linesOf(t, o.Dir))), out.String())
}

func TestWebhookIsRepeatedUnderTheSameID(t *testing.T) {
	type delivery struct {
		id   string
		last uint64
	}
	var mu sync.Mutex
	var got []delivery
	var lines [][]byte
	sink, err := NewWebhookSink(func(_ context.Context, id string, body []byte) error {
		mu.Lock()
		defer mu.Unlock()
		var batch struct {
			Node        string
			First, Last uint64
			Records     []json.RawMessage
		}
		if err := json.Unmarshal(body, &batch); err != nil {
			return err
		}
		if batch.Node != "n1" || batch.Last-batch.First+1 != uint64(len(batch.Records)) {
			return errors.New("wrong envelope")
		}
		got = append(got, delivery{id, batch.Last})
		if len(got)%2 == 1 {
			return errors.New("500 Internal Server Error")
		}
		for _, r := range batch.Records {
			lines = append(lines, append(bytes.Clone(r), '\n'))
		}
		return nil
	})
	require.NoError(t, err)
	o := testOptions(t.TempDir())
	o.Sinks = []SinkOptions{{Name: "hook", Sink: sink, Batch: 10, Linger: time.Millisecond}}
	l := openLog(t, o)
	appendAll(t, l, 0, 24)
	eventually(t, "all of it", func() bool { return l.Sinks()[0].Behind == 0 })
	closeLog(t, l)
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, got[0], got[1], "the same records under the same id")
	require.Regexp(t, "^aud_1_[0-9a-f]{32}$", got[0].id)
	all := linesOf(t, o.Dir)
	require.Equal(t, string(joinLines(all[:len(lines)])), string(joinLines(lines)))
	require.GreaterOrEqual(t, len(lines), 25)

	_, err = NewWebhookSink(nil)
	require.Error(t, err)
}

func TestWebhookSendsNoBodyThatIsTooLong(t *testing.T) {
	var sizes, firsts []int
	sink, err := NewWebhookSink(func(_ context.Context, _ string, body []byte) error {
		var batch struct{ First int }
		if err := json.Unmarshal(body, &batch); err != nil {
			return err
		}
		if len(sizes) == 2 {
			return errors.New("enough")
		}
		sizes, firsts = append(sizes, len(body)), append(firsts, batch.First)
		return nil
	})
	require.NoError(t, err)
	var lines []Line
	for i := range 10 {
		lines = append(lines, Line{Sequence: uint64(i + 1), Node: "n1", JSON: fmt.Appendf(nil, `"%s"`, bytes.Repeat([]byte("x"), MaxLine))})
	}
	require.ErrorContains(t, sink.Deliver(t.Context(), lines), "enough")
	require.Equal(t, []int{1, 4}, firsts)
	require.EqualValues(t, 6, sink.Confirmed(), "what was taken is not sent again")
	for _, size := range sizes {
		require.LessOrEqual(t, size, maxPost)
	}
}

func TestSinkThatHangsDoesNotKeepTheLogOpen(t *testing.T) {
	hanging, err := NewWebhookSink(func(ctx context.Context, _ string, _ []byte) error {
		<-ctx.Done()
		return ctx.Err()
	})
	require.NoError(t, err)
	o := testOptions(t.TempDir())
	o.Sinks = []SinkOptions{{Name: "hook", Sink: hanging}}
	l := openLog(t, o)
	appendAll(t, l, 0, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.NoError(t, l.Close(ctx))
}

// stuck is a reader that never reads.
type stuck struct{ let chan struct{} }

func (s stuck) Write([]byte) (int, error) {
	<-s.let
	return 0, os.ErrClosed
}

func TestSinkThatCannotBeEndedIsLeftBehind(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		out := stuck{make(chan struct{})}
		o := testOptions(t.TempDir())
		o.Sinks = []SinkOptions{{Name: "stdout", Sink: NewWriterSink(out)}, {Name: "copy", Sink: &fakeSink{}}}
		l, err := Open(o)
		require.NoError(t, err)
		appendAll(t, l, 0, 3)
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorContains(t, l.Close(ctx), "sink stdout doesn't end")
		last, _ := l.Last()
		require.Equal(t, last, l.Sinks()[1].Confirmed)
		close(out.let)
		<-l.sinks[0].ended
	})
}
