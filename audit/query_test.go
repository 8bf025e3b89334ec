package audit

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/virtualtime"
)

// varied makes records that differ in all that can be asked for.
func varied(i int) *Record {
	pick := func(prefix string, n int) string { return fmt.Sprintf("%s%d", prefix, i%n) }
	r := &Record{
		Time: identity.Instant(1_800_000_000_000 + int64(i)*250 - int64(i%3)*2000), // nearly in order, as callers race
		Kind: Kinds()[i%len(Kinds())], Agent: pick("agent-", 9), Session: pick("ses_", 41), Tool: pick("tool-", 5),
		Decision: []Decision{Allowed, Denied}[i%3/2], Outcome: []Outcome{Success, Failure}[i%5/4], Policies: []string{pick("policy-", 4)},
		Monitored: []string{pick("watch-", 6)}, Credential: pick("crd_", 11), Application: pick("app-", 3), Target: pick("target-", 13),
		SourceIP: netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 17)}), RequestID: pick("req_", 1<<30), TraceID: pick("trace", 500), Approval: pick("apr_", 19),
	}
	if i%2 == 0 {
		r.Principal, r.Delegation = pick("user-", 10)+"@example.com", pick("dlg_", 23)
		r.Chain = []Link{{User: r.Principal}, {Agent: pick("lead-", 8), Delegation: pick("dlg_lead", 7)}, {Agent: r.Agent, Delegation: r.Delegation}}
	}
	return r
}

// library is a log of some segments for questions.
func library(t testing.TB, records int) (*Log, Options) {
	t.Helper()
	o := testOptions(t.TempDir())
	o.SegmentBytes = minSegmentBytes
	o.CheckpointRecords, o.CheckpointEvery = 200, time.Hour
	l := openLog(t, o)
	for i := range records {
		_, err := l.Queue(context.Background(), varied(i))
		require.NoError(t, err)
	}
	require.NoError(t, l.Append(context.Background(), varied(records)))
	return l, o
}

// ask goes on from page to page.
func ask(t require.TestingT, l *Log, q Query) (all []Entry, pages int) {
	for {
		page, err := l.Query(context.Background(), q)
		require.NoError(t, err)
		all = append(all, page.Entries...)
		if pages++; page.Next == 0 {
			return all, pages
		}
		q.After = page.Next
	}
}

func TestQueriesAgreeWithReadingEverything(t *testing.T) {
	l, o := library(t, 4000)
	require.Greater(t, len(l.catalog.all()), 3)
	var everything []Entry
	for _, line := range linesOf(t, o.Dir) {
		e, err := ParseEntry(line)
		require.NoError(t, err)
		everything = append(everything, e)
	}
	rapid.Check(t, func(t *rapid.T) {
		sometimes := func(name, value string) string {
			if rapid.IntRange(0, 6).Draw(t, name) > 0 {
				return ""
			}
			return value
		}
		of := varied(rapid.IntRange(0, 4000).Draw(t, "like"))
		q := Query{
			Agent: sometimes("agent", of.Agent), Session: sometimes("session", of.Session), Tool: sometimes("tool", of.Tool),
			Principal: sometimes("principal", principalOf(of)), Decision: Decision(sometimes("decision", string(of.Decision))),
			Outcome: Outcome(sometimes("outcome", string(of.Outcome))), Policy: sometimes("policy", of.Policies[0]),
			Delegation: sometimes("delegation", of.Delegation), Credential: sometimes("credential", of.Credential),
			Application: sometimes("application", of.Application), Target: sometimes("target", of.Target),
			SourceIP: sometimes("ip", of.SourceIP.String()), TraceID: sometimes("trace", of.TraceID), Approval: sometimes("approval", of.Approval),
			RequestID: sometimes("request", of.RequestID), OldestFirst: rapid.Bool().Draw(t, "order"),
			Limit: rapid.IntRange(40, MaxLimit).Draw(t, "limit"), After: uint64(rapid.IntRange(0, 3).Draw(t, "after")) * 700,
		}
		if len(of.Chain) > 0 && rapid.IntRange(0, 6).Draw(t, "lead") == 0 {
			q.Agent, q.Delegation = of.Chain[1].Agent, of.Chain[1].Delegation
		}
		if rapid.IntRange(0, 4).Draw(t, "monitored") == 0 {
			q.Policy = of.Monitored[0]
		}
		if rapid.IntRange(0, 3).Draw(t, "time") == 0 {
			q.From, q.To = of.Time-20_000, of.Time+20_000
		}
		if rapid.IntRange(0, 3).Draw(t, "kinds") == 0 {
			q.Kinds = []Kind{of.Kind, []Kind{KindTool, KindCheckpoint}[rapid.IntRange(0, 1).Draw(t, "other")]}
		}
		var want []uint64
		for _, e := range everything {
			beyond := q.After == 0 || (q.OldestFirst && e.Sequence > q.After) || (!q.OldestFirst && e.Sequence < q.After)
			if beyond && q.matches(&e) {
				want = append(want, e.Sequence)
			}
		}
		if !q.OldestFirst {
			slices.Reverse(want)
		}
		var got []uint64
		all, pages := ask(t, l, q)
		for _, e := range all {
			got = append(got, e.Sequence)
		}
		require.Equal(t, want, got)
		require.LessOrEqual(t, pages, len(want)/q.Limit+2)
	})
}

