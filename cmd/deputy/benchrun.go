package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/bench"
	"github.com/deputy-id/deputy/bench/report"
	"github.com/deputy-id/deputy/bench/result"
)

// shown is a result as benchmarks show theirs.
type shown struct{ *result.Result }

func (s shown) WriteTable(w io.Writer) error { return report.Table(w, s.Result) }
func (s shown) WriteJSON(w io.Writer) error  { return s.Write(w) }

// progress shows how a run stands, unless the output is for a machine.
func (a *app) progress() *report.Progress {
	if a.output == formatJSON {
		return nil
	}
	return report.NewProgress(a.err, terminalWidth(a.err), time.Now)
}

// messages is where a run logs to: above its progress, if that is shown.
func (a *app) messages(p *report.Progress) *slog.Logger {
	var w io.Writer = a.err
	if p != nil {
		w = p
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

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
	cmd.RunE = a.benchmark(&require, func(ctx context.Context, _ *slog.Logger) (benchReport, bool, error) {
		var err error
		if o.Binary, err = os.Executable(); err != nil {
			return nil, false, fmt.Errorf("finding this binary: %w", err)
		}
		o.Command, o.Progress, o.Stderr = os.Args, a.progress(), a.err
		o.Logger = a.messages(o.Progress)
		r, err := bench.Writes(ctx, o)
		if r == nil {
			return nil, false, err
		}
		return shown{r}, met(r), err
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

// met reports whether every target that speaks of the run was met, and the run is valid.
func met(r *result.Result) bool {
	for i := range r.Subjects {
		for _, share := range r.Subjects[i].Shares {
			if share.Met != nil && !*share.Met {
				return false
			}
		}
	}
	return r.Verdict.Valid && (r.SLO == nil || r.SLO.Met)
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
