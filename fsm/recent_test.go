package fsm

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

// TestListsHaveTheRecentDelegationsInTheirOrder makes many more than are kept aside, with ids that do not come in order, and
// withdraws some. Every View is asked when all is over.
func TestListsHaveTheRecentDelegationsInTheirOrder(t *testing.T) {
	for seed := range uint64(6) {
		dice := rand.New(rand.NewPCG(seed, 7))
		m := newMachine(t)
		agents, principals := []string{"a", "b", "c"}, []string{"p@x", "q@x", "r@x", "s@x", "t@x", "u@x", "v@x", "w@x", "x@x", "y@x"}
		for _, agent := range agents {
			m.do(CreateAgent{testAgent(agent)})
		}
		seen := uint64(0)
		lend := func(n int) {
			var batch Batch
			for range n {
				seen++
				d := testDelegation(seen, principals[seen%10], agents[seen%3])
				var entropy [10]byte
				binary.BigEndian.PutUint64(entropy[:], seen*0x9e3779b97f4a7c15)
				d.ID = identity.NewID(identity.PrefixDelegation, m.now.Add(time.Duration(seen%5)*time.Second), entropy)
				d.Expires = d.Expires.Add(time.Duration(seen%3) * time.Second)
				batch.Bodies = append(batch.Bodies, CreateDelegation{Delegation: d, EnsurePrincipal: true})
			}
			m.do(batch)
		}
		var views []*View
		var want [][]string // the ids and states of all, as they were
		for range 4 + dice.IntN(6) {
			lend([]int{1, 10, MaxBatch / 2, MaxBatch, MaxBatch}[dice.IntN(5)])
			if all := m.fsm.View().Delegations(DelegationFilter{}, "", 1<<20); dice.IntN(3) == 0 {
				m.do(WithdrawDelegation{ID: all[dice.IntN(len(all))].ID})
			}
			v := m.fsm.View()
			views, want = append(views, v), append(want, spellings(v.Delegations(DelegationFilter{}, "", 1<<20)))
		}
		require.LessOrEqual(t, len(m.fsm.state.delegations.recent.records), maxRecent)
		for i, v := range views {
			all := v.Delegations(DelegationFilter{}, "", 1<<20)
			require.Equal(t, want[i], spellings(all))
			for _, agent := range append(agents, "") {
				for _, principal := range append(principals[:2:2], "") {
					listed := slices.DeleteFunc(slices.Clone(all), func(d *identity.Delegation) bool {
						return agent != "" && d.Agent != agent || principal != "" && d.Principal != principal
					})
					f := DelegationFilter{Agent: agent, Principal: principal}
					require.Equal(t, spellings(listed), spellings(v.Delegations(f, "", 1<<20)))
					require.Equal(t, min(len(listed), MaxCount), v.CountDelegations(agent, principal, 0))
					if len(listed) == 0 {
						continue
					}
					at := dice.IntN(len(listed))
					page := listed[at+1 : min(at+11, len(listed))]
					require.Equal(t, spellings(page), spellings(v.Delegations(f, listed[at].ID, 10)))
				}
			}
			for _, agent := range agents {
				active := slices.DeleteFunc(slices.Clone(all), func(d *identity.Delegation) bool {
					return d.Agent != agent || d.Status != identity.DelegationActive
				})
				require.Equal(t, len(active), v.AgentReach(agent).Delegations)
			}
		}
	}
}

func spellings(list []*identity.Delegation) []string {
	texts := []string{}
	for _, d := range list {
		texts = append(texts, fmt.Sprint(d.ID, d.Agent, d.Principal, d.Status))
	}
	return texts
}