func TestSessionIsToldInOrder(t *testing.T) {
	l, _ := library(t, 500)
	all, _ := ask(t, l, Query{Session: "ses_7", OldestFirst: true})
	require.Len(t, all, 13)
	for i, e := range all {
		require.Equal(t, varied(7+41*i).RequestID, e.RequestID)
		again, err := ParseEntry(e.Line)
		require.NoError(t, err)
		require.Equal(t, again.Hash, e.Hash)
	}
}

func TestOwnRecordsAreShownWhereTheyMatter(t *testing.T) {
	o := testOptions(t.TempDir())
	l := openLog(t, o)
	appendAll(t, l, 0, 3)
	require.NoError(t, l.note(t.Context(), appendDroppedBody(nil, 1_800_000_000_000, &drops{count: 7, since: time.Now(), till: time.Now()})))
	all, _ := ask(t, l, Query{})
	require.Equal(t, KindDropped, all[0].Kind, "a gap is not hidden")
	require.Len(t, all, 4, "headers and checkpoints are left out")
	all, _ = ask(t, l, Query{Kinds: []Kind{KindSegment}})
	require.Len(t, all, 1)
	_, err := l.Query(t.Context(), Query{Limit: MaxLimit + 1})
	require.ErrorContains(t, err, "between 1 and 1000")
}

// A question for one session reads a few blocks, also of segments that are long finished, and with a new process.
func TestOneSessionDoesNotReadEverything(t *testing.T) {
	o := testOptions(t.TempDir())
	o.SegmentBytes = 4 << 20
	l := openLog(t, o)
	const records = 20_000
	for i := range records {
		r := sample()
		r.Session = fmt.Sprintf("ses_%08d", i)
		_, err := l.Queue(t.Context(), &r)
		require.NoError(t, err)
	}
	closeLog(t, l)
	l = openLog(t, o)
	l.indexes.fill(t.Context(), 1000)
	total := bytesOf(l.catalog.all())
	q := Query{Session: "ses_00001234", Limit: 10}
	_, err := l.Query(t.Context(), q) // makes what is missing of the newest segment's index
	require.NoError(t, err)
	s := scan{log: l, query: &q, terms: q.terms(), budget: scanBytes}
	for _, segment := range l.catalog.all() {
		_, err := s.segment(t.Context(), segment)
		require.NoError(t, err)
	}
	require.Len(t, s.page.Entries, 1)
	read := scanBytes - s.budget
	t.Logf("read %d of %d KiB", read>>10, total>>10)
	require.Less(t, read, total/10)
}

func TestPagesAreAsLongAsAskedFor(t *testing.T) {
	l, _ := library(t, 200)
	for _, oldestFirst := range []bool{false, true} {
		q := Query{Limit: 1, OldestFirst: oldestFirst, Tool: "tool-1"}
		var all []Entry
		for {
			page, err := l.Query(t.Context(), q)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page.Entries), 1)
			all = append(all, page.Entries...)
			if q.After = page.Next; q.After == 0 {
				break
			}
		}
		require.Len(t, all, 40)
	}
}

