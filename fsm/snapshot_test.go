package fsm

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

// lived returns a machine with something in every table and every window.
func lived(t testing.TB) *machine {
	t.Helper()
	m := newMachine(t)
	for _, c := range samples() {
		m.propose(c)
	}
	m.bulk(30, benchAgent)
	m.bulk(30, benchPrincipal)
	m.bulk(300, func(i int) Body { return benchDelegation(i, 300) })
	for i, b := range []Body{
		CreateAgent{testAgent("scout")},
		KillAgent{Name: "scout"},
		KillPrincipal{ID: "user-0000003@company.example", KeepActive: true},
		CreateApplication{identity.Application{Name: "drive", Audience: "https://drive.example", Scopes: "drive.read"}},
		AddCredential{Owner{OwnerApplication, "drive"}, identity.Credential{ID: "crd_drive"}},
		apiToken(7, identity.RoleAdmin),
		CreateJoinToken{identity.JoinToken{ID: "jtk_7", Hash: secret(7), Expires: epoch + 1}},
		PublishKey{identity.SigningKey{KID: "k7", Node: "n7", Alg: "EdDSA", Public: secret(7)}},
		AdmitMember{Member: identity.Member{ID: "n7", Key: secret(7)}},
		CreateDelegation{Delegation: testDelegation(9_000_000, "zoe@x", "scout"), EnsurePrincipal: true},
		WithdrawDelegation{ID: delegationID(9_000_000)},
		SetAgentStatus{Name: "scout", Status: identity.StatusActive},
		PutPolicy{Policy: testPolicy("network")},
		PutPolicy{Policy: testPolicy("hops")},
		SetPolicyMode{ID: "hops", Mode: identity.PolicyMonitor},
		RequestApproval{testApproval(1, "scout", "b1")},
		RequestApproval{testApproval(2, "scout", "b2")},
		DecideApproval{ID: approvalID(1), Note: "no"},
	} {
		m.propose(Command{ID: CommandID{1, byte(i)}, ClientKey: i%2 == 0, Body: b})
	}
	return m
}

func TestSnapshotBringsBackEverything(t *testing.T) {
	m := lived(t)
	other := m.restored()
	require.Equal(t, m.snapshot(), other.snapshot(), "a restored state writes the same bytes")
	before, after := m.fsm.View(), other.fsm.View()
	require.Equal(t, before.Counts(), after.Counts())
	require.Equal(t, m.fsm.state.internal.bytes, other.fsm.state.internal.bytes)
	require.Equal(t, m.fsm.state.clients.bytes, other.fsm.state.clients.bytes)
	require.Equal(t, before.Index(), after.Index())
	require.Equal(t, before.Settings(), after.Settings())
	require.Len(t, after.AllPolicies(), 2)
	require.Equal(t, before.AllPolicies(), after.AllPolicies())
	require.Equal(t, before.PoliciesRevision(), after.PoliciesRevision())
	every := func(*identity.Approval) bool { return true }
	require.Len(t, after.Approvals("", 10, every), 2)
	require.Equal(t, before.Approvals("", 10, every), after.Approvals("", 10, every))
	require.Equal(t, before.ApprovalsRevision(), after.ApprovalsRevision())
	require.Equal(t, before.Delegations(DelegationFilter{}, "", 1000), after.Delegations(DelegationFilter{}, "", 1000))
	for _, r := range before.Revocations("", 1000) {
		require.True(t, other.set.Revoked(r.Handle), r.Handle)
	}

	// Both go on alike, in every order that the delegation table has.
	for _, b := range []Body{
		DeleteAgent{Name: "agent-0000003"},
		DeletePrincipal{ID: "user-0000004@company.example"},
		apiToken(8, identity.RoleAuditor),
		CreateAgent{testAgent("new")},
		RemoveMember{ID: "n7"},
		Purge{},
		PutPolicy{Policy: testPolicy("hops"), IfRevision: 1},
		DeletePolicy{ID: "network"},
		RequestApproval{testApproval(3, "scout", "b2")},
		DecideApproval{ID: approvalID(2), Approve: true},
	} {
		require.Equal(t, m.do(b), other.do(b))
	}
	m.now, other.now = epoch+48*3600*1000, epoch+48*3600*1000
	require.Equal(t, m.do(Purge{}), other.do(Purge{}))
	require.Equal(t, m.snapshot(), other.snapshot())
}

func TestASnapshotIsOfTheMomentItWasTaken(t *testing.T) {
	m := lived(t)
	want := m.snapshot()
	s, err := m.fsm.Snapshot()
	require.NoError(t, err)
	m.do(DeleteAgent{Name: "agent-0000003"})
	m.propose(Command{ID: CommandID{9}, Body: CreateAgent{testAgent("late")}})
	m.propose(Command{ID: CommandID{9, 9}, ClientKey: true, Body: CreateAgent{testAgent("later")}})
	sink := new(memorySink)
	require.NoError(t, s.Persist(sink))
	require.Equal(t, want, sink.Bytes())
}

