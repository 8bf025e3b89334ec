package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/racedetector"
)

// backedUp returns a cluster with a bit of everything.
func backedUp(t testing.TB) *machine {
	t.Helper()
	m := newMachine(t)
	m.now = epoch
	must1[*identity.Member](m, AdmitMember{Member: identity.Member{ID: "old1", Key: []byte("1"), ClusterAddr: "10.0.0.1:1"}})
	must1[*identity.Settings](m, PutSettings{Settings: identity.Settings{
		ClusterID: "cls_old", Issuer: "https://id.example", OfflineTTLSeconds: 120, LeaseMillis: 2000, GossipKeys: [][]byte{secret(900)},
	}})
	must1[*identity.APIToken](m, CreateAPIToken{identity.APIToken{ID: testID(identity.PrefixAPIToken, 1), Name: "ops", Hash: secret(901), Roles: []identity.Role{identity.RoleAdmin}}})
	must1[*identity.SigningKey](m, PublishKey{identity.SigningKey{KID: "k-old", Node: "old1", Alg: "EdDSA", Public: []byte("p")}})
	application := identity.Application{Name: "gmail", Audience: "https://gmail.example", Scopes: "gmail.draft gmail.read", Verification: identity.VerifyOnline}
	must1[*identity.Application](m, CreateApplication{application})
	for _, name := range []string{"inbox", "triage", "gone"} {
		a := testAgent(name)
		a.Credentials = []identity.Credential{{ID: testID(identity.PrefixCredential, uint64(len(name))), Kind: identity.CredentialSecret, Hash: secret(len(name))}}
		must1[*identity.Agent](m, CreateAgent{a})
	}
	for n := range uint64(20) {
		must1[*identity.Delegation](m, CreateDelegation{Delegation: testDelegation(n, fmt.Sprintf("user%d@x", n%5), "inbox"), EnsurePrincipal: true})
	}
	must1[*DelegationChange](m, WithdrawDelegation{ID: delegationID(3)})
	must1[*PrincipalChange](m, KillPrincipal{ID: "user4@x"})
	must1[*AgentChange](m, DeleteAgent{Name: "gone"})
	must1[*AgentChange](m, KillAgent{Name: "triage", Reason: "INC-1"})
	must1[*Revoked](m, Revoke{Handles: []identity.Handle{"ses_x"}, Reason: "INC-2"})
	must1[*identity.Policy](m, PutPolicy{Policy: testPolicy("hops")})
	must1[*identity.Policy](m, SetPolicyMode{ID: "hops", Mode: identity.PolicyMonitor})
	return m
}

func backupOf(t testing.TB, m *machine) ([]byte, BackupInfo) {
	t.Helper()
	var file bytes.Buffer
	info, err := m.fsm.Backup(&file)
	require.NoError(t, err)
	return file.Bytes(), info
}

// fresh is a new cluster on the day after.
func fresh(t testing.TB) *machine {
	t.Helper()
	return freshAt(t, epoch.Add(24*time.Hour))
}

func freshAt(t testing.TB, now identity.Instant) *machine {
	t.Helper()
	m := newMachine(t)
	m.now = now
	must1[*identity.Member](m, AdmitMember{Member: identity.Member{ID: "new1", Key: []byte("9"), ClusterAddr: "10.0.0.9:1"}})
	must1[*identity.Settings](m, PutSettings{Settings: identity.Settings{
		ClusterID: "cls_new", Issuer: "http://127.0.0.1", OfflineTTLSeconds: 300, LeaseMillis: 10_000, GossipKeys: [][]byte{secret(902)},
	}})
	must1[*identity.APIToken](m, CreateAPIToken{identity.APIToken{ID: testID(identity.PrefixAPIToken, 2), Name: "root", Hash: secret(903), Roles: []identity.Role{identity.RoleAdmin}}})
	must1[*identity.SigningKey](m, PublishKey{identity.SigningKey{KID: "k-new", Node: "new1", Alg: "EdDSA", Public: []byte("q")}})
	return m
}

