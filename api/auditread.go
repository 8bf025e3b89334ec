package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/identity"
)

// Trail is the audit trail of the cluster, of which each node has its own log.
type Trail interface {
	// Query asks every node for a page, each from its own position; one that is done is not asked.
	Query(ctx context.Context, q audit.Query, from map[string]TrailPosition) []TrailPage
	// Checkpoints asks every node for the checkpoints that it holds: its own newest and those of others.
	Checkpoints(ctx context.Context) []TrailCheckpoints
	// Prove asks the node for a proof. Errors wrap audit.ErrNoRecord, audit.ErrNoCheckpoint and audit.ErrUnknownNode.
	Prove(ctx context.Context, node string, sequence uint64) (*audit.Proof, error)
	// Sinks asks every node where its sinks stand.
	Sinks(ctx context.Context) []TrailSinks
}

// TrailPosition is how far the log of a node has been read.
type TrailPosition struct {
	After uint64 `json:"a,omitempty"`
	Done  bool   `json:"d,omitempty"` // there is no more
}

// TrailPage is a node's answer.
type TrailPage struct {
	Node  string
	Error string // why there is none
	audit.Page
}

// TrailCheckpoints are what a node holds.
type TrailCheckpoints struct {
	Node, Error string
	Own         *audit.Checkpoint
	Kept        []audit.Checkpoint
}

// TrailSinks are a node's.
type TrailSinks struct {
	Node, Error string
	Sinks       []audit.SinkStatus
}

const (
	// maxTrails bounds the questions about the trail that wait for other nodes.
	maxTrails = 8
	// trailWait bounds such a question.
	trailWait = 10 * time.Second
	// maxAuditCursor bounds the cursor that a client sends back: some hundred nodes.
	maxAuditCursor = 8 << 10
)

func (a *API) queryAudit(c *call) error {
	q := audit.Query{
		Agent: c.query("agent"), Principal: c.query("principal"), Session: c.query("session"), Tool: c.query("tool"),
		Decision: audit.Decision(c.query("decision")), Outcome: audit.Outcome(c.query("outcome")), Policy: c.query("policy"),
		Delegation: c.query("delegation"), Approval: c.query("approval"), Credential: c.query("credential"),
		Application: c.query("application"), Target: c.query("target"), SourceIP: c.query("source_ip"),
		RequestID: c.query("request_id"), TraceID: c.query("trace_id"),
	}
	if d := q.Decision; d != "" && d != audit.Allowed && d != audit.Denied {
		return invalidParameter("decision", "is %.40q; it must be %s or %s", d, audit.Allowed, audit.Denied)
	}
	if o := q.Outcome; o != "" && o != audit.Success && o != audit.Failure {
		return invalidParameter("outcome", "is %.40q; it must be %s or %s", o, audit.Success, audit.Failure)
	}
	if q.SourceIP != "" {
		address, err := netip.ParseAddr(q.SourceIP)
		if err != nil {
			return invalidParameter("source_ip", "is %.64q; it must be an IP address", q.SourceIP)
		}
		q.SourceIP = address.String()
	}
	if kinds := c.query("kind"); kinds != "" {
		for name := range strings.SplitSeq(kinds, ",") {
			kind, err := audit.ParseKind(strings.TrimSpace(name))
			if err != nil {
				return invalidParameter("kind", "%v", err)
			}
			q.Kinds = append(q.Kinds, kind)
		}
	}
	for _, bound := range []struct {
		name string
		to   *identity.Instant
	}{{"from", &q.From}, {"to", &q.To}} {
		text := c.query(bound.name)
		if text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return invalidParameter(bound.name, "is %.40q; it must be a time such as 2026-04-17T08:00:00Z", text)
		}
		*bound.to = identity.InstantOf(at)
	}
	switch order := c.query("order"); order {
	case "", "newest":
	case "oldest":
		q.OldestFirst = true
	default:
		return invalidParameter("order", "is %.40q; it must be newest or oldest", order)
	}
	return a.answerTrail(c, q)
}

func (a *API) sessionAudit(c *call) error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	if _, err := identity.ParseID(identity.PrefixSession, id); err != nil {
		return notFound("session", id)
	}
	return a.answerTrail(c, audit.Query{Session: id, OldestFirst: true})
}