func TestRestoringNeverTakesARevocationAway(t *testing.T) {
	other := newMachine(t)
	other.do(Tick{})
	m := newMachine(t)
	// By a fence: committed, and not in this node's log yet.
	m.set.Add(revocation.Entry{Handle: "ses_later", Expires: epoch.Add(time.Hour)})
	require.NoError(t, m.fsm.Restore(io.NopCloser(bytes.NewReader(other.snapshot()))))
	require.Zero(t, m.fsm.View().Counts().Revocations)
	require.True(t, m.set.Revoked("ses_later"))
}

func TestADamagedSnapshotChangesNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	must1[*identity.Agent](m, CreateAgent{testAgent("triage")})
	m.do(Revoke{Handles: []identity.Handle{"ses_1"}})
	good := m.snapshot()

	target := newMachine(t)
	must1[*identity.Agent](target, CreateAgent{testAgent("mine")})
	have := target.snapshot()
	try := func(data []byte) error {
		err := target.fsm.Restore(io.NopCloser(bytes.NewReader(data)))
		if err != nil {
			require.Equal(t, have, target.snapshot())
			require.False(t, target.set.Revoked("ses_1"))
		}
		return err
	}
	for i := range good {
		require.Error(t, try(good[:i]), "cut at %d", i)
		flipped := bytes.Clone(good)
		flipped[i] ^= 0x40
		require.Error(t, try(flipped), "flipped at %d", i)
	}
	require.ErrorIs(t, try(good[:len(good)-1]), ErrSnapshotCorrupt)
	require.ErrorIs(t, try(append(bytes.Clone(good), 0)), ErrSnapshotCorrupt)
	require.ErrorIs(t, try(bytes.Repeat([]byte("x"), 100)), ErrSnapshotForeign)
	newer := bytes.Clone(good)
	newer[9]++
	require.ErrorIs(t, try(newer), ErrSnapshotVersion)
	require.NoError(t, try(good))
	require.True(t, target.set.Revoked("ses_1"))
}

