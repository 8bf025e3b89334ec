package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

// epoch is when the tests' clocks begin.
const epoch = identity.Instant(1_776_000_000_000)

// machine drives one FSM as raft would, with a clock that only the test moves.
type machine struct {
	t     testing.TB
	fsm   *FSM
	set   *revocation.Set
	index uint64
	now   identity.Instant
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	set := revocation.NewSet()
	return &machine{t: t, set: set, now: epoch, fsm: New(Options{
		Revocations: set, LocalNode: "n1", Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})}
}

func (m *machine) propose(c Command) Result {
	m.t.Helper()
	if c.Time == 0 {
		c.Time = m.now
	}
	if c.By == "" {
		c.By = "tok_test"
	}
	entry, err := Encode(c)
	require.NoError(m.t, err)
	m.index++
	return m.fsm.Apply(&raft.Log{Index: m.index, Type: raft.LogCommand, Data: entry}).(Result)
}

func (m *machine) do(b Body) Result {
	m.t.Helper()
	return m.propose(Command{Body: b})
}

// must applies a body that is not refused and returns its value.
func must1[T any](m *machine, b Body) T {
	m.t.Helper()
	r := m.do(b)
	require.Nil(m.t, r.Err, "%s was refused: %v", b.Type(), r.Err)
	value, ok := r.Value.(T)
	require.True(m.t, ok, "%s gave a %T", b.Type(), r.Value)
	return value
}

// refused applies a body that must be refused with a code.
func (m *machine) refused(code identity.Code, b Body) *identity.Error {
	m.t.Helper()
	r := m.do(b)
	require.NotNil(m.t, r.Err, "%s was not refused", b.Type())
	require.Equal(m.t, code, r.Err.Code, r.Err.Message)
	require.Nil(m.t, r.Value)
	return r.Err
}

func (m *machine) pass(d time.Duration) { m.now = m.now.Add(d) }

// snapshot writes the whole state to memory.
func (m *machine) snapshot() []byte {
	m.t.Helper()
	return persist(m.t, m.fsm)
}

func persist(t testing.TB, f *FSM) []byte {
	t.Helper()
	s, err := f.Snapshot()
	require.NoError(t, err)
	defer s.Release()
	sink := new(memorySink)
	require.NoError(t, s.Persist(sink))
	require.True(t, sink.closed)
	return sink.Bytes()
}

// restored returns another machine that went on from a snapshot of this one.
func (m *machine) restored() *machine {
	m.t.Helper()
	other := newMachine(m.t)
	require.NoError(m.t, other.fsm.Restore(io.NopCloser(bytes.NewReader(m.snapshot()))))
	other.index, other.now = m.index, m.now
	return other
}

// memorySink is a raft.SnapshotSink in memory.
type memorySink struct {
	bytes.Buffer
	closed, cancelled bool
}

func (s *memorySink) ID() string    { return "memory" }
func (s *memorySink) Close() error  { s.closed = true; return nil }
func (s *memorySink) Cancel() error { s.cancelled = true; return nil }

func testID(prefix string, n uint64) string {
	var entropy [10]byte
	binary.BigEndian.PutUint64(entropy[2:], n)
	return identity.NewID(prefix, epoch, entropy)
}

func delegationID(n uint64) string { return testID(identity.PrefixDelegation, n) }

func testAgent(name string) identity.Agent {
	return identity.Agent{
		Name: name, Description: "Classifies tickets", OwnerGroup: "ai-engineering", Type: identity.AgentAutonomous,
		DefaultScopes: "zendesk.tickets.assign zendesk.tickets.read", MaxSessionSeconds: 3600,
	}
}

func testDelegation(n uint64, principal, agent string) identity.Delegation {
	return identity.Delegation{
		ID: delegationID(n), Principal: principal, Agent: agent, Scopes: "gmail.draft gmail.read",
		Created: epoch, Expires: epoch.Add(4 * time.Hour), Reason: "user clicked 'summarize inbox'", Origin: "tok_runtime", MaxHops: 2,
	}
}

func testPolicy(id string) identity.Policy {
	return identity.Policy{ID: id, Description: "no more than two", Text: "forbid (principal, action, resource);", Mode: identity.PolicyEnforce}
}

func approvalID(n uint64) string { return testID(identity.PrefixApproval, n) }

func testApproval(n uint64, agent, binding string) identity.Approval {
	return identity.Approval{
		ID: approvalID(n), Kind: identity.ApprovalSession, Agent: agent, Binding: binding, Scopes: "zendesk.tickets.read", Audience: []string{"zendesk"},
		Reason: "ticket 7", Seconds: 600, Policy: "production-write-needs-approval", Created: epoch, Expires: epoch.Add(time.Hour),
	}
}

func secret(n int) []byte {
	sum := identity.HashSecret(fmt.Sprint("secret ", n))
	return sum[:]
}

func apiToken(n int, roles ...identity.Role) CreateAPIToken {
	return CreateAPIToken{identity.APIToken{ID: fmt.Sprintf("tok_%d", n), Name: "t", Hash: secret(n), Roles: roles}}
}