// TestRecentDelegationsArePurgedAndReaped: they are filed when their orders are read.
func TestRecentDelegationsArePurgedAndReaped(t *testing.T) {
	m := newMachine(t)
	for _, agent := range []string{"a", "b"} {
		m.do(CreateAgent{testAgent(agent)})
	}
	for i := range uint64(10) {
		d := testDelegation(i+1, "p@x", []string{"a", "b"}[i%2])
		d.Expires = m.now.Add(time.Hour)
		m.do(CreateDelegation{Delegation: d, EnsurePrincipal: true})
	}
	m.do(DeleteAgent{Name: "a"})
	left := m.fsm.View().Delegations(DelegationFilter{Principal: "p@x"}, "", 100)
	require.Len(t, left, 5)
	require.False(t, slices.ContainsFunc(left, func(d *identity.Delegation) bool { return strings.HasPrefix(d.Agent, "a") }))
	require.Equal(t, 5, m.fsm.state.delegations.byID.len(), "the deletion removed them")

	d := testDelegation(11, "p@x", "b")
	d.Expires = m.now.Add(time.Hour)
	m.do(CreateDelegation{Delegation: d})
	m.pass(time.Hour + keepExpired + time.Second)
	require.Equal(t, 6, m.do(Purge{}).Value.(*Purged).Delegations)
	require.Zero(t, m.fsm.state.delegations.byID.len())
	for _, o := range []order{m.fsm.state.delegations.byAgent, m.fsm.state.delegations.byPrincipal, m.fsm.state.delegations.byExpiry} {
		require.Zero(t, o.len())
	}
	require.Zero(t, m.fsm.state.delegations.recent.records)
}

// TestNamesWhoseHashesBeginAlikeAreListedApart lays the records of two principals among each other, as those of one.
func TestNamesWhoseHashesBeginAlikeAreListedApart(t *testing.T) {
	m := newMachine(t)
	m.do(CreateAgent{testAgent("a")})
	s := m.fsm.state
	one, other, seen := "", "", map[uint64]string{}
	for i := 0; other == "" && i < 1<<18; i++ {
		one = fmt.Sprintf("p-%d@x", i)
		bits := hashName(s.seed, one) >> (64 - nameBits)
		other, seen[bits] = seen[bits], one
	}
	require.NotEmpty(t, other, "of so many names hundreds have the same bits")
	for i := range uint64(20) {
		m.do(CreateDelegation{Delegation: testDelegation(i+1, []string{one, other}[i%2], "a"), EnsurePrincipal: true})
	}
	require.Len(t, m.fsm.View().recentByPrincipal, 20)
	for _, filed := range []bool{false, true} {
		if filed {
			s.delegations.fileAll()
			m.fsm.publish(s)
		}
		v := m.fsm.View()
		for _, principal := range []string{one, other} {
			list := v.Delegations(DelegationFilter{Principal: principal}, "", 100)
			require.Len(t, list, 10)
			require.False(t, slices.ContainsFunc(list, func(d *identity.Delegation) bool { return d.Principal != principal }))
			require.Len(t, v.Delegations(DelegationFilter{Principal: principal, Agent: "a"}, list[3].ID, 100), 6)
			require.Equal(t, 10, v.PrincipalReach(principal).Delegations)
		}
	}
	m.do(DeletePrincipal{ID: other})
	require.Len(t, m.fsm.View().Delegations(DelegationFilter{}, "", 100), 10)
	require.Equal(t, 10, s.delegations.byPrincipal.len())
	require.Equal(t, 10, m.fsm.View().PrincipalReach(one).Delegations)
}

// Whoever stops what was lent a while ago doesn't wait for what was lent since.
func TestAWithdrawalFilesNothingYounger(t *testing.T) {
	m := newMachine(t)
	m.do(CreateAgent{testAgent("a")})
	lend := func(n uint64, at identity.Instant) string {
		d := testDelegation(n, fmt.Sprintf("p-%d@x", n), "a")
		d.ID = identity.NewID(identity.PrefixDelegation, at, [10]byte{byte(n)})
		m.do(CreateDelegation{Delegation: d, EnsurePrincipal: true})
		return d.ID
	}
	s := m.fsm.state
	older := lend(1, m.now)
	s.delegations.fileAll()
	m.now = m.now.Add(time.Second)
	younger := lend(2, m.now)
	lend(3, m.now.Add(time.Second))
	require.Len(t, s.delegations.recent.records, 2)

	status := func(id string) identity.DelegationStatus {
		for _, d := range m.fsm.View().Delegations(DelegationFilter{Agent: "a"}, "", 10) {
			if d.ID == id {
				return d.Status
			}
		}
		return ""
	}
	m.do(WithdrawDelegation{ID: older})
	require.Len(t, s.delegations.recent.records, 2)
	require.Equal(t, identity.DelegationWithdrawn, status(older))

	m.do(WithdrawDelegation{ID: younger})
	require.Empty(t, s.delegations.recent.records, "one that is kept aside itself is filed first")
	require.Equal(t, identity.DelegationWithdrawn, status(younger))
	require.Len(t, m.fsm.View().Delegations(DelegationFilter{Agent: "a"}, "", 10), 3)
}