// frames writes a snapshot by hand.
func frames(write func(w *frameWriter)) []byte {
	var out bytes.Buffer
	w := newFrameWriter(&out)
	w.raw(append([]byte(snapshotMagic), 0, snapshotVersion))
	write(w)
	if err := w.end(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func TestASnapshotIsReadStrictly(t *testing.T) {
	record := func(number section, values ...any) []byte {
		return frames(func(w *frameWriter) {
			w.section(number)
			for _, v := range values {
				w.record(v)
			}
		})
	}
	for name, test := range map[string]struct {
		data []byte
		want error
	}{
		"unknown section":      {record(200, "x"), ErrSnapshotVersion},
		"unknown field":        {record(sectionBars, map[string]any{"p": "x", "new": 1}), ErrSnapshotCorrupt},
		"nothing in an agent":  {record(sectionAgents, &wireAgent{}), ErrSnapshotCorrupt},
		"nobody":               {record(sectionPrincipals, &wirePrincipal{}), ErrSnapshotCorrupt},
		"short id":             {record(sectionDelegations, &wireRecord{ID: []byte{1}}), ErrSnapshotCorrupt},
		"policy without an id": {record(sectionPolicies, &identity.Policy{Text: "x"}), ErrSnapshotCorrupt},
		"approval without id":  {record(sectionApprovals, &identity.Approval{Agent: "scout"}), ErrSnapshotCorrupt},
		"row without a key":    {record(sectionAPITokens, &identity.APIToken{ID: "tok_1"}), ErrSnapshotCorrupt},
		"receipt without end":  {record(sectionClientReceipts, &wireReceipt{Results: 1}), ErrSnapshotCorrupt},
		"receipt of too many":  {record(sectionClientReceipts, &wireReceipt{Results: MaxBatch + 1, Batch: true}), nil},
		"receipt with bad id":  {record(sectionClientReceipts, &wireReceipt{Results: 1, ID: []byte{1}}, &wireResult{}), nil},
		"receipt with unknown": {record(sectionClientReceipts, &wireReceipt{Results: 1}, &wireResult{Kind: 200}), nil},
		"short record":         {record(sectionClientReceipts, &wireReceipt{Results: 1}, &wireResult{Kind: valueRecord}, &wireRecord{}), ErrSnapshotCorrupt},
		"cut record":           {record(sectionClientReceipts, &wireReceipt{Results: 1}, &wireResult{Kind: valueRecord}), ErrSnapshotCorrupt},
		"sections out of order": {frames(func(w *frameWriter) {
			w.section(sectionBars)
			w.record(&wireBar{})
			w.section(sectionAgents)
			w.record(&wireAgent{Agent: &identity.Agent{}})
		}), ErrSnapshotCorrupt},
		"receipt cut by a section": {frames(func(w *frameWriter) {
			w.section(sectionInternalReceipts)
			w.record(&wireReceipt{Results: 1})
			w.section(sectionClientReceipts)
			w.record(&wireReceipt{Results: 1})
		}), ErrSnapshotCorrupt},
		"huge frame":     {append([]byte(snapshotMagic), 0, 1, 1, 0xff, 0xff, 0xff, 0xff), ErrSnapshotCorrupt},
		"no settings":    {frames(func(*frameWriter) {}), ErrSnapshotCorrupt},
		"agents alone":   {record(sectionAgents, &wireAgent{Agent: &identity.Agent{Name: "a"}}), ErrSnapshotCorrupt},
		"settings twice": {record(sectionMeta, &wireMeta{Index: 1}, &wireMeta{Index: 2}), ErrSnapshotCorrupt},
		"settings in two frames": {frames(func(w *frameWriter) {
			for range 2 {
				w.section(sectionMeta)
				w.record(&wireMeta{Index: 1})
			}
		}), ErrSnapshotCorrupt},
		"settings cut": {frames(func(w *frameWriter) {
			w.emit(sectionMeta, nil)
		}), ErrSnapshotCorrupt},
	} {
		err := newMachine(t).fsm.Restore(io.NopCloser(bytes.NewReader(test.data)))
		require.Error(t, err, name)
		if test.want != nil {
			require.ErrorIs(t, err, test.want, name)
		}
	}
	require.NoError(t, newMachine(t).fsm.Restore(io.NopCloser(bytes.NewReader(record(sectionMeta, &wireMeta{})))), "an empty state")
}

func TestAReadErrorIsNotTakenForDamage(t *testing.T) {
	broken := errors.New("disk on fire")
	err := newMachine(t).fsm.Restore(io.NopCloser(iotest.ErrReader(broken)))
	require.ErrorIs(t, err, broken)
	require.NotErrorIs(t, err, ErrSnapshotCorrupt)
}

// fullSink fails after some bytes, as a full disk does.
type fullSink struct {
	memorySink
	room      int
	cancelErr error
	closeErr  error
}

var errFull = errors.New("no space left on device")

func (s *fullSink) Write(p []byte) (int, error) {
	if s.room -= len(p); s.room < 0 {
		return 0, errFull
	}
	return s.memorySink.Write(p)
}

func (s *fullSink) Cancel() error {
	s.cancelled = true
	return s.cancelErr
}

func (s *fullSink) Close() error { return s.closeErr }

func TestAFailedPersistIsCancelled(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.bulk(2000, benchAgent)
	size := len(m.snapshot())
	require.Greater(t, size, 512<<10)
	for _, room := range []int{0, 256 << 10, size - 1} {
		s, err := m.fsm.Snapshot()
		require.NoError(t, err)
		sink := &fullSink{room: room}
		require.ErrorIs(t, s.Persist(sink), errFull)
		require.True(t, sink.cancelled)

		stuck := &fullSink{room: room, cancelErr: errors.New("can't even cancel")}
		require.ErrorIs(t, s.Persist(stuck), stuck.cancelErr)
	}
	s, err := m.fsm.Snapshot()
	require.NoError(t, err)
	unclosed := &fullSink{room: size, closeErr: errors.New("lost on close")}
	require.ErrorIs(t, s.Persist(unclosed), unclosed.closeErr)
}

func TestAReceiptOfAnUnknownTypeIsNotWritten(t *testing.T) {
	m := newMachine(t)
	m.fsm.state.internal.add(&receipt{result: Result{Value: 42}})
	s, err := m.fsm.Snapshot()
	require.NoError(t, err)
	require.ErrorContains(t, s.Persist(new(memorySink)), "BUG")
}

// FuzzRestore is given what comes between the header and the trailer, so that the checksum is always right
// and hides nothing. What is restored must have one spelling.
func FuzzRestore(f *testing.F) {
	const head, tail = len(snapshotMagic) + 2, frameHeader + sha256.Size
	m := newMachine(f)
	f.Add(m.snapshot()[head:])
	for _, c := range samples() {
		m.propose(c)
	}
	seed := m.snapshot()
	f.Add(seed[head : len(seed)-tail])
	f.Fuzz(func(t *testing.T, sections []byte) {
		data := frames(func(w *frameWriter) { w.raw(sections) })
		m := newMachine(t)
		if m.fsm.Restore(io.NopCloser(bytes.NewReader(data))) != nil {
			return
		}
		m.do(Purge{})
		require.Equal(t, m.snapshot(), m.restored().snapshot())
	})
}

// A snapshot that comes late must not take a node back behind what it has shown, which a lease may vouch for.
func TestSnapshotThatComesLateIsRefused(t *testing.T) {
	m := newMachine(t)
	must1[*identity.Agent](m, CreateAgent{testAgent("a")})
	early := m.snapshot()
	must1[*AgentChange](m, KillAgent{Name: "a"})
	err := m.fsm.Restore(io.NopCloser(bytes.NewReader(early)))
	require.ErrorIs(t, err, ErrSnapshotStale)
	require.Equal(t, m.index, m.fsm.Applied())
	agent, _ := m.fsm.View().Agent("a")
	require.Equal(t, identity.StatusSuspended, agent.Status)
	require.NoError(t, m.fsm.Restore(io.NopCloser(bytes.NewReader(m.snapshot()))), "the same again does no harm")
}
