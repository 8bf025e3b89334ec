package fsm

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

// TestADeletedApplicationsSecretsStayDeadAfterAReplay: the backup has it, and an application has no handle itself.
func TestADeletedApplicationsSecretsStayDeadAfterAReplay(t *testing.T) {
	old := backedUp(t)
	var ids []string
	for n := range uint64(2) {
		id := testID(identity.PrefixCredential, 500+n)
		must1[*identity.Credential](old, AddCredential{Owner: Owner{OwnerApplication, "gmail"}, Credential: identity.Credential{
			ID: id, Kind: identity.CredentialSecret, Hash: secret(500 + int(n)),
		}})
		ids = append(ids, id)
	}
	file, _ := backupOf(t, old)
	before := old.fsm.View()
	must1[*identity.Application](old, DeleteApplication{Name: "gmail"})
	var later []identity.Handle
	for _, r := range old.fsm.View().Revocations("", 100) {
		if _, known := before.Revocation(r.Handle); !known {
			require.Equal(t, "application gmail was deleted", r.Reason)
			later = append(later, r.Handle)
		}
	}
	require.Len(t, later, 2)

	m := fresh(t)
	require.NoError(t, m.restore(file))
	_, owned := m.fsm.View().CredentialOwner(ids[0])
	require.True(t, owned, "the backup has it")
	must1[*Revoked](m, Revoke{Handles: later, Replay: true})
	for _, id := range ids {
		_, owned := m.fsm.View().CredentialOwner(id)
		require.False(t, owned)
	}
	gmail, ok := m.fsm.View().Application("gmail")
	require.True(t, ok)
	require.Empty(t, gmail.Credentials)
}

// stopped lists what the state itself says is stopped, as an export does.
func stopped(v *View) (handles []identity.Handle) {
	for _, a := range v.Agents("", 100) {
		if a.Status != identity.StatusActive {
			handles = append(handles, a.Handle())
		}
	}
	for _, p := range v.Principals("", 100) {
		if p.Status != identity.StatusActive {
			handles = append(handles, p.Handle())
		}
	}
	for _, d := range v.Delegations(DelegationFilter{}, "", 100) {
		if d.Status == identity.DelegationWithdrawn {
			handles = append(handles, identity.DelegationHandle(d.ID))
		}
	}
	return handles
}

// TestWhatWasStoppedStaysStoppedWhenItsRevocationsAreForgotten: days lie between the stop and the loss.
func TestWhatWasStoppedStaysStoppedWhenItsRevocationsAreForgotten(t *testing.T) {
	old := freshAt(t, epoch)
	for _, name := range []string{"killed", "retired", "again", "innocent"} {
		must1[*identity.Agent](old, CreateAgent{testAgent(name)})
	}
	for n, user := range []string{"killed@x", "forgiven@x", "innocent@x"} {
		d := testDelegation(uint64(n), user, "innocent")
		d.Expires = epoch.Add(90 * 24 * time.Hour)
		must1[*identity.Delegation](old, CreateDelegation{Delegation: d, EnsurePrincipal: true})
		d.ID = delegationID(uint64(10 + n))
		must1[*identity.Delegation](old, CreateDelegation{Delegation: d})
	}
	file, _ := backupOf(t, old)

	must1[*AgentChange](old, KillAgent{Name: "killed"})
	must1[*AgentChange](old, SetAgentStatus{Name: "retired", Status: identity.StatusDeactivated})
	must1[*AgentChange](old, KillAgent{Name: "again"})
	must1[*PrincipalChange](old, KillPrincipal{ID: "killed@x"})
	must1[*PrincipalChange](old, KillPrincipal{ID: "forgiven@x"})
	must1[*PrincipalChange](old, SetPrincipalStatus{ID: "forgiven@x", Status: identity.StatusActive})
	must1[*DelegationChange](old, WithdrawDelegation{ID: delegationID(2)})
	early := stopped(old.fsm.View())
	must1[*AgentChange](old, SetAgentStatus{Name: "again", Status: identity.StatusActive})
	old.pass(72 * time.Hour)
	must1[*Purged](old, Purge{})
	require.Empty(t, old.fsm.View().Revocations("", 100))
	require.Zero(t, old.fsm.View().DeletionsKnownSince(), "nothing was deleted")
	late := stopped(old.fsm.View())

	check := func(v *View, again identity.Status) {
		for name, want := range map[string]identity.Status{
			"killed": identity.StatusSuspended, "retired": identity.StatusSuspended, "again": again, "innocent": identity.StatusActive,
		} {
			a, _ := v.Agent(name)
			require.Equal(t, want, a.Status, name)
		}
		killed, _ := v.Principal("killed@x")
		require.Equal(t, identity.StatusSuspended, killed.Status)
		for n, withdrawn := range map[uint64]bool{0: true, 10: true, 1: true, 11: true, 2: true, 12: false} {
			d, _ := v.Delegation(delegationID(n))
			require.Equal(t, withdrawn, d.Status == identity.DelegationWithdrawn, "delegation %d", n)
		}
	}
	replayed := func(exports ...[]identity.Handle) *View {
		m := freshAt(t, old.now)
		require.NoError(t, m.restore(file))
		for _, export := range exports {
			must1[*Revoked](m, Revoke{Handles: export, Replay: true})
		}
		return m.fsm.View()
	}
	check(replayed(late), identity.StatusActive)
	check(replayed(early, late), identity.StatusSuspended)
	check(replayed(late, early, late), identity.StatusSuspended)
}

