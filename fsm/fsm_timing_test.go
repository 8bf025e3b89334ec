package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

// benchDelegations is how many delegations the benchmarks lay out; a tenth as many agents and principals.
func benchDelegations(b *testing.B) int {
	b.Helper()
	text := os.Getenv("DEPUTY_BENCH_DELEGATIONS")
	if text == "" {
		return 100_000
	}
	n, err := strconv.Atoi(text)
	require.NoError(b, err)
	return n
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (m *machine) entry(b Body) *raft.Log {
	data, err := Encode(Command{Time: m.now, By: "tok_bench", Body: b})
	require.NoError(m.t, err)
	m.index++
	return &raft.Log{Index: m.index, Type: raft.LogCommand, Data: data}
}

// bulk applies bodies in batches of MaxBatch.
func (m *machine) bulk(n int, body func(i int) Body) {
	for i := 0; i < n; i += MaxBatch {
		var batch Batch
		for j := i; j < min(n, i+MaxBatch); j++ {
			batch.Bodies = append(batch.Bodies, body(j))
		}
		for _, r := range m.fsm.Apply(m.entry(batch)).(Result).Value.([]Result) {
			require.Nil(m.t, r.Err)
		}
	}
}

func benchAgent(i int) Body {
	a := testAgent(fmt.Sprintf("agent-%07d", i))
	a.Credentials = []identity.Credential{{ID: testID(identity.PrefixCredential, uint64(i)), Kind: identity.CredentialSecret, Hash: secret(i)}}
	return CreateAgent{a}
}

func benchPrincipal(i int) Body {
	return CreatePrincipal{identity.Principal{ID: fmt.Sprintf("user-%07d@company.example", i)}}
}

// benchDelegation spreads delegations over agents and principals, each with a reason of its own.
func benchDelegation(i, n int) Body {
	tenth := max(1, n/10)
	d := testDelegation(uint64(i)*0x9e3779b97f4a7c15>>2, fmt.Sprintf("user-%07d@company.example", i%tenth), fmt.Sprintf("agent-%07d", (i*7919)%tenth))
	d.Reason = fmt.Sprintf("ticket %d", i)
	d.Expires = d.Expires.Add(time.Duration(i%3600) * time.Second)
	return CreateDelegation{Delegation: d}
}

// laidOut returns a machine with n delegations.
func laidOut(b *testing.B, n int) *machine {
	b.Helper()
	m := newMachine(b)
	m.bulk(max(1, n/10), benchAgent)
	m.bulk(max(1, n/10), benchPrincipal)
	m.bulk(n, func(i int) Body { return benchDelegation(i, n) })
	return m
}

func BenchmarkScale(b *testing.B) {
	n := benchDelegations(b)
	for b.Loop() {
		m := newMachine(b)
		start := heap()
		m.bulk(max(1, n/10), benchAgent)
		agents := heap()
		m.bulk(max(1, n/10), benchPrincipal)
		principals := heap()
		began := time.Now()
		m.bulk(n, func(i int) Body { return benchDelegation(i, n) })
		took := time.Since(began)
		delegations := heap()
		b.ReportMetric(float64(agents-start)/float64(max(1, n/10)), "B/agent")
		b.ReportMetric(float64(principals-agents)/float64(max(1, n/10)), "B/principal")
		b.ReportMetric(float64(delegations-principals)/float64(n), "B/delegation")
		b.ReportMetric(float64(n)/took.Seconds(), "delegations/s")

		began = time.Now()
		s, err := m.fsm.Snapshot()
		require.NoError(b, err)
		b.ReportMetric(float64(time.Since(began).Microseconds()), "µs/snapshot-call")
		began = time.Now()
		sink := new(memorySink)
		require.NoError(b, s.Persist(sink))
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/persist")
		b.ReportMetric(float64(sink.Len())/float64(n), "snapshot-B/delegation")
		other := newMachine(b)
		began = time.Now()
		require.NoError(b, other.fsm.Restore(io.NopCloser(bytes.NewReader(sink.Bytes()))))
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms/restore")
		runtime.KeepAlive(m)
		runtime.KeepAlive(other)
	}
}

func BenchmarkApplySingle(b *testing.B) {
	const n = 20_000
	m := laidOut(b, n)
	i := n
	b.ReportAllocs()
	for b.Loop() {
		m.fsm.Apply(m.entry(KillAgent{Name: fmt.Sprintf("agent-%07d", i%(n/10)), KeepActive: true}))
		i++
	}
}

func BenchmarkApplyDelegationSingle(b *testing.B) { benchmarkApply(b, 1) }
func BenchmarkApplyDelegation512(b *testing.B)    { benchmarkApply(b, 512) }

// benchmarkApply leaves the encoding out, which is the proposer's work.
func benchmarkApply(b *testing.B, size int) {
	n := benchDelegations(b)
	m := laidOut(b, n)
	next := n
	b.ReportAllocs()
	applied := 0
	for b.Loop() {
		b.StopTimer()
		entries := make([]*raft.Log, size)
		for j := range entries {
			d := benchDelegation(next, n).(CreateDelegation)
			d.Delegation.Principal = fmt.Sprintf("new-%d@company.example", next)
			d.EnsurePrincipal = true
			entries[j] = m.entry(d)
			next++
		}
		b.StartTimer()
		for _, r := range m.fsm.ApplyBatch(entries) {
			if err := r.(Result).Err; err != nil {
				b.Fatal(err)
			}
		}
		applied += size
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(applied), "ns/command")
}

// BenchmarkApplyPacks applies packs of delegations between principals and agents that are there, each with a command id, as
// a cluster under load does.
func BenchmarkApplyPacks(b *testing.B) {
	const agents, principals, commandsEach, batch = 500, 2000, 128, 2
	m := newMachine(b)
	m.bulk(agents, benchAgent)
	m.bulk(principals, func(i int) Body {
		return CreatePrincipal{identity.Principal{ID: fmt.Sprintf("user-%07d@company.example", i)}}
	})
	next := uint64(0)
	delegation := func(at identity.Instant) CreateDelegation {
		next++
		n := next * 618_033
		d := testDelegation(next, fmt.Sprintf("user-%07d@company.example", n%principals), fmt.Sprintf("agent-%07d", n/principals%agents))
		var entropy [10]byte
		binary.BigEndian.PutUint64(entropy[:], n*0x9e3779b97f4a7c15)
		d.ID = identity.NewID(identity.PrefixDelegation, at, entropy)
		d.Created, d.Expires = at, at.Add(time.Duration(n%30+1)*24*time.Hour+time.Duration(n%86400)*time.Second)
		return CreateDelegation{Delegation: d}
	}
	m.bulk(benchDelegations(b), func(int) Body { return delegation(m.now) })
	b.ReportAllocs()
	b.ResetTimer()
	applied := 0
	for b.Loop() {
		b.StopTimer()
		entries := make([]*raft.Log, batch)
		for i := range entries {
			commands := make([][]byte, commandsEach)
			for j := range commands {
				if j%8 == 0 {
					m.now++
				}
				var id CommandID
				binary.BigEndian.PutUint64(id[:], next+1)
				data, err := Encode(Command{ID: id, Time: m.now, By: "tok_bench", Body: delegation(m.now)})
				require.NoError(b, err)
				commands[j] = data
			}
			pack, err := Pack(commands)
			require.NoError(b, err)
			m.index++
			entries[i] = &raft.Log{Index: m.index, Type: raft.LogCommand, Data: pack}
		}
		b.StartTimer()
		for _, response := range m.fsm.ApplyBatch(entries) {
			for _, r := range response.(packed) {
				if err := r.Err; err != nil {
					b.Fatal(err)
				}
			}
			applied += commandsEach
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(applied), "ns/command")
}

func BenchmarkDecode(b *testing.B) {
	m := newMachine(b)
	entry := m.entry(benchDelegation(1, 10)).Data
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(entry); err != nil {
			b.Fatal(err)
		}
	}
}

// The delegation is handed out by value: what is allocated is the spelling of its id.
func TestTheMintPathReadsWithoutGarbage(t *testing.T) {
	m := newMachine(t)
	must1[*identity.Agent](m, CreateAgent{testAgent("inbox")})
	must1[*identity.Delegation](m, CreateDelegation{Delegation: testDelegation(1, "ann@x", "inbox"), EnsurePrincipal: true})
	v := m.fsm.View()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, agent := v.Agent("inbox")
		_, principal := v.Principal("ann@x")
		if !agent || !principal {
			t.Error("not found")
		}
	}))
	must1[*identity.APIToken](m, apiToken(1, identity.RoleRuntime))
	tokens, hash := m.fsm.View(), [32]byte(secret(1))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if _, ok := tokens.APITokenByHash(hash); !ok {
			t.Error("not found")
		}
	}))
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
		if _, err := v.ActiveDelegation("inbox", "ann@x", "", m.now); err != nil {
			t.Error(err)
		}
	}), 1.0)
}

func BenchmarkView(b *testing.B) {
	n := benchDelegations(b)
	m := laidOut(b, n)
	must1[*identity.APIToken](m, apiToken(1, identity.RoleAdmin))
	names := make([]string, 1024)
	for i := range names {
		names[i] = fmt.Sprintf("agent-%07d", i*97%(n/10))
	}
	v := m.fsm.View()
	b.Run("agent", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			if _, ok := v.Agent(names[i%1024]); !ok {
				b.Fatal("missing")
			}
			i++
		}
	})
	b.Run("api-token-by-hash", func(b *testing.B) {
		hash := [32]byte(secret(1))
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := v.APITokenByHash(hash); !ok {
				b.Fatal("missing")
			}
		}
	})
	b.Run("active-delegation", func(b *testing.B) {
		d := benchDelegation(4711, n).(CreateDelegation).Delegation
		b.ReportAllocs()
		for b.Loop() {
			if _, err := v.ActiveDelegation(d.Agent, d.Principal, "gmail.read", epoch); err != nil {
				b.Fatal(err)
			}
		}
	})
}
