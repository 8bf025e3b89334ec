package fsm

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
)

// rawBodies cuts a backup into commands as ReadBackup does, without holding it to the bounds of the domain, which
// random states break.
func rawBodies(t require.TestingT, file []byte) []Body {
	r := newFrameReader(bytes.NewReader(file))
	require.NoError(t, r.raw(make([]byte, len(backupMagic)+2)))
	var bodies []Body
	records := 0
	for {
		number, err := r.next()
		require.NoError(t, err)
		switch number {
		case sectionEnd:
			return append(bodies, EndRestore{Records: records})
		case sectionMeta:
			header, err := read[BackupHeader](r)
			require.NoError(t, err)
			bodies = append(bodies, BeginRestore{Backup: *header})
		default:
			i, err := decodeImport(number, r.payload)
			require.NoError(t, err)
			records += i.records
			bodies = append(bodies, Import{Section: uint8(number), Records: bytes.Clone(r.payload)})
		}
	}
}

// TestARestoredStateIsThatOfTheBackup: whatever was done before, a restore brings back the same agents, principals,
// applications, delegations and consent, and every handle that was dead stays dead.
func TestARestoredStateIsThatOfTheBackup(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		old := newMachine(t)
		for _, entry := range randomLog(rt) {
			old.fsm.Apply(entry)
		}
		if old.fsm.View().restoring != nil {
			return
		}
		file, _ := backupOf(t, old)
		was := old.fsm.View()
		m := freshAt(t, max(was.Time(), epoch))
		for _, b := range rawBodies(rt, file) {
			require.Nil(rt, m.do(b).Err, "%s", b.Type())
		}
		is := m.fsm.View()
		requirePairs(rt, is)
		require.GreaterOrEqual(rt, is.generation, was.generation+generationLeap)
		requireSameModel(rt, was, is)
		for _, r := range was.Revocations("", 1000) {
			require.True(rt, m.set.Revoked(r.Handle))
			now, ok := is.Revocation(r.Handle)
			require.True(rt, ok)
			require.Equal(rt, r.Reason, now.Reason)
			require.GreaterOrEqual(rt, now.Expires, r.Expires)
		}
		for _, token := range was.APITokens("", 100) {
			_, there := is.APIToken(token.ID)
			require.Equal(rt, !old.set.Revoked(identity.CredentialHandle(token.ID)), there)
		}
		require.Equal(rt, m.snapshot(), m.restored().snapshot())
	})
}

// requireSameRecord: as snapshots have them, where an empty list is none.
func requireSameRecord(t require.TestingT, want, have any) {
	a, err := marshal(want)
	require.NoError(t, err)
	b, err := marshal(have)
	require.NoError(t, err)
	require.Equal(t, a, b, "%+v, %+v", want, have)
}

func requireSameModel(t require.TestingT, was, is *View) {
	require.Equal(t, len(was.Agents("", 100)), len(is.Agents("", 100)))
	for _, a := range was.Agents("", 100) {
		now, ok := is.Agent(a.Name)
		require.True(t, ok)
		like := *a
		like.Revision = now.Revision
		requireSameRecord(t, &like, now)
		for _, c := range a.Credentials {
			owner, ok := is.CredentialOwner(c.ID)
			require.True(t, ok)
			require.Equal(t, Owner{OwnerAgent, a.Name}, owner)
		}
	}
	require.Equal(t, len(was.Principals("", 100)), len(is.Principals("", 100)))
	for _, p := range was.Principals("", 100) {
		now, ok := is.Principal(p.ID)
		require.True(t, ok)
		like := *p
		like.Revision = now.Revision
		requireSameRecord(t, &like, now)
	}
	require.Equal(t, len(was.Applications("", 100)), len(is.Applications("", 100)))
	for _, a := range was.Applications("", 100) {
		now, ok := is.ApplicationByAudience(a.Audience)
		require.True(t, ok)
		like := *a
		like.Revision = now.Revision
		requireSameRecord(t, &like, now)
	}
	before, after := was.Delegations(DelegationFilter{}, "", 1000), is.Delegations(DelegationFilter{}, "", 1000)
	require.Len(t, after, len(before))
	for i, d := range before {
		like := *d
		like.Revision = after[i].Revision
		requireSameRecord(t, &like, after[i])
	}
	for _, agent := range []string{"a", "b", "c"} {
		for _, principal := range []string{"p@x", "q@x"} {
			for _, hours := range []int{0, 10, 40} {
				requireSameMint(t, was, is, agent, principal, "x", epoch.Add(time.Duration(hours)*time.Hour))
			}
		}
	}
}

