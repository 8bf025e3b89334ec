package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/racedetector"
)

func TestAHundredThousandDelegationsSurviveABackup(t *testing.T) {
	t.Parallel()
	n := 100_000
	if racedetector.Enabled { // it is twelve times slower and has one goroutine to look at
		n = 10_000
	}
	old := newMachine(t)
	must1[*identity.Settings](old, PutSettings{identity.Settings{ClusterID: "cls_old", Issuer: "https://id.example", OfflineTTLSeconds: 300, LeaseMillis: 10_000}})
	old.bulk(n/10, benchAgent)
	old.bulk(n/10, benchPrincipal)
	old.bulk(n, func(i int) Body { return benchDelegation(i, n) })
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		id := benchDelegation(random.IntN(n), n).(CreateDelegation).Delegation.ID
		must1[*DelegationChange](old, WithdrawDelegation{ID: id})
	}
	must1[*AgentChange](old, DeleteAgent{Name: "agent-0000003"})
	must1[*PrincipalChange](old, KillPrincipal{ID: "user-0000004@company.example", KeepActive: true})

	file, info := backupOf(t, old)
	require.Equal(t, int64(len(file)), info.Bytes)
	m := freshAt(t, epoch.Add(time.Hour))
	m.bodies(file, func(b Body) {
		entry := m.entry(b)
		require.Less(t, len(entry.Data), 100<<10, "nothing else applies while one import does")
		require.Nil(t, m.fsm.Apply(entry).(Result).Err)
	})
	was, is := old.fsm.View(), m.fsm.View()
	requirePairs(t, is)
	require.Equal(t, was.Counts().Delegations, is.Counts().Delegations)
	require.Equal(t, was.CountDelegations("", "", epoch), is.CountDelegations("", "", epoch))
	for range 2000 {
		d := benchDelegation(random.IntN(n), n).(CreateDelegation).Delegation
		before, ok := was.Delegation(d.ID)
		after, still := is.Delegation(d.ID)
		require.Equal(t, ok, still)
		if ok {
			like := *before
			like.Revision = after.Revision
			require.Equal(t, &like, after)
		}
		requireSameMint(t, was, is, d.Agent, d.Principal, d.Scopes, m.now)
	}
}

// bodies reads a backup that is whole.
func (m *machine) bodies(file []byte, visit func(Body)) {
	m.t.Helper()
	_, err := ReadBackup(bytes.NewReader(file), func(b Body) error {
		visit(b)
		return nil
	})
	require.NoError(m.t, err)
}

// requireSameMint: two states answer the question of a mint alike.
func requireSameMint(t require.TestingT, was, is *View, agent, principal string, scopes identity.Scopes, now identity.Instant) {
	a, refusal := was.ActiveDelegation(agent, principal, scopes, now)
	b, refusal2 := is.ActiveDelegation(agent, principal, scopes, now)
	require.Equal(t, refusal, refusal2)
	require.Equal(t, a.Delegation.ID, b.Delegation.ID)
	require.Equal(t, was.ConsentBarred(agent, principal), is.ConsentBarred(agent, principal))
}

// TestABackupIsReadInLittleMemory reads 30 MB of delegations from a pipe.
func TestABackupIsReadInLittleMemory(t *testing.T) {
	const n = 25_000
	text := strings.Repeat("why ", identity.MaxReasonLength/4)
	source, sink := io.Pipe()
	go func() {
		w := newFrameWriter(sink)
		w.raw(binary.BigEndian.AppendUint16([]byte(backupMagic), backupVersion))
		w.section(sectionMeta)
		w.record(&BackupHeader{Index: 1, Time: epoch, Generation: 10, Settings: identity.Settings{
			ClusterID: "c", Issuer: "https://id.example", OfflineTTLSeconds: 300, LeaseMillis: 10_000,
		}})
		w.section(sectionDelegations)
		for i := range uint64(n) {
			var id [16]byte
			binary.BigEndian.PutUint64(id[:], i)
			d := testDelegation(i, fmt.Sprintf("user-%d@x", i), "inbox")
			w.record(&wireRecord{
				ID: id[:], Agent: d.Agent, Principal: d.Principal, Scopes: string(d.Scopes), Reason: text, Origin: text,
				Created: d.Created, Expires: d.Expires, Made: 9, MaxHops: 1,
			})
		}
		_ = sink.CloseWithError(w.end())
	}()
	alive := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before, imports := alive(), 0
	info, err := ReadBackup(source, func(b Body) error {
		if imports++; imports%25 == 0 {
			require.Less(t, alive(), before+8<<20)
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, n, info.Delegations)
	require.Greater(t, info.Bytes, int64(25<<20))
	require.Greater(t, imports, 300)
}

// TestABackupIsOfOneMomentWhileOthersWrite: Apply goes on between its frames.
func TestABackupIsOfOneMomentWhileOthersWrite(t *testing.T) {
	m := backedUp(t)
	m.bulk(3000, func(i int) Body { return benchAgent(i + 1000) })
	want, _ := backupOf(t, m)
	var got bytes.Buffer
	writes := 0
	_, err := m.fsm.Backup(writerFunc(func(p []byte) (int, error) {
		writes++
		require.Nil(t, m.do(DeleteAgent{Name: fmt.Sprintf("agent-%07d", 1000+writes)}).Err)
		return got.Write(p)
	}))
	require.NoError(t, err)
	require.Greater(t, writes, 3)
	require.Equal(t, want, got.Bytes())

	_, err = m.fsm.Backup(&fullSink{room: 1000})
	require.ErrorIs(t, err, errFull)
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// BenchmarkRestoreABackup measures the imports as the log would bring them.
func BenchmarkRestoreABackup(b *testing.B) {
	old := laidOut(b, benchDelegations(b))
	must1[*identity.Settings](old, PutSettings{identity.Settings{Issuer: "https://id.example", OfflineTTLSeconds: 300, LeaseMillis: 10_000}})
	file, info := backupOf(b, old)
	for b.Loop() {
		m := freshAt(b, epoch.Add(time.Hour))
		var longest time.Duration
		m.bodies(file, func(body Body) {
			data, err := Encode(Command{Time: m.now, Body: body})
			require.NoError(b, err)
			m.index++
			start := time.Now()
			require.Nil(b, m.fsm.Apply(&raft.Log{Index: m.index, Type: raft.LogCommand, Data: data}).(Result).Err)
			longest = max(longest, time.Since(start))
		})
		b.ReportMetric(float64(longest.Milliseconds()), "ms-longest-import")
	}
	b.ReportMetric(float64(info.Bytes)/float64(info.Delegations), "B/delegation")
}
