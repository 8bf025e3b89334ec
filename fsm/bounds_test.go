package fsm

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

func commandID(n int) (id CommandID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n)+1)
	return id
}

func TestWindowsAreBoundedByCommands(t *testing.T) {
	m := newMachine(t)
	s := m.fsm.state
	for i := range maxReceipts + 10 {
		s.apply(Command{ID: commandID(i), Time: epoch, Body: Tick{}})
		s.apply(Command{ID: commandID(i), ClientKey: true, Time: epoch, Body: Tick{}})
	}
	for _, w := range []*window{s.internal, s.clients} {
		require.Len(t, w.byID, maxReceipts)
		require.Equal(t, maxReceipts, w.queue.len())
		_, ok := w.find(commandID(9))
		require.False(t, ok)
		_, ok = w.find(commandID(10))
		require.True(t, ok)
	}
	require.False(t, s.apply(Command{ID: commandID(0), Body: Tick{}}).Replayed)
	require.True(t, s.apply(Command{ID: commandID(maxReceipts), Body: Tick{}}).Replayed)
}

func TestWindowsAreBoundedByTheItemsOfBatches(t *testing.T) {
	s := newMachine(t).fsm.state
	batch := Batch{Bodies: make([]Body, MaxBatch)}
	for i := range batch.Bodies {
		batch.Bodies[i] = Tick{}
	}
	for i := range maxResults/MaxBatch + 20 {
		s.apply(Command{ID: commandID(i), Body: batch})
	}
	require.LessOrEqual(t, s.internal.results, maxResults)
	require.Len(t, s.internal.byID, maxResults/MaxBatch)
}

func TestAClientKeyIsKeptForADay(t *testing.T) {
	m := newMachine(t)
	create := Command{ID: CommandID{1}, ClientKey: true, Body: CreateAgent{testAgent("a")}}
	require.False(t, m.propose(create).Replayed)
	m.pass(24*time.Hour - time.Millisecond)
	require.True(t, m.propose(create).Replayed)
	m.pass(time.Millisecond)
	require.Equal(t, identity.CodeAlreadyExists, m.propose(create).Err.Code, "a day later it is a new request")
}

func TestACommandOfDeputysOwnIsKeptForTenMinutes(t *testing.T) {
	m := newMachine(t)
	internal := Command{ID: CommandID{1}, Body: CreateAgent{testAgent("b")}}
	m.propose(internal)
	m.pass(10*time.Minute - time.Millisecond)
	require.True(t, m.propose(internal).Replayed)
	m.pass(time.Millisecond)
	require.Equal(t, identity.CodeAlreadyExists, m.propose(internal).Err.Code)
}

func TestOneCommandForgetsFewReceiptsAndPurgeTheRest(t *testing.T) {
	for name, client := range map[string]bool{"client keys": true, "Deputy's own": false} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			for i := range 500 {
				m.propose(Command{ID: commandID(i), ClientKey: client, Body: Tick{}})
			}
			m.pass(25 * time.Hour)
			m.do(Tick{})
			require.Equal(t, 500-expireAtOnce, m.fsm.state.internal.queue.len()+m.fsm.state.clients.queue.len())
			require.Equal(t, 500-2*expireAtOnce, must1[*Purged](m, Purge{}).Commands)
			require.Zero(t, m.fsm.state.internal.bytes+m.fsm.state.clients.bytes)
		})
	}
}

func TestAPairHasABoundedNumberOfActiveDelegations(t *testing.T) {
	m := newMachine(t)
	must1[*identity.Agent](m, CreateAgent{testAgent("inbox")})
	lend := func(i int) CreateDelegation {
		return CreateDelegation{Delegation: testDelegation(uint64(i), "ann@x", "inbox"), EnsurePrincipal: true}
	}
	for i := range MaxPairDelegations {
		must1[*identity.Delegation](m, lend(i))
	}
	m.refused(identity.CodeLimitReached, lend(MaxPairDelegations))

	// Neither withdrawn nor expired ones count, nor those of a predecessor or from before a kill.
	must1[*DelegationChange](m, WithdrawDelegation{ID: delegationID(0)})
	regrant := lend(MaxPairDelegations)
	regrant.Regrant = true
	must1[*identity.Delegation](m, regrant)
	must1[*PrincipalChange](m, KillPrincipal{ID: "ann@x", KeepActive: true})
	regrant.Delegation.ID = delegationID(MaxPairDelegations + 1)
	must1[*identity.Delegation](m, regrant)
}

func TestADeletedAgentIsPurgedInSteps(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	must1[*identity.Agent](m, CreateAgent{testAgent("busy")})
	const n = MaxPurge + 2*reapAtOnce + 5
	lend := func(i int) Body {
		return CreateDelegation{Delegation: testDelegation(uint64(i), fmt.Sprintf("user-%d", i%100), "busy"), EnsurePrincipal: true}
	}
	m.bulk(n, lend)
	must1[*AgentChange](m, DeleteAgent{Name: "busy"})
	v := m.fsm.View()
	require.Equal(t, n-reapAtOnce, v.Counts().Delegations, "a deletion takes a bounded time")
	require.Empty(t, v.Delegations(DelegationFilter{}, "", 10), "and all are dead at once")
	requirePairs(t, v)

	// A namesake has delegations of its own, which the purge leaves alone.
	must1[*identity.Agent](m, CreateAgent{testAgent("busy")})
	for i := range 10 {
		must1[*identity.Delegation](m, CreateDelegation{Delegation: testDelegation(uint64(n+i), fmt.Sprintf("user-%d", i), "busy")})
	}
	m = m.restored()
	purged := must1[*Purged](m, Purge{})
	require.Equal(t, MaxPurge, purged.Delegations)
	require.True(t, purged.More)
	requirePairs(t, m.fsm.View())
	m = m.restored()
	purged = must1[*Purged](m, Purge{})
	require.Equal(t, n-reapAtOnce-MaxPurge, purged.Delegations)
	require.False(t, purged.More)
	v = m.fsm.View()
	require.Equal(t, 10, v.Counts().Delegations)
	require.Len(t, v.Delegations(DelegationFilter{Agent: "busy"}, "", 100), 10)
	require.Empty(t, m.fsm.state.gone)
}