// TestAHandleAheadOfItsNameStopsWhatHasTheName: after a restore from an old backup, a name may have been started and
// killed again by generations that this cluster never gave.
func TestAHandleAheadOfItsNameStopsWhatHasTheName(t *testing.T) {
	m := backedUp(t)
	inbox, _ := m.fsm.View().Agent("inbox")
	user, _ := m.fsm.View().Principal("user1@x")
	had := []identity.Handle{inbox.Handle(), user.Handle()}
	ahead := []identity.Handle{identity.AgentHandle("inbox", 5000), identity.PrincipalHandle("user1@x", 6000)}
	revoked := must1[*Revoked](m, Revoke{Handles: ahead, Reason: "INC-7"})
	require.False(t, revoked.Known)
	require.ElementsMatch(t, append(had, ahead...), revoked.Handles, "all that was denied is fenced")
	for _, h := range revoked.Handles {
		require.True(t, m.set.Revoked(h), h)
	}
	v := m.fsm.View()
	inbox, _ = v.Agent("inbox")
	user, _ = v.Principal("user1@x")
	require.Equal(t, identity.StatusSuspended, inbox.Status)
	require.Equal(t, identity.StatusSuspended, user.Status)
	require.Greater(t, inbox.Generation, uint64(5000))
	require.Greater(t, user.Generation, uint64(6000))
	require.False(t, m.set.Revoked(inbox.Handle()))
	_, refusal := v.ActiveDelegation("inbox", "user1@x", "gmail.read", epoch)
	require.Equal(t, identity.CodeDelegationWithdrawn, refusal.Code)

	// Again, and one that is not active any more: nothing is left to be stopped.
	require.Equal(t, ahead, must1[*Revoked](m, Revoke{Handles: ahead}).Handles)
	still, _ := m.fsm.View().Agent("inbox")
	require.Equal(t, inbox, still)

	// The very generation, by its handle alone, in a cluster that was not restored: a new one, as ever.
	triage := must1[*AgentChange](m, SetAgentStatus{Name: "triage", Status: identity.StatusActive}).Agent
	must1[*Revoked](m, Revoke{Handles: []identity.Handle{triage.Handle()}})
	triage, _ = m.fsm.View().Agent("triage")
	require.Equal(t, identity.StatusActive, triage.Status)
}

// TestWhileMintingIsClosedARevokedGenerationIsAKill: what is revoked then was stopped in the cluster that is lost.
func TestWhileMintingIsClosedARevokedGenerationIsAKill(t *testing.T) {
	old := backedUp(t)
	file, _ := backupOf(t, old)
	inbox, _ := old.fsm.View().Agent("inbox")
	user, _ := old.fsm.View().Principal("user1@x")
	m := fresh(t)
	require.NoError(t, m.restore(file))
	must1[*Revoked](m, Revoke{Handles: []identity.Handle{inbox.Handle(), user.Handle()}})
	v := m.fsm.View()
	inbox, _ = v.Agent("inbox")
	user, _ = v.Principal("user1@x")
	require.Equal(t, identity.StatusSuspended, inbox.Status)
	require.Equal(t, identity.StatusSuspended, user.Status)
	require.True(t, v.ConsentBarred("inbox", "user1@x"))
}

