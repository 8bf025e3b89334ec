package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/bench"
	"github.com/deputy-id/deputy/bench/report"
	"github.com/deputy-id/deputy/client"
)

func (a *app) benchCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "bench",
		Short: "Measure a cluster, against what the machine could do at best",
	},
		a.benchLoad(bench.WorkloadMint, "Tokens by client_credentials, against an HTTP handler that only signs"),
		a.benchLoad(bench.WorkloadIntrospect, "Introspection of tokens seen before, against an HTTP handler that only looks them up"),
		a.benchRun(), a.benchLatency(), a.benchWrites(), a.benchScale(), a.benchSim(), a.benchFill(), a.benchCompare(), a.benchReport(), benchCeilings(a), benchSelf(a), benchNode(a), benchRaft(a),
	)
}

// benchReport is what every benchmark ends with.
type benchReport interface {
	WriteTable(io.Writer) error
	WriteJSON(io.Writer) error
}

// errMissed is the failure of a benchmark that ran well and found too little.
var errMissed = errors.New("the ratio asked for was missed")

// benchmark makes the RunE of a benchmark: the report is shown, also beside an error, and met says whether it is
// enough.
func (a *app) benchmark(require *bool, act func(ctx context.Context, log *slog.Logger) (report benchReport, met bool, err error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		if a.output != formatTable && a.output != formatJSON {
			return usagef("--output is %q; a benchmark has %s and %s", a.output, formatTable, formatJSON)
		}
		a.started = true
		report, met, err := act(cmd.Context(), slog.New(slog.NewTextHandler(a.err, nil)))
		if report == nil {
			return err
		}
		write := report.WriteTable
		if a.output == formatJSON {
			write = report.WriteJSON
		}
		if err := errors.Join(err, write(a.out)); err != nil {
			return err
		}
		if require != nil && *require && !met {
			return errMissed
		}
		return nil
	}
}

// nodesFlag names the nodes to load; they take the place of --addr.
func (a *app) nodesFlag(cmd *cobra.Command, nodes *[]string) {
	cmd.Flags().StringSliceVar(nodes, "nodes", nil, "nodes to load, such as http://127.0.0.1:8401,http://127.0.0.1:8402 (default those of --addr)")
}

func (a *app) benchClient(nodes []string) (*client.Client, error) {
	if len(nodes) > 0 {
		a.address = strings.Join(nodes, ",")
	}
	return a.client()
}

func (a *app) benchLoad(workload bench.Workload, short string) *cobra.Command {
	o := bench.Options{Workload: workload}
	var nodes []string
	var self, require bool
	cmd := &cobra.Command{
		Use:   string(workload),
		Short: short,
		Long: short + `.

The load is closed-loop: a connection asks again once it has its answer. Ceilings run in a process of their
own; they read the same requests and answer as many bytes, and take turns with what is measured. The ratio is
the median of all turns.

With --self the run brings up one server in memory, pins it and the ceilings to one core and the generator to
the others: that is the figure to compare. Without it, the nodes given are loaded as they are; the run makes
agent bench-agent and application bench-app there, and removes them.`,
		Example: fmt.Sprintf(`  deputy bench %[1]s --self
  deputy bench %[1]s --nodes http://127.0.0.1:8401,http://127.0.0.1:8402 --concurrency 128 --duration 30s -o json`, workload),
		Args: exactly(),
	}
	a.measure(cmd, &require, func(ctx context.Context, p *report.Progress, log *slog.Logger) (finding, error) {
		if require && !self {
			return finding{}, usagef("--require needs --self: the ratio asked for is that of one server core")
		}
		var err error
		if o.Binary, err = os.Executable(); err != nil {
			return finding{}, fmt.Errorf("finding this binary: %w", err)
		}
		if !self {
			if o.Client, err = a.benchClient(nodes); err != nil {
				return finding{}, err
			}
		}
		o.Progress, o.Logger, o.Stderr = p, log, p.Or(a.err)
		found, err := bench.Run(ctx, o)
		if found == nil {
			return finding{}, err
		}
		return finding{found.Result(), found.WriteTable}, err
	})
	flags := cmd.Flags()
	a.nodesFlag(cmd, &nodes)
	flags.BoolVar(&self, "self", false, "bring up one server on one core, and measure that")
	cmd.MarkFlagsMutuallyExclusive("self", "nodes")
	flags.IntVar(&o.Concurrency, "concurrency", bench.DefaultConcurrency, "connections")
	flags.DurationVar(&o.Duration, "duration", bench.DefaultDuration, "measured time of the nodes, and of each ceiling")
	flags.DurationVar(&o.WarmUp, "warm-up", bench.DefaultWarmUp, "time before that, shown but not counted")
	flags.IntVar(&o.Rounds, "rounds", bench.DefaultRounds, "turns to take")
	if workload == bench.WorkloadIntrospect {
		flags.IntVar(&o.WarmTokens, "tokens", bench.DefaultWarmTokens, "distinct tokens")
		flags.BoolVar(&o.Cold, "cold", false, "with --self: tokens that the server has not seen, against an HTTP handler that verifies each")
	}
	if workload == bench.WorkloadMint {
		flags.BoolVar(&o.SecretOnly, "secret-only", false, "mint by client_secret alone, without private_key_jwt and DPoP beside it")
		flags.IntVar(&o.Policies, "policies", 0, "with --self: policies beside those that a new cluster comes with; every tenth applies to each mint")
	}
	flags.StringVar(&o.Profile, "cpu-profile", "", "with --self: write a CPU profile of the server to this file")
	flags.BoolVar(&require, "require", false, "fail where the ratio asked for is missed")
	return cmd
}

