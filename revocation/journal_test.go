package revocation_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

// commit does as the state machine does: the set first, then the journal.
func commit(j *revocation.Journal, index uint64, handles ...identity.Handle) {
	entries := make([]revocation.Entry, len(handles))
	for i, h := range handles {
		entries[i] = revocation.Entry{Handle: h, Expires: now + hour}
		j.Set().Add(entries[i])
	}
	j.Commit(index, entries)
	j.Reach(index)
}

func provisional(h identity.Handle, expires identity.Instant) revocation.Entry {
	return revocation.Entry{Handle: h, Expires: expires, Provisional: true}
}

// read wants changes to be there and returns them.
func read(t *testing.T, j *revocation.Journal, cursor uint64) revocation.Reading {
	t.Helper()
	r, ok := j.Read(cursor, 1<<20)
	require.True(t, ok)
	return r
}

func TestJournalHasWhatEnteredTheSetInOrder(t *testing.T) {
	j := revocation.NewJournal(revocation.NewSet())
	require.Equal(t, 1, j.Deny(provisional("ses_a", now+1000)))
	require.True(t, j.Set().Revoked("ses_a"))
	commit(j, 7, "ses_a", "ses_b")
	j.Purge(9, now)
	j.Reach(12)
	require.Equal(t, revocation.Position{Applied: 12, Last: 7, Purged: now}, j.Position())

	r := read(t, j, 0)
	require.Equal(t, []revocation.Change{
		{Kind: revocation.Denied, Entries: []revocation.Entry{provisional("ses_a", now+1000)}},
		{Kind: revocation.Committed, Index: 7, Entries: []revocation.Entry{{Handle: "ses_a", Expires: now + hour}, {Handle: "ses_b", Expires: now + hour}}},
		{Kind: revocation.Purged, Index: 9, Before: now},
	}, r.Changes)
	require.True(t, r.Caught)
	part, ok := j.Read(1, 1)
	require.True(t, ok)
	require.Equal(t, r.Changes[1:2], part.Changes)
	require.False(t, part.Caught)
	require.EqualValues(t, 2, part.Next)
}

func TestJournalHasOnlyWhatIsNews(t *testing.T) {
	j := revocation.NewJournal(revocation.NewSet())
	told := func(e revocation.Entry) bool {
		cursor, _ := j.Begin()
		j.Deny(e)
		return len(read(t, j, cursor).Changes) > 0
	}
	require.True(t, told(provisional("ses_a", now)))
	require.False(t, told(provisional("ses_a", now+100)), "the same again, by another way")
	require.True(t, told(provisional("ses_a", now+10_000)), "it is to last longer")
	require.False(t, told(provisional("ses_a", now)))
	require.True(t, told(revocation.Entry{Handle: "ses_a", Expires: now}), "it is final now")
	require.False(t, told(provisional("ses_a", now+hour)))
	require.False(t, told(revocation.Entry{Handle: "ses_a", Expires: now + hour}))
	require.False(t, told(provisional("", now)), "the set takes no such handle")
}

// Several nodes, each of which has the entry last a little longer, have it told about as often as one that repeats itself.
func TestJournalTellsOfALifeThatGrowsInSmallSteps(t *testing.T) {
	j := revocation.NewJournal(revocation.NewSet())
	told := identity.Instant(0)
	for grown := identity.Instant(0); grown <= 60_000; grown += 3000 {
		j.Deny(provisional("ses_a", now+grown))
		if changes := read(t, j, 0).Changes; len(changes) > 0 {
			entries := changes[len(changes)-1].Entries
			told = entries[len(entries)-1].Expires
		}
		require.Less(t, now+grown-told, identity.Instant(5000), "what followers know ends too soon")
	}
	require.Less(t, len(read(t, j, 0).Changes), 15)
}

func TestReaderOfAJournalIsWoken(t *testing.T) {
	j := revocation.NewJournal(revocation.NewSet())
	first, second := read(t, j, 0), read(t, j, 0)
	for _, r := range []revocation.Reading{first, second} {
		require.Empty(t, r.Changes)
		select {
		case <-r.Wait:
			require.FailNow(t, "nothing has changed")
		default:
		}
	}
	commit(j, 1, "ses_a")
	<-first.Wait
	<-second.Wait
	require.Len(t, read(t, j, 0).Changes, 1)
}

