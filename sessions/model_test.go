package sessions

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
)

// model is the index as anybody would write it first: a map.
type model map[string]*started

func (m model) matching(q Query) []string {
	ids := []string{}
	for id, s := range m {
		inChain := slices.ContainsFunc(s.Chain, func(a identity.Actor) bool { return a.Agent == q.Agent })
		switch {
		case over(uint32(s.Expires.Unix()), q.Now), q.Agent != "" && !inChain, q.Principal != "" && s.Principal != q.Principal:
		case q.Dead != nil && q.Dead(append(slices.Clone(s.handles), testKey)), id <= q.After:
		default:
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func aSession(t *rapid.T, now identity.Instant) *started {
	// The clock may be set back, and several sessions may start within a millisecond.
	at := now - identity.Instant(rapid.IntRange(0, 3).Draw(t, "earlier"))
	s := run(rapid.Uint64Range(1, 40).Draw(t, "entropy"), at, int64(rapid.IntRange(1, 40).Draw(t, "seconds")), rapid.SampledFrom(agentNames).Draw(t, "agent"))
	s.Issued = now
	if rapid.Bool().Draw(t, "hop") {
		s.Chain = append(s.Chain, identity.Actor{Agent: "sub", Generation: 3})
	}
	if rapid.Bool().Draw(t, "delegated") {
		s.Principal = rapid.SampledFrom(principalNames).Draw(t, "principal")
		s.Delegation = newID(identity.PrefixDelegation, t0, rapid.Uint64Range(1, 3).Draw(t, "delegation"))
	}
	s.Scopes = identity.Scopes(strings.Repeat("s", rapid.IntRange(0, 3).Draw(t, "scopes")))
	s.TriggerReason = strings.Repeat("r", rapid.IntRange(0, 3).Draw(t, "reason"))
	return s.rest()
}

var (
	agentNames     = []string{"a", "b", "u@x"}
	principalNames = []string{"a", "u@x", "u@y"}
)

func aQuery(t *rapid.T, now identity.Instant) Query {
	q := Query{
		Agent:     rapid.SampledFrom(append([]string{"", "", "sub", "nobody"}, agentNames...)).Draw(t, "agent"),
		Principal: rapid.SampledFrom(append([]string{"", "", "nobody"}, principalNames...)).Draw(t, "principal"),
		Limit:     rapid.IntRange(1, 9).Draw(t, "limit"), Now: now,
	}
	if rapid.Bool().Draw(t, "alive only") {
		handle := rapid.SampledFrom([]identity.Handle{"agt_a#7", "usr_u@x#93", "agt_sub#3", identity.Handle(newID(identity.PrefixDelegation, t0, 2))}).Draw(t, "dead")
		q.Dead = func(handles []identity.Handle) bool { return slices.Contains(handles, handle) }
	}
	return q
}

// requireSame asks both the same.
func requireSame(t *rapid.T, x *Index, m model, q Query) {
	want := m.matching(q)
	got, _ := walk(t, x, q)
	require.Equal(t, want, got)
	n, more := x.Count(q, 1<<20)
	require.Equal(t, len(want), n)
	require.False(t, more)
}

func TestIndexBehavesLikeAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, m, now := NewIndex(64<<20), model{}, t0
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				s := aSession(t, now)
				if _, known := m[s.ID]; !known && !over(uint32(s.Expires.Unix()), now) {
					m[s.ID] = s
				}
				x.add(s)
			},
			"time": func(t *rapid.T) {
				now += identity.Instant(rapid.IntRange(1, 9000).Draw(t, "milliseconds"))
				// What has ended is gone for the map as well: an id may come again.
				for id, s := range m {
					if over(uint32(s.Expires.Unix()), now) {
						delete(m, id)
					}
				}
				x.Purge(now)
			},
			"list": func(t *rapid.T) { requireSame(t, x, m, aQuery(t, now)) },
			"get": func(t *rapid.T) {
				for id, s := range m {
					e, ok := x.Get(id, now)
					require.True(t, ok)
					require.Equal(t, s.Scopes, e.Scopes)
					require.Equal(t, s.Principal, e.Principal)
					require.Equal(t, s.TriggerReason, e.TriggerReason)
					require.Equal(t, s.Expires.Unix(), e.Expires.Unix())
					require.ElementsMatch(t, append(slices.Clone(s.handles), testKey), e.Handles)
				}
			},
			"": func(t *rapid.T) { requireWhole(t, x) },
		})
		requireSame(t, x, m, Query{Limit: 7, Now: now})
	})
}

