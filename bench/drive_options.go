package bench

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/report"
	"github.com/deputy-id/deputy/client"
)

// DriveOptions say what to ask for, of whom, and how often.
type DriveOptions struct {
	Workload string

	// Where the load goes: one server of the run's own in memory, nodes of its own with their data on disk, or the
	// client's, whose admin token is given again as text, since requests are spelled by hand.
	Self     bool
	Pin      bool // with Self: the server has the last CPU to itself and the generator the others
	OwnNodes int
	TLS      bool   // of own nodes
	Folder   string // for own nodes' data; "": that for temporary files
	Client   *client.Client
	Token    string
	CA       []byte   // PEM of authorities that vouch for the client's nodes; nil: the system's
	Ops      []string // ops listeners of the client's nodes

	// How the load is offered: open at a rate or a ramp, or closed.
	Closed      bool
	Rate        float64     // a second
	Ramp        *load.Shape // in place of Rate and Duration
	Duration    time.Duration
	WarmUp      time.Duration // shown, not counted
	Connections int
	Backlog     int
	LateAfter   time.Duration
	Timeout     time.Duration
	MaxLag      time.Duration // p99 of the generator's own lateness, above which the run is invalid

	SLO    *load.SLO
	Search bool          // for the highest rate that meets the SLO, from Rate on
	Step   time.Duration // of a search

	// Of single workloads; zero is their default.
	Tokens      int // distinct ones
	Batch       int
	Zipf        float64
	PerMint     int
	RevokeEvery int
	Fenced      bool // ends of sessions are waited for until no node acts on them any more
	FaultAfter  time.Duration
	Stall       time.Duration // one of the run's own nodes stops for so long

	Binary   string
	Command  []string // the command line, for the result
	Progress *report.Progress
	Logger   *slog.Logger
	Stderr   io.Writer

	maxSteps   int    // of a search; tests take fewer
	beforeLoad func() // called once all is prepared; for tests
}

// Defaults of DriveOptions.
const (
	DefaultRate            = 1000
	DefaultOpenConnections = 128
	DefaultMaxLag          = 2 * time.Millisecond
	DefaultStep            = 5 * time.Second
	DefaultDriveWarmUp     = 2 * time.Second
	// maxDrive is below the lifetime of the tokens that are minted to begin with.
	maxDrive = 45 * time.Minute
)

