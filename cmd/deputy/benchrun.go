package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/bench"
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