func TestJournalIsBounded(t *testing.T) {
	j := revocation.NewJournal(revocation.NewSet())
	commit(j, 1, "ses_first")
	const many = 4000
	for i := range uint64(2 * revocation.MaxJournalEntries / many) {
		var handles []identity.Handle
		for k := range many {
			handles = append(handles, identity.Handle(fmt.Sprintf("agt_a%d#%d", k, i)))
		}
		commit(j, 2+i, handles...)
	}
	_, ok := j.Read(0, 1)
	require.False(t, ok, "what was dropped is not passed over in silence")
	_, ok = j.Resume(1)
	require.False(t, ok)
	last := j.Position().Last
	for from := last; ; from-- {
		cursor, ok := j.Resume(from)
		if !ok {
			require.Less(t, from, last-revocation.MaxJournalEntries/many+2)
			break
		}
		r := read(t, j, cursor)
		require.Len(t, r.Changes, int(last-from), "all after %d", from)
	}

	cursor, _ := j.Begin()
	for i := range 1 << 16 {
		j.Deny(provisional(identity.Handle(fmt.Sprintf("agt_b#%d", i)), now))
	}
	_, ok = j.Read(cursor, 1)
	require.False(t, ok)
}

func TestResumptionHasAllThatCameAfterAnIndex(t *testing.T) {
	j := revocation.NewJournal(revocation.NewSet())
	commit(j, 5, "ses_a")
	j.Deny(provisional("ses_p", now))
	commit(j, 8, "ses_b")
	j.Reach(20)
	for from, want := range map[uint64]int{0: 3, 4: 3, 5: 1, 7: 1, 8: 0, 20: 0, 1000: 0} {
		cursor, ok := j.Resume(from)
		require.True(t, ok)
		require.Len(t, read(t, j, cursor).Changes, want, "from %d", from)
	}
}

func TestSnapshotOfTheLogHasFollowersBeginAgain(t *testing.T) {
	j := revocation.NewJournal(revocation.NewSet())
	commit(j, 5, "ses_a")
	cursor, _ := j.Begin()
	waiting := read(t, j, cursor).Wait
	j.Set().Add(revocation.Entry{Handle: "ses_b", Expires: now + hour})
	j.Reset(100)
	<-waiting
	_, ok := j.Read(cursor, 1)
	require.False(t, ok)
	_, ok = j.Resume(99)
	require.False(t, ok)
	require.Equal(t, revocation.Position{Applied: 100, Last: 100}, j.Position())
	cursor, ok = j.Resume(100)
	require.True(t, ok)
	commit(j, 101, "ses_c")
	require.Len(t, read(t, j, cursor).Changes, 1)
}

func TestNilJournalWritesNothingDown(*testing.T) {
	var j *revocation.Journal
	j.Commit(1, nil)
	j.Purge(1, now)
	j.Reach(1)
	j.Reset(1)
}

// Whoever takes a cursor, walks the set and then reads on has every handle, however many are added meanwhile.
func TestWalkAndWhatFollowsLeaveNoGap(t *testing.T) {
	j := revocation.NewJournal(revocation.NewSet())
	const each = 3000
	var writing, following sync.WaitGroup
	writing.Go(func() {
		for i := range uint64(each) {
			commit(j, i+1, id(identity.PrefixSession, int(i)), identity.Handle(fmt.Sprintf("agt_a#%d", i)))
		}
	})
	for w := range 2 {
		writing.Go(func() {
			for i := range each {
				j.Deny(provisional(identity.Handle(fmt.Sprintf("usr_%d#%d", w, i)), now))
			}
		})
	}
	for range 4 {
		following.Go(func() {
			for range rand.IntN(2000) {
				j.Position()
			}
			have := map[identity.Handle]bool{}
			cursor, at := j.Begin()
			for e := range j.Set().All() {
				have[e.Handle] = true
			}
			for i := range at.Applied {
				if !have[id(identity.PrefixSession, int(i))] {
					t.Errorf("the walk at %d lacks the handle of index %d", at.Applied, i+1)
					return
				}
			}
			for len(have) < 4*each {
				r, ok := j.Read(cursor, 100)
				if !ok {
					t.Error("it fell behind")
					return
				}
				for _, c := range r.Changes {
					for _, e := range c.Entries {
						have[e.Handle] = true
					}
				}
				if cursor = r.Next; r.Wait != nil {
					<-r.Wait
				}
			}
		})
	}
	writing.Wait()
	following.Wait() // it does not end before it has them all
	require.Equal(t, 4*each, j.Set().Len())
}

func TestLookupTellsHowAnEntryStands(t *testing.T) {
	s := revocation.NewSet()
	for i, h := range tokenHandles(1) {
		_, ok := s.Lookup(h)
		require.False(t, ok)
		e := revocation.Entry{Handle: h, Expires: now + identity.Instant(i), Provisional: i%2 == 0}
		s.Add(e)
		got, ok := s.Lookup(h)
		require.True(t, ok)
		require.Equal(t, e, got)
	}
	var all, unconfirmed int
	for e := range s.All() {
		got, _ := s.Lookup(e.Handle)
		require.Equal(t, got, e)
		all++
	}
	for e := range s.Unconfirmed() {
		require.True(t, e.Provisional)
		unconfirmed++
	}
	require.Equal(t, s.Len(), all)
	require.Equal(t, s.Provisional(), unconfirmed)
	for range s.All() {
		break
	}
	for range s.Unconfirmed() {
		break
	}
}
