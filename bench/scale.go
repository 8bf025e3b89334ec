package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/hashicorp/raft"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/result"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/machine"
	"github.com/deputy-id/deputy/revocation"
)

// ScaleOptions say how large a store to build in this process.
type ScaleOptions struct {
	Agents      int
	Delegations int
	Revocations int
	Batch       int           // objects in one command of the log
	Rounds      int           // turns that the full and the empty store take at minting
	Round       time.Duration // length of each
	Tokens      int           // that verifying goes round
	Logger      *slog.Logger
}

// Defaults and bounds of ScaleOptions.
const (
	DefaultScaleAgents      = 100_000
	DefaultScaleDelegations = 1_000_000
	DefaultScaleRevocations = 1_000_000
	DefaultScaleBatch       = 500
	DefaultScaleRounds      = 40
	DefaultScaleRound       = 100 * time.Millisecond
	DefaultScaleTokens      = 1 << 14 // more than the processor's nearest caches hold

	maxScaleObjects = 50_000_000
	snapshotCalls   = 9 // of which the median and the longest are shown
)

func (o *ScaleOptions) setDefaults() {
	o.Agents = orDefault(o.Agents, DefaultScaleAgents)
	o.Delegations = orDefault(o.Delegations, DefaultScaleDelegations)
	o.Revocations = orDefault(o.Revocations, DefaultScaleRevocations)
	o.Batch = orDefault(o.Batch, DefaultScaleBatch)
	o.Rounds = orDefault(o.Rounds, DefaultScaleRounds)
	o.Round = orDefault(o.Round, DefaultScaleRound)
	o.Tokens = orDefault(o.Tokens, DefaultScaleTokens)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func orDefault[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

func (o *ScaleOptions) validate() error {
	for name, n := range map[string]int{"agents": o.Agents, "delegations": o.Delegations, "revocations": o.Revocations} {
		if n < 1 || n > maxScaleObjects {
			return fmt.Errorf("%s is %d; it must be between 1 and %d", name, n, maxScaleObjects)
		}
	}
	if o.Batch < 1 || o.Batch > fsm.MaxBatch {
		return fmt.Errorf("batch is %d; it must be between 1 and %d", o.Batch, fsm.MaxBatch)
	}
	if o.Rounds < 1 || o.Rounds > MaxRounds {
		return fmt.Errorf("rounds is %d; it must be between 1 and %d", o.Rounds, MaxRounds)
	}
	if o.Tokens < mintBatch || o.Tokens > DefaultScaleTokens || o.Tokens%mintBatch != 0 {
		return fmt.Errorf("tokens is %d; it must be a multiple of %d up to %d", o.Tokens, mintBatch, DefaultScaleTokens)
	}
	if o.Round < 10*time.Millisecond {
		return fmt.Errorf("a round is %s; it must be at least 10ms", o.Round)
	}
	return nil
}

// ScaleReport is what a full store costs.
type ScaleReport struct {
	Environment   Environment  `json:"environment"`
	Objects       []Objects    `json:"objects"`
	HeapBytes     uint64       `json:"heap_bytes"` // live, in all
	Batch         int          `json:"batch"`
	SnapshotCall  Durations    `json:"snapshot_call"` // blocks Apply
	PersistMillis float64      `json:"persist_ms"`    // beside Apply
	RestoreMillis float64      `json:"restore_ms"`
	SnapshotBytes int64        `json:"snapshot_bytes"`
	Mint          []MintAtSize `json:"mint"`

	Introspect []IntrospectAtSize `json:"introspect"`
	Asked      Asked              `json:"revoked"`
	Needed     int64              `json:"memory_needed"`

	Rounds      int   `json:"rounds"`
	RoundMillis int64 `json:"round_ms"`
}

// Objects is what one kind of object costs in memory and in time.
type Objects struct {
	Kind    string  `json:"kind"`
	Count   int     `json:"count"`
	Bytes   float64 `json:"bytes_each"`      // live heap after collection, per object
	LogSize float64 `json:"log_bytes_each"`  // in the replicated log
	Rate    float64 `json:"applies_per_sec"` // objects a second through Apply, without the log's disk
}

// Durations are several measurements of the same thing, in milliseconds.
type Durations struct {
	Median float64 `json:"median_ms"`
	Max    float64 `json:"max_ms"`
}

// Scale builds a full store in this process by way of the replicated log's commands and measures it.
func Scale(ctx context.Context, o ScaleOptions) (*ScaleReport, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	need, available := o.memoryNeed(), machine.AvailableMemory()
	o.Logger.Info("memory", "needed", gibibytes(need), "available", gibibytes(available))
	if err := holds("memory", need, available); err != nil {
		return nil, err
	}
	if available > 0 { // what is garbage must not fill the machine
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(available * 9 / 10))
	}
	s := &scale{ScaleOptions: o, people: newPopulation(o.Agents, o.Delegations, time.Now())}
	s.store = newStore(o.Logger)
	report := &ScaleReport{Environment: environment(), Needed: need, Batch: o.Batch, Rounds: o.Rounds, RoundMillis: o.Round.Milliseconds()}
	for _, stage := range s.stages() {
		objects, err := s.fill(ctx, stage)
		if err != nil {
			return nil, fmt.Errorf("filling the store with %s: %w", stage.kind, err)
		}
		report.Objects = append(report.Objects, objects)
	}
	report.HeapBytes = liveHeap()
	if err := s.snapshot(report); err != nil {
		return nil, err
	}
	var err error
	if report.Asked, err = s.ask(); err != nil {
		return nil, fmt.Errorf("asking the revocation set: %w", err)
	}
	if report.Mint, err = s.mint(ctx); err != nil {
		return nil, err
	}
	report.Introspect, err = s.introspect(ctx) // of tokens that are minted as those
	return report, err
}

// store is a state machine with the set it feeds, and the log position that it stands at.
type store struct {
	fsm     *fsm.FSM
	revoked *revocation.Set
	index   uint64
}

func newStore(logger *slog.Logger) *store {
	revoked := revocation.NewSet()
	return &store{fsm: fsm.New(fsm.Options{Revocations: revoked, Logger: logger}), revoked: revoked}
}

// apply takes bodies through the very path of a node: encoded into one command, applied as a batch of the log.
func (s *store) apply(now identity.Instant, bodies []fsm.Body) (size int, took time.Duration, err error) {
	data, err := fsm.Encode(fsm.Command{Time: now, By: "bench", Body: fsm.Batch{Bodies: bodies}})
	if err != nil {
		return 0, 0, err
	}
	s.index++
	entry := []*raft.Log{{Index: s.index, Term: 1, Type: raft.LogCommand, Data: data}}
	start := time.Now()
	responses := s.fsm.ApplyBatch(entry)
	took = time.Since(start)
	result, ok := responses[0].(fsm.Result)
	if !ok {
		return 0, 0, fmt.Errorf("apply answered a %T", responses[0])
	}
	if result.Err != nil {
		return 0, 0, result.Err
	}
	items, ok := result.Value.([]fsm.Result)
	if !ok || len(items) != len(bodies) {
		return 0, 0, fmt.Errorf("apply answered %T for a batch of %d", result.Value, len(bodies))
	}
	for _, item := range items {
		if item.Err != nil {
			return 0, 0, item.Err
		}
	}
	return len(data), took, nil
}

// scale is one run of Scale.
type scale struct {
	ScaleOptions
	people *population
	store  *store
}

// stage is one kind of object to fill the store with.
type stage struct {
	kind  string
	count int
	body  func(n int) fsm.Body
	at    func(n int) identity.Instant // when the n-th comes; nil: now
}

func (s *scale) stages() []stage {
	return []stage{
		s.revocations(), // first, for they begin a day ago
		{"agent", s.Agents, func(n int) fsm.Body { return fsm.CreateAgent{Agent: s.people.agent(n)} }, nil},
		{"principal", s.people.principals, func(n int) fsm.Body { return fsm.CreatePrincipal{Principal: s.people.principal(n)} }, nil},
		{"delegation", s.Delegations, func(n int) fsm.Body { return fsm.CreateDelegation{Delegation: s.people.delegation(n)} }, nil},
	}
}

// revocations are of sessions of the last day, each of which was ended within an hour: so ids, times and log indexes are
// as different as they are where people end sessions.
func (s *scale) revocations() stage {
	const day, hour = 24 * time.Hour, time.Hour
	at := func(n int) identity.Instant {
		return s.people.now.Add(-day + time.Duration(float64(day)*float64(n)/float64(s.Revocations)))
	}
	return stage{"revocation", s.Revocations, func(n int) fsm.Body {
		begun := at(n).Add(-time.Duration(s.people.random.Int64N(int64(hour))))
		return fsm.Revoke{
			Handles: []identity.Handle{identity.SessionHandle(s.people.idAt(identity.PrefixSession, begun))},
			Reason:  fmt.Sprintf("INC-%d", n*50/s.Revocations),
		}
	}, at}
}

func (s *scale) fill(ctx context.Context, stage stage) (Objects, error) {
	s.Logger.Info("filling the store", "kind", stage.kind, "count", stage.count)
	before := liveHeap()
	var applying time.Duration
	logged := 0
	bodies := make([]fsm.Body, 0, s.Batch)
	for n := 0; n < stage.count; {
		if err := ctx.Err(); err != nil {
			return Objects{}, err
		}
		bodies = bodies[:0]
		for ; n < stage.count && len(bodies) < s.Batch; n++ {
			bodies = append(bodies, stage.body(n))
		}
		now := s.people.now
		if stage.at != nil {
			now = stage.at(n - 1)
		}
		size, took, err := s.store.apply(now, bodies)
		if err != nil {
			return Objects{}, err
		}
		applying += took
		logged += size
	}
	clear(bodies[:cap(bodies)]) // what is still referred to from here is not the store's
	after := liveHeap()
	count := float64(stage.count)
	return Objects{
		Kind: stage.kind, Count: stage.count, Bytes: (float64(after) - float64(before)) / count,
		LogSize: float64(logged) / count, Rate: count / applying.Seconds(),
	}, nil
}

// liveHeap is what the heap holds after a collection. The second run also takes what finalizers let go of.
func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// snapshot takes, writes and reads a snapshot, as raft does.
func (s *scale) snapshot(report *ScaleReport) (err error) {
	s.Logger.Info("taking snapshots")
	var calls []float64
	for range snapshotCalls {
		start := time.Now()
		taken, err := s.store.fsm.Snapshot()
		if err != nil {
			return fmt.Errorf("taking a snapshot: %w", err)
		}
		calls = append(calls, milliseconds(time.Since(start)))
		taken.Release()
	}
	report.SnapshotCall = Durations{Median: result.Median(calls), Max: maximum(calls)}

	file, err := os.CreateTemp("", "deputy-bench-snapshot-")
	if err != nil {
		return fmt.Errorf("making a file for the snapshot: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	taken, err := s.store.fsm.Snapshot()
	if err != nil {
		return fmt.Errorf("taking a snapshot: %w", err)
	}
	defer taken.Release()
	sink := &fileSink{buffer: bufio.NewWriterSize(file, 1<<16)}
	start := time.Now()
	if err := taken.Persist(sink); err != nil {
		return fmt.Errorf("writing the snapshot: %w", err)
	}
	report.PersistMillis, report.SnapshotBytes = milliseconds(time.Since(start)), sink.written

	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("reading the snapshot: %w", err)
	}
	restored := newStore(s.Logger)
	start = time.Now()
	if err := restored.fsm.Restore(io.NopCloser(bufio.NewReaderSize(file, 1<<16))); err != nil {
		return fmt.Errorf("restoring the snapshot: %w", err)
	}
	report.RestoreMillis = milliseconds(time.Since(start))
	if got, want := restored.fsm.View().Counts(), s.store.fsm.View().Counts(); got != want {
		return fmt.Errorf("the restored store counts %+v and not %+v", got, want)
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func maximum(values []float64) float64 {
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	return most
}

// fileSink is a raft.SnapshotSink that buffers as raft's own does, and leaves out the fsync.
type fileSink struct {
	buffer  *bufio.Writer
	written int64
}

func (s *fileSink) Write(p []byte) (int, error) {
	n, err := s.buffer.Write(p)
	s.written += int64(n)
	return n, err
}

func (s *fileSink) Close() error  { return s.buffer.Flush() }
func (s *fileSink) ID() string    { return "bench" }
func (s *fileSink) Cancel() error { return nil }

// withoutGC runs f with the collector off, so that a collection falls into nobody's turn.
func withoutGC(f func() error) error {
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	return f()
}

// collection is the CPU time of one whole collection of the heap as it is now. It comes from the kernel: the
// runtime's own figures count time on processors that it was given but somebody else was using.
func collection() time.Duration {
	const times = 3
	runtime.GC()
	before := load.SelfCPU()
	for range times {
		runtime.GC()
	}
	return (load.SelfCPU() - before) / times
}
