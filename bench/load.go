package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

// LoadOptions say how much to put into a running cluster, over its API. What is loaded stays there.
type LoadOptions struct {
	Client      *client.Client // with role admin or provisioner
	Agents      int
	Delegations int
	Batch       int // objects in one request
	Concurrency int // requests under way
	Logger      *slog.Logger
}

// Defaults of LoadOptions.
const (
	DefaultLoadBatch       = 1000
	DefaultLoadConcurrency = 4

	maxLoadConcurrency = 64
	loadTimeout        = 2 * time.Minute // of one request, with its retries
	progressEvery      = 5 * time.Second
)

func (o *LoadOptions) setDefaults() {
	o.Agents = orDefault(o.Agents, DefaultScaleAgents)
	o.Delegations = orDefault(o.Delegations, DefaultScaleDelegations)
	o.Batch = orDefault(o.Batch, DefaultLoadBatch)
	o.Concurrency = orDefault(o.Concurrency, DefaultLoadConcurrency)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func (o *LoadOptions) validate() error {
	if o.Agents < 1 || o.Agents > maxScaleObjects {
		return fmt.Errorf("agents is %d; it must be between 1 and %d", o.Agents, maxScaleObjects)
	}
	if o.Delegations < 1 || o.Delegations > maxScaleObjects {
		return fmt.Errorf("delegations is %d; it must be between 1 and %d", o.Delegations, maxScaleObjects)
	}
	if o.Batch < 1 || o.Batch > wire.MaxBulkItems {
		return fmt.Errorf("batch is %d; it must be between 1 and %d", o.Batch, wire.MaxBulkItems)
	}
	if o.Concurrency < 1 || o.Concurrency > maxLoadConcurrency {
		return fmt.Errorf("concurrency is %d; it must be between 1 and %d", o.Concurrency, maxLoadConcurrency)
	}
	return nil
}

// LoadReport is what loading took.
type LoadReport struct {
	Environment Environment `json:"environment"`
	Load        string      `json:"load"`
	Batch       int         `json:"batch"`
	Concurrency int         `json:"concurrency"`
	Stages      []Loaded    `json:"stages"`
}

// Loaded is one kind of object.
type Loaded struct {
	Kind     string                `json:"kind"`
	Created  int                   `json:"created"`
	Existing int                   `json:"existing"`          // were there already, from an earlier load
	Refused  map[identity.Code]int `json:"refused,omitempty"` // for another reason
	Seconds  float64               `json:"seconds"`
	Rate     float64               `json:"rate"` // objects created a second
	Latency  load.Latency          `json:"latency"`
}

// Load puts agents, principals and delegations into a cluster by POST /api/v1/bulk. Agents and principals that
// are there already are counted and left as they are, so that an interrupted load can be taken up again;
// delegations are made anew each time.
func Load(ctx context.Context, o LoadOptions) (*LoadReport, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	people := newPopulation(o.Agents, o.Delegations, time.Now())
	report := &LoadReport{
		Environment: environment(), Load: "closed loop over POST /api/v1/bulk", Batch: o.Batch, Concurrency: o.Concurrency,
	}
	for _, stage := range people.bulkStages(o.Agents, o.Delegations) {
		l := &loading{LoadOptions: o, stage: stage, seen: load.NewSample(1), outcome: Loaded{Kind: stage.kind}}
		if err := l.run(ctx); err != nil {
			return nil, fmt.Errorf("loading %ss: %w", stage.kind, err)
		}
		report.Stages = append(report.Stages, l.outcome)
	}
	return report, nil
}

// bulkStage is one kind of object to load.
type bulkStage struct {
	kind  string
	count int
	add   func(body *wire.Bulk, n int)
}

func (p *population) bulkStages(agents, delegations int) []bulkStage {
	return []bulkStage{
		{"agent", agents, func(b *wire.Bulk, n int) {
			b.Agents = append(b.Agents, wire.AgentRequest{
				Profile: wire.Profile{
					Name: agentName(n), Description: fmt.Sprintf("Classifies tickets of queue %d and assigns them", n),
					OwnerGroup: fmt.Sprintf("team-%03d", n%500), AgentType: identity.AgentAutonomous,
				},
				DefaultScopes: populationScopes, MaxSessionDuration: populationSession,
				Groups: []string{fmt.Sprintf("fleet-%02d", n%50)},
			})
		}},
		{"principal", p.principals, func(b *wire.Bulk, n int) {
			b.Principals = append(b.Principals, wire.PrincipalRequest{ID: principalID(n), DisplayName: fmt.Sprintf("User %d", n)})
		}},
		{"delegation", delegations, func(b *wire.Bulk, n int) {
			principal, agent := p.pair(n)
			b.Delegations = append(b.Delegations, wire.DelegationRequest{
				PrincipalID: principalID(principal), AgentID: agentName(agent), Scopes: lentScopes[n%len(lentScopes)],
				Duration: int64(p.lifetime(n) / time.Second), Reason: populationReason, MaxHops: identity.MaxChain,
			})
		}},
	}
}

// loading is one stage under way.
type loading struct {
	LoadOptions
	stage bulkStage
	seen  *load.Sample

	lock    sync.Mutex
	next    int
	outcome Loaded
	told    time.Time
}

func (l *loading) run(ctx context.Context) error {
	start := time.Now()
	l.told = start
	group, ctx := errgroup.WithContext(ctx)
	for range l.Concurrency {
		group.Go(func() error {
			for {
				body, ok := l.take()
				if !ok {
					return nil
				}
				if err := l.post(ctx, body); err != nil {
					return err
				}
			}
		})
	}
	err := group.Wait()
	l.outcome.Seconds = time.Since(start).Seconds()
	l.outcome.Rate = float64(l.outcome.Created) / l.outcome.Seconds
	l.outcome.Latency = l.seen.Latency()
	return err
}

// take makes the next body, or reports that there is none.
func (l *loading) take() (*wire.Bulk, bool) {
	l.lock.Lock()
	from, to := l.next, min(l.next+l.Batch, l.stage.count)
	l.next = to
	l.lock.Unlock()
	body := new(wire.Bulk)
	for n := from; n < to; n++ {
		l.stage.add(body, n)
	}
	return body, from < to
}

func (l *loading) post(ctx context.Context, body *wire.Bulk) error {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	var answer wire.BulkAnswer
	start := time.Now()
	if _, err := l.Client.Do(ctx, &client.Request{
		Method: http.MethodPost, Path: "/api/v1/bulk", Body: body, Write: true,
	}, &answer); err != nil {
		return err
	}
	l.seen.Record(time.Since(start))
	return l.count(&answer)
}

// errAllRefused stops a load that achieves nothing, rather than have it refused a million times.
var errAllRefused = errors.New("every object of a request was refused")

func (l *loading) count(answer *wire.BulkAnswer) error {
	l.lock.Lock()
	defer l.lock.Unlock()
	existing := 0
	var refusal *wire.BulkOutcome
	for i := range answer.Items {
		switch item := &answer.Items[i]; item.Code {
		case "":
			l.outcome.Created++
		case identity.CodeAlreadyExists:
			existing++
		default:
			if l.outcome.Refused == nil {
				l.outcome.Refused = make(map[identity.Code]int)
			}
			l.outcome.Refused[item.Code]++
			refusal = item
		}
	}
	l.outcome.Existing += existing
	if refusal != nil && answer.Refused-existing == len(answer.Items) {
		return fmt.Errorf("%w: %s: %s", errAllRefused, refusal.Pointer, refusal.Detail)
	}
	if time.Since(l.told) > progressEvery {
		l.told = time.Now()
		l.Logger.Info("loading", "kind", l.stage.kind, "done", l.outcome.Created+l.outcome.Existing, "of", l.stage.count)
	}
	return nil
}
