package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/privatefile"
)

// Bounds of the demonstration.
const (
	demoNodes      = 3
	readyTimeout   = 60 * time.Second // seconds on an idle machine; this is for a busy one
	readyPoll      = 20 * time.Millisecond
	votePoll       = 500 * time.Millisecond
	childTimeout   = stopTimeout + 5*time.Second // a node's own bound, and a little
	maxBasePort    = 65535 - 33
	joinTokenLasts = 5 * time.Minute
)

func (a *app) demoCommand() *cobra.Command {
	d := demo{app: a}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run three nodes on this machine and walk through an example",
		Long: `Run a cluster of three nodes, each a process with a data folder of its own, and walk through an example:
agents are made, a session is minted at one node, introspected at the second, revoked at the third and dead at
all of them; another ends with its agent by the kill switch. Then the nodes stay up until Ctrl-C. Another run finds
the same data.

With --base-port 8400 the nodes listen at 127.0.0.1, ports 8401-8403 (public), 8411-8413 (cluster),
8421-8423 (metrics and health) and 8431-8433 (gossip). Each writes its log to DIR/nX/log. DIR/env holds the
addresses and an admin's token for other terminals.`,
		Example: "  deputy demo --dir .deputy",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d.basePort < 1 || d.basePort > maxBasePort {
				return usagef("--base-port is %d; it must be between 1 and %d", d.basePort, maxBasePort)
			}
			a.started = true
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&d.dir, "dir", ".deputy", "where the nodes keep their data")
	cmd.Flags().IntVar(&d.basePort, "base-port", 8400, "the ports are counted from here")
	return cmd
}

// demo is a cluster of child processes and the example told with it.
type demo struct {
	*app
	dir      string
	basePort int

	nodes  []*demoNode
	cancel context.CancelCauseFunc
	token  string // the admin's
	killed string // what came of the example's kill switch
}

func (d *demo) run(ctx context.Context) (err error) {
	// Where the kernel ends children with their parent, it does so when the thread that started them ends: this
	// goroutine starts them all, and keeps its thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	if err := d.prepare(); err != nil {
		return err
	}
	pidFile := filepath.Join(d.dir, "pid")
	if err := privatefile.Replace(pidFile, []byte(strconv.Itoa(os.Getpid())+"\n")); err != nil {
		return err
	}
	defer os.Remove(pidFile)

	ctx, d.cancel = context.WithCancelCause(ctx)
	defer d.cancel(nil)
	go parentInterrupted(ctx, func() { d.cancel(context.Canceled) })
	defer func() { err = errors.Join(err, d.stop()) }()

	began := time.Now()
	err = d.bringUp(ctx)
	if err == nil {
		fmt.Fprintf(d.out, "%d nodes are up after %s\n\n", demoNodes, elapsed(began))
		err = d.tell(ctx)
	}
	if died := nodeDeath(ctx); died != nil {
		return died
	}
	if ctx.Err() != nil {
		return nil // asked to stop before all was shown
	}
	if err != nil {
		return err
	}
	d.whatNext()
	d.tellWhenAllVote(ctx)
	<-ctx.Done()
	if died := nodeDeath(ctx); died != nil {
		return died
	}
	return nil
}

// nodeDeath returns the node's end that ended ctx, if that is what did.
func nodeDeath(ctx context.Context) error {
	var died *nodeDiedError
	if errors.As(context.Cause(ctx), &died) {
		return died
	}
	return nil
}

// prepare writes the nodes' configurations, once it is sure that their ports are free.
func (d *demo) prepare() error {
	for i := 1; i <= demoNodes; i++ {
		d.nodes = append(d.nodes, newDemoNode(d.dir, i, d.basePort))
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	for _, n := range d.nodes {
		if err := n.portsFree(); err != nil {
			return d.explainPort(err)
		}
	}
	for _, n := range d.nodes {
		if err := n.configure(d.nodes); err != nil {
			return err
		}
	}
	return nil
}

// explainPort adds what to do about a port that is taken.
func (d *demo) explainPort(err error) error {
	var taken *portTakenError
	if !errors.As(err, &taken) {
		return err
	}
	known := identity.Errorf(identity.CodeConflict, "%v", taken)
	if pid := d.runningPID(); pid > 0 {
		return known.WithHint("a demo of %s is running already as process %d: use it (. %s), or end it with kill -INT %d",
			d.dir, pid, filepath.Join(d.dir, "env"), pid)
	}
	return known.WithHint("see who has it with `ss -lntup 'sport = :%d'` and stop that, or take other ports with --base-port %d",
		taken.port, d.basePort+1000)
}

func (d *demo) runningPID() int {
	text, err := os.ReadFile(filepath.Join(d.dir, "pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return 0
	}
	process, err := os.FindProcess(pid)
	if err != nil || process.Signal(syscall.Signal(0)) != nil {
		return 0
	}
	return pid
}

// bringUp starts the nodes: the first run bootstraps n1 and has the others join it, a later one starts all.
func (d *demo) bringUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("the nodes were not ready within %s; see %s", readyTimeout, filepath.Join(d.dir, "n*", "log")))
	defer cancel()
	first, others := d.nodes[0], d.nodes[1:]
	fmt.Fprintf(d.out, "starting %d nodes with their data in %s\n", demoNodes, d.dir)
	for _, n := range d.nodes {
		// A node with data may be needed for a quorum, so it starts along with n1. One that died before it had
		// joined is given another token below.
		if n == first || n.hasData() {
			if err := n.start(d, n == first || n.joined()); err != nil {
				return err
			}
		}
	}
	if err := first.ready(ctx); err != nil {
		return err
	}
	if err := d.readToken(); err != nil {
		return err
	}
	c, err := d.client(first)
	if err != nil {
		return err
	}
	for _, n := range others {
		if n.joined() || (n.running() && n.ready(ctx) == nil) {
			continue
		}
		token, err := c.CreateJoinToken(ctx, wire.JoinTokenRequest{Duration: seconds(joinTokenLasts)})
		if err != nil {
			return fmt.Errorf("asking n1 for a join token for %s: %w", n.id, err)
		}
		if err := privatefile.Replace(n.joinTokenPath(), []byte(token.Token+"\n")); err != nil {
			return err
		}
		if err := n.start(d, true); err != nil {
			return err
		}
	}
	for _, n := range others {
		if err := n.ready(ctx); err != nil {
			return err
		}
		if err := n.markJoined(); err != nil {
			return err
		}
	}
	if err := d.undrain(ctx, c); err != nil {
		return err
	}
	return d.writeEnv()
}

