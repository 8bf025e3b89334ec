package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/bench"
	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/report"
)

func (a *app) benchWrites() *cobra.Command {
	var o bench.WriteOptions
	var require bool
	cmd := &cobra.Command{
		Use:   "writes",
		Short: "Delegations created in a cluster of its own, against bare raft with the same settings",
		Long: `Bring up a cluster of real nodes on this machine, each a process with its log on disk, and beside it bare
hashicorp/raft over boltdb with the same settings: batches, timeouts, fsync. Delegations are created through the node
that leads and through all nodes in turn; bare raft applies commands of the same size for as many callers. They take
turns, and the ratio is the median of all turns.

The load is closed-loop: a caller asks again once it has its answer.`,
		Example: "  deputy bench writes --callers 512 --folder /var/tmp",
		Args:    exactly(),
	}
	a.measure(cmd, &require, func(ctx context.Context, p *report.Progress, log *slog.Logger) (finding, error) {
		var err error
		if o.Binary, err = os.Executable(); err != nil {
			return finding{}, fmt.Errorf("finding this binary: %w", err)
		}
		o.Progress, o.Logger, o.Stderr = p, log, p.Or(a.err)
		r, err := bench.Writes(ctx, o)
		return finding{result: r}, err
	})
	flags := cmd.Flags()
	flags.IntVar(&o.Nodes, "nodes", bench.DefaultWriteNodes, "nodes of each cluster")
	flags.IntVar(&o.Callers, "callers", bench.DefaultWriteCallers, "callers at once")
	flags.DurationVar(&o.Duration, "duration", bench.DefaultWriteDuration, "measured time of each subject")
	flags.DurationVar(&o.WarmUp, "warm-up", bench.DefaultWriteWarmUp, "time before that, shown but not counted")
	flags.IntVar(&o.Rounds, "rounds", bench.DefaultWriteRounds, "turns to take")
	flags.StringVar(&o.Folder, "folder", "", "where the nodes keep their data while it lasts (default the system's folder for temporary files)")
	flags.StringVar(&o.Profile, "cpu-profile", "", "write a CPU profile of the leader to this file")
	flags.BoolVar(&require, "require", false, "fail where the ratio asked for is missed")
	return cmd
}

// benchNode is one node of a run's own cluster.
func benchNode(a *app) *cobra.Command {
	return a.benchChild("node-server", "Serve one node of a benchmark's own cluster until standard input ends", bench.ServeNode)
}

// benchRaft is one member of the bare raft that writes are measured with.
func benchRaft(a *app) *cobra.Command {
	return a.benchChild("raft-server", "Serve one member of bare raft until standard input ends", bench.ServeRaft)
}

func (a *app) benchChild(use, short string, serve func(context.Context, io.Reader, io.Writer) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Hidden: true, Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.started = true
			return serve(cmd.Context(), a.in, a.out)
		},
	}
}

func (a *app) benchLatency() *cobra.Command {
	var o bench.LatencyOptions
	var self, require bool
	cmd := &cobra.Command{
		Use:   "latency",
		Short: "Latency of mint and introspection at half of the maximum, beside ceilings",
		Long: `Bring up one server in memory, find by a closed loop what it can do at most, and offer half of that at a constant
rate, run after run: mints, introspections, and the empty handler at the same rates in between; at that of mints also
handler + sign, which shows what any server here has that signs. What counts is the median of the runs' p99. Server
and generator share the CPUs unless --pin is given.

Some kernels have a thread that could run wait for a CPU although one is idle. To leave that out, give run and server
realtime scheduling by chrt(1); the result says how it was scheduled.`,
		Example: `  deputy bench latency --self
  chrt --rr 1 deputy bench latency --self   # as root, or with an rtprio limit of 1`,
		Args: exactly(),
	}
	a.measure(cmd, &require, func(ctx context.Context, progress *report.Progress, log *slog.Logger) (finding, error) {
		if !self {
			return finding{}, usagef("say --self: the run brings up a server of its own, as it loads that to its limit")
		}
		var err error
		if o.Binary, err = os.Executable(); err != nil {
			return finding{}, fmt.Errorf("finding this binary: %w", err)
		}
		o.Progress, o.Logger = progress, log
		r, err := bench.MeasureLatency(ctx, o)
		return finding{result: r}, err
	})
	flags := cmd.Flags()
	flags.BoolVar(&self, "self", false, "bring up a server, and measure that")
	flags.BoolVar(&o.Pin, "pin", false, "give the server a CPU of its own, and the generator the others")
	flags.IntVar(&o.Connections, "concurrency", bench.DefaultConcurrency, "connections")
	flags.IntVar(&o.Runs, "runs", bench.DefaultLatencyRuns, "runs of each")
	flags.DurationVar(&o.Duration, "duration", bench.DefaultLatencyDuration, "length of a run")
	flags.DurationVar(&o.Maximum, "maximum", bench.DefaultLatencyMaximum, "length of the closed loop that finds the maximum")
	flags.DurationVar(&o.WarmUp, "warm-up", bench.DefaultWarmUp, "time before that, shown but not counted")
	flags.DurationVar(&o.MaxLag, "max-lag", bench.DefaultMaxLag, "p99 of the generator's own lateness above which the run is INVALID")
	flags.BoolVar(&require, "require", false, "fail where what is asked for is missed")
	return cmd
}

