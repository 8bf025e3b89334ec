package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

const (
	historyClients = 6
	historyAgents  = 6                     // of one history; each is a part that is judged alone
	historyTime    = 20 * time.Second      // of one history
	historyPause   = 25 * time.Millisecond // of each client between two requests
	operationWait  = 3 * time.Second       // after that an outcome counts as unknown
	checkPatience  = 2 * time.Minute       // of the judge, for one history
)

// The admin API is linearizable, for clients that hand the newest X-Deputy-Index on from one request to the next:
// agents are created, read, updated, suspended, activated and deleted through all nodes while nodes are cut off,
// paused and killed.
func TestAdminAPIIsLinearizable(t *testing.T) {
	w := newNetwork(t)
	f := newFleetOn(t, w, 5)
	r, seed := dice(t), newCaller(f)

	operations, unknown, hits := 0, 0, 0
	verdicts := map[porcupine.CheckResult]int{}
	count := promised(t, 2, 30)
	for round := range count {
		h := newHistory()
		ctx, cancel := context.WithTimeout(t.Context(), historyTime)
		var running sync.WaitGroup
		failures := make(chan error, historyClients)
		for c := range historyClients {
			choices, askers := rand.New(rand.NewPCG(r.Uint64(), 0)), f.askers(t)
			running.Go(func() {
				if err := seed.live(ctx, h, c, round, choices, askers); err != nil {
					failures <- err
				}
			})
		}
		for ctx.Err() == nil {
			hits += w.trouble(t, f, r)
		}
		cancel()
		running.Wait()
		close(failures)
		for err := range failures {
			t.Errorf("round %d: %v", round, err)
		}
		result, info := h.check(checkPatience)
		verdicts[result]++
		operations += len(h.operations)
		unknown += h.unknown
		t.Logf("round %d: %d operations, %d of unknown outcome: %s", round, len(h.operations), h.unknown, result)
		if result != porcupine.Ok {
			file := filepath.Join(os.TempDir(), fmt.Sprintf("deputy-history-%d-%d.html", os.Getpid(), round))
			require.NoError(t, porcupine.VisualizePath(agentModel(), info, file))
			t.Errorf("round %d is %s; open %s; these writes were answered as if they had not been made:\n%s",
				round, result, file, strings.Join(h.undone, "\n"))
		}
	}
	t.Logf("== linearizability: %d histories of %d operations on 5 nodes, %d of unknown outcome, %d strikes; %d answers without an index; VIOLATIONS %d, UNKNOWN %d",
		count, operations, unknown, hits, seed.indexless.Load(), verdicts[porcupine.Illegal], verdicts[porcupine.Unknown])
}

// trouble hits one or two nodes for a while, and leaves all of them in peace for a while.
func (w *network) trouble(t *testing.T, f *fleet, r *rand.Rand) int {
	t.Helper()
	pass(time.Duration(500+r.IntN(1500)) * time.Millisecond)
	hit := map[*node]strike{}
	for _, i := range r.Perm(len(f.nodes))[:1+r.IntN(2)] {
		hit[f.nodes[i]] = strikes[r.IntN(len(strikes))]
		w.strike(t, f.nodes[i], hit[f.nodes[i]])
	}
	pass(time.Duration(500+r.IntN(3000)) * time.Millisecond)
	for n, how := range hit {
		w.wake(t, n, how)
		w.heal(t, n)
	}
	return len(hit)
}

// caller makes the operations of histories. Its clients share what they know of the newest index, as processes do
// that tell each other.
type caller struct {
	token     string
	newest    atomic.Uint64
	texts     atomic.Uint64
	indexless atomic.Uint64 // clear answers that name no index
}

func newCaller(f *fleet) *caller { return &caller{token: f.token} }

// live makes one operation after the other at nodes of its choice.
func (c *caller) live(ctx context.Context, h *history, client, round int, r *rand.Rand, askers []*asker) error {
	actions := []action{
		actionCreate, actionCreate, actionGet, actionGet, actionGet, actionGet, actionReplace, actionPatch,
		actionSuspend, actionActivate, actionDelete,
	}
	for ctx.Err() == nil {
		w := wish{
			action: actions[r.IntN(len(actions))], agent: fmt.Sprintf("linear-%d-%d", round, r.IntN(historyAgents)),
			text: strconv.FormatUint(c.texts.Add(1), 10),
		}
		if err := c.operate(h, client, w, askers[r.IntN(len(askers))]); err != nil {
			return err
		}
		pass(historyPause)
	}
	return nil
}