// restore proposes what a backup holds.
func (m *machine) restore(file []byte) error {
	m.t.Helper()
	_, err := ReadBackup(bytes.NewReader(file), func(b Body) error {
		if r := m.do(b); r.Err != nil {
			return r.Err
		}
		return nil
	})
	return err
}

func TestBackupBringsBackWhatPeopleMadeAndNothingThatSigned(t *testing.T) {
	old := backedUp(t)
	file, info := backupOf(t, old)
	require.Equal(t, "cls_old", info.ClusterID)
	read, err := InspectBackup(bytes.NewReader(file))
	require.NoError(t, err)
	require.Equal(t, info, read)
	require.NotContains(t, string(file), string(secret(900)), "the gossip key")

	m := fresh(t)
	require.NoError(t, m.restore(file))
	v, was := m.fsm.View(), old.fsm.View()
	require.Equal(t, was.Counts().Delegations, v.Counts().Delegations)
	require.Equal(t, was.Counts().Agents, v.Counts().Agents)
	require.Equal(t, was.Counts().Principals, v.Counts().Principals)
	require.Equal(t, was.Counts().APITokens+1, v.Counts().APITokens)

	require.Equal(t, "cls_new", v.Settings().ClusterID)
	require.Equal(t, "https://id.example", v.Settings().Issuer)
	require.Equal(t, int64(2000), v.Settings().LeaseMillis)
	require.Equal(t, [][]byte{secret(902)}, v.Settings().GossipKeys)
	require.Len(t, v.SigningKeys(), 1)
	require.Equal(t, "k-new", v.SigningKeys()[0].KID)
	require.Len(t, v.Members(), 1)
	require.Contains(t, v.Closed(), "backup")

	for _, h := range []identity.Handle{"ses_x", "agt_triage#2", identity.DelegationHandle(delegationID(3))} {
		require.True(t, m.set.Revoked(h), h)
	}
	triage, ok := v.Agent("triage")
	require.True(t, ok)
	require.Equal(t, identity.StatusSuspended, triage.Status)
	_, refusal := v.ActiveDelegation("inbox", "user4@x", "gmail.read", epoch.Add(time.Hour))
	require.NotNil(t, refusal, "a consent that was withdrawn stays withdrawn")
	_, refusal = v.ActiveDelegation("inbox", "user1@x", "gmail.read", epoch.Add(time.Hour))
	require.Nil(t, refusal)
	_, ok = v.CredentialOwner(testID(identity.PrefixCredential, uint64(len("inbox"))))
	require.True(t, ok)

	m.refused(identity.CodeConflict, Import{Section: uint8(sectionAgents)})
	m.refused(identity.CodeConflict, EndRestore{})
	require.Nil(t, m.do(OpenMinting{}).Err)
	require.Empty(t, m.fsm.View().Closed())
}

func TestRestoreBringsThePoliciesOfTheBackupAndNoOthers(t *testing.T) {
	old := backedUp(t)
	file, info := backupOf(t, old)
	require.Equal(t, 1, info.Policies)
	own := func(m *machine) {
		must1[*identity.Policy](m, PutPolicy{Policy: testPolicy("hops")})
		must1[*identity.Policy](m, PutPolicy{Policy: testPolicy("network")})
	}
	m := fresh(t)
	own(m)
	require.NoError(t, m.restore(file))
	require.Len(t, m.fsm.View().AllPolicies(), 1)
	hops, ok := m.fsm.View().Policy("hops")
	require.True(t, ok)
	require.Equal(t, identity.PolicyMonitor, hops.Mode, "as it was there")
	require.Equal(t, hops.Revision, m.fsm.View().PoliciesRevision())
	require.NotEqual(t, old.fsm.View().PoliciesRevision(), m.fsm.View().PoliciesRevision())

	// A restore that starts over does not meet what it brought before.
	m = fresh(t)
	own(m)
	broken := errors.New("broken off")
	_, err := ReadBackup(bytes.NewReader(file), func(b Body) error {
		if _, last := b.(EndRestore); last {
			return broken
		}
		require.Nil(t, m.do(b).Err)
		return nil
	})
	require.ErrorIs(t, err, broken)
	require.NoError(t, m.restore(file))
	require.Len(t, m.fsm.View().AllPolicies(), 1)

	// All were deleted there: none is back.
	must1[*identity.Policy](old, DeletePolicy{ID: "hops"})
	file, _ = backupOf(t, old)
	m = fresh(t)
	own(m)
	require.NoError(t, m.restore(file))
	require.Empty(t, m.fsm.View().AllPolicies())

	// A cluster from before policies says nothing about them.
	before := newMachine(t)
	must1[*identity.Settings](before, PutSettings{Settings: identity.Settings{ClusterID: "cls_old", Issuer: "https://id.example", OfflineTTLSeconds: 120, LeaseMillis: 2000}})
	file, _ = backupOf(t, before)
	m = fresh(t)
	own(m)
	require.NoError(t, m.restore(file))
	require.Len(t, m.fsm.View().AllPolicies(), 2)
}