// TestWhatThisClusterKnowsToBeStoppedIsNotBroughtBack: the stops come first, the backup after them.
func TestWhatThisClusterKnowsToBeStoppedIsNotBroughtBack(t *testing.T) {
	old := backedUp(t)
	must1[*identity.APIToken](old, CreateAPIToken{identity.APIToken{
		ID: testID(identity.PrefixAPIToken, 7), Name: "leaked", Hash: secret(907), Roles: []identity.Role{identity.RoleAuditor},
	}})
	file, _ := backupOf(t, old)
	inbox, _ := old.fsm.View().Agent("inbox")
	user1, _ := old.fsm.View().Principal("user1@x")
	crd := identity.CredentialHandle(testID(identity.PrefixCredential, uint64(len("inbox"))))
	dlg := identity.DelegationHandle(delegationID(2))
	stops := []identity.Handle{
		inbox.Handle(), user1.Handle(), crd, dlg, identity.CredentialHandle(testID(identity.PrefixAPIToken, 7)),
		"agt_inbox#x", "agt_inbox#1#2", "usr_user2@x#1#9",
	}

	m := fresh(t)
	must1[*Revoked](m, Revoke{Handles: stops, Reason: "INC-8"})
	m.now = m.now.Add(-20 * time.Hour) // FSM time stays; the entries are in force
	require.NoError(t, m.restore(file))
	v := m.fsm.View()
	agent, _ := v.Agent("inbox")
	require.Equal(t, identity.StatusSuspended, agent.Status)
	require.Greater(t, agent.Generation, inbox.Generation)
	require.Empty(t, agent.Credentials)
	_, owned := v.CredentialOwner(string(crd))
	require.False(t, owned)
	p, _ := v.Principal("user1@x")
	require.Equal(t, identity.StatusSuspended, p.Status)
	require.True(t, v.ConsentBarred("inbox", "user1@x"))
	p, _ = v.Principal("user2@x")
	require.Equal(t, identity.StatusActive, p.Status, "a handle of another name says nothing")
	require.True(t, v.ConsentBarred("inbox", "user2@x"), "a delegation that was stopped is withdrawn, and with it the consent")
	d, ok := v.Delegation(delegationID(2))
	require.True(t, ok)
	require.Equal(t, identity.DelegationWithdrawn, d.Status)
	_, ok = v.APIToken(testID(identity.PrefixAPIToken, 7))
	require.False(t, ok)
}

// TestStopsAreTakenWhileARestoreIsUnderWay, and nothing else that a restore may bring.
func TestStopsAreTakenWhileARestoreIsUnderWay(t *testing.T) {
	file, _ := backupOf(t, backedUp(t))
	m := fresh(t)
	d := testDelegation(900, "user1@x", "inbox")
	m.bodies(file, func(b Body) {
		if i, ok := b.(Import); ok && section(i.Section) == sectionDelegations {
			for _, refused := range []Body{
				CreateAgent{testAgent("new")},
				UpdateAgent{Agent: testAgent("inbox")},
				SetAgentStatus{Name: "triage", Status: identity.StatusActive},
				AddCredential{Owner: Owner{OwnerAgent, "inbox"}},
				CreatePrincipal{},
				UpdatePrincipal{},
				CreateApplication{},
				UpdateApplication{},
				SetPrincipalStatus{ID: "user4@x", Status: identity.StatusActive},
				CreateDelegation{Delegation: d, EnsurePrincipal: true},
				OpenMinting{},
			} {
				m.refused(identity.CodeConflict, refused)
			}
			must1[*AgentChange](m, KillAgent{Name: "inbox"})
			must1[*PrincipalChange](m, KillPrincipal{ID: "user1@x"})
			must1[*PrincipalChange](m, DeletePrincipal{ID: "user2@x"})
			must1[*Revoked](m, Revoke{Handles: []identity.Handle{identity.DelegationHandle(delegationID(0))}})
			must1[*AgentChange](m, SetAgentStatus{Name: "triage", Status: identity.StatusDeactivated})
		}
		require.Nil(t, m.do(b).Err, b.Type())
	})
	v := m.fsm.View()
	inbox, _ := v.Agent("inbox")
	require.Equal(t, identity.StatusSuspended, inbox.Status)
	require.True(t, v.ConsentBarred("inbox", "user1@x"))
	require.True(t, v.ConsentBarred("inbox", "user0@x"))
	require.Zero(t, v.CountDelegations("", "user2@x", 0), "what is left of a deleted name is not taken")
	require.Equal(t, identity.StatusDeactivated, must1[*AgentChange](m, SetAgentStatus{Name: "triage", Status: identity.StatusDeactivated}).Agent.Status)
	require.Nil(t, m.do(OpenMinting{}).Err)
	must1[*identity.Agent](m, CreateAgent{testAgent("new")})
}