func (o *DriveOptions) setDefaults() {
	connections := DefaultOpenConnections
	if o.Closed {
		connections = DefaultConcurrency
	}
	o.Connections = orDefault(o.Connections, connections)
	o.Rate = orDefault(o.Rate, DefaultRate)
	o.Duration = orDefault(o.Duration, DefaultDuration)
	o.Step = orDefault(o.Step, DefaultStep)
	o.LateAfter = orDefault(o.LateAfter, load.DefaultLateAfter)
	o.Backlog = orDefault(o.Backlog, load.DefaultBacklog)
	o.Timeout = orDefault(o.Timeout, load.DefaultTimeout)
	o.MaxLag = orDefault(o.MaxLag, DefaultMaxLag)
	o.maxSteps = orDefault(o.maxSteps, maxSteps)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func (o *DriveOptions) validate(w *DriveWorkload) error {
	places := 0
	for _, is := range []bool{o.Self, o.OwnNodes != 0, o.Client != nil} {
		if is {
			places++
		}
	}
	switch {
	case places != 1:
		return errors.New("name exactly one place to load: nodes that run, a server of the run's own, or a cluster of the run's own")
	case o.Binary == "" && o.Client == nil:
		return errors.New("the path of the deputy binary is missing; own nodes run in processes of their own")
	case o.OwnNodes < 0 || o.OwnNodes > MaxOwnNodes:
		return fmt.Errorf("the run's own cluster has %d nodes; it must have 1 to %d", o.OwnNodes, MaxOwnNodes)
	case w.Own && o.OwnNodes == 0:
		return fmt.Errorf("%s kills or removes nodes, which it does to a cluster of its own only: --cluster 3", w.Name)
	case o.Stall > 0 && o.Client != nil:
		return errors.New("only a node of the run's own can be stalled: --self or --cluster")
	case o.Stall < 0 || o.Stall > time.Minute:
		return fmt.Errorf("stall is %s; it must be between 0 and %s", o.Stall, time.Minute)
	case o.Stall > 0 && w.Own:
		return fmt.Errorf("%s has its own faults; --stall goes with other workloads", w.Name)
	case o.TLS && o.OwnNodes == 0:
		return errors.New("only a cluster of the run's own is given a certificate; nodes that run have theirs")
	case o.Client != nil && o.Token == "":
		return errors.New("an API token with role admin is missing")
	}
	return o.validateLoad(w)
}

func (o *DriveOptions) validateLoad(w *DriveWorkload) error {
	switch {
	case o.Connections < 1 || o.Connections > load.MaxConnections:
		return fmt.Errorf("connections is %d; it must be between 1 and %d", o.Connections, load.MaxConnections)
	case o.WarmUp < 0 || o.FaultAfter < 0 || o.MaxLag <= 0 || o.Timeout <= 0:
		return errors.New("a time is negative")
	case o.Timeout > time.Minute:
		return fmt.Errorf("timeout is %s; it must be at most %s", o.Timeout, time.Minute)
	case o.Closed && (o.Ramp != nil || o.Search):
		return errors.New("a closed load has no rate: neither a ramp nor a search goes with it")
	case o.Closed && w.Once:
		return fmt.Errorf("%s uses up what is made in advance, so it must be known how much is offered: it goes with a rate only", w.Name)
	case o.Search && o.SLO == nil:
		return errors.New("a search needs an SLO to look for, such as p99<2ms,errors<0.01%")
	case o.Search && o.Ramp != nil:
		return errors.New("a search takes steps of its own and no ramp")
	case o.Search && (w.Once || w.Own || o.Stall > 0):
		return fmt.Errorf("a search does not go with %s and not with a stall", w.Name)
	case o.Search && (o.Step < time.Second || o.Step > time.Minute):
		return fmt.Errorf("a step takes %s; it must take 1 s to 1 min", o.Step)
	case o.length()+o.WarmUp > maxDrive:
		return fmt.Errorf("the run takes %s; it must take at most %s, as its tokens end", o.length()+o.WarmUp, maxDrive)
	case o.length() < minRound:
		return fmt.Errorf("the run takes %s; it must take at least %s", o.length(), minRound)
	case o.Tokens < 0 || o.Tokens > MaxPool:
		return fmt.Errorf("tokens is %d; it must be between 1 and %d", o.Tokens, MaxPool)
	case o.Batch < 0 || o.Batch > maxBatch:
		return fmt.Errorf("batch is %d; it must be between 1 and %d", o.Batch, maxBatch)
	case o.Zipf != 0 && !(o.Zipf > 1 && o.Zipf <= 10):
		return fmt.Errorf("the exponent of the mix is %g; it must be above 1 and at most 10", o.Zipf)
	case o.PerMint < 0 || o.RevokeEvery < 0:
		return errors.New("the mix of a fleet can't be negative")
	}
	if o.Closed {
		return nil
	}
	open := load.OpenOptions{Shape: o.shape(), LateAfter: o.LateAfter, Backlog: o.Backlog}
	return open.Validate()
}

// maxBatch is that of the API.
const maxBatch = 100

// shape is that of the measured time of an open load.
func (o *DriveOptions) shape() load.Shape {
	if o.Ramp != nil {
		return *o.Ramp
	}
	return load.Constant(o.Rate, o.Duration)
}

func (o *DriveOptions) length() time.Duration {
	if o.Ramp != nil && !o.Closed {
		return o.Ramp.Length
	}
	return o.Duration
}

// warmUpShape begins as the measured time does.
func (o *DriveOptions) warmUpShape() load.Shape { return load.Constant(o.shape().From, o.WarmUp) }

// offers is how many requests an open load has in all, the warm-up included.
func (o *DriveOptions) offers() int {
	return int(o.shape().Offers()+o.warmUpShape().Offers()) + 2
}