func TestWhatWasStoppedAfterTheBackupDoesNotComeBackOnceItIsReplayed(t *testing.T) {
	old := backedUp(t)
	file, _ := backupOf(t, old)
	var later []identity.Handle
	inbox := must1[*AgentChange](old, KillAgent{Name: "inbox", Reason: "INC-3"})
	user := must1[*PrincipalChange](old, KillPrincipal{ID: "user1@x"})
	later = append(append(later, inbox.Handles...), user.Handles...)
	// Started again and killed again: the handle is of a generation that the backup does not know.
	must1[*AgentChange](old, SetAgentStatus{Name: "triage", Status: identity.StatusActive})
	triage := must1[*AgentChange](old, KillAgent{Name: "triage"})
	later = append(later, triage.Handles...)
	made := must1[*identity.Agent](old, CreateAgent{testAgent("younger")})

	m := fresh(t)
	require.NoError(t, m.restore(file))
	agent, _ := m.fsm.View().Agent("inbox")
	require.Equal(t, identity.StatusActive, agent.Status, "the backup knows no better, so minting is closed")
	must1[*Revoked](m, Revoke{Handles: later, Replay: true})

	for _, name := range []string{"inbox", "triage"} {
		agent, _ := m.fsm.View().Agent(name)
		require.Equal(t, identity.StatusSuspended, agent.Status, name)
		require.False(t, m.set.Revoked(agent.Handle()), "the next generation is a new one")
		require.Greater(t, agent.Generation, made.Generation, "no generation that the lost cluster gave is given again")
	}
	p, _ := m.fsm.View().Principal("user1@x")
	require.Equal(t, identity.StatusSuspended, p.Status)
	_, refusal := m.fsm.View().ActiveDelegation("inbox", "user1@x", "gmail.read", epoch.Add(time.Hour))
	require.NotNil(t, refusal)
}

func TestRestoreStartsOverWhereItWasBrokenOff(t *testing.T) {
	file, _ := backupOf(t, backedUp(t))
	m := fresh(t)
	n := 0
	_, err := ReadBackup(bytes.NewReader(file), func(b Body) error {
		if n++; n > 4 {
			return errors.New("the leader was lost")
		}
		if r := m.do(b); r.Err != nil {
			return r.Err
		}
		return nil
	})
	require.ErrorContains(t, err, "the leader was lost")
	require.Equal(t, closedByRestore, m.fsm.View().Closed())
	m.refused(identity.CodeConflict, OpenMinting{})
	_, err = m.fsm.Backup(new(bytes.Buffer))
	require.Equal(t, identity.CodeConflict, identity.CodeOf(err))

	m = m.restored() // also through a snapshot
	require.NoError(t, m.restore(file))
	other := fresh(t)
	require.NoError(t, other.restore(file))
	require.Equal(t, other.fsm.View().Counts(), m.fsm.View().Counts())
}

func TestRestoreIsRefusedWhereSomethingIs(t *testing.T) {
	file, _ := backupOf(t, backedUp(t))
	m := fresh(t)
	must1[*identity.Agent](m, CreateAgent{testAgent("mine")})
	require.Equal(t, identity.CodeConflict, identity.CodeOf(m.restore(file)))
	require.Empty(t, m.fsm.View().Closed())

	early := newMachine(t)
	early.now = epoch.Add(-time.Hour)
	require.ErrorContains(t, early.restore(file), "later than this cluster's time")
}