func TestOneCallReadsOnlySoMuch(t *testing.T) {
	l, _ := library(t, 4000)
	q := Query{Tool: "tool-1", Limit: MaxLimit}
	s := scan{log: l, query: &q, terms: q.terms(), budget: 300 << 10}
	for _, segment := range l.catalog.all() {
		if done, err := s.segment(t.Context(), segment); done || err != nil {
			require.NoError(t, err)
			break
		}
	}
	require.NotZero(t, s.page.Next, "it says where to go on")
}

func TestIndexThatDoesNotFitIsMadeAgain(t *testing.T) {
	l, o := library(t, 4000)
	first := l.catalog.all()[0]
	want, _ := ask(t, l, Query{Session: "ses_7"})
	closeLog(t, l)
	path := filepath.Join(o.Dir, indexName(first.first))
	good, err := os.ReadFile(path)
	require.NoError(t, err, "finished segments have one")

	hiding, err := decodeIndex(good)
	require.NoError(t, err)
	for i := range hiding.blocks {
		hiding.blocks[i].values = bloom{}
	}
	hiding.size++
	for name, text := range map[string][]byte{"none": nil, "short": good[:100], "flipped": append(good[:len(good)-1:len(good)-1], good[len(good)-1]^1), "of another size": hiding.encode()} {
		require.NoError(t, os.WriteFile(path, text, 0o600))
		l := openLog(t, o)
		got, _ := ask(t, l, Query{Session: "ses_7"})
		require.Len(t, got, len(want), name)
		closeLog(t, l)
		requireWhole(t, o.Dir)
	}

	// One that hides records on purpose is found by Verify.
	hiding.size--
	require.NoError(t, os.WriteFile(path, hiding.encode(), 0o600))
	r, err := Verify(t.Context(), o.Dir, VerifyOptions{Keys: keysOf("n1")})
	require.NoError(t, err)
	require.Len(t, r.Problems, 1)
	require.Equal(t, FlawIndex, r.Problems[0].Flaw)
}

func TestFollowYieldsWhatComes(t *testing.T) {
	o := testOptions(t.TempDir())
	o.SegmentBytes = minSegmentBytes
	l := openLog(t, o)
	appendAll(t, l, 0, 100)
	const upTo = 3000
	done := make(chan error, 2)
	follow := func(from uint64, first int) {
		next, sequence := first, uint64(0)
		for e, err := range l.Follow(context.Background(), from) {
			if err != nil {
				done <- err
				return
			}
			if sequence != 0 && e.Sequence != sequence+1 {
				done <- fmt.Errorf("record %d after %d", e.Sequence, sequence)
				return
			}
			sequence = e.Sequence
			if e.Kind != KindTool {
				continue
			}
			if e.RequestID != numbered(next).RequestID {
				done <- fmt.Errorf("%s instead of %d", e.RequestID, next)
				return
			}
			if next++; next == upTo {
				break
			}
		}
		done <- nil
	}
	go follow(1, 0)
	go follow(52, 50) // the header is the first
	appendAll(t, l, 100, upTo)
	require.NoError(t, <-done)
	require.NoError(t, <-done)

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int)
	go func() {
		n := 0
		for range l.Follow(ctx, 0) {
			n++
			cancel()
		}
		ended <- n
	}()
	eventually(t, "from now on", func() bool {
		appendAll(t, l, 0, 1)
		select {
		case n := <-ended:
			return n == 1
		default:
			return false
		}
	})
	all := 0
	go func() {
		for range l.Follow(context.Background(), 1) {
			all++
		}
		ended <- all
	}()
	closeLog(t, l)
	last, _ := l.Last()
	require.EqualValues(t, last, <-ended, "a closed log is read to its end")
}

func TestFinishedSegmentsAreIndexedWhileThereIsLittleToDo(t *testing.T) {
	virtualtime.Test(t, func(t *testing.T) {
		o := small(t.TempDir())
		l := openLog(t, o)
		appendAll(t, l, 0, 100)
		require.True(t, l.indexes.missing())
		time.Sleep(calmAfter)
		require.False(t, l.indexes.missing())
		closeLog(t, l)
		requireWhole(t, o.Dir)
	})
}
