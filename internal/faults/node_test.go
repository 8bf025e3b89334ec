package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/client"
)

// Bounds of what a node may take on a busy machine of two cores.
const (
	readyWait = 60 * time.Second
	stopWait  = 45 * time.Second
)

// node is one `deputy server` process with its data folder. It may be started and ended many times.
type node struct {
	id      string
	dir     string
	public  string
	cluster string
	gossip  string
	ops     string
	prefix  []string // put in front of the command line, to start it in a namespace
	keys    string   // further keys of its file

	process *process // nil while it is down
}

// process is one run of a node.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed once err is set
	err    error         // of exec.Cmd.Wait
}

func newNode(t *testing.T, on ground, id, dir string) *node {
	t.Helper()
	n := &node{id: id, dir: filepath.Join(dir, id)}
	require.NoError(t, os.MkdirAll(n.dir, 0o700))
	on.place(t, n)
	t.Cleanup(func() { n.bury(t) })
	return n
}

// configure writes the node's file; extra holds the keys that make it come into being.
func (n *node) configure(t *testing.T, extra string) {
	t.Helper()
	text := fmt.Sprintf("node_id: %s\ndata_dir: %s\npublic: {listen: %s}\ncluster: {listen: %s}\ngossip: {listen: %s}\nops: {listen: %s}\nlog: {level: info, format: text}\n%s\n%s\n",
		n.id, n.data(), n.public, n.cluster, n.gossip, n.ops, n.keys, extra)
	require.NoError(t, os.WriteFile(n.configFile(), []byte(text), 0o600))
}

func (n *node) configFile() string { return filepath.Join(n.dir, "deputy.yaml") }
func (n *node) data() string       { return filepath.Join(n.dir, "data") }
func (n *node) logFile() string    { return filepath.Join(n.dir, "log") }
func (n *node) url() string        { return "http://" + n.public }

// launch starts the process and does not wait for it to be ready.
func (n *node) launch(t *testing.T) {
	t.Helper()
	require.Nil(t, n.process, "%s runs already", n.id)
	path, err := workshop.Binary()
	require.NoError(t, err)
	log, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer log.Close() // the process has its own copy

	line := append(slices.Clone(n.prefix), path, "server", "--config", n.configFile())
	p := &process{cmd: exec.Command(line[0], line[1:]...), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	require.NoError(t, p.cmd.Start())
	n.process = p
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
}

// start starts the process and waits until it may speak.
func (n *node) start(t *testing.T) {
	t.Helper()
	n.launch(t)
	n.waitReady(t)
}

func (n *node) waitReady(t *testing.T) {
	t.Helper()
	eventually(t, readyWait, n.id+" to be ready", func() error {
		select {
		case <-n.process.exited:
			return final(fmt.Errorf("it ended: %v\n%s", n.process.err, n.lastWords()))
		default:
			return n.ready()
		}
	})
}

// ready asks /readyz whether the node may speak.
func (n *node) ready() error {
	_, err := n.readiness()
	return err
}

// readiness is what a node that may speak says of itself.
type readiness struct {
	Remaining time.Duration // of its lease
}

func (n *node) readiness() (readiness, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.ops+"/readyz", nil)
	if err != nil {
		return readiness{}, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return readiness{}, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil {
		return readiness{}, err
	}
	if answer.StatusCode != http.StatusOK {
		return readiness{}, fmt.Errorf("/readyz answered %d: %s", answer.StatusCode, bytes.TrimSpace(body))
	}
	var state struct {
		Node  string `json:"node"`
		Ready bool   `json:"ready"`
		Lease int64  `json:"lease_remaining_milliseconds"`
	}
	if err := json.Unmarshal(body, &state); err != nil {
		return readiness{}, err
	}
	if state.Node != n.id || !state.Ready {
		return readiness{}, final(fmt.Errorf("the process at %s is %q, ready %t; %s was meant", n.ops, state.Node, state.Ready, n.id))
	}
	return readiness{Remaining: time.Duration(state.Lease) * time.Millisecond}, nil
}

// kill ends the process as a power cut would, without a word of warning.
func (n *node) kill(t *testing.T) {
	t.Helper()
	require.NotNil(t, n.process, "%s is down already", n.id)
	p := n.process
	n.process = nil
	require.NoError(t, p.cmd.Process.Kill())
	p.wait(t, n, 10*time.Second)
}

// pause stops the process where it stands, as a machine does that is suspended or swaps; it doesn't notice.
func (n *node) pause(t *testing.T) {
	t.Helper()
	require.NoError(t, n.process.cmd.Process.Signal(syscall.SIGSTOP))
}

// resume lets a paused process go on.
func (n *node) resume(t *testing.T) {
	t.Helper()
	require.NoError(t, n.process.cmd.Process.Signal(syscall.SIGCONT))
}

// stop asks the process to end and returns how it did.
func (n *node) stop(t *testing.T, signal os.Signal) error {
	t.Helper()
	require.NotNil(t, n.process, "%s is down already", n.id)
	p := n.process
	n.process = nil
	require.NoError(t, p.cmd.Process.Signal(signal))
	p.wait(t, n, stopWait)
	return p.err
}

// end waits until the process ends by itself, which it must do with an error, and returns what it said.
func (n *node) end(t *testing.T, within time.Duration) string {
	t.Helper()
	p := n.process
	p.wait(t, n, within)
	n.process = nil
	require.Error(t, p.err, "%s ended as if all were well", n.id)
	return n.lastWords()
}

func (p *process) wait(t *testing.T, n *node, within time.Duration) {
	t.Helper()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // the runtime writes what every goroutine is at
		<-p.exited
		require.FailNow(t, "a process did not end", "%s still ran after %s; all of its log is in %s\n%s", n.id, within, n.keepLog(t), n.lastWords())
	}
}

// bury ends what is left when a test is over and shows the log where the test failed.
func (n *node) bury(t *testing.T) {
	if p := n.process; p != nil {
		n.process = nil
		_ = p.cmd.Process.Signal(syscall.SIGKILL)
		<-p.exited
	}
	if t.Failed() {
		t.Logf("last words of %s:\n%s", n.id, n.lastWords())
	}
}

// keepLog saves the log from the test's own folder, which goes with it.
func (n *node) keepLog(t *testing.T) string {
	t.Helper()
	file, err := os.CreateTemp("", "deputy-"+n.id+"-*.log")
	require.NoError(t, err)
	defer file.Close()
	text, err := os.ReadFile(n.logFile())
	require.NoError(t, err)
	_, err = file.Write(text)
	require.NoError(t, err)
	return file.Name()
}

// lastWords are the last lines of the log.
func (n *node) lastWords() string {
	text, err := os.ReadFile(n.logFile())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return "\t" + strings.Join(lines[max(0, len(lines)-25):], "\n\t")
}

// client speaks to this node only.
func (n *node) client(t *testing.T, token string) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{Addresses: []string{n.url()}, Token: token})
	require.NoError(t, err)
	return c
}