func (a *app) benchScale() *cobra.Command {
	var o bench.ScaleOptions
	var require, restart bool
	var folder string
	cmd := &cobra.Command{
		Use:   "scale",
		Short: "Memory, snapshots and mint speed of a large store, in this process",
		Long: `Fill one state machine in this process by way of the replicated log's commands, and print bytes per object,
what a snapshot costs, and how fast sessions are minted over it, and tokens verified, compared with an empty one. It says
how much memory it will need before it begins, and refuses where there is less.

--restart measures the real server instead: it fills a data folder by the API of a server that it brings up, kills that
server, times the next one until it is ready, and compares the two workloads there with those at an empty one.`,
		Example: `  deputy bench scale --agents 100000 --delegations 1000000 --revocations 1000000
  deputy bench scale --agents 1000000 --delegations 10000000 --revocations 10000000 --restart`,
		Args: exactly(),
	}
	cmd.RunE = a.benchmark(&require, func(ctx context.Context, log *slog.Logger) (benchReport, bool, error) {
		o.Logger = log
		if restart {
			binary, err := os.Executable()
			if err != nil {
				return nil, false, fmt.Errorf("finding this binary: %w", err)
			}
			report, err := bench.Restart(ctx, bench.RestartOptions{ScaleOptions: o, Binary: binary, Folder: folder, Stderr: a.err})
			if report == nil {
				return nil, false, err
			}
			return report, report.Met(), err
		}
		report, err := bench.Scale(ctx, o)
		if err != nil {
			return nil, false, err
		}
		return report, report.Met(), nil
	})
	flags := cmd.Flags()
	flags.IntVar(&o.Agents, "agents", bench.DefaultScaleAgents, "agents")
	flags.IntVar(&o.Delegations, "delegations", bench.DefaultScaleDelegations, "delegations; a tenth as many principals lend them")
	flags.IntVar(&o.Revocations, "revocations", bench.DefaultScaleRevocations, "entries of the revocation set")
	flags.IntVar(&o.Batch, "batch", bench.DefaultScaleBatch, "objects in one command")
	flags.IntVar(&o.Rounds, "rounds", bench.DefaultScaleRounds, "turns that the full and the empty store take at minting")
	flags.DurationVar(&o.Round, "round", bench.DefaultScaleRound, "length of a turn")
	flags.BoolVar(&restart, "restart", false, "measure the restart of a server with such a data folder instead")
	flags.StringVar(&folder, "folder", "", "with --restart: where to make the data folders (default that of temporary files); they are removed")
	flags.BoolVar(&require, "require", false, "fail where the ratio asked for is missed")
	return cmd
}

func (a *app) benchFill() *cobra.Command {
	var o bench.LoadOptions
	var nodes []string
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Load agents, principals and delegations into a running cluster, and leave them there",
		Long: `Load agents, a tenth as many principals as delegations, and delegations by POST /api/v1/bulk. Their names begin
with bench-load-. They stay: load a cluster that may be thrown away.`,
		Example: "  deputy bench load --agents 100000 --delegations 1000000 --nodes http://127.0.0.1:8401",
		Args:    exactly(),
	}
	cmd.RunE = a.benchmark(nil, func(ctx context.Context, log *slog.Logger) (benchReport, bool, error) {
		var err error
		if o.Client, err = a.benchClient(nodes); err != nil {
			return nil, false, err
		}
		o.Logger = log
		report, err := bench.Load(ctx, o)
		if err != nil {
			return nil, false, err
		}
		return report, true, nil
	})
	flags := cmd.Flags()
	a.nodesFlag(cmd, &nodes)
	flags.IntVar(&o.Agents, "agents", bench.DefaultScaleAgents, "agents")
	flags.IntVar(&o.Delegations, "delegations", bench.DefaultScaleDelegations, "delegations")
	flags.IntVar(&o.Batch, "batch", bench.DefaultLoadBatch, "objects in one request")
	flags.IntVar(&o.Concurrency, "concurrency", bench.DefaultLoadConcurrency, "requests under way")
	return cmd
}

// benchCeilings is the process that a run measures the machine with.
func benchCeilings(a *app) *cobra.Command {
	var o bench.CeilingOptions
	var kinds []string
	cmd := &cobra.Command{
		Use:    "ceiling-server",
		Short:  "Serve the ceilings of a benchmark on loopback until standard input ends",
		Hidden: true,
		Args:   exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.started = true
			for _, kind := range kinds {
				o.Kinds = append(o.Kinds, bench.Ceiling(kind))
			}
			return bench.ServeCeilings(cmd.Context(), o, a.in, a.out)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&kinds, "kind", nil, "empty, sign, verify or lookup (repeatable)")
	flags.IntVar(&o.BodyBytes, "body-bytes", bench.DefaultBodyBytes, "length of an answer's body")
	flags.IntVar(&o.TokenBytes, "token-bytes", bench.DefaultTokenBytes, "length of a signed token")
	flags.StringVar(&o.VerifyKey, "verify-key", "", "Ed25519 public key to verify by, base64url")
	return cmd
}

// benchSelf is the server that a run brings up for itself.
func benchSelf(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    "self-server",
		Short:  "Serve one node in memory on loopback until standard input ends",
		Hidden: true,
		Args:   exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.started = true
			return bench.ServeSelf(cmd.Context(), a.in, a.out)
		},
	}
}