func TestADeletedPrincipalIsPurgedWithTheirBars(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.bulk(reapAtOnce, benchAgent)
	agent := func(i int) string { return fmt.Sprintf("agent-%07d", i%reapAtOnce) }
	must1[*identity.Principal](m, CreatePrincipal{identity.Principal{ID: "zoe@x"}})
	m.bulk(reapAtOnce+500, func(i int) Body {
		return CreateDelegation{Delegation: testDelegation(uint64(i), "ann@x", agent(i)), EnsurePrincipal: true}
	})
	m.bulk(reapAtOnce, func(i int) Body { return WithdrawDelegation{ID: delegationID(uint64(i))} })
	require.Equal(t, reapAtOnce, m.fsm.state.bars.len())
	must1[*PrincipalChange](m, DeletePrincipal{ID: "ann@x"})
	require.Equal(t, reapAtOnce, m.fsm.state.bars.len(), "bars wait for the records")
	must1[*identity.Principal](m, CreatePrincipal{identity.Principal{ID: "ann@x"}})
	require.False(t, m.fsm.View().ConsentBarred(agent(1), "ann@x"), "a namesake is barred from nothing")
	m = m.restored()
	m.do(Purge{})
	require.Zero(t, m.fsm.state.bars.len())
	require.Zero(t, m.fsm.View().Counts().Delegations)
}

func TestTablesOfOperatorsAreBounded(t *testing.T) {
	m := newMachine(t)
	s := m.fsm.state
	s.apiTokens, s.members, s.keys = MaxAPITokens, MaxMembers, MaxSigningKeys
	m.refused(identity.CodeLimitReached, apiToken(1, identity.RoleAdmin))
	m.refused(identity.CodeLimitReached, PublishKey{identity.SigningKey{KID: "k", Public: secret(1)}})
	for i := range MaxJoinTokens {
		m.do(CreateJoinToken{identity.JoinToken{ID: fmt.Sprint("jtk_", i), Hash: secret(i), Expires: epoch.Add(time.Hour)}})
	}
	m.refused(identity.CodeLimitReached, CreateJoinToken{identity.JoinToken{ID: "jtk_x", Hash: secret(-1), Expires: epoch.Add(time.Hour)}})
	m.refused(identity.CodeLimitReached, AdmitMember{Member: identity.Member{ID: "n1", Key: secret(1)}, JoinTokenHash: secret(0)})
	token, _ := m.fsm.View().JoinToken("jtk_0")
	require.Zero(t, token.Used, "a refusal uses nothing up")

	for i := range identity.MaxPolicies {
		must1[*identity.Policy](m, PutPolicy{Policy: testPolicy(fmt.Sprintf("p%04d", i))})
	}
	m.refused(identity.CodeLimitReached, PutPolicy{Policy: testPolicy("q")})
	last := testPolicy("p0000")
	last.Text = strings.Repeat("x", identity.MaxPolicyLength+1)
	m.refused(identity.CodeTooLarge, PutPolicy{Policy: last})
	last.Text = last.Text[1:]
	must1[*identity.Policy](m, PutPolicy{Policy: last})
	require.Len(t, m.fsm.View().Policies("p0998", 10), 1)
	require.Len(t, m.fsm.View().AllPolicies(), identity.MaxPolicies)

	m.refused(identity.CodeTooLarge, Revoke{Handles: make([]identity.Handle, MaxRevoke+1)})
	agent := testAgent("hoarder")
	for i := range identity.MaxCredentials {
		agent.Credentials = append(agent.Credentials, identity.Credential{ID: fmt.Sprint("crd_", i)})
	}
	must1[*identity.Agent](m, CreateAgent{agent})
	m.refused(identity.CodeLimitReached, AddCredential{Owner{OwnerAgent, "hoarder"}, identity.Credential{ID: "crd_x"}})
	agent.Name = "glutton"
	agent.Credentials = append(agent.Credentials, identity.Credential{ID: "crd_y"})
	m.refused(identity.CodeLimitReached, CreateAgent{agent})
}

func TestPurgeOfRevocationsIsBounded(t *testing.T) {
	m := newMachine(t)
	for i := range (MaxPurge + 500) / 500 {
		handles := make([]identity.Handle, 500)
		for j := range handles {
			handles[j] = identity.Handle(testID("ses_", uint64(i*500+j)))
		}
		must1[*Revoked](m, Revoke{Handles: handles})
	}
	require.Equal(t, MaxPurge+500, m.fsm.View().Counts().Revocations)
	m.pass(25 * time.Hour)
	first := must1[*Purged](m, Purge{})
	require.Equal(t, MaxPurge, first.Revocations)
	require.True(t, first.More)
	require.Equal(t, 500, must1[*Purged](m, Purge{}).Revocations)
	require.Zero(t, m.set.Len())
}

func TestRepeatedTextsAreKeptOnce(t *testing.T) {
	var shared texts
	for i := range 3 * maxTexts {
		shared.intern(fmt.Sprint("reason ", i))
		require.LessOrEqual(t, len(shared.seen), maxTexts)
	}
	require.Empty(t, shared.intern(""))
}