// runFlags are those of bench run that need reading.
type runFlags struct {
	nodes           []string
	rate, ramp, slo string
	caFile, wait    string
	closed          bool
}

func (a *app) benchRun() *cobra.Command {
	var o bench.DriveOptions
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run WORKLOAD",
		Short: "Offer a load at a rate and see how it is answered",
		Long: `Offer a load and print how it was answered.

The load is open unless --closed is given: requests are due at the rate, whether or not earlier ones were answered, and
latency counts from when a request was due. So what waits behind a slow answer waits in the figures too. Requests are
dealt out to the nodes in turn. What was offered, sent, sent late and never sent is counted apart.

A run in which the generator itself was the bottleneck is marked INVALID and exits with 1: don't quote it. A share of
the answers is verified afterwards; wrong answers exit with 1 as well.

It loads the nodes of --nodes (or --addr), making agent bench-agent and application bench-app there and removing them;
or, with --self, one server that it brings up; or, with --cluster N, N nodes of its own with their data on disk.

` + workloadList(),
		Example: `  deputy bench run mint --self --rate 5000/s
  deputy bench run introspect --nodes https://n1:8401,https://n2:8401 --ca-file ca.pem --rate 20k/s --duration 60s
  deputy bench run fleet --cluster 3 --rate 3000/s --slo 'p99<5ms,errors<0.01%'
  deputy bench run mint --self --find-rate --slo 'p99<2ms,errors<0.01%'
  deputy bench run introspect --self --ramp '1000/s..20000/s over 60s'
  deputy bench run failover --cluster 3 --rate 600/s --duration 30s`,
		Args: exactly("WORKLOAD"),
	}
	var require bool
	a.measure(cmd, &require, func(ctx context.Context, progress *report.Progress, log *slog.Logger) (finding, error) {
		o.Workload, require = cmd.Flags().Arg(0), f.slo != ""
		o.Progress, o.Logger = progress, log
		if err := a.runOptions(&o, &f); err != nil {
			return finding{}, err
		}
		r, err := bench.Drive(ctx, o)
		return finding{result: r}, err
	})
	a.runFlagsOf(cmd, &o, &f)
	return cmd
}

func workloadList() string {
	var b strings.Builder
	b.WriteString("Workloads:\n")
	for _, w := range bench.DriveWorkloads() {
		fmt.Fprintf(&b, "  %-16s %s\n", w.Name, w.About)
	}
	return strings.TrimRight(b.String(), "\n")
}