// operate makes one operation and records it. The error is an answer that no cluster may give.
func (c *caller) operate(h *history, client int, w wish, a *asker) error {
	method, path, body := w.request()
	ctx, cancel := context.WithTimeout(context.Background(), operationWait)
	defer cancel()
	call := time.Now()
	came, err := a.send(ctx, method, path, "application/json", body, func(r *http.Request) {
		bearer(c.token)(r)
		if index := c.newest.Load(); index > 0 {
			r.Header.Set(wire.HeaderIndex, strconv.FormatUint(index, 10))
		}
	})
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
		return nil // it was never sent
	}
	if err != nil {
		h.record(client, w, call, told{outcome: outcomeUnknown})
		return nil
	}
	got, done, err := w.read(came)
	if err != nil {
		return fmt.Errorf("%s at %s: %w", w.action, a.node, err)
	}
	if !done {
		if w.action != actionGet {
			h.refused(w, call, a.node+" "+string(got.outcome))
		}
		return nil
	}
	if got.outcome != outcomeUnknown {
		c.observe(came.header.Get(wire.HeaderIndex))
	}
	h.record(client, w, call, got)
	return nil
}

func (c *caller) observe(header string) {
	index, err := strconv.ParseUint(header, 10, 64)
	if err != nil {
		c.indexless.Add(1)
		return
	}
	for known := c.newest.Load(); index > known && !c.newest.CompareAndSwap(known, index); known = c.newest.Load() {
	}
}

// request is what is sent for a wish.
func (w wish) request() (method, path, body string) {
	const agents = "/api/v1/agents"
	one := agents + "/" + w.agent
	whole := fmt.Sprintf(`{"profile":{"name":%q,"agent_type":"autonomous","description":%q}}`, w.agent, w.text)
	switch w.action {
	case actionCreate:
		return http.MethodPost, agents, whole
	case actionReplace:
		return http.MethodPut, one, whole
	case actionPatch:
		return http.MethodPatch, one, fmt.Sprintf(`{"profile":{"description":%q}}`, w.text)
	case actionSuspend, actionActivate:
		return http.MethodPost, one + "/lifecycle/" + string(w.action), ""
	case actionDelete:
		return http.MethodDelete, one, ""
	}
	return http.MethodGet, one, ""
}

// read makes an outcome of an answer. Not done are those that promise that nothing was.
func (w wish) read(came reply) (got told, done bool, err error) {
	if came.status >= 200 && came.status <= 299 {
		got.outcome = outcomeDone
		if w.action == actionDelete {
			return got, true, nil
		}
		var shown struct {
			wire.Agent
			Changed *wire.Agent `json:"agent"` // in the answer to a change of status
		}
		if err := json.Unmarshal(came.body, &shown); err != nil {
			return got, false, err
		}
		agent := shown.Agent
		if shown.Changed != nil {
			agent = *shown.Changed
		}
		got.agent = register{exists: true, text: agent.Profile.Description, suspended: agent.Status == identity.StatusSuspended}
		return got, true, nil
	}
	var problem wire.Problem
	if err := json.Unmarshal(came.body, &problem); err != nil {
		return got, false, fmt.Errorf("%d %s: %w", came.status, came.body, err)
	}
	switch problem.Code() {
	case identity.CodeNotFound:
		got.outcome = outcomeMissing
	case identity.CodeAlreadyExists:
		got.outcome = outcomeExists
	case identity.CodeConflict:
		got.outcome = outcomeChanged
	case identity.CodeOutcomeUnknown:
		got.outcome = outcomeUnknown
	case identity.CodeNoLeader, identity.CodeNotFresh, identity.CodeOverloaded, identity.CodeStaleIndex:
		got.outcome = outcome(problem.Code())
		return got, false, nil
	default:
		return got, false, fmt.Errorf("%d %s", came.status, strings.TrimSpace(string(came.body)))
	}
	return got, true, nil
}