// TestARestoreAndARecoveryForgetCommandIDs, but for their own, as a leader may be lost in between.
func TestARestoreAndARecoveryForgetCommandIDs(t *testing.T) {
	create := func(id byte, client bool, name string) Command {
		return Command{ID: CommandID{id}, ClientKey: client, Body: CreateAgent{testAgent(name)}}
	}
	m := newMachine(t)
	must1[*identity.Member](m, AdmitMember{Member: identity.Member{ID: "n1", Key: []byte("1")}})
	m.propose(create(1, false, "a"))
	m.propose(create(2, true, "b"))
	generation := m.fsm.View().generation
	recovery := Command{ID: CommandID{9}, Body: Recover{Node: "n1"}}
	must := m.propose(recovery)
	require.Nil(t, must.Err)
	require.GreaterOrEqual(t, m.fsm.View().generation, generation+generationLeap, "a generation of the lost majority is not given again")
	require.Equal(t, identity.CodeAlreadyExists, m.propose(create(1, false, "a")).Err.Code, "not answered from the window")
	require.Equal(t, identity.CodeAlreadyExists, m.propose(create(2, true, "b")).Err.Code)
	must1[*identity.SigningKey](m, PublishKey{identity.SigningKey{KID: "k2", Node: "n1", Public: []byte("p")}})
	require.True(t, m.restored().propose(recovery).Replayed)
	require.True(t, m.propose(recovery).Replayed)
	require.Len(t, m.fsm.View().SigningKeys(), 1, "the key that was made after it stays")

	file, _ := backupOf(t, backedUp(t))
	m = fresh(t)
	m.propose(Command{ID: CommandID{1}, Body: Tick{}})
	bodies := rawBodies(t, file)
	for i, b := range bodies {
		c := Command{ID: CommandID{7, byte(i)}, Body: b}
		require.Nil(t, m.propose(c).Err)
		require.True(t, m.propose(c).Replayed, b.Type())
		m = m.restored()
	}
	require.False(t, m.propose(Command{ID: CommandID{1}, Body: Tick{}}).Replayed)
}

func TestTheSurvivorOfARecoveryMaySpeakAgain(t *testing.T) {
	m := newMachine(t)
	must1[*identity.Member](m, AdmitMember{Member: identity.Member{ID: "n1", Key: []byte("1")}})
	must1[*identity.Member](m, BarMember{ID: "n1", Reason: "old"})
	must1[*identity.Member](m, DrainMember{ID: "n1", Draining: true})
	survivor := must1[*identity.Member](m, Recover{Node: "n1"})
	require.Zero(t, survivor.Barred)
	require.Zero(t, survivor.Draining)
	require.Empty(t, survivor.RemovalReason)
}

// TestNoStopIsAnsweredFromAClientsKey: nor what says whether the cluster may mint.
func TestNoStopIsAnsweredFromAClientsKey(t *testing.T) {
	for _, b := range []Body{
		BarMember{ID: "n1"},
		RemoveMember{ID: "n1"},
		DrainMember{ID: "n1", Draining: true},
		RotateKey{ID: "n1"},
		RotateGossip{},
		Recover{Node: "n1"},
		BeginRestore{},
		Import{},
		EndRestore{},
		OpenMinting{},
		Batch{Bodies: []Body{Tick{}, OpenMinting{}}},
	} {
		m := newMachine(t)
		must1[*identity.Member](m, AdmitMember{Member: identity.Member{ID: "n1", Key: []byte("1")}})
		m.propose(Command{ID: CommandID{1}, ClientKey: true, Body: b})
		require.False(t, m.propose(Command{ID: CommandID{1}, ClientKey: true, Body: b}).Replayed, b.Type())
		require.Empty(t, m.fsm.state.clients.byID)
	}
	m := newMachine(t)
	undrain := Command{ID: CommandID{1}, ClientKey: true, Body: DrainMember{ID: "n1"}}
	m.propose(undrain)
	require.True(t, m.propose(undrain).Replayed)
}

func TestABackupsSettingsAreTakenButNotItsClusters(t *testing.T) {
	old := backedUp(t)
	settings := *old.fsm.View().Settings()
	settings.KeyRotationSeconds, settings.ExternalURLs, settings.LeaseMillis = 7200, []string{"https://b.example"}, 1000
	must1[*identity.Settings](old, PutSettings{settings})
	file, _ := backupOf(t, old)
	m := fresh(t)
	require.NoError(t, m.restore(file))
	v := m.fsm.View()
	require.Zero(t, v.Settings().KeyRotationSeconds)
	require.Equal(t, []string{"https://b.example"}, v.Settings().ExternalURLs)
	require.Equal(t, 10*time.Second, v.LeaseBound(), "a lease of this cluster's own may still be held")
	require.Equal(t, 300*time.Second, v.OfflineBound())
	m.pass(time.Hour)
	m.do(Tick{})
	require.Equal(t, time.Second, m.fsm.View().LeaseBound())
}
