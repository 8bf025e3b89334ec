package sessions

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

func TestEntryTellsWhatWasGranted(t *testing.T) {
	x := newTestIndex(t)
	parent := newID(identity.PrefixSession, t0-1000, 5)
	s := run(1, t0, 3600, "inbox-assistant", "sub-agent").behalf("user@company.com")
	s.handles = append(s.handles, identity.SessionHandle(parent), "key_of-the-parent")
	x.add(s)
	hop := run(2, t0, 3600, "inbox-assistant", "sub-agent")
	hop.handles = append(hop.handles, testKey)
	x.add(hop)

	e, ok := x.Get(s.ID, t0)
	require.True(t, ok)
	require.Equal(t, Entry{
		ID: s.ID, Chain: []string{"inbox-assistant", "sub-agent"}, Principal: "user@company.com", Scopes: "a b",
		Audience: []string{"https://api.example.com"}, Delegation: s.Delegation, Parent: parent, TriggerReason: "by the clock",
		Started: t0, Expires: t0 + 3_600_000, Handles: e.Handles,
	}, e)
	require.Equal(t, "sub-agent", e.Agent())
	require.Equal(t, identity.Handle(s.ID), e.Handles[0])
	require.ElementsMatch(t, append(slices.Clone(s.handles), testKey), e.Handles, "nothing that could kill it is left out")
	e, ok = x.Get(hop.ID, t0)
	require.True(t, ok)
	require.ElementsMatch(t, hop.handles, e.Handles, "nor told twice")
}

func TestTextsOutliveTheRequestThatTheyCameIn(t *testing.T) {
	x := newTestIndex(t)
	buffer := []byte("why it ran")
	s := run(1, t0, 60, "a")
	s.TriggerReason = string(buffer)
	x.add(s)
	s.Audience[0], s.handles[0], s.Chain[0].Agent = "overwritten", "overwritten", "overwritten"
	e, ok := x.Get(s.ID, t0)
	require.True(t, ok)
	require.Equal(t, []string{"https://api.example.com"}, e.Audience)
	require.Equal(t, "a", e.Agent())
}

func TestReasonsAreSharedAndKeptAsLongAsTheyAreNeeded(t *testing.T) {
	x := newTestIndex(t)
	reasons := []string{"x", "x", "", "y", "x", "x", "y", "y", "", "x"}
	var all []*started
	for n, reason := range reasons {
		s := run(shardCount*uint64(n), t0+identity.Instant(n), int64(60+10*(n*7%len(reasons))), "a")
		s.ID = newID(identity.PrefixSession, t0+identity.Instant(n), 0) // all in one shard
		s.TriggerReason = reason
		all = append(all, s.rest())
		x.add(s)
	}
	for now := t0; now < t0+200_000; now += 10_000 {
		x.Purge(now)
		requireWhole(t, x)
		for n, s := range all {
			e, ok := x.Get(s.ID, now)
			require.Equal(t, s.Expires.Unix()*1000 > int64(now), ok)
			if ok {
				require.Equal(t, reasons[n], e.TriggerReason)
			}
		}
	}
}

func TestSessionIsForgottenWhenItsTokenEnds(t *testing.T) {
	x := newTestIndex(t)
	s := run(1, t0+1, 60, "a")
	x.add(s)
	// The token says whole seconds, so it ends up to one before the session does.
	for now, alive := range map[identity.Instant]bool{t0 + 59_999: true, t0 + 60_000: false} {
		_, ok := x.Get(s.ID, now)
		require.Equal(t, alive, ok)
		require.Len(t, x.List(Query{Limit: 10, Now: now}).Sessions, map[bool]int{true: 1}[alive])
		require.Len(t, x.List(Query{Agent: "a", Limit: 10, Now: now}).Sessions, map[bool]int{true: 1}[alive])
		n, _ := x.Count(Query{Now: now}, 10)
		require.Equal(t, map[bool]int{true: 1}[alive], n)
	}
	x.Purge(t0 + 60_000)
	require.Equal(t, Stats{}, x.Stats(t0+60_000), "and nothing is left of it")

	over := run(2, t0, 1, "a")
	over.Expires = over.Issued
	x.add(over)
	require.Zero(t, x.Stats(t0).Sessions, "what is over comes too late")
}

func TestWhatIsNoSessionIsLeftOut(t *testing.T) {
	x := newTestIndex(t)
	for _, change := range []func(*started){
		func(s *started) { s.ID = "ses_x" },
		func(s *started) { s.Chain = nil },
		func(s *started) { s.Chain = make([]identity.Actor, identity.MaxChain+1) },
	} {
		s := run(1, t0, 60, "a")
		change(s)
		x.add(s)
	}
	s := run(2, t0, 60, "a")
	x.add(s, s)
	require.Equal(t, 1, x.Stats(t0).Sessions, "the same twice is one")
	_, ok := x.Get("ses_nonsense", t0)
	require.False(t, ok)
	require.Empty(t, x.List(Query{After: "nonsense", Limit: 10, Now: t0}))
}

