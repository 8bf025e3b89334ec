package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/server"
)

// freeBase finds a base port whose ports are all free, below the range from which the kernel hands out its own.
func freeBase(t *testing.T) int {
	t.Helper()
	for range 50 {
		base := 20000 + rand.IntN(12000)
		free := true
		for i := 1; i <= demoNodes && free; i++ {
			free = newDemoNode(t.TempDir(), i, base).portsFree() == nil
		}
		if free {
			return base
		}
	}
	t.Fatal("no run of free ports was found")
	return 0
}

// demoProcess is `deputy demo` as a process of its own.
type demoProcess struct {
	*exec.Cmd
	out  *lockedBuffer
	dir  string
	base int
	gone chan error
}

func startDemo(t *testing.T, dir string, base int) *demoProcess {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	p := &demoProcess{out: &lockedBuffer{}, dir: dir, base: base, gone: make(chan error, 1)}
	p.Cmd = exec.Command(self, "demo", "--dir", dir, "--base-port", strconv.Itoa(base))
	p.Env = append(os.Environ(), asCommand+"=1")
	p.Stdout, p.Stderr = p.out, p.out
	p.SysProcAttr = childAttributes() // no node outlives a test that breaks
	require.NoError(t, p.Start())
	go func() { p.gone <- p.Wait() }()
	t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

// says waits until the demo has said something.
func (p *demoProcess) says(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(p.out.String(), text) }, readyTimeout, 20*time.Millisecond,
		"the demo never said %q, but:\n%s", text, p.out)
}

// ends waits for the demo's end and tells its exit code.
func (p *demoProcess) ends(t *testing.T) int {
	t.Helper()
	select {
	case <-p.gone:
		return p.ProcessState.ExitCode()
	case <-time.After(readyTimeout):
		t.Fatalf("the demo did not end; it said:\n%s", p.out)
		return -1
	}
}

// pids finds the nodes' processes by their configuration files.
func (p *demoProcess) pids(t *testing.T) map[string]int {
	t.Helper()
	found := map[string]int{}
	entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, entry := range entries {
		text, err := os.ReadFile(entry)
		if err != nil {
			continue // it has ended
		}
		args := strings.Split(string(text), "\x00")
		for i := 1; i <= demoNodes; i++ {
			n := newDemoNode(p.dir, i, p.base)
			if len(args) > 3 && args[1] == "server" && args[3] == n.configPath() {
				found[n.id], err = strconv.Atoi(filepath.Base(filepath.Dir(entry)))
				require.NoError(t, err)
			}
		}
	}
	return found
}

func (p *demoProcess) requireNoNodes(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return len(p.pids(t)) == 0 }, readyTimeout, 20*time.Millisecond, "nodes outlive the demo")
}

var sessionPattern = regexp.MustCompile(`session (ses_[0-9a-z]{26}) is minted at n1 for support-triage-agent`)

