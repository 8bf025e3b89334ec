package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/deputy-id/deputy/api"
	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/cluster"
)

const (
	// trailWait bounds the question to one member: it may read 32 MiB from a cold disk.
	trailWait = 8 * time.Second
	// trailWaitDead is for one that gossip holds for dead.
	trailWaitDead = 250 * time.Millisecond
	// trailBytes bounds what a member answers of its log. The rest comes with the next page.
	trailBytes = 4 << 20
)

// trailQuestion is what one node asks another. Exactly one of its members is set.
type trailQuestion struct {
	Query *audit.Query `json:"query,omitempty"`
	Held  bool         `json:"held,omitempty"`
	Prove uint64       `json:"prove,omitempty"`
	Sinks bool         `json:"sinks,omitempty"`
}

// trailAnswer is what that node says. Records travel as their lines, whose hashes the other side checks.
type trailAnswer struct {
	Lines   []json.RawMessage  `json:"lines,omitempty"`
	Next    uint64             `json:"next,omitempty"`
	Own     *audit.Checkpoint  `json:"own,omitempty"`
	Kept    []audit.Checkpoint `json:"kept,omitempty"`
	Proof   *audit.Proof       `json:"proof,omitempty"`
	Sinks   []trailSink        `json:"sinks,omitempty"`
	Missing string             `json:"missing,omitempty"` // why there is no proof
}

// trailSink is where a sink stands, with its error as text.
type trailSink struct {
	Status  audit.SinkStatus `json:"status"`
	Trouble string           `json:"trouble,omitempty"`
}

// Why there is no proof.
const (
	missingRecord     = "record"
	missingCheckpoint = "checkpoint"
)

// serveAudit answers another node.
func (s *Server) serveAudit(ctx context.Context, _ cluster.Member, body []byte) ([]byte, error) {
	var q trailQuestion
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, fmt.Errorf("reading a question about the audit log: %w", err)
	}
	a, err := s.audit.answer(ctx, &q)
	if err != nil {
		return nil, err
	}
	return json.Marshal(a)
}

// answer is this node's own.
func (t *auditTrail) answer(ctx context.Context, q *trailQuestion) (*trailAnswer, error) {
	a := new(trailAnswer)
	switch {
	case q.Query != nil:
		page, err := t.log.Query(ctx, *q.Query)
		if err != nil {
			return nil, err
		}
		a.Next = page.Next
		size := 0
		for i := range page.Entries {
			line := page.Entries[i].Line
			if size += len(line); size > trailBytes && i > 0 {
				a.Next = page.Entries[i-1].Sequence
				break
			}
			a.Lines = append(a.Lines, line)
		}
	case q.Held:
		if own, ok := t.log.Checkpoint(); ok {
			a.Own = &own
		}
		a.Kept = t.log.PeerCheckpoints("")
	case q.Prove != 0:
		proof, err := t.log.Prove(q.Prove)
		switch {
		case errors.Is(err, audit.ErrNoRecord):
			a.Missing = missingRecord
		case errors.Is(err, audit.ErrNoCheckpoint):
			a.Missing = missingCheckpoint
		case err != nil:
			return nil, err
		}
		a.Proof = proof
	case q.Sinks:
		for _, sink := range t.log.Sinks() {
			shown := trailSink{Status: sink}
			if sink.Err != nil {
				shown.Trouble = sink.Err.Error()
			}
			shown.Status.Err = nil
			a.Sinks = append(a.Sinks, shown)
		}
	default:
		return nil, errors.New("a question about the audit log asks for nothing")
	}
	return a, nil
}

// each does something for every member at the same time. Who gossip holds for dead gets little time.
func (t *auditTrail) each(ctx context.Context, wait time.Duration, do func(ctx context.Context, member string)) {
	dead := map[string]bool{}
	for _, server := range t.s.node.Servers() {
		dead[server.ID] = !server.Alive
	}
	var wg sync.WaitGroup
	for _, m := range t.s.node.Members() {
		wg.Go(func() {
			patience := wait
			if dead[m.ID] {
				patience = min(patience, trailWaitDead)
			}
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			do(ctx, m.ID)
		})
	}
	wg.Wait()
}

