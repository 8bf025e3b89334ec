package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/result"
	"github.com/deputy-id/deputy/internal/machine"
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
	need, available := o.memoryNeed(), machine.AvailableMemory()
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