func (a *app) runFlagsOf(cmd *cobra.Command, o *bench.DriveOptions, f *runFlags) {
	flags := cmd.Flags()
	a.nodesFlag(cmd, &f.nodes)
	flags.BoolVar(&o.Self, "self", false, "bring up one server in memory, and load that")
	flags.BoolVar(&o.Pin, "pin", true, "with --self: give the server a CPU of its own, and the generator the others")
	flags.IntVar(&o.OwnNodes, "cluster", 0, "bring up so many nodes with their data on disk, and load those")
	flags.BoolVar(&o.TLS, "tls", false, "with --cluster: the nodes serve by TLS")
	flags.StringVar(&o.Folder, "folder", "", "with --cluster: where the nodes keep their data while it lasts (default the system's folder for temporary files)")
	flags.StringVar(&f.caFile, "ca-file", "", "PEM file of the authorities that vouch for the nodes (default the system's)")
	flags.StringSliceVar(&o.Ops, "ops", nil, "ops listeners of the nodes, in their order, such as 127.0.0.1:8421: adds their CPU time and memory")
	cmd.MarkFlagsMutuallyExclusive("self", "cluster", "nodes")

	flags.StringVar(&f.rate, "rate", strconv.Itoa(bench.DefaultRate)+"/s", "requests due, such as 5000/s or 300/m; of a search the first one")
	flags.StringVar(&f.ramp, "ramp", "", "in place of --rate and --duration, such as '1000/s..10000/s over 60s'")
	flags.BoolVar(&f.closed, "closed", false, "closed loop: a connection asks again once it has its answer; for throughput only")
	flags.DurationVar(&o.Duration, "duration", bench.DefaultDuration, "measured time")
	flags.DurationVar(&o.WarmUp, "warm-up", bench.DefaultDriveWarmUp, "time before that, shown but not counted")
	flags.IntVar(&o.Connections, "concurrency", 0, fmt.Sprintf("connections (default %d, of a closed loop %d)", bench.DefaultOpenConnections, bench.DefaultConcurrency))
	flags.IntVar(&o.Backlog, "backlog", load.DefaultBacklog, "requests that may wait for a connection; more are skipped, and counted")
	flags.DurationVar(&o.LateAfter, "late-after", load.DefaultLateAfter, "a request sent this long after it was due counts as late")
	flags.DurationVar(&o.Timeout, "timeout", load.DefaultTimeout, "how long an answer may take")
	flags.DurationVar(&o.MaxLag, "max-lag", bench.DefaultMaxLag, "p99 of the generator's own lateness above which the run is INVALID")
	cmd.MarkFlagsMutuallyExclusive("rate", "ramp", "closed")
	cmd.MarkFlagsMutuallyExclusive("duration", "ramp")

	flags.StringVar(&f.slo, "slo", "", "what must hold, such as 'p99<2ms,errors<0.01%'; fails where it does not")
	flags.BoolVar(&o.Search, "find-rate", false, "look for the highest rate that meets --slo, in steps")
	flags.DurationVar(&o.Step, "step", bench.DefaultStep, "length of a step of --find-rate")

	flags.IntVar(&o.Tokens, "tokens", 0, fmt.Sprintf("introspect: distinct tokens (default %d, of introspect-zipf %d)", bench.DefaultWarmTokens, bench.DefaultZipfTokens))
	flags.Float64Var(&o.Zipf, "zipf", bench.DefaultZipf, "introspect-zipf: exponent of the mix, above 1; the higher, the fewer tokens get most questions")
	flags.IntVar(&o.Batch, "batch", bench.DefaultBatchSize, "introspect-batch: tokens in one request")
	flags.IntVar(&o.PerMint, "introspections", bench.DefaultPerMint, "fleet: for each mint")
	flags.IntVar(&o.RevokeEvery, "revoke-every", bench.DefaultRevokeEvery, "fleet: mints for each session that is ended")
	flags.StringVar(&f.wait, "wait", wire.WaitCommitted, "fleet and revoke: ends of sessions wait to be committed, or fenced")
	flags.DurationVar(&o.FaultAfter, "fault-after", 0, "failover and --stall: when it happens (default a third and half of the measured time)")
	flags.DurationVar(&o.Stall, "stall", 0, "with --self or --cluster: one node hangs for so long")
}

// runOptions reads the flags that are text.
func (a *app) runOptions(o *bench.DriveOptions, f *runFlags) (err error) {
	if o.Rate, err = load.ParseRate(f.rate); err != nil {
		return usagef("--rate: %v", err)
	}
	if f.ramp != "" {
		ramp, err := load.ParseRamp(f.ramp)
		if err != nil {
			return usagef("--ramp: %v", err)
		}
		o.Ramp = &ramp
	}
	if f.slo != "" {
		if o.SLO, err = load.ParseSLO(f.slo); err != nil {
			return usagef("--slo: %v", err)
		}
	}
	switch f.wait {
	case wire.WaitCommitted, wire.WaitFenced:
		o.Fenced = f.wait == wire.WaitFenced
	default:
		return usagef("--wait is %q; it must be %s or %s", f.wait, wire.WaitCommitted, wire.WaitFenced)
	}
	o.Closed = f.closed
	if f.caFile != "" {
		if o.CA, err = os.ReadFile(f.caFile); err != nil {
			return fmt.Errorf("reading --ca-file: %w", err)
		}
	}
	if o.Binary, err = os.Executable(); err != nil {
		return fmt.Errorf("finding this binary: %w", err)
	}
	if !o.Self && o.OwnNodes == 0 {
		if len(f.nodes) > 0 {
			a.address = strings.Join(f.nodes, ",")
		}
		to, err := a.clientOptions()
		if err != nil {
			return err
		}
		if len(o.CA) > 0 {
			if to.Transport, err = bench.TransportTrusting(o.CA); err != nil {
				return fmt.Errorf("--ca-file %s: %w", f.caFile, err)
			}
		}
		if o.Client, err = newClient(to); err != nil {
			return err
		}
		o.Token = to.Token
	}
	o.Stderr = a.err
	return nil
}