func TestOddHandlesAreKeptAsTheyAre(t *testing.T) {
	x := newTestIndex(t)
	s := run(1, t0, 60, "a").behalf("u@x")
	s.Delegation = "dlg_odd"
	s.handles = []identity.Handle{
		identity.SessionHandle(s.ID), "dlg_odd", "usr_u@x#0", "usr_u@x#007", "usr_u@x#", "usr_u@x", "usr_u@x#+5", "usr_other#4", "ses_odd",
		identity.Handle(newID(identity.PrefixSession, t0, 8)), identity.Handle(newID(identity.PrefixSession, t0, 9)), "usr_u@x#18446744073709551615", "usr_u@x#5",
	}
	x.add(s)
	e, ok := x.Get(s.ID, t0)
	require.True(t, ok)
	require.ElementsMatch(t, append(slices.Clone(s.handles), testKey), e.Handles)
}

func TestListsGoByAgentAndPrincipal(t *testing.T) {
	x := newTestIndex(t)
	alone := run(1, t0, 60, "a")
	lent := run(2, t0+1, 60, "a").behalf("u@x")
	hop := run(3, t0+2, 60, "a", "sub").behalf("u@x")
	other := run(4, t0+3, 60, "b").behalf("a") // a principal may be called like an agent
	x.add(other, lent, alone, hop)
	for name, c := range map[string]struct {
		q    Query
		want []*started
	}{
		"all":                  {Query{}, []*started{alone, lent, hop, other}},
		"agent":                {Query{Agent: "a"}, []*started{alone, lent, hop}},
		"sub-agent":            {Query{Agent: "sub"}, []*started{hop}},
		"principal":            {Query{Principal: "u@x"}, []*started{lent, hop}},
		"principal like agent": {Query{Principal: "a"}, []*started{other}},
		"both":                 {Query{Agent: "sub", Principal: "u@x"}, []*started{hop}},
		"neither together":     {Query{Agent: "b", Principal: "u@x"}, nil},
		"unknown agent":        {Query{Agent: "u@x"}, nil},
		"unknown principal":    {Query{Principal: "nobody"}, nil},
		"beyond a cursor":      {Query{Agent: "a", After: lent.ID}, []*started{hop}},
		"beyond one not there": {Query{After: newID(identity.PrefixSession, t0+2, 0)}, []*started{hop, other}},
	} {
		t.Run(name, func(t *testing.T) {
			want := []string{}
			for _, s := range c.want {
				want = append(want, s.ID)
			}
			c.q.Limit, c.q.Now = 2, t0+4
			got, _ := walk(t, x, c.q)
			require.Equal(t, want, got)
			if c.q.After == "" {
				n, more := x.Count(c.q, 10)
				require.Equal(t, len(want), n)
				require.False(t, more)
			}
		})
	}
	n, more := x.Count(Query{Now: t0}, 3)
	require.Equal(t, 3, n)
	require.True(t, more)
}

func TestDeadSessionsCanBeLeftOut(t *testing.T) {
	x := newTestIndex(t)
	x.add(run(1, t0, 60, "a"), run(2, t0, 60, "b"), run(3, t0, 60, "b").behalf("u@x"))
	dead := func(handle identity.Handle) func([]identity.Handle) bool {
		return func(handles []identity.Handle) bool { return slices.Contains(handles, handle) }
	}
	for handle, want := range map[identity.Handle]int{
		"agt_b#7": 1, "agt_b#8": 3, "usr_u@x#93": 2, testKey: 0, identity.Handle(newID(identity.PrefixSession, t0, 1)): 2,
	} {
		q := Query{Now: t0, Limit: 10, Dead: dead(handle)}
		got, _ := walk(t, x, q)
		require.Len(t, got, want, handle)
		n, _ := x.Count(q, 10)
		require.Equal(t, want, n, handle)
	}
}

// A page looks at a bounded number of sessions; the ones behind it go on where it has ended.
func TestListOfFewAmongManyComesInPagesThatMoveOn(t *testing.T) {
	x := NewIndex(256 << 20)
	const many = shardCount * scanMost * 5 / 4
	want := []string{}
	for n := range uint64(many) {
		s := run(n, t0+identity.Instant(n/100), 3600, "a")
		if n%(many/5) == 7 {
			s.Scopes = "rare"
			s.handles = append(s.handles, "key_rare")
			want = append(want, s.ID)
		}
		x.add(s)
	}
	q := Query{Agent: "a", Now: t0, Limit: 100, Dead: func(handles []identity.Handle) bool { return !slices.Contains(handles, "key_rare") }}
	got, pages := walk(t, x, q)
	require.Equal(t, want, got)
	require.Greater(t, pages, 1)
	n, more := x.Count(q, 100)
	require.Equal(t, 5, n)
	require.False(t, more)

	// Some shards have looked further than others: what these have found there is for the next page.
	matching := 0
	matches := func(i id) bool { return i.lo>>4%256 == 7 }
	q.Limit, q.Dead = MaxPage, func(handles []identity.Handle) bool {
		i, _ := parseID(identity.PrefixSession, string(handles[0]))
		return !matches(i)
	}
	got, pages = walk(t, x, q)
	for i := range x.shards {
		x.shards[i].order.after(id{}, func(k key) bool {
			if matches(k.id) {
				matching++
			}
			return true
		})
	}
	t.Log(len(got), matching, pages)
	require.Len(t, got, matching)
	require.True(t, slices.IsSorted(got))
	require.Len(t, slices.Compact(got), matching)
	require.Greater(t, pages, 1)

	page := x.List(Query{Agent: "a", Now: t0, Limit: MaxPage + 1})
	require.Len(t, page.Sessions, MaxPage)
	requireWhole(t, x)
}

