package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
)

// stopFlags are those of every command that stops something: why, and how sure the answer is to be.
type stopFlags struct {
	reason string
	wait   string
	within time.Duration
}

// defaultFenceWait is how long a fence is waited for: longer than the longest usual lease.
const defaultFenceWait = 15 * time.Second

// add makes the flags; wait is what the command waits for by itself.
func (f *stopFlags) add(a *app, cmd *cobra.Command, wait string) {
	reasonFlag(cmd, &f.reason)
	f.addWait(a, cmd, wait)
}

func (f *stopFlags) addWait(a *app, cmd *cobra.Command, wait string) {
	cmd.Flags().StringVar(&f.wait, "wait", wait, "committed: a majority has it on disk; fenced: no node acts against it any more, not even one that is cut off")
	cmd.Flags().DurationVar(&f.within, "wait-timeout", defaultFenceWait, "with --wait fenced: how long to wait, 1s to 60s")
	mustComplete(cmd.RegisterFlagCompletionFunc("wait", cobra.FixedCompletions([]string{wire.WaitCommitted, wire.WaitFenced}, cobra.ShellCompDirectiveNoFileComp)))
	before(cmd, func() error {
		switch {
		case f.wait != wire.WaitCommitted && f.wait != wire.WaitFenced:
			return usagef("--wait is %q; it must be %s or %s", f.wait, wire.WaitCommitted, wire.WaitFenced)
		case f.within < time.Second || f.within > time.Minute:
			return usagef("--wait-timeout is %s; it must be between 1s and 60s", f.within)
		case f.wait == wire.WaitFenced:
			a.patience = f.within
		}
		a.unanswered = "it may have been stopped all the same; ask again: to stop something twice does no harm"
		return nil
	})
}

func (f *stopFlags) options() []client.Option {
	if f.wait == wire.WaitFenced {
		return []client.Option{client.Fenced(f.within)}
	}
	return nil
}

// stopped shows an answer and what it says of the stop. Who asked for a fence and did not get one has failed: the
// exit code says so, to scripts as well.
func (f *stopFlags) stopped(a *app, answer any, stop *wire.Stop, human func(*sheet)) error {
	if err := a.show(answer, func(s *sheet) {
		human(s)
		s.stop(stop)
	}); err != nil {
		return err
	}
	if !stop.Committed {
		a.note("not committed: no majority can be reached. The node that was asked keeps it, denies it wherever it can, and commits it when a majority is back")
	}
	if f.wait == wire.WaitFenced && !stop.Fenced {
		return errNotFenced(stop)
	}
	return nil
}

func errNotFenced(stop *wire.Stop) error {
	var missing []string
	for _, n := range stop.Nodes {
		if n.State == wire.NodeWaiting {
			missing = append(missing, n.ID)
		}
	}
	if len(missing) == 0 {
		return errors.New("it is not fenced: some node may still act as if nothing had been stopped")
	}
	return fmt.Errorf("it is not fenced: %s may still act as if nothing had been stopped; ask again, or wait for the lease to run out", strings.Join(missing, ", "))
}

func (s *sheet) stop(stop *wire.Stop) {
	s.field("Committed", yesNo(stop.Committed))
	if line := fenceLine(stop); line != "" {
		s.field("Stopped", line)
	}
	if stop.Fenced {
		s.field("Followers", "services that follow a node's revocations refuse it "+s.by(stop.ValidatorsUntil))
		s.field("Offline", "tokens for services that never ask have ended "+s.by(stop.OfflineUntil))
	}
	s.field("Detail", stop.Detail)
}

// fenceLine is the line that a person on call waits for.
func fenceLine(stop *wire.Stop) string {
	var parts []string
	if d := stop.Denied; d != nil {
		parts = append(parts, fmt.Sprintf("denied on %d/%d nodes in %s", d.Nodes, d.Of, millis(d.After)))
	}
	slowest, expired := 0.0, 0
	for _, n := range stop.Nodes {
		slowest = max(slowest, n.After)
		if n.State == wire.NodeLeaseExpired {
			expired++
		}
	}
	switch {
	case stop.Fenced && expired > 0:
		parts = append(parts, fmt.Sprintf("fenced %s after the commit (%d by the end of its lease)", millis(slowest), expired))
	case stop.Fenced:
		parts = append(parts, fmt.Sprintf("fenced %s after the commit", millis(slowest)))
	case len(stop.Nodes) > 0:
		parts = append(parts, "NOT fenced")
	}
	return strings.Join(parts, ", ")
}

// millis shows milliseconds with as many digits as say something.
func millis(ms float64) string {
	switch {
	case ms < 0.1:
		return "<0.1 ms"
	case ms < 10:
		return fmt.Sprintf("%.1f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.1f s", ms/1000)
}

// killFlags are those of the kill switches.
type killFlags struct {
	stopFlags
	keepActive bool
	dryRun     bool
}

// killSwitch makes the commands revoke and kill of agents and principals. They differ in what they wait for.
func (a *app) killSwitch(cmd *cobra.Command, what, wait string, kill func(context.Context, *client.Client, string, *killFlags) (*wire.Kill, error)) *cobra.Command {
	var k killFlags
	cmd.RunE = a.does(func(ctx context.Context, c *client.Client, args []string) error {
		answer, err := kill(ctx, c, args[0], &k)
		if err != nil {
			return err
		}
		if answer.DryRun {
			return a.show(answer, func(s *sheet) { s.reach(answer, what) })
		}
		return k.stopped(a, answer, &answer.Stop, func(s *sheet) {
			s.field("Id", answer.ID)
			s.field("Status", string(answer.Status))
			s.field("Revoked", joined(answer.Handles))
			s.reached(answer)
		})
	})
	k.add(a, cmd, wait)
	cmd.Flags().BoolVar(&k.keepActive, "keep-active", false, "end what runs, but leave the "+what+" active")
	cmd.Flags().BoolVar(&k.dryRun, "dry-run", false, "change nothing; say what would be touched")
	return cmd
}

func (k *killFlags) request() wire.KillRequest {
	return wire.KillRequest{Reason: k.reason, KeepActive: k.keepActive}
}

// reach is the answer to a dry run.
func (s *sheet) reach(kill *wire.Kill, what string) {
	s.field("Dry run", "nothing was changed")
	s.field("Id", kill.ID)
	s.field("Status", string(kill.Status))
	s.field("Would revoke", joined(kill.Handles))
	s.reached(kill)
	s.field("And", "every session of the "+what+", and of sub-agents that run under it: 'deputy session list' has them")
}

func (s *sheet) reached(kill *wire.Kill) {
	more := ""
	if kill.Truncated {
		more = " or more"
	}
	s.field("Active delegations", count(kill.ActiveDelegations)+more)
	s.field("Agents touched", count(kill.Agents)+more)
	s.field("Principals touched", count(kill.Principals)+more)
}
