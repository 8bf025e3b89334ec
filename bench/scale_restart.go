package bench

import (
	"context"
	"encoding/json"
	"errors"
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

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/result"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

// RestartOptions say how large a data folder to make, and where.
type RestartOptions struct {
	ScaleOptions
	Binary string    // deputy itself
	Folder string    // where the data folders are made, and removed again; "": the system's for temporary files
	Stderr io.Writer // of the servers; nil drops it
}

// RestartReport is how long the real server takes to be ready again with a full data folder, and what it then does beside
// one that is empty.
type RestartReport struct {
	Environment   Environment `json:"environment"`
	Agents        int         `json:"agents"`
	Delegations   int         `json:"delegations"`
	Revocations   int         `json:"revocations"`
	Loaded        []Loaded    `json:"loaded"`
	SnapshotBytes int64       `json:"snapshot_bytes"` // of the latest
	LogBytes      int64       `json:"log_bytes"`      // of the log's file
	TailEntries   uint64      `json:"tail_entries"`   // of the log behind the snapshot
	Seconds       float64     `json:"restart_seconds"`
	Target        float64     `json:"target_seconds"`
	Resident      int64       `json:"resident_bytes"` // of the server once it is ready
	Height        int64       `json:"height_bytes"`   // at its most, until then
	Workloads     []FullEmpty `json:"workloads"`
}

// FullEmpty is the rate of one workload at the full server and at the empty one, over HTTP.
type FullEmpty struct {
	Workload Workload      `json:"workload"`
	Full     result.Spread `json:"full"`
	Empty    result.Spread `json:"empty"`
	Ratio    result.Spread `json:"ratio"`
	Target   float64       `json:"target"`
	Met      bool          `json:"met"`
}

const (
	restartTarget  = 120.0 // seconds
	readyTimeout   = 15 * time.Minute
	readyLook      = 20 * time.Millisecond
	restartRounds  = 4 // of Scale's rounds in one, over HTTP,
	restartRound   = 5 // and of its turns in one turn
	restartThreads = 32
	revokeCallers  = 8
	revokeBatch    = 1000
)

// Restart fills a data folder by way of the API, kills the server, and times the next one until it is ready.
func Restart(ctx context.Context, o RestartOptions) (_ *RestartReport, err error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp(o.Folder, "deputy-bench-restart-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the servers' data: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	need, available := o.memoryNeed(), availableMemory()
	disk, free := o.diskNeed(), freeDisk(folder)
	o.Logger.Info("needed at the most", "memory", gibibytes(need), "of", gibibytes(available), "disk", gibibytes(disk), "free", gibibytes(free))
	if err := errors.Join(holds("memory", need, available), holds("disk in "+folder, disk, free)); err != nil {
		return nil, err
	}
	full, err := newSavedNode(folder, "full")
	if err != nil {
		return nil, err
	}
	defer full.kill()
	report := &RestartReport{
		Environment: environment(), Agents: o.Agents, Delegations: o.Delegations, Revocations: o.Revocations, Target: restartTarget,
	}
	if err := full.start(ctx, &o); err != nil {
		return nil, err
	}
	if report.Loaded, err = full.load(ctx, &o); err != nil {
		return nil, err
	}
	applied, err := full.ready(ctx)
	if err != nil {
		return nil, err
	}
	full.kill()
	if report.SnapshotBytes, report.LogBytes, report.TailEntries, err = full.saved(applied); err != nil {
		return nil, err
	}
	o.Logger.Info("starting again", "snapshot", gibibytes(report.SnapshotBytes), "log_entries_behind_it", report.TailEntries)
	began := time.Now()
	if err := full.start(ctx, &o); err != nil {
		return nil, err
	}
	report.Seconds = time.Since(began).Seconds()
	report.Resident, report.Height = full.memory()

	empty, err := newSavedNode(folder, "empty")
	if err != nil {
		return nil, err
	}
	defer empty.kill()
	if err := empty.start(ctx, &o); err != nil {
		return nil, err
	}
	for _, workload := range []Workload{WorkloadMint, WorkloadIntrospect} {
		compared, err := compareNodes(ctx, workload, full, empty, &o.ScaleOptions)
		if err != nil {
			return nil, err
		}
		report.Workloads = append(report.Workloads, compared)
	}
	return report, nil
}

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
			// Its folder is named by term, index and time.
			parts := strings.Split(filepath.Base(filepath.Dir(path)), "-")
			if len(parts) == 3 {
				if index, err := strconv.ParseUint(parts[1], 10, 64); err == nil && index > newest {
					newest, snapshot = index, info.Size()
				}
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

// compareNodes has two servers take turns at a workload.
func compareNodes(ctx context.Context, workload Workload, full, empty *savedNode, o *ScaleOptions) (c FullEmpty, err error) {
	o.Logger.Info("loading the full and the empty server in turns", "workload", workload)
	c = FullEmpty{Workload: workload, Target: ScaleTarget}
	nodes := []*savedNode{full, empty}
	generators := make([]*load.Generator, len(nodes))
	for i, n := range nodes {
		f, err := newFixture(ctx, n.api)
		if err != nil {
			return c, err
		}
		defer func() { err = errors.Join(err, f.remove(context.WithoutCancel(ctx))) }()
		t := load.Target{Addresses: []string{n.public}, Requests: [][]byte{f.mintRequest()}, Expect: []byte(`"access_token"`)}
		if workload == WorkloadIntrospect {
			minted, err := f.mint(ctx, DefaultWarmTokens)
			if err != nil {
				return c, err
			}
			t.Requests, t.Expect = nil, []byte(`"active":true`)
			for _, token := range minted {
				t.Requests = append(t.Requests, f.introspectRequest(token))
			}
		}
		if generators[i], err = load.NewTargetGenerator(t, restartThreads); err != nil {
			return c, err
		}
		defer generators[i].Close()
	}
	var rates [2][]float64
	var ratios []float64
	for round := range max(1, o.Rounds/restartRounds) + 1 {
		for i := range generators {
			i = (i + round) % len(generators)
			result, err := generators[i].RunClosed(ctx, o.Round*restartRound)
			if err != nil {
				return c, fmt.Errorf("loading the %s server: %w", nodes[i].name, err)
			}
			if result.Failed() > 0 {
				return c, fmt.Errorf("the %s server refused %d requests", nodes[i].name, result.Failed())
			}
			if round > 0 { // the first warms up
				rates[i] = append(rates[i], result.Rate())
			}
		}
		if round > 0 {
			ratios = append(ratios, rates[0][round-1]/rates[1][round-1])
		}
	}
	c.Full, c.Empty, c.Ratio = result.SpreadOf(rates[0]), result.SpreadOf(rates[1]), result.SpreadOf(ratios)
	c.Met = c.Ratio.Median >= c.Target
	return c, nil
}

// Met reports whether all figures are what the project asks for.
func (r *RestartReport) Met() bool {
	for _, w := range r.Workloads {
		if !w.Met {
			return false
		}
	}
	return r.Seconds <= r.Target
}

// WriteJSON writes the report as one JSON document.
func (r *RestartReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// WriteTable writes the report for people.
func (r *RestartReport) WriteTable(w io.Writer) error {
	p := &printer{w: w}
	p.environment(r.Environment)
	p.line("one server of this binary with a data folder, filled by POST /api/v1/bulk and /api/v1/revocations, then killed")
	p.line("")
	p.table(func(row func(cells ...any)) {
		row("KIND", "CREATED", "SECONDS", "CREATED/S")
		for _, l := range r.Loaded {
			row(l.Kind, whole(float64(l.Created)), fmt.Sprintf("%.1f", l.Seconds), whole(l.Rate))
		}
	})
	p.line("on disk: snapshot %s, log %s, of which %d entries come after the snapshot", gibibytes(r.SnapshotBytes), gibibytes(r.LogBytes), r.TailEntries)
	p.line("from the start of the process to 200 of /readyz: %.1f s; asked for: at most %.0f s: %s", r.Seconds, r.Target, metOrMissed(r.Seconds <= r.Target))
	p.line("resident then %s; at its height %s", gibibytes(r.Resident), gibibytes(r.Height))
	p.line("")
	p.table(func(row func(cells ...any)) {
		row("OVER HTTP, CLOSED LOOP", "FULL SERVER/S", "EMPTY SERVER/S")
		for _, f := range r.Workloads {
			row(string(f.Workload), whole(f.Full.Median), whole(f.Empty.Median))
		}
	})
	for _, f := range r.Workloads {
		p.ratio(string(f.Workload)+" at the full server / at an empty one", f.Ratio, f.Target, f.Met)
	}
	return p.err
}