// answerTrail asks all nodes, and makes one page of what they answer.
func (a *API) answerTrail(c *call, q audit.Query) (err error) {
	if q.Limit, err = c.limit(); err != nil {
		return err
	}
	from, err := readTrailCursor(c.query("after"), q.OldestFirst)
	if err != nil {
		return err
	}
	var pages []TrailPage
	err = a.askTrail(func(ctx context.Context) { pages = a.Trail.Query(ctx, q, from) })
	if err != nil {
		return err
	}
	merged, more := mergeTrail(pages, &q, from)
	answer := wire.AuditPage{Records: []wire.AuditRecord{}, Complete: true}
	for i := range merged {
		answer.Records = append(answer.Records, wire.AuditRecord{Line: merged[i].Line})
	}
	for i := range pages {
		answer.Nodes = append(answer.Nodes, trailNode(pages[i].Node, pages[i].Error, &answer.Complete))
	}
	cursor := trailCursor(from, q.OldestFirst)
	if q.OldestFirst {
		answer.Cursor = cursor
	}
	if more {
		c.linkNext(cursor, q.Limit)
	}
	return c.answer(fasthttp.StatusOK, &answer)
}

// askTrail puts a question to other nodes, if there is a place for it.
func (a *API) askTrail(question func(context.Context)) error {
	if !a.trails.enter(maxTrails) {
		return identity.Errorf(identity.CodeOverloaded, "too many questions about the audit trail are under way").
			WithHint("try again in a second, or ask another node")
	}
	defer a.trails.leave()
	ctx, cancel := context.WithTimeout(context.Background(), trailWait)
	defer cancel()
	question(ctx)
	return nil
}

func trailNode(id, failure string, complete *bool) wire.AuditNode {
	*complete = *complete && failure == ""
	return wire.AuditNode{ID: id, Replied: failure == "", Error: failure}
}

// mergeTrail puts the pages of all nodes into one by time, and moves the positions to where it ends. It ends with the
// limit, or where the next record of a node is not known: what the others have may come after it.
func mergeTrail(pages []TrailPage, q *audit.Query, from map[string]TrailPosition) (merged []audit.Entry, more bool) {
	next := make([]int, len(pages))
	for len(merged) < q.Limit {
		best, unknown := -1, false
		for i := range pages {
			p := &pages[i]
			switch {
			case p.Error != "":
			case next[i] == len(p.Entries):
				unknown = unknown || p.Next != 0
			case best < 0 || trailBefore(&p.Entries[next[i]], &pages[best].Entries[next[best]], q.OldestFirst):
				best = i
			}
		}
		if best < 0 || unknown {
			break
		}
		e := pages[best].Entries[next[best]]
		merged = append(merged, e)
		from[pages[best].Node] = TrailPosition{After: e.Sequence}
		next[best]++
	}
	for i := range pages {
		p := &pages[i]
		switch {
		case p.Error != "":
		case next[i] < len(p.Entries):
			more = true
		case p.Next != 0:
			from[p.Node], more = TrailPosition{After: p.Next}, true
		case !q.OldestFirst:
			from[p.Node] = TrailPosition{Done: true}
		}
	}
	return merged, more
}

func trailBefore(x, y *audit.Entry, oldest bool) bool {
	order := cmp.Or(cmp.Compare(x.Time, y.Time), cmp.Compare(x.Node, y.Node), cmp.Compare(x.Sequence, y.Sequence))
	return order < 0 == oldest && order != 0
}

// trailCursor spells where each node's log was left.
func trailCursor(at map[string]TrailPosition, oldest bool) string {
	order := byte('n')
	if oldest {
		order = 'o'
	}
	return string(order) + base64.RawURLEncoding.EncodeToString(encodeJSON(at))
}

func readTrailCursor(text string, oldest bool) (map[string]TrailPosition, error) {
	at := map[string]TrailPosition{}
	if text == "" {
		return at, nil
	}
	if len(text) > maxAuditCursor || (text[0] == 'o') != oldest || (text[0] == 'n') == oldest {
		return nil, invalidParameter("after", "must be the cursor of the page before, in the same order")
	}
	decoded, err := base64.RawURLEncoding.DecodeString(text[1:])
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(decoded))
		d.DisallowUnknownFields()
		err = d.Decode(&at)
	}
	if err != nil || at == nil {
		return nil, invalidParameter("after", "must be the cursor of the page before")
	}
	return at, nil
}