func TestDamagedBackupIsRefusedAndNothingPanics(t *testing.T) {
	t.Parallel()
	file, _ := backupOf(t, backedUp(t))
	sparser := 1
	if racedetector.Enabled { // one goroutine reads one file
		sparser = 5
	}
	for cut := 0; cut < len(file); cut += 7 * sparser {
		_, err := InspectBackup(bytes.NewReader(file[:cut]))
		require.True(t, isBroken(err), "cut at %d: %v", cut, err)
	}
	for at := 0; at < len(file); at += 3 * sparser {
		flipped := bytes.Clone(file)
		flipped[at] ^= 0x41
		_, err := InspectBackup(bytes.NewReader(flipped))
		require.True(t, isBroken(err), "flipped at %d: %v", at, err)
		if at%2 == 0 {
			_ = fresh(t).restore(flipped) // whoever doesn't inspect first gets an error at the latest at the checksum
		}
	}
	_, err := InspectBackup(bytes.NewReader(append(bytes.Clone(file), 0)))
	require.ErrorIs(t, err, ErrSnapshotCorrupt)

	newer := bytes.Clone(file)
	binary.BigEndian.PutUint16(newer[len(backupMagic):], backupVersion+1)
	_, err = InspectBackup(bytes.NewReader(newer))
	require.ErrorIs(t, err, ErrSnapshotVersion)

	_, err = InspectBackup(bytes.NewReader(backedUp(t).snapshot()))
	require.ErrorIs(t, err, ErrSnapshotForeign)
	require.ErrorContains(t, err, "snapshot save")
}

func TestHostileImportIsRefusedAsAWhole(t *testing.T) {
	file, _ := backupOf(t, backedUp(t))
	var agents Import
	_, err := ReadBackup(bytes.NewReader(file), func(b Body) error {
		if i, ok := b.(Import); ok && section(i.Section) == sectionAgents {
			agents = i
		}
		return nil
	})
	require.NoError(t, err)
	m := fresh(t)
	m.refused(identity.CodeConflict, agents)
	require.Nil(t, m.do(BeginRestore{Backup: BackupHeader{Time: epoch, Generation: 1, Settings: *m.fsm.View().Settings()}}).Err)
	m.refused(identity.CodeInvalid, agents) // of generations beyond the header's
	require.Nil(t, m.do(BeginRestore{Backup: BackupHeader{Time: epoch, Generation: 100, Settings: *m.fsm.View().Settings()}}).Err)
	twice := agents
	twice.Records = append(bytes.Clone(agents.Records), agents.Records...)
	m.refused(identity.CodeInvalid, twice)
	require.Zero(t, m.fsm.View().Counts().Agents)
	must1[*Imported](m, agents)
	m.refused(identity.CodeConflict, agents)
	for _, number := range []section{sectionMeta, sectionMembers, sectionSigningKeys, sectionJoinTokens, sectionClientReceipts, 99} {
		m.refused(identity.CodeInvalid, Import{Section: uint8(number), Records: agents.Records})
	}
	m.refused(identity.CodeInvalid, Import{Section: uint8(sectionDelegations), Records: []byte{0xc1, 0xff}})
	m.refused(identity.CodeTooLarge, Import{Section: uint8(sectionAgents), Records: make([]byte, maxImport+1)})
}

func TestReplicasAgreeThroughARestore(t *testing.T) {
	file, _ := backupOf(t, backedUp(t))
	a, b := fresh(t), fresh(t)
	require.NoError(t, a.restore(file))
	half := 0
	_, err := ReadBackup(bytes.NewReader(file), func(body Body) error {
		if half++; half == 4 {
			b = b.restored()
		}
		if r := b.do(body); r.Err != nil {
			return r.Err
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, a.snapshot(), b.snapshot())
}

// isBroken reports whether an error says that a backup can't be used, whoever reads it.
func isBroken(err error) bool {
	return errors.Is(err, ErrSnapshotCorrupt) || errors.Is(err, ErrSnapshotForeign) || errors.Is(err, ErrSnapshotVersion)
}
