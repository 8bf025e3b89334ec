package fsm

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

func TestViewIsOnePictureAndNeverChanges(t *testing.T) {
	m := newMachine(t)
	require.Zero(t, m.fsm.View().Index())
	require.Equal(t, int64(identity.DefaultLeaseMillis), m.fsm.View().Settings().LeaseMillis)

	must1[*identity.Agent](m, CreateAgent{testAgent("triage")})
	before := m.fsm.View()
	must1[*AgentChange](m, KillAgent{Name: "triage"})

	a, ok := before.Agent("triage")
	require.True(t, ok)
	require.Equal(t, identity.StatusActive, a.Status)
	require.Empty(t, before.Revocations("", 10))
	require.Equal(t, uint64(1), before.Index())

	after := m.fsm.View()
	a, _ = after.Agent("triage")
	require.Equal(t, identity.StatusSuspended, a.Status)
	require.Len(t, after.Revocations("", 10), 1)
	require.Equal(t, epoch, after.Time())
}

func TestTheSetHoldsARevocationBeforeItsIndexIsSeen(t *testing.T) {
	m := newMachine(t)
	must1[*identity.Agent](m, CreateAgent{testAgent("triage")})
	seen := make(chan bool)
	go func() {
		err := m.fsm.WaitApplied(context.Background(), 2)
		seen <- err == nil && m.set.Revoked("agt_triage#1")
	}()
	must1[*AgentChange](m, KillAgent{Name: "triage"})
	require.True(t, <-seen)
}

func TestWaitAppliedWakesAllAndHeedsTheContext(t *testing.T) {
	m := newMachine(t)
	var wait sync.WaitGroup
	errs := make(chan error, 20)
	for i := range 20 {
		wait.Go(func() { errs <- m.fsm.WaitApplied(context.Background(), uint64(i)%5+1) })
	}
	changed := m.fsm.Changed()
	for range 5 {
		m.do(Tick{})
	}
	wait.Wait()
	for range 20 {
		require.NoError(t, <-errs)
	}
	<-changed
	require.Equal(t, uint64(5), m.fsm.Applied())

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, m.fsm.WaitApplied(ctx, 6), context.Canceled)
	require.NoError(t, m.fsm.WaitApplied(ctx, 5), "what is applied needs no waiting")
}

func TestTimeNeverGoesBack(t *testing.T) {
	m := newMachine(t)
	m.propose(Command{Time: epoch + 5, Body: Tick{}})
	m.propose(Command{Time: epoch, Body: Tick{}})
	require.Equal(t, epoch+5, m.fsm.View().Time())
	m.propose(Command{Time: 1 << 62, Body: Tick{}})
	must1[*identity.Agent](m, CreateAgent{testAgent("triage")})
	must1[*AgentChange](m, KillAgent{Name: "triage"})
	r, ok := m.fsm.View().Revocation("agt_triage#1")
	require.True(t, ok)
	require.Equal(t, endOfTime, r.Expires, "no clock makes an expiry overflow")
}

func TestABatchPublishesOnceAndKeepsOtherEntriesInCount(t *testing.T) {
	m := newMachine(t)
	entries := []*raft.Log{m.entry(CreateAgent{testAgent("a")}), m.entry(KillAgent{Name: "nobody"})}
	m.index++
	entries = append(entries, &raft.Log{Index: m.index, Type: raft.LogConfiguration, Data: []byte("not ours")})
	changed := m.fsm.Changed()
	responses := m.fsm.ApplyBatch(entries)
	<-changed
	require.Len(t, responses, 3)
	require.Nil(t, responses[0].(Result).Err)
	require.Equal(t, identity.CodeNotFound, responses[1].(Result).Err.Code)
	require.Equal(t, Result{Index: 3}, responses[2])
	require.Equal(t, uint64(3), m.fsm.Applied())
}

func TestAnUnknownCommandHaltsUnlessItMayBeSkipped(t *testing.T) {
	m := newMachine(t)
	must1[*identity.Agent](m, CreateAgent{testAgent("before")})
	m.index++
	r := m.fsm.Apply(&raft.Log{Index: m.index, Type: raft.LogCommand, Data: envelope(1, flagIgnorable, 999, &header{})}).(Result)
	require.Equal(t, identity.CodeInvalid, r.Err.Code)
	require.Equal(t, uint64(2), m.fsm.Applied(), "the entry counts, though it did nothing")

	var halted error
	m.fsm.halt = func(err error) { halted = err }
	entries := []*raft.Log{
		m.entry(CreateAgent{testAgent("same-batch")}),
		m.entry(Tick{}),
		m.entry(CreateAgent{testAgent("later")}),
	}
	entries[1].Data = envelope(1, 0, 999, &header{}, map[string]string{"secret": "hunter2"})
	waiting := make(chan error, 1)
	go func() { waiting <- m.fsm.WaitApplied(context.Background(), 100) }()
	responses := m.fsm.ApplyBatch(entries)

	require.ErrorIs(t, halted, ErrHalted)
	require.ErrorContains(t, halted, "log entry 4")
	require.ErrorContains(t, halted, "999")
	require.NotContains(t, halted.Error(), "hunter2")
	require.ErrorIs(t, <-waiting, ErrHalted)
	require.Nil(t, responses[0].(Result).Err)
	for _, r := range responses[1:] {
		require.ErrorIs(t, r.(Result).Err, ErrHalted)
	}
	require.Equal(t, uint64(3), m.fsm.Applied(), "the state stays at the last entry that was understood")
	_, ok := m.fsm.View().Agent("later")
	require.False(t, ok)
	_, err := m.fsm.Snapshot()
	require.ErrorIs(t, err, ErrHalted, "a halted state must not replace the log")
}

