package cluster

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const (
	stable  = 10 * time.Second
	replace = time.Minute
)

// cast reads "L v v? v- n n+": a leader; voters that are healthy, sick for a moment, or long dead; non-voters
// that are new, or healthy for long. Servers are named by position.
func cast(text string, now time.Time) []standing {
	var servers []standing
	for i, word := range strings.Fields(text) {
		s := standing{id: raft.ServerID('a' + rune(i)), healthy: true, since: now.Add(-time.Hour).Add(time.Duration(i) * time.Second)}
		s.leader = word == "L"
		s.voter = s.leader || word[0] == 'v'
		switch {
		case strings.HasSuffix(word, "?"):
			s.healthy, s.since = false, now.Add(-time.Second)
		case strings.HasSuffix(word, "-"):
			s.healthy = false
		case word == "n":
			s.since = now.Add(-time.Second)
		}
		servers = append(servers, s)
	}
	return servers
}

func TestWhoVotes(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for servers, want := range map[string]string{
		"L":                 "",
		"L n":               "",
		"L n+":              "",      // two servers, one vote
		"L n+ n":            "",      // the way to three is taken in one go, when both are ready
		"L n+ n+":           "+b +c", // grow by a pair
		"L n- n+":           "",      // a dead server is no candidate
		"L v":               "-b",    // two votes bear no failure at all
		"L v n":             "",      // c may soon complete the three
		"L v n+":            "+c",    // a change that was cut short is completed
		"L v n-":            "-b",    //
		"L v n?":            "",      // it missed an answer, and may be well by the next
		"L v v v n?":        "",      //
		"L v v":             "",      //
		"L v v n+":          "",      // four servers, three votes
		"L v v n+ n":        "",      //
		"L v v n+ n+":       "+d +e",
		"L v v n+ n+ n+ n+": "+d +e", // five at most
		"L v v v v n+ n+":   "",
		"L v v v":           "-d", // four bear no more than three; the youngest goes
		"L v v- v":          "-c", // the dead one goes first
		"L v v? v n+":       "+e",
		"L v v-":            "", // nobody can stand in
		"L v v- n":          "",
		"L v v- n+":         "+d -c",
		"L v v? n+":         "",      // a restart is no death
		"L v- v- n+ n+":     "+d +e", // no majority is alive; nothing is taken from the dead
		"L v v v v- n+":     "+f -e",
		"L v v v- v- n+ n+": "+f -d", // one at a time
		"L v v v v v v":     "-g -f",
	} {
		promote, demote := plan(cast(servers, now), now, 0, stable, replace)
		var got []string
		for _, id := range promote {
			got = append(got, "+"+string(id))
		}
		for _, id := range demote {
			got = append(got, "-"+string(id))
		}
		require.Equal(t, want, strings.Join(got, " "), servers)
	}
}

// Whatever happens to the servers, no step of a plan takes the majority away, and plans come to an end.
func TestPlansKeepAMajorityAlive(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Now()
		words := append([]string{"L"}, rapid.SliceOfN(rapid.SampledFrom([]string{"v", "v?", "v-", "n", "n+", "n?", "n-"}), 0, 9).Draw(t, "servers")...)
		servers := cast(strings.Join(words, " "), now)
		alive, voters := count(servers)
		if alive < voters/2+1 {
			t.Skip("such a leader has stepped down")
		}
		even := time.Duration(0)
		for range 20 {
			promote, demote := plan(servers, now, even, stable, replace)
			if len(promote)+len(demote) == 0 {
				if _, voters := count(servers); voters%2 == 0 {
					require.Zero(t, even, "and not for ever")
					require.True(t, slices.Contains(words, "n") || slices.Contains(words, "n?"), "an even number only waits for somebody")
					even = evenPatience * stable
					continue
				}
				return
			}
			// Autopilot's order: an unhealthy voter's demotion first, then promotions, then the rest.
			for _, id := range demote {
				require.NotEqual(t, raft.ServerID("a"), id, "the leader never loses its vote")
				if len(promote) > 0 {
					set(servers, id, false)
					requireMajority(t, servers)
				}
			}
			for _, id := range promote {
				set(servers, id, true)
				requireMajority(t, servers)
			}
			for _, id := range demote {
				set(servers, id, false)
				requireMajority(t, servers)
			}
		}
		t.Fatalf("no end of plans for %v", words)
	})
}

func set(servers []standing, id raft.ServerID, voter bool) {
	for i := range servers {
		if servers[i].id == id {
			servers[i].voter = voter
		}
	}
}

func count(servers []standing) (alive, voters int) {
	for _, s := range servers {
		if s.voter {
			voters++
			if s.healthy {
				alive++
			}
		}
	}
	return alive, voters
}

func requireMajority(t *rapid.T, servers []standing) {
	alive, voters := count(servers)
	require.GreaterOrEqual(t, alive, voters/2+1)
}