func TestFullIndexNeverDropsWhatEndsLater(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, m, now := NewIndex(MinBytes), model{}, t0
		for i := range x.shards {
			x.shards[i].limit = rapid.IntRange(1500, 3000).Draw(t, "bytes")
		}
		dropped, until := 0, identity.Instant(0)
		for range rapid.IntRange(1, 150).Draw(t, "sessions") {
			now += identity.Instant(rapid.IntRange(0, 300).Draw(t, "milliseconds"))
			x.Purge(now)
			s := aSession(t, now)
			if _, known := x.Get(s.ID, now); !known && !over(uint32(s.Expires.Unix()), now) {
				m[s.ID] = s
			}
			x.add(s)
			i, _ := parseID(identity.PrefixSession, s.ID)
			last, first := identity.Instant(0), identity.Instant(1<<62) // to end of those that went, to end of those that stay
			for id, s := range m {
				j, _ := parseID(identity.PrefixSession, id)
				if _, stays := x.Get(id, now); x.shard(j) != x.shard(i) {
					continue
				} else if stays {
					first = min(first, identity.Instant(s.Expires.Unix()))
				} else if delete(m, id); !over(uint32(s.Expires.Unix()), now) {
					dropped++
					last = max(last, identity.Instant(s.Expires.Unix()))
				}
			}
			require.LessOrEqual(t, last, first)
			require.EqualValues(t, dropped, x.Stats(now).DroppedEver)
			require.LessOrEqual(t, x.Stats(now).Dropped, dropped)
			if until = max(until, last*1000); now < until {
				require.NotZero(t, x.Stats(now).Dropped)
			}
			require.Equal(t, map[bool]identity.Instant{true: until}[now < until], x.Stats(now).DroppedUntil)
			requireWhole(t, x)
		}
		for id, s := range m {
			if over(uint32(s.Expires.Unix()), now) {
				delete(m, id)
			}
		}
		requireSame(t, x, m, Query{Limit: 7, Now: now})
	})
}

func TestOrderBehavesLikeASortedList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o order
		list := []uint64{}
		// Ids come in runs, as they do from a clock that is set back now and then.
		for range rapid.IntRange(0, 12).Draw(t, "runs") {
			from, n := rapid.Uint64Range(1, 900).Draw(t, "from"), rapid.Uint64Range(1, 300).Draw(t, "length")
			remove := rapid.Bool().Draw(t, "remove")
			for v := from; v < from+n; v++ {
				at, known := slices.BinarySearch(list, v)
				slot, found := o.find(id{v / 7, v % 7})
				require.Equal(t, known, found)
				switch {
				case remove && known:
					require.EqualValues(t, v, slot)
					o.remove(id{v / 7, v % 7})
					list = slices.Delete(list, at, at+1)
				case remove:
					o.remove(id{v / 7, v % 7})
				case !known:
					o.insert(key{id{v / 7, v % 7}, uint32(v)})
					list = slices.Insert(list, at, v)
				}
			}
			after := rapid.Uint64Range(0, 1300).Draw(t, "after")
			want, _ := slices.BinarySearch(list, after+1)
			got := []uint64{}
			o.after(id{after / 7, after % 7}, func(k key) bool {
				got = append(got, uint64(k.slot))
				return true
			})
			require.Equal(t, append([]uint64{}, list[want:]...), got)
			require.Equal(t, len(list), o.n)
			require.LessOrEqual(t, len(o.blocks), 2+3*len(list)/(blockKeys/4), "blocks are joined as keys leave")
		}
	})
}

func TestEndsComeOutInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e ends
		var list []uint64
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				end := endOf(rapid.Uint32Range(0, 50).Draw(t, "second"), rapid.Uint32().Draw(t, "slot"))
				e.push(end)
				list = append(list, end)
				slices.Sort(list)
			},
			"pop": func(*rapid.T) {
				if len(list) > 0 {
					e.pop()
					list = list[1:]
				}
			},
			"": func(t *rapid.T) {
				second, slot, ok := e.next()
				require.Equal(t, len(list) > 0, ok)
				if ok {
					require.Equal(t, list[0], endOf(second, slot))
				}
			},
		})
	})
}

// Whatever the nodes answer, pages together are complete up to their end, and none has a session twice.
func TestMergedPagesAreCompleteWithoutRepeats(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := make([][]string, rapid.IntRange(1, 4).Draw(t, "nodes"))
		want := []string{}
		for n := range rapid.IntRange(0, 60).Draw(t, "sessions") {
			id := fmt.Sprintf("ses_%03d", n)
			node := rapid.IntRange(0, len(nodes)-1).Draw(t, "node")
			nodes[node] = append(nodes[node], id)
			want = append(want, id)
		}
		got, after := []string{}, ""
		limit := rapid.IntRange(1, 9).Draw(t, "limit")
		for range 1000 {
			var pages []Page
			for _, ids := range nodes {
				at, _ := slices.BinarySearch(ids, after+"\x00")
				left := ids[at:]
				// A node answers as much as it likes, and may have looked further than its last session.
				n := min(rapid.IntRange(0, limit).Draw(t, "answered"), len(left))
				page := Page{More: n < len(left)}
				if page.More {
					page.Through = left[n][:6] + string(left[n][6]-1) + "~" // just before the next one
					if n > 0 && rapid.Bool().Draw(t, "exact") {
						page.Through = left[n-1]
					}
					page.Through = max(page.Through, after)
				}
				for _, id := range left[:n] {
					page.Sessions = append(page.Sessions, Entry{ID: id})
				}
				pages = append(pages, page)
			}
			page := Merge(pages, limit)
			require.LessOrEqual(t, len(page.Sessions), limit)
			got = append(got, page.ids()...)
			if !page.More {
				break
			}
			require.GreaterOrEqual(t, page.Through, after)
			after = page.Through
		}
		require.Equal(t, want, got)
	})
	require.Equal(t, Page{}, Merge(nil, 10))
	require.Len(t, Merge([]Page{{Sessions: []Entry{{ID: "ses_1"}}}, {Sessions: []Entry{{ID: "ses_1"}}}}, 10).Sessions, 1, "two that claim the same are told as one")
}