// ask puts a question to one member.
func (t *auditTrail) ask(ctx context.Context, member string, q *trailQuestion) (*trailAnswer, error) {
	if member == t.s.config.NodeID {
		return t.answer(ctx, q)
	}
	body, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("encoding a question about the audit log: %w", err)
	}
	text, err := t.s.node.Call(ctx, member, methodAudit, body)
	if err != nil {
		return nil, err
	}
	a := new(trailAnswer)
	if err := json.Unmarshal(text, a); err != nil {
		return nil, fmt.Errorf("reading what member %s says of its audit log: %w", member, err)
	}
	return a, nil
}

// askAll puts a question to every member, and has take see each answer, or nil, one after the other.
func (t *auditTrail) askAll(ctx context.Context, question func(member string) *trailQuestion, take func(member, failure string, a *trailAnswer)) {
	var mu sync.Mutex
	t.each(ctx, trailWait, func(ctx context.Context, member string) {
		a, failure := new(trailAnswer), ""
		if q := question(member); q != nil {
			var err error
			if a, err = t.ask(ctx, member, q); err != nil {
				failure = "it did not answer"
				t.s.logger.Warn("asking a member for its audit log", "member", member, "error", err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		take(member, failure, a)
	})
}

// Query implements api.Trail.
func (t *auditTrail) Query(ctx context.Context, q audit.Query, from map[string]api.TrailPosition) (pages []api.TrailPage) {
	question := func(member string) *trailQuestion {
		at := from[member]
		if at.Done {
			return nil
		}
		of := q
		of.After = at.After
		return &trailQuestion{Query: &of}
	}
	t.askAll(ctx, question, func(member, failure string, a *trailAnswer) {
		page := api.TrailPage{Node: member, Error: failure}
		if failure == "" {
			page.Next = a.Next
			for _, line := range a.Lines {
				e, err := audit.ParseEntry(line)
				if err != nil {
					t.s.logger.Error("a member has sent a record that is none", "member", member, "error", err)
					page.Error, page.Page = "what it sent is no audit record", audit.Page{}
					break
				}
				page.Entries = append(page.Entries, e)
			}
		}
		pages = append(pages, page)
	})
	slices.SortFunc(pages, func(x, y api.TrailPage) int { return strings.Compare(x.Node, y.Node) })
	return pages
}

// Checkpoints implements api.Trail.
func (t *auditTrail) Checkpoints(ctx context.Context) (all []api.TrailCheckpoints) {
	held := &trailQuestion{Held: true}
	t.askAll(ctx, func(string) *trailQuestion { return held }, func(member, failure string, a *trailAnswer) {
		of := api.TrailCheckpoints{Node: member, Error: failure}
		if a != nil {
			of.Own, of.Kept = a.Own, a.Kept
		}
		all = append(all, of)
	})
	slices.SortFunc(all, func(x, y api.TrailCheckpoints) int { return strings.Compare(x.Node, y.Node) })
	return all
}

// Prove implements api.Trail.
func (t *auditTrail) Prove(ctx context.Context, node string, sequence uint64) (*audit.Proof, error) {
	if m, ok := t.s.fsm.View().Member(node); !ok || !m.Removed.IsZero() {
		return nil, audit.ErrUnknownNode
	}
	ctx, cancel := context.WithTimeout(ctx, trailWait)
	defer cancel()
	a, err := t.ask(ctx, node, &trailQuestion{Prove: sequence})
	switch {
	case err != nil:
		return nil, fmt.Errorf("asking member %s for a proof: %w", node, err)
	case a.Missing == missingRecord:
		return nil, audit.ErrNoRecord
	case a.Missing == missingCheckpoint || a.Proof == nil:
		return nil, audit.ErrNoCheckpoint
	}
	return a.Proof, nil
}

// Sinks implements api.Trail.
func (t *auditTrail) Sinks(ctx context.Context) (all []api.TrailSinks) {
	question := &trailQuestion{Sinks: true}
	t.askAll(ctx, func(string) *trailQuestion { return question }, func(member, failure string, a *trailAnswer) {
		of := api.TrailSinks{Node: member, Error: failure}
		if a != nil {
			for _, sink := range a.Sinks {
				status := sink.Status
				if sink.Trouble != "" {
					status.Err = errors.New(sink.Trouble)
				}
				of.Sinks = append(of.Sinks, status)
			}
		}
		all = append(all, of)
	})
	slices.SortFunc(all, func(x, y api.TrailSinks) int { return strings.Compare(x.Node, y.Node) })
	return all
}
