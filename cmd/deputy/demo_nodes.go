package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// demoNode is one node of the demonstration: a process with its own folder and ports.
type demoNode struct {
	id     string
	number int
	dir    string
	base   int

	command *exec.Cmd
	exited  chan struct{} // closed once the process is gone
	err     error         // how it went; read after exited is closed
	ending  chan struct{} // closed once it was asked to end, so that its end is no surprise
}

func newDemoNode(dir string, number, basePort int) *demoNode {
	id := "n" + strconv.Itoa(number)
	return &demoNode{id: id, number: number, dir: filepath.Join(dir, id), base: basePort}
}

// Ports are counted from the base: public +1…, cluster +11…, ops +21…, gossip +31….
func (n *demoNode) public() string  { return n.address(0) }
func (n *demoNode) cluster() string { return n.address(10) }
func (n *demoNode) ops() string     { return n.address(20) }
func (n *demoNode) gossip() string  { return n.address(30) }
func (n *demoNode) url() string     { return "http://" + n.public() }

func (n *demoNode) address(offset int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.base+offset+n.number))
}

func (n *demoNode) path(name string) string { return filepath.Join(n.dir, name) }
func (n *demoNode) configPath() string      { return n.path("deputy.yaml") }
func (n *demoNode) logPath() string         { return n.path("log") }
func (n *demoNode) dataPath() string        { return n.path("data") }
func (n *demoNode) joinTokenPath() string   { return n.path("join-token") }
func (n *demoNode) rootTokenPath() string   { return n.path("root-token") }
func (n *demoNode) joinedPath() string      { return n.path("joined") }

// portTakenError says which port can't be had, and what it was meant for.
type portTakenError struct {
	port    int
	purpose string
	node    string
}

func (e *portTakenError) Error() string {
	return fmt.Sprintf("port %d, %s of %s, is taken by another process", e.port, e.purpose, e.node)
}

func (n *demoNode) portsFree() error {
	for _, listener := range []struct{ purpose, address string }{
		{"the public port", n.public()}, {"the cluster port", n.cluster()}, {"the ops port", n.ops()}, {"the gossip port", n.gossip()},
	} {
		l, err := net.Listen("tcp", listener.address)
		if err == nil {
			err = l.Close()
		}
		if err == nil && listener.address == n.gossip() { // gossip is UDP as well
			var p net.PacketConn
			if p, err = net.ListenPacket("udp", listener.address); err == nil {
				err = p.Close()
			}
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			_, port, _ := net.SplitHostPort(listener.address)
			number, _ := strconv.Atoi(port)
			return &portTakenError{port: number, purpose: listener.purpose, node: n.id}
		}
		if err != nil {
			return fmt.Errorf("%s of %s: %w", listener.purpose, n.id, err)
		}
	}
	return nil
}

// configure writes the node's configuration, the same that an operator would write.
func (n *demoNode) configure(all []*demoNode) error {
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Written by `deputy demo` at every run.\nnode_id: %s\ndata_dir: %q\n", n.id, n.dataPath())
	if n.number == 1 {
		fmt.Fprintf(&b, "bootstrap: true\nroot_token_file: %q\n", n.rootTokenPath())
		fmt.Fprintf(&b, "issuer: %s\nexternal_urls:\n", all[0].url())
		for _, other := range all[1:] {
			fmt.Fprintf(&b, "  - %s\n", other.url())
		}
	} else {
		fmt.Fprintf(&b, "join_token_file: %q\n", n.joinTokenPath())
	}
	fmt.Fprintf(&b, "public:\n  listen: %s\n  url: %s\ncluster:\n  listen: %s\ngossip:\n  listen: %s\nops:\n  listen: %s\n",
		n.public(), n.url(), n.cluster(), n.gossip(), n.ops())
	return os.WriteFile(n.configPath(), []byte(b.String()), 0o600)
}

func (n *demoNode) hasData() bool {
	entries, err := os.ReadDir(n.dataPath())
	return err == nil && len(entries) > 0
}

// joined reports whether an earlier run saw the node become a member.
func (n *demoNode) joined() bool {
	_, err := os.Stat(n.joinedPath())
	return err == nil
}