func (a *API) auditCheckpoints(c *call) error {
	var held []TrailCheckpoints
	if err := a.askTrail(func(ctx context.Context) { held = a.Trail.Checkpoints(ctx) }); err != nil {
		return err
	}
	answer := wire.AuditCheckpoints{Checkpoints: []wire.AuditCheckpoint{}, Keys: []wire.AuditKey{}, Complete: true}
	for i := range held {
		h := &held[i]
		answer.Nodes = append(answer.Nodes, trailNode(h.Node, h.Error, &answer.Complete))
		if h.Own != nil {
			answer.Checkpoints = append(answer.Checkpoints, showCheckpoint(h.Own, h.Node))
		}
		for j := range h.Kept {
			answer.Checkpoints = append(answer.Checkpoints, showCheckpoint(&h.Kept[j], h.Node))
		}
	}
	for _, m := range c.view.AllMembers() {
		answer.Keys = append(answer.Keys, wire.AuditKey{Node: m.ID, Key: m.Key})
	}
	slices.SortFunc(answer.Keys, func(x, y wire.AuditKey) int { return cmp.Compare(x.Node, y.Node) })
	return c.answer(fasthttp.StatusOK, &answer)
}

func showCheckpoint(k *audit.Checkpoint, holder string) wire.AuditCheckpoint {
	return wire.AuditCheckpoint{
		Node: k.Node, Log: k.Log, First: k.First, Through: k.Through, Head: k.Head.String(), Root: k.Root.String(),
		Time: k.Time, Signature: k.Signature, HeldBy: holder,
	}
}

func (a *API) proveAudit(c *call) error {
	node := c.query("node")
	if node == "" {
		return invalidParameter("node", "is missing: each node has a log of its own")
	}
	sequence, err := strconv.ParseUint(c.query("sequence"), 10, 64)
	if err != nil || sequence == 0 {
		return invalidParameter("sequence", "is %.40q; it must be the number of a record", c.query("sequence"))
	}
	var proof *audit.Proof
	if asked := a.askTrail(func(ctx context.Context) { proof, err = a.Trail.Prove(ctx, node, sequence) }); asked != nil {
		return asked
	}
	switch {
	case errors.Is(err, audit.ErrUnknownNode):
		return notFound("node", node)
	case errors.Is(err, audit.ErrNoRecord):
		return notFound("audit record", node+":"+strconv.FormatUint(sequence, 10))
	case errors.Is(err, audit.ErrNoCheckpoint):
		return identity.Errorf(identity.CodeConflict, "no checkpoint covers record %d of node %s yet", sequence, node).
			WithHint("ask again in a second; checkpoints and the records of a log about its segments are proven by their own signatures")
	case err != nil:
		return err
	}
	answer := wire.AuditProof{Checkpoint: showCheckpoint(&proof.Checkpoint, ""), Sequence: proof.Sequence, Path: []string{}, Record: proof.Record}
	for _, h := range proof.Path {
		answer.Path = append(answer.Path, h.String())
	}
	return c.answer(fasthttp.StatusOK, &answer)
}

func (a *API) auditSinks(c *call) error {
	var all []TrailSinks
	if err := a.askTrail(func(ctx context.Context) { all = a.Trail.Sinks(ctx) }); err != nil {
		return err
	}
	answer := wire.AuditSinks{Sinks: []wire.AuditSink{}, Complete: true}
	for _, of := range all {
		answer.Nodes = append(answer.Nodes, trailNode(of.Node, of.Error, &answer.Complete))
		for _, s := range of.Sinks {
			shown := wire.AuditSink{
				Node: of.Node, Name: s.Name, Confirmed: s.Confirmed, Behind: s.Behind, LagSeconds: s.Lag.Seconds(), Lost: s.Lost, Failures: s.Failures,
			}
			if s.Err != nil {
				shown.Error = s.Err.Error()
			}
			answer.Sinks = append(answer.Sinks, shown)
		}
	}
	return c.answer(fasthttp.StatusOK, &answer)
}