func TestPageOfLongTextsIsCutShort(t *testing.T) {
	x := NewIndex(64 << 20)
	const n = 900
	for i := range uint64(n) {
		s := run(i, t0, 60, "a")
		s.Scopes = identity.Scopes(strings.Repeat("x", 4096))
		x.add(s)
	}
	page := x.List(Query{Limit: MaxPage, Now: t0})
	require.True(t, page.More)
	require.Less(t, len(page.Sessions), n)
	got, _ := walk(t, x, Query{Limit: MaxPage, Now: t0})
	require.Len(t, got, n)
}

func TestFullIndexDropsWhatEndsSoonestAndSaysSo(t *testing.T) {
	x := newTestIndex(t)
	short, long := []string{}, 0
	for n := uint64(0); x.Stats(t0).Dropped == 0; n++ {
		s := run(n, t0, 60, "a")
		short = append(short, s.ID)
		x.add(s)
	}
	stats := x.Stats(t0)
	require.LessOrEqual(t, stats.Bytes, MinBytes)
	require.Equal(t, len(short)-1, stats.Sessions)
	require.Equal(t, t0+60_000, stats.DroppedUntil)

	for n := range uint64(200) {
		s := run(1<<20+n, t0, 3600, "a")
		x.add(s)
		if _, ok := x.Get(s.ID, t0); ok {
			long++
		}
	}
	require.Equal(t, 200, long, "what ends later stays")
	stats = x.Stats(t0)
	require.Equal(t, len(short)+200, stats.Sessions+stats.Dropped)
	require.EqualValues(t, stats.Dropped, stats.DroppedEver)

	later := x.Stats(t0 + 60_000)
	require.Zero(t, later.Dropped, "once all that was dropped has ended, nothing is missing")
	require.Zero(t, later.DroppedUntil)
	require.Equal(t, stats.DroppedEver, later.DroppedEver)
}

func TestPurgeGivesAllBack(t *testing.T) {
	x := newTestIndex(t)
	for n := range uint64(2000) {
		x.add(run(n, t0, int64(60+n), "a", "b").behalf("u@x"))
	}
	x.Purge(t0 + 1_060_000)
	require.Equal(t, 1000-1, x.Stats(t0).Sessions)
	x.Purge(t0 + 10_000_000)
	require.Equal(t, Stats{}, x.Stats(t0))
	for i := range x.shards {
		require.Empty(t, x.shards[i].records.pieces)
	}
}

// Whoever reads while others mint sees each session that was there before and has not ended, once.
func TestReadersSeeAllThatWasThereBefore(t *testing.T) {
	x := NewIndex(64 << 20)
	const writers, each = 4, 2000
	before := []string{}
	for n := range uint64(3000) {
		s := run(n, t0, 86_400, "a").behalf("u@x")
		before = append(before, s.ID)
		x.add(s)
	}
	slices.Sort(before)
	var writing, reading sync.WaitGroup
	stop := make(chan struct{})
	for w := range uint64(writers) {
		writing.Go(func() {
			for n := range uint64(each) {
				x.add(run(1<<20+w<<16+n, t0+identity.Instant(n), int64(1+n%60), "b", "a"))
			}
		})
	}
	for range 2 {
		reading.Go(func() {
			for {
				got, _ := walk(t, x, Query{Principal: "u@x", Limit: 700, Now: t0})
				if !slices.Equal(before, got) {
					t.Errorf("%d sessions where there are %d", len(got), len(before))
					return
				}
				all, _ := walk(t, x, Query{Limit: 700, Now: t0})
				if !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) {
					t.Error("not in order, or one of them twice")
					return
				}
				n, _ := x.Count(Query{Principal: "u@x", Now: t0}, 1<<20)
				if n != len(before) {
					t.Errorf("%d counted where there are %d", n, len(before))
					return
				}
				x.Stats(t0)
				x.Purge(t0 + 30_000)
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	writing.Wait()
	close(stop)
	reading.Wait()
	requireWhole(t, x)
}