// undrain has nodes serve again that somebody has left draining in an earlier run: the example needs them all.
func (d *demo) undrain(ctx context.Context, c *client.Client) error {
	for _, n := range d.nodes {
		if !n.probe(ctx).drains() {
			continue
		}
		if _, err := c.DrainMember(ctx, n.id, false); err != nil {
			return fmt.Errorf("ending the drain of %s: %w", n.id, err)
		}
		if err := n.until(ctx, func(r readiness) bool { return r.Ready }); err != nil {
			return err
		}
		fmt.Fprintf(d.out, "%s was left draining; it serves again\n", n.id)
	}
	return nil
}

// tellWhenAllVote says when the cluster can do without any one of its nodes: a node that has joined is given a
// vote only once it was seen to be stable for a while.
func (d *demo) tellWhenAllVote(ctx context.Context) {
	c, err := d.client(d.nodes[0])
	if err != nil {
		return
	}
	deadline := time.After(readyTimeout)
	ticker := time.NewTicker(votePoll)
	defer ticker.Stop()
	for {
		if members, err := c.Members(ctx); err == nil && statusOf(&wire.Settings{}, members.Items, nil).Voters == demoNodes {
			fmt.Fprintf(d.out, "\nAll %d nodes have a vote now: the cluster goes on without any one of them.\n", demoNodes)
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			return
		case <-ctx.Done():
			return
		}
	}
}

// readToken reads the admin's token, which n1 wrote when it made the cluster.
func (d *demo) readToken() error {
	text, err := os.ReadFile(d.nodes[0].rootTokenPath())
	if err != nil {
		return identity.Errorf(identity.CodeUnauthenticated, "the admin's token is gone: %w", err).
			WithHint("remove %s and run again: the demo starts anew", d.dir)
	}
	d.token = strings.TrimSpace(string(text))
	return nil
}

// writeEnv leaves for other terminals what they need to speak to the cluster.
func (d *demo) writeEnv() error {
	addresses := make([]string, len(d.nodes))
	for i, n := range d.nodes {
		addresses[i] = n.url()
	}
	return privatefile.Replace(filepath.Join(d.dir, "env"),
		fmt.Appendf(nil, "export %s=%s\nexport %s=%s\n", envAddress, strings.Join(addresses, ","), envToken, d.token))
}

// client speaks to one node only, and to no other where that one fails.
func (d *demo) client(n *demoNode) (*client.Client, error) {
	return client.New(client.Options{Addresses: []string{n.url()}, Token: d.token, UserAgent: "deputy-demo/" + version()})
}

// stop ends all nodes, each in order as an operator would, and waits for them.
func (d *demo) stop() error {
	var running []*demoNode
	for _, n := range d.nodes {
		if n.running() {
			running = append(running, n)
		}
	}
	if len(running) == 0 {
		return nil
	}
	began := time.Now()
	fmt.Fprint(d.out, "\nstopping ")
	var failures []error
	for _, n := range running {
		n.end()
		fmt.Fprintf(d.out, "%s ", n.id)
	}
	deadline := time.After(childTimeout)
	for _, n := range running {
		if err := n.wait(deadline); err != nil {
			failures = append(failures, err)
		}
	}
	fmt.Fprintf(d.out, "- done after %s\n", elapsed(began))
	return errors.Join(failures...)
}

func elapsed(since time.Time) string { return rounded(time.Since(since)) }

// rounded leaves three digits that mean something.
func rounded(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