// TestTheStateSaysSinceWhenItKnowsAllDeletions, as those before are in no export any more.
func TestTheStateSaysSinceWhenItKnowsAllDeletions(t *testing.T) {
	m := newMachine(t)
	known := func() identity.Instant { return m.restored().fsm.View().DeletionsKnownSince() }
	forget := func() {
		m.pass(m.fsm.View().RevocationsKept())
		must1[*Purged](m, Purge{})
		require.Empty(t, m.fsm.View().Revocations("", 100))
	}
	credential := func(n uint64) identity.Credential {
		return identity.Credential{ID: testID(identity.PrefixCredential, n), Kind: identity.CredentialSecret, Hash: secret(int(n))}
	}
	must1[*identity.APIToken](m, apiToken(1, identity.RoleAdmin))
	must1[*identity.Application](m, CreateApplication{identity.Application{
		Name: "gmail", Audience: "https://gmail.example", Credentials: []identity.Credential{credential(1)},
	}})
	a := testAgent("a")
	a.Credentials = []identity.Credential{credential(2)}
	must1[*identity.Agent](m, CreateAgent{a})
	d := testDelegation(1, "p@x", "a")
	d.Expires = epoch.Add(90 * 24 * time.Hour)
	must1[*identity.Delegation](m, CreateDelegation{Delegation: d, EnsurePrincipal: true})

	must1[*AgentChange](m, KillAgent{Name: "a"})
	must1[*PrincipalChange](m, KillPrincipal{ID: "p@x"})
	must1[*Revoked](m, Revoke{Handles: []identity.Handle{"ses_x", identity.DelegationHandle(delegationID(1))}})
	forget()
	require.Zero(t, known(), "of all these the state knows that they were stopped")

	// In this order: a credential goes with its owner.
	for _, deleted := range []struct {
		what string
		by   Body
	}{
		{"a credential", RemoveCredential{Owner: Owner{OwnerAgent, "a"}, ID: credential(2).ID}},
		{"an agent", DeleteAgent{Name: "a"}},
		{"a principal", DeletePrincipal{ID: "p@x"}},
		{"an application", DeleteApplication{Name: "gmail"}},
		{"what no node ever knew", Revoke{Handles: []identity.Handle{"tok_x"}}},
	} {
		m.pass(time.Hour)
		require.Nil(t, m.do(deleted.by).Err, deleted.what)
		at := m.now
		require.Less(t, known(), at, "%s: not yet forgotten", deleted.what)
		forget()
		require.Equal(t, at+1, known(), deleted.what)
	}

	// A namesake that was made since says nothing about the one before.
	must1[*identity.Agent](m, CreateAgent{testAgent("a")})
	must1[*AgentChange](m, DeleteAgent{Name: "a"})
	must1[*identity.Agent](m, CreateAgent{testAgent("a")})
	at := m.now
	forget()
	require.Equal(t, at+1, known())

	// What another cluster, or a majority that is lost, deleted meanwhile, is not known here.
	file, _ := backupOf(t, backedUp(t))
	m = fresh(t)
	require.Zero(t, known())
	require.NoError(t, m.restore(file))
	require.Equal(t, m.now+1, known())
	m.pass(time.Hour)
	require.Nil(t, m.do(Recover{Node: "new1"}).Err)
	require.Equal(t, m.now+1, known())
}
