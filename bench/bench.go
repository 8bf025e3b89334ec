// Package bench measures a Deputy cluster and says how far it is from what the machine could do.
//
// A figure alone ages with the machine it was printed on, so every run also measures its own ceilings: the
// bare signature, an HTTP handler that does nothing, and a handler that does only the one thing that can't be
// left out. What is asked of Deputy is a ratio to those, taken in the same run, on the same core, by the same
// generator. Machines are noisy, so subjects take turns in short rounds and the median of the rounds' ratios
// is what counts.
//
// Ratios are of closed loops: a connection asks again only once it has its answer. Such a load finds the
// throughput of a server; its latencies are those under exactly that many connections, and say nothing about
// a server that is offered more than it can take (the "coordinated omission" of open systems). Reports say so.
// Drive and MeasureLatency offer requests when they are due, for what concerns latency.
//
// It is the one package outside api and proxy that imports fasthttp: the ceilings are made of it.
package bench

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"time"

	"github.com/deputy-id/deputy/bench/report"
	"github.com/deputy-id/deputy/client"
)

// Workload names what the load does.
type Workload string

// The workloads: tokens by client_credentials, and introspection of tokens that the node has seen before.
const (
	WorkloadMint       Workload = "mint"
	WorkloadIntrospect Workload = "introspect"
)

// What the project asks of itself, as the median ratio to the ceiling of the same run on one server core.
const (
	MintTarget       = 0.85 // to an HTTP handler that signs and does nothing else
	PoliciesTarget   = 0.60 // mint with policies of the run's own as well, to the same
	ColdTarget       = 0.90 // introspection of tokens not seen before, to an HTTP handler that verifies each
	IntrospectTarget = 0.75 // to an HTTP handler that hashes the token and looks it up
	ScaleTarget      = 0.90 // mint speed over a full store, to an empty one
)

// Bounds of a run.
const (
	MaxConcurrency = 4096
	MaxRounds      = 1000
	MaxWarmTokens  = 10_000
	minRound       = 50 * time.Millisecond // shorter ones measure the start and the end of a round
)

// Options say what to measure, and where.
type Options struct {
	Workload Workload

	// Client reaches the nodes to load, with role admin: the run makes an agent and an application, and removes
	// them. Connections are spread evenly over its addresses. Where it is nil the run brings up one server of
	// the binary itself, in memory and pinned to one core; only then are the ratios those of one server core.
	Client *client.Client
	Binary string // path of the deputy binary, for the ceilings and for the run's own server

	Concurrency int           // connections of the closed loop
	Duration    time.Duration // measured time of each subject, over all rounds
	WarmUp      time.Duration // of each subject, before the first round; shown, not counted
	Rounds      int           // turns that the subjects take
	WarmTokens  int           // distinct tokens that introspection goes round
	Cold        bool          // introspection is of tokens that the node has not seen, each asked about once

	SecretOnly bool // mint by client_secret alone, without the same by private_key_jwt and with DPoP beside it
	Policies   int  // that are made beside those that a new cluster comes with; every tenth applies to each mint

	Profile string       // where to write a CPU profile of the run's own server; empty for none
	Logger  *slog.Logger // what happens at the beginning and the end

	Progress *report.Progress // while it runs; nil for none
	Stderr   io.Writer        // of the processes started; nil drops it
}

// Defaults of Options.
const (
	DefaultConcurrency = 64
	DefaultDuration    = 10 * time.Second
	DefaultWarmUp      = time.Second
	DefaultRounds      = 20
	DefaultWarmTokens  = 256
)

func (o *Options) setDefaults() {
	if o.Concurrency == 0 {
		o.Concurrency = DefaultConcurrency
	}
	if o.Duration == 0 {
		o.Duration = DefaultDuration
	}
	if o.WarmUp == 0 {
		o.WarmUp = DefaultWarmUp
	}
	if o.Rounds == 0 {
		o.Rounds = DefaultRounds
	}
	if o.WarmTokens == 0 {
		o.WarmTokens = DefaultWarmTokens
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func (o *Options) validate() error {
	if o.Workload != WorkloadMint && o.Workload != WorkloadIntrospect {
		return fmt.Errorf("workload is %q; it must be %s or %s", o.Workload, WorkloadMint, WorkloadIntrospect)
	}
	if o.Cold && (o.Workload != WorkloadIntrospect || o.Client != nil) {
		return errors.New("only introspection by the run's own server can be of tokens that it has not seen")
	}
	if o.Policies != 0 && (o.Workload != WorkloadMint || o.Client != nil) {
		return errors.New("only a run's own server is given policies, and only mints ask them")
	}
	if o.SecretOnly && o.Workload != WorkloadMint {
		return errors.New("only mints prove a client in several ways, of which to leave some out")
	}
	if o.Policies < 0 || o.Policies > MaxPolicies {
		return fmt.Errorf("policies is %d; it must be between 0 and %d", o.Policies, MaxPolicies)
	}
	if o.Profile != "" && o.Client != nil {
		return errors.New("only the run's own server can be profiled; nodes serve profiles at their ops listener")
	}
	if o.Binary == "" {
		return errors.New("the path of the deputy binary is missing; the ceilings run in a process of their own")
	}
	if o.Concurrency < 1 || o.Concurrency > MaxConcurrency {
		return fmt.Errorf("concurrency is %d; it must be between 1 and %d", o.Concurrency, MaxConcurrency)
	}
	if o.Rounds < 1 || o.Rounds > MaxRounds {
		return fmt.Errorf("rounds is %d; it must be between 1 and %d", o.Rounds, MaxRounds)
	}
	if o.Duration/time.Duration(o.Rounds) < minRound {
		return fmt.Errorf("%d rounds in %s are too short; a round takes at least %s", o.Rounds, o.Duration, minRound)
	}
	if o.WarmUp < 0 {
		return fmt.Errorf("warm-up is %s; it can't be negative", o.WarmUp)
	}
	if o.WarmTokens < 1 || o.WarmTokens > MaxWarmTokens {
		return fmt.Errorf("warm tokens is %d; it must be between 1 and %d", o.WarmTokens, MaxWarmTokens)
	}
	if o.Client != nil {
		_, err := nodeAddresses(o.Client)
		return err
	}
	return nil
}

// nodeAddresses returns host:port of each of a client's nodes.
func nodeAddresses(c *client.Client) ([]string, error) {
	var addresses []string
	for _, node := range c.Addresses() {
		u, err := url.Parse(node)
		if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.Port() == "" || u.Path != "" {
			return nil, fmt.Errorf("node %q is not a plain-HTTP base URL with a port, such as http://127.0.0.1:8401", node)
		}
		addresses = append(addresses, u.Host)
	}
	return addresses, nil
}