func (n *demoNode) markJoined() error {
	if err := os.WriteFile(n.joinedPath(), nil, 0o600); err != nil {
		return err
	}
	if err := os.Remove(n.joinTokenPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// maxLog is how long a log may be when a run begins; a longer one is put aside, in the place of the one before.
const maxLog = 16 << 20

// start runs the node as a process of its own. With essential its end, unless asked for, ends the demo.
func (n *demoNode) start(d *demo, essential bool) error {
	if info, err := os.Stat(n.logPath()); err == nil && info.Size() > maxLog {
		if err := os.Rename(n.logPath(), n.logPath()+".old"); err != nil {
			return err
		}
	}
	log, err := os.OpenFile(n.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own
	self, err := os.Executable()
	if err != nil {
		return err
	}
	command := exec.Command(self, "server", "--config", n.configPath())
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = childAttributes()
	if err := command.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", n.id, err)
	}
	exited, ending := make(chan struct{}), make(chan struct{})
	n.command, n.exited, n.ending = command, exited, ending
	go func() {
		n.err = command.Wait()
		close(exited)
		select {
		case <-ending:
		default:
			if essential {
				d.cancel(&nodeDiedError{node: n.id, how: command.ProcessState.String(), log: n.logPath(), tail: tail(n.logPath())})
			}
		}
	}()
	return nil
}

// nodeDiedError says that a node ended by itself, and shows its last words.
type nodeDiedError struct {
	node, how, log, tail string
}

func (e *nodeDiedError) Error() string {
	return fmt.Sprintf("node %s ended by itself (%s); the other nodes were stopped", e.node, e.how)
}

const (
	tailBytes = 8 << 10
	tailLines = 15
)

// tail is the end of a log.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > tailBytes {
		if _, err := f.Seek(-tailBytes, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, tailBytes))
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	lines = lines[max(0, len(lines)-tailLines):]
	return string(bytes.Join(lines, []byte("\n")))
}

func (n *demoNode) running() bool {
	if n.command == nil {
		return false
	}
	select {
	case <-n.exited:
		return false
	default:
		return true
	}
}

// readiness is what a node says of itself.
type readiness struct {
	Ready  bool   `json:"ready"`
	Reason string `json:"reason"`
}

// drains reports whether the node lacks nothing but an end to its draining.
func (r readiness) drains() bool { return r.Reason == "draining" }

// ready returns once the node says that it serves, or would if it were not draining.
func (n *demoNode) ready(ctx context.Context) error {
	return n.until(ctx, func(r readiness) bool { return r.Ready || r.drains() })
}

// until returns once the node says what is enough.
func (n *demoNode) until(ctx context.Context, enough func(readiness) bool) error {
	ticker := time.NewTicker(readyPoll)
	defer ticker.Stop()
	for {
		if enough(n.probe(ctx)) {
			return nil
		}
		select {
		case <-ticker.C:
		case <-n.exited:
			return fmt.Errorf("node %s ended before it was ready; see %s", n.id, n.logPath())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// probe asks the node how it is; a node that does not answer is not ready.
func (n *demoNode) probe(ctx context.Context) (r readiness) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.ops()+"/readyz", nil)
	if err != nil {
		return readiness{}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return readiness{}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<16)) // to its end, so that the connection can be used again
	if err != nil || json.Unmarshal(text, &r) != nil {
		return readiness{}
	}
	return r
}

// end asks the node to stop in order.
func (n *demoNode) end() {
	close(n.ending)
	_ = n.command.Process.Signal(syscall.SIGTERM) // an error means that it is gone, which wait sees
}

// wait waits for a node that was asked to end, and makes it end at the deadline.
func (n *demoNode) wait(deadline <-chan time.Time) error {
	select {
	case <-n.exited:
	case <-deadline:
		_ = n.command.Process.Kill()
		<-n.exited
		return fmt.Errorf("node %s did not stop within %s and was killed; see %s", n.id, childTimeout, n.logPath())
	}
	if n.err != nil {
		return fmt.Errorf("node %s did not stop in order: %w; see %s", n.id, n.err, n.logPath())
	}
	return nil
}
