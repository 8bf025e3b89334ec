package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/result"
	"github.com/deputy-id/deputy/cluster"
)

// Paths of a bare raft's server.
const (
	raftLeadsPath = "/leads" // 200 where it leads, 503 elsewhere
	raftDrivePath = "/drive" // callers beside the leader apply for a while; the answer is a raftDriven
	raftApplyPath = "/apply" // one command, of the configured size
)

// Bounds of what a bare raft is asked.
const (
	maxRaftCallers = 4096
	maxRaftDrive   = 30 * time.Second
	raftApplyWait  = 10 * time.Second
	maxRaftCommand = 64 << 10
)

// raftSpec is the first line that a bare raft reads.
type raftSpec struct {
	ID      string `json:"id"`
	Dir     string `json:"dir"`
	Members int    `json:"members"`
	Command int    `json:"command_bytes"`
}

// raftAddress is the line that it answers.
type raftAddress struct {
	Raft string `json:"raft"`
	HTTP string `json:"http"`
}

// raftPeer is one member of the second line that it reads: all of them.
type raftPeer struct {
	ID   string `json:"id"`
	Raft string `json:"raft"`
}

// raftDriven is what callers beside the leader achieved.
type raftDriven struct {
	Applied int64   `json:"applied"`
	Failed  int64   `json:"failed"`
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_seconds"` // of this process

	Latency *result.Distribution `json:"latency"`
}

// into adds what it achieved to an operation.
func (d *raftDriven) into(op *load.Operation) error {
	h, err := d.Latency.Decode()
	if err != nil {
		return fmt.Errorf("reading bare raft's latencies: %w", err)
	}
	if h != nil {
		op.Latency.Merge(h)
	}
	op.Offered, op.Sent, op.Succeeded = d.Applied+d.Failed, d.Applied+d.Failed, d.Applied
	if d.Failed > 0 {
		op.Failures[load.FailureOther] = d.Failed
	}
	return nil
}

// ServeRaft runs one member of a bare raft cluster: hashicorp/raft over boltdb, set as the cluster sets them, with a state
// machine that takes batches and does nothing with them. Between members there is plain TCP. It is what a write through
// the log can't be faster than. It reads what it is and then its peers from in, a line each, and serves until in ends.
func ServeRaft(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxNodeSpec)
	var spec raftSpec
	if err := nextLine(lines, &spec); err != nil {
		return fmt.Errorf("reading what this member is: %w", err)
	}
	if spec.Command < 1 || spec.Command > maxRaftCommand {
		return fmt.Errorf("a command has %d bytes; it must have 1 to %d", spec.Command, maxRaftCommand)
	}
	logger := hclog.New(&hclog.LoggerOptions{Name: "raft", Level: hclog.Error, Output: os.Stderr})
	transportConfig := cluster.TransportConfig()
	transportConfig.Logger = logger
	transport, err := raft.NewTCPTransportWithConfig("127.0.0.1:0", nil, transportConfig)
	if err != nil {
		return fmt.Errorf("listening for raft: %w", err)
	}
	defer func() { err = errors.Join(err, transport.Close()) }()
	listener, err := listenLoopback()
	if err != nil {
		return err
	}
	member := &bareRaft{command: make([]byte, spec.Command)}
	server := &fasthttp.Server{
		Handler: member.serve, ReadTimeout: ceilingTimeout, WriteTimeout: maxRaftDrive + ceilingTimeout,
		MaxRequestBodySize: ceilingBodyLimit, Concurrency: 2 * MaxConcurrency, CloseOnShutdown: true,
		Logger: log.New(io.Discard, "", 0),
	}
	failed := make(chan error, 1)
	if err := json.NewEncoder(out).Encode(raftAddress{Raft: string(transport.LocalAddr()), HTTP: listener.Addr().String()}); err != nil {
		return fmt.Errorf("writing the addresses: %w", err)
	}
	var peers []raftPeer
	if err := nextLine(lines, &peers); err != nil {
		return fmt.Errorf("reading the members: %w", err)
	}
	stop, err := member.open(spec, peers, transport, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	go func() { failed <- server.Serve(listener) }()
	defer func() { _ = server.Shutdown() }()
	return untilEnd(ctx, in, failed)
}

func nextLine(lines *bufio.Scanner, into any) error {
	if !lines.Scan() {
		return errors.Join(io.ErrUnexpectedEOF, lines.Err())
	}
	return json.Unmarshal(lines.Bytes(), into)
}

