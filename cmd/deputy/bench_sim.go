package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/bench"
)

func (a *app) benchSim() *cobra.Command {
	var o bench.SimOptions
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "What leases and gossip cost clusters of 10, 100 and 1,000 nodes, simulated",
		Long: `Simulate clusters in virtual time: how often nodes ask the leader for a lease, what raft sends for that, how many
messages and bytes a node and the leader have to do with, and how long a revocation takes to reach every node by gossip.
Beside each rate is what the formula of docs/performance.md gives. Nothing is sent anywhere.`,
		Example: "  deputy bench sim --nodes 10,100,1000 --revocations-per-second 5 --loss 0.01",
		Args:    exactly(),
	}
	cmd.RunE = a.benchmark(nil, func(ctx context.Context, _ *slog.Logger) (benchReport, bool, error) {
		report, err := bench.Simulate(ctx, o)
		if err != nil {
			return nil, false, err
		}
		return report, true, nil
	})
	flags := cmd.Flags()
	flags.IntSliceVar(&o.Nodes, "nodes", bench.DefaultSimNodes(), "sizes of the clusters")
	flags.DurationVar(&o.Duration, "duration", bench.DefaultSimDuration, "virtual time of each")
	flags.DurationVar(&o.Latency, "latency", bench.DefaultSimLatency, "of the network, one way, on average")
	flags.Float64Var(&o.Loss, "loss", bench.DefaultSimLoss, "share of datagrams that are lost")
	flags.Float64Var(&o.Revocations, "revocations-per-second", bench.DefaultSimRevocations, "in the whole cluster")
	flags.DurationVar(&o.Commit, "commit", bench.DefaultSimCommit, "time of one commit of the log")
	flags.Uint64Var(&o.Seed, "seed", 1, "of all that is drawn")
	return cmd
}