func TestHaltingPanicsByDefaultWithoutShowingTheEntry(t *testing.T) {
	f := New(Options{Revocations: revocation.NewSet()})
	defer func() {
		message := fmt.Sprint(recover())
		require.Contains(t, message, "halted at log entry 7")
		require.NotContains(t, message, "hunter2")
	}()
	f.Apply(&raft.Log{Index: 7, Type: raft.LogCommand, Data: []byte("hunter2, and then some")})
}

// Readers go on while the state is written; run with -race.
func TestReadersShareViewsWithAWriter(t *testing.T) {
	m := newMachine(t)
	m.bulk(50, benchAgent)
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				v := m.fsm.View()
				for _, a := range v.Agents("", 10) {
					require.NotEmpty(t, a.Name)
				}
				seen := 0
				for _, d := range v.Delegations(DelegationFilter{Agent: "agent-0000007"}, "", 50) {
					_, ok := v.Delegation(d.ID)
					require.True(t, ok)
					seen++
				}
				require.LessOrEqual(t, seen, v.Counts().Delegations)
				require.Len(t, v.Revocations("", 1<<20), v.Counts().Revocations)
				require.Len(t, v.APITokens("", 1<<20), v.Counts().APITokens)
				if d, err := v.ActiveDelegation("agent-0000007", "user-1", "gmail.read", epoch); err == nil {
					require.Equal(t, "user-1", d.Delegation.Principal)
				}
			}
		})
	}
	for i := range 400 {
		d := testDelegation(uint64(i), fmt.Sprintf("user-%d", i%10), fmt.Sprintf("agent-%07d", i%10))
		m.do(CreateDelegation{Delegation: d, EnsurePrincipal: true})
		switch i % 10 {
		case 3:
			m.do(WithdrawDelegation{ID: delegationID(uint64(i - 1))})
		case 5:
			m.do(apiToken(i, identity.RoleAuditor))
		case 7:
			m.do(KillAgent{Name: fmt.Sprintf("agent-%07d", i%50)})
		case 9:
			if i%50 == 9 {
				persist(t, m.fsm)
			}
		}
	}
	close(stop)
	wait.Wait()
}

func TestEverySeriesIsPresentFromTheStart(t *testing.T) {
	r := prometheus.NewRegistry()
	f := New(Options{Revocations: revocation.NewSet(), Registerer: r})
	f.Apply((&machine{t: t, fsm: f, now: epoch}).entry(CreateAgent{testAgent("a")}))
	families, err := r.Gather()
	require.NoError(t, err)
	series, applied := map[string]int{}, 0.0
	for _, family := range families {
		series[family.GetName()] = len(family.GetMetric())
		if family.GetName() == "deputy_fsm_applied_index" {
			applied = family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	require.Equal(t, map[string]int{
		"deputy_fsm_commands_total": 3 * len(names), "deputy_fsm_objects": 9, "deputy_fsm_applied_index": 1, "deputy_fsm_snapshot_seconds": 2,
	}, series)
	require.Equal(t, 1.0, applied)
}

func TestMintPathLookupsDoNotAllocate(t *testing.T) {
	m := newMachine(t)
	must1[*identity.Agent](m, CreateAgent{testAgent("triage")})
	must1[*identity.Principal](m, CreatePrincipal{identity.Principal{ID: "ann@x"}})
	must1[*identity.Application](m, CreateApplication{identity.Application{Name: "zendesk", Audience: "https://zendesk.example", Scopes: "zendesk.tickets.read"}})
	require.Zero(t, testing.AllocsPerRun(100, func() {
		v := m.fsm.View()
		v.Agent("triage")
		v.Principal("ann@x")
		v.Application("zendesk")
		v.ApplicationByAudience("https://zendesk.example")
		v.ApplicationOwning("zendesk.tickets.read")
	}))
}

func TestAgentIsFoundAmongMany(t *testing.T) {
	m := newMachine(t)
	m.bulk(3000, benchAgent)
	v := m.fsm.View()
	for i := range 3000 {
		a, ok := v.Agent(fmt.Sprintf("agent-%07d", i))
		require.True(t, ok)
		require.Equal(t, fmt.Sprintf("agent-%07d", i), a.Name)
	}
	_, ok := v.Agent("agent-")
	require.False(t, ok)
	require.Equal(t, 3000, v.Counts().Agents)
	require.Equal(t, time.Duration(0), v.Time().Sub(epoch))
}