// bareRaft is one member.
type bareRaft struct {
	raft    *raft.Raft
	command []byte
}

func (b *bareRaft) open(spec raftSpec, peers []raftPeer, transport raft.Transport, logger hclog.Logger) (stop func() error, err error) {
	disk, err := cluster.OpenBareLog(filepath.Join(spec.Dir, "raft.db"))
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, disk.Close())
		}
	}()
	cached, err := cluster.CachedLog(disk)
	if err != nil {
		return nil, fmt.Errorf("caching the log: %w", err)
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(spec.Dir, 1, logger)
	if err != nil {
		return nil, fmt.Errorf("opening the snapshots: %w", err)
	}
	config := cluster.Tuning{}.RaftConfig(spec.ID, spec.Members)
	config.Logger = logger
	if b.raft, err = raft.NewRaft(config, nothing{}, cached, disk, snapshots, transport); err != nil {
		return nil, fmt.Errorf("opening raft: %w", err)
	}
	var members raft.Configuration
	for _, p := range peers {
		members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(p.ID), Address: raft.ServerAddress(p.Raft)})
	}
	if err := b.raft.BootstrapCluster(members).Error(); err != nil {
		return nil, errors.Join(fmt.Errorf("bootstrapping raft: %w", err), b.raft.Shutdown().Error())
	}
	return func() error { return errors.Join(b.raft.Shutdown().Error(), disk.Close()) }, nil
}

func (b *bareRaft) serve(ctx *fasthttp.RequestCtx) {
	switch string(ctx.Path()) {
	case raftLeadsPath:
		if b.raft.State() != raft.Leader || b.raft.VerifyLeader().Error() != nil {
			ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
		}
	case raftDrivePath:
		b.drive(ctx)
	default:
		if err := b.raft.Apply(b.command, raftApplyWait).Error(); err != nil {
			ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
			return
		}
		ctx.SetStatusCode(fasthttp.StatusCreated)
		ctx.SetContentType("application/json")
		ctx.SetBodyString(`{"applied":true}`)
	}
}

// drive has callers beside the leader apply one command after the other, each waiting for its own.
func (b *bareRaft) drive(ctx *fasthttp.RequestCtx) {
	callers, err := ctx.QueryArgs().GetUint("callers")
	ms, msErr := ctx.QueryArgs().GetUint("ms")
	duration := time.Duration(ms) * time.Millisecond
	if errors.Join(err, msErr) != nil || callers < 1 || callers > maxRaftCallers || duration > maxRaftDrive {
		ctx.SetStatusCode(fasthttp.StatusBadRequest)
		return
	}
	seen := load.NewSample(1)
	var lock sync.Mutex
	var failures int64
	var calling sync.WaitGroup
	before, start := load.SelfCPU(), time.Now()
	for range callers {
		calling.Go(func() {
			var own []time.Duration
			var lost int64
			for now := time.Now(); now.Sub(start) < duration; {
				err := b.raft.Apply(b.command, raftApplyWait).Error()
				done := time.Now()
				if err != nil {
					lost++
				} else {
					own = append(own, done.Sub(now))
				}
				now = done
			}
			seen.Record(own...)
			lock.Lock()
			defer lock.Unlock()
			failures += lost
		})
	}
	calling.Wait()
	answer := raftDriven{
		Applied: seen.Succeeded(), Failed: failures, Seconds: time.Since(start).Seconds(),
		CPU: (load.SelfCPU() - before).Seconds(),
	}
	var body []byte
	if answer.Latency, err = result.NewDistribution(seen.Operations[0].Latency); err == nil {
		body, err = json.Marshal(answer)
	}
	if err != nil {
		ctx.SetStatusCode(fasthttp.StatusInternalServerError)
		return
	}
	ctx.SetContentType("application/json")
	ctx.SetBody(body)
}

// nothing is a state machine that takes batches and keeps nothing.
type nothing struct{}

func (nothing) Apply(*raft.Log) any                  { return nil }
func (nothing) ApplyBatch(entries []*raft.Log) []any { return make([]any, len(entries)) }
func (nothing) Snapshot() (raft.FSMSnapshot, error)  { return nothing{}, nil }
func (nothing) Restore(from io.ReadCloser) error     { return from.Close() }
func (nothing) Persist(sink raft.SnapshotSink) error { return sink.Close() }
func (nothing) Release()                             {}

var _ raft.BatchingFSM = nothing{}
