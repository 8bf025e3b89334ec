package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

// savedNode is a server of the real binary, with a configuration and a data folder of its own.
type savedNode struct {
	name    string
	folder  string
	public  string // host:port
	ops     string
	process *process
	api     *client.Client
}

func newSavedNode(folder, name string) (*savedNode, error) {
	n := &savedNode{name: name, folder: filepath.Join(folder, name)}
	if err := os.Mkdir(n.folder, 0o700); err != nil {
		return nil, fmt.Errorf("making a folder for the %s server: %w", name, err)
	}
	ports, err := freePorts(4)
	if err != nil {
		return nil, err
	}
	n.public, n.ops = ports[0], ports[1]
	config := fmt.Sprintf(`node_id: bench
data_dir: %q
bootstrap: true
root_token_file: %q
public: {listen: %q}
ops: {listen: %q}
cluster: {listen: %q}
gossip: {listen: %q}
log: {level: warn}
`, filepath.Join(n.folder, "data"), filepath.Join(n.folder, "root-token"), ports[0], ports[1], ports[2], ports[3])
	if err := os.WriteFile(n.config(), []byte(config), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration of the %s server: %w", name, err)
	}
	return n, nil
}

func (n *savedNode) config() string { return filepath.Join(n.folder, "deputy.yaml") }

// freePorts finds ports of loopback that nobody listens at: another process has to be told them.
func freePorts(count int) ([]string, error) {
	var addresses []string
	for range count {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("looking for a free port: %w", err)
		}
		defer l.Close() //nolint:errcheck // held until all are found, so that they differ
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// start runs the server and returns once it is ready.
func (n *savedNode) start(ctx context.Context, o *RestartOptions) error {
	var err error
	if n.process, err = start(ctx, o.Binary, []string{"server", "--config", n.config()}, nil, nil, o.Stderr); err != nil {
		return err
	}
	if _, err := n.ready(ctx); err != nil {
		return err
	}
	token, err := os.ReadFile(filepath.Join(n.folder, "root-token"))
	if err != nil {
		return fmt.Errorf("reading the %s server's root token: %w", n.name, err)
	}
	n.api, err = client.New(client.Options{
		Addresses: []string{"http://" + n.public}, Token: strings.TrimSpace(string(token)), UserAgent: "deputy-bench",
	})
	return err
}

// ready waits until /readyz says so, and returns the log index that was applied then.
func (n *savedNode) ready(ctx context.Context) (applied uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	look := time.NewTicker(readyLook)
	defer look.Stop()
	for {
		if applied, ok := n.look(ctx); ok {
			return applied, nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("waiting for the %s server to be ready: %w", n.name, ctx.Err())
		}
	}
}

func (n *savedNode) look(ctx context.Context) (applied uint64, ok bool) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.ops+"/readyz", nil)
	if err != nil {
		return 0, false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, false
	}
	defer response.Body.Close() //nolint:errcheck // it is only read
	var state struct {
		AppliedIndex uint64 `json:"applied_index"`
	}
	err = json.NewDecoder(io.LimitReader(response.Body, 64<<10)).Decode(&state)
	return state.AppliedIndex, err == nil && response.StatusCode == http.StatusOK
}

// kill ends the server as a power cut would.
func (n *savedNode) kill() {
	if n.process == nil {
		return
	}
	_ = n.process.cmd.Process.Kill()
	_ = n.process.cmd.Wait() // its status says only that it was killed
	n.process = nil
}

// load fills the server by its API.
func (n *savedNode) load(ctx context.Context, o *RestartOptions) ([]Loaded, error) {
	loaded, err := Load(ctx, LoadOptions{Client: n.api, Agents: o.Agents, Delegations: o.Delegations, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	people := newPopulation(1, 1, time.Now())
	began := time.Now()
	var group errgroup.Group
	group.SetLimit(revokeCallers)
	told := time.Now()
	for done := 0; done < o.Revocations && ctx.Err() == nil; {
		handles := make([]identity.Handle, 0, revokeBatch)
		for ; len(handles) < revokeBatch && done < o.Revocations; done++ {
			begun := people.now.Add(-time.Duration(people.random.Int64N(int64(time.Hour))))
			handles = append(handles, identity.SessionHandle(people.idAt(identity.PrefixSession, begun)))
		}
		if time.Since(told) > progressEvery {
			told = time.Now()
			o.Logger.Info("revoking", "done", done, "of", o.Revocations)
		}
		group.Go(func() error {
			_, err := n.api.RevokeHandles(ctx, handles, "INC-42")
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("revoking sessions: %w", err)
	}
	took := time.Since(began).Seconds()
	return append(loaded.Stages, Loaded{Kind: "revocation", Created: o.Revocations, Seconds: took, Rate: float64(o.Revocations) / took}), ctx.Err()
}

// saved says what is on disk.
func (n *savedNode) saved(applied uint64) (snapshot, log int64, tail uint64, err error) {
	data := filepath.Join(n.folder, "data")
	var newest uint64
	err = filepath.WalkDir(data, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if entry.Name() == "state.bin" {
			if index, ok := snapshotIndex(filepath.Base(filepath.Dir(path))); ok && index > newest {
				newest, snapshot = index, info.Size()
			}
		}
		if filepath.Ext(path) == ".db" {
			log += info.Size()
		}
		return nil
	})
	if err != nil {
		return 0, 0, 0, fmt.Errorf("looking at the data folder: %w", err)
	}
	return snapshot, log, applied - min(applied, newest), nil
}

// snapshotIndex reads the name of a snapshot's folder: term, index and time. One that was still being written when the
// server was killed is none; a start passes it over.
func snapshotIndex(folder string) (uint64, bool) {
	parts := strings.Split(folder, "-")
	if len(parts) != 3 || strings.HasSuffix(folder, ".tmp") {
		return 0, false
	}
	index, err := strconv.ParseUint(parts[1], 10, 64)
	return index, err == nil
}

// memory of the server's process, now and at its height.
func (n *savedNode) memory() (resident, height int64) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.process.pid()))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(status)) {
		for field, into := range map[string]*int64{"VmRSS:": &resident, "VmHWM:": &height} {
			if rest, ok := strings.CutPrefix(line, field); ok {
				kib, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
				*into = kib << 10
			}
		}
	}
	return resident, height
}