func TestDemoTellsItsStoryAndFindsItsDataAgain(t *testing.T) {
	if _, err := os.Stat("/proc/self/cmdline"); err != nil {
		t.Skip("the nodes' processes are found by way of /proc")
	}
	alone(t)
	dir, base := filepath.Join(t.TempDir(), "deputy"), freeBase(t)

	// The first run makes everything and walks through the example.
	first := startDemo(t, dir, base)
	first.says(t, "Ctrl-C stops the nodes")
	text := first.out.String()
	for _, step := range []string{
		"agent support-triage-agent is made", "agent inbox-assistant is made", "application zendesk", "application gmail",
		"introspected at n2 by zendesk: active", "revoked at n3: denied on 3/3 nodes in", "introspected at n1, n2 and n3: inactive",
		"on behalf of user@company.com", "for 4h, resting on delegation dlg_", "act=inbox-assistant",
		"agent inbox-assistant is killed at n2: denied on 3/3 nodes in", "fenced", "inbox-assistant is activated again",
	} {
		require.Contains(t, text, step)
	}
	require.Len(t, first.pids(t), demoNodes, "each node is a process")
	session := sessionPattern.FindStringSubmatch(text)
	require.NotNil(t, session)

	info, err := os.Stat(filepath.Join(dir, "env"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	useEnv(t, dir)
	require.Len(t, *into[[]wire.Member](t, "", "cluster", "members"), demoNodes)
	require.True(t, into[wire.SessionState](t, "", "session", "get", session[1]).Revoked)

	// A second demo of the same ports says who has them.
	rival := startDemo(t, dir, base)
	require.Equal(t, exitFailed, rival.ends(t))
	require.Contains(t, rival.out.String(), "port "+strconv.Itoa(base+1)+", the public port of n1, is taken")
	require.Contains(t, rival.out.String(), "running already as process "+strconv.Itoa(first.Process.Pid))

	// Whatever is stopped meanwhile, the next run works.
	for _, args := range []string{"agent kill inbox-assistant", "principal kill user@company.com", "cluster drain n2", "cluster drain n1"} {
		require.Equal(t, exitDone, deputy(t, "", strings.Fields(args)...).code, args)
	}

	// SIGINT ends all of it in order.
	require.NoError(t, first.Process.Signal(os.Interrupt))
	require.Equal(t, exitDone, first.ends(t), first.out)
	first.requireNoNodes(t)
	require.NoFileExists(t, filepath.Join(dir, "pid"))

	// The second run finds what the first has made; a node that dies ends it, with the node's last words.
	second := startDemo(t, dir, base)
	second.says(t, "Ctrl-C stops the nodes")
	require.Contains(t, second.out.String(), "agent support-triage-agent is there from an earlier run")
	require.Contains(t, second.out.String(), "application gmail is there from an earlier run")
	require.Contains(t, second.out.String(), "n2 was left draining; it serves again")
	require.Contains(t, second.out.String(), "user@company.com is suspended from an earlier run")
	require.True(t, into[wire.SessionState](t, "", "session", "get", session[1]).Revoked, "a revocation survives")
	require.NoError(t, syscall.Kill(second.pids(t)["n2"], syscall.SIGKILL))
	require.Equal(t, exitFailed, second.ends(t))
	require.Contains(t, second.out.String(), "node n2 ended by itself (signal: killed)")
	require.Contains(t, second.out.String(), "the last lines of "+filepath.Join(dir, "n2", "log"))
	second.requireNoNodes(t)
}

// useEnv does what `. DIR/env` does.
func useEnv(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "env"))
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		require.True(t, ok, line)
		t.Setenv(name, value)
	}
}

func TestTakenPortIsNamedWithWhatToDo(t *testing.T) {
	alone(t)
	base := freeBase(t)
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+12))
	require.NoError(t, err)
	defer l.Close()
	got := deputy(t, "", "demo", "--dir", filepath.Join(t.TempDir(), "d"), "--base-port", strconv.Itoa(base))
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.err, fmt.Sprintf("port %d, the cluster port of n2, is taken", base+12))
	require.Contains(t, got.err, "hint: see who has it")
	require.Contains(t, got.err, "--base-port")
}

func TestDemoWritesConfigurationsThatNodesTake(t *testing.T) {
	dir := filepath.Join(t.TempDir(), `od"d fol\der`)
	var nodes []*demoNode
	for i := 1; i <= demoNodes; i++ {
		nodes = append(nodes, newDemoNode(dir, i, 8400))
	}
	for _, n := range nodes {
		require.NoError(t, n.configure(nodes))
		config, err := server.LoadConfig(n.configPath())
		require.NoError(t, err)
		require.Equal(t, n.id, config.NodeID)
		require.Equal(t, n.dataPath(), config.DataDir)
		require.Equal(t, n.id == "n1", config.Bootstrap)
		require.Equal(t, n.public(), config.Public.Listen)
	}
	require.Equal(t, "127.0.0.1:8403", nodes[2].public())
	require.Equal(t, "127.0.0.1:8413", nodes[2].cluster())
	require.Equal(t, "127.0.0.1:8423", nodes[2].ops())
	require.Equal(t, "127.0.0.1:8433", nodes[2].gossip())
}

func TestTailOfALogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("a line of a log\n", 10_000)+"the last one\n"), 0o600))
	lines := strings.Split(tail(path), "\n")
	require.Len(t, lines, tailLines)
	require.Equal(t, "the last one", lines[tailLines-1])
	require.Contains(t, tail(path+".none"), "no such file")
}

func TestStoppedWhileStartingEndsInOrder(t *testing.T) {
	alone(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out := &lockedBuffer{}
	a := &app{in: strings.NewReader(""), out: out, err: out, now: time.Now}
	require.Equal(t, exitDone, a.run(ctx, []string{"server", "--dev", "--listen", "127.0.0.1:0"}), out)
}
