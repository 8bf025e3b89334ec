package api

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// replayTime bounds how long one answer goes through records; what is left is for the next one.
const replayTime = 3 * time.Second

// replayedKinds are what policies have decided, and what stands for it.
var replayedKinds = []audit.Kind{audit.KindMint, audit.KindExchange, audit.KindEvaluate, audit.KindTool, audit.KindAdmin}

// replay is a question about what was decided, and its answer as far as it has come.
type replay struct {
	*API
	c       *call
	present *policy.Set // the policies of now
	drafted *policy.Set // with the drafts among them
	grant   policy.Grant
	tally   tally
}

// replayTrail decides again on what the trail has recorded, with drafts among the policies. It reads the logs of all
// nodes in the order of time, changes and counts nothing, and guesses nothing: what a record does not tell, and the state
// of now does not either, is told apart.
func (a *API) replayTrail(c *call, s *simulation) error {
	if err := requireRole(c.caller.token, auditors); err != nil {
		return err
	}
	q, from, err := c.replayQuery(s)
	if err != nil {
		return err
	}
	r := &replay{API: a, c: c, present: a.policiesOf(c)}
	if r.drafted, err = a.drafted(c, s.Policies); err != nil {
		return err
	}
	if err := a.fresh(c); err != nil {
		return err // what it compares with are the policies of now
	}
	r.tally.begin(int(s.Replay.Examples))
	defer func(now identity.Instant, source netip.Addr) { c.now, c.source = now, source }(c.now, c.source)
	answer := wire.Replay{From: q.From, To: q.To}
	limit, deadline := s.Replay.Records, time.Now().Add(replayTime)
	more := true
	var pages []TrailPage
	for more && r.tally.records < limit && time.Now().Before(deadline) {
		q.Limit = int(min(limit-r.tally.records, audit.MaxLimit))
		if err := a.askTrail(func(ctx context.Context) { pages = a.Trail.Query(ctx, q, from) }); err != nil {
			return err
		}
		var merged []audit.Entry
		merged, more = mergeTrail(pages, &q, from)
		for i := range merged {
			if err := r.one(&merged[i]); err != nil {
				return err
			}
		}
	}
	answer.Complete = true
	for i := range pages {
		answer.Nodes = append(answer.Nodes, trailNode(pages[i].Node, pages[i].Error, &answer.Complete))
	}
	if more || !answer.Complete {
		answer.Cursor = trailCursor(from, true)
	}
	r.tally.tell(&answer)
	return c.answer(fasthttp.StatusOK, &answer)
}

// replayQuery is what of the trail is asked for, and from where.
func (c *call) replayQuery(s *simulation) (q audit.Query, from map[string]TrailPosition, err error) {
	r := s.Replay
	if len(s.Policies) == 0 {
		return q, nil, invalidField("/policies", "is missing: what is to be tried on the records?")
	}
	if r.To.IsZero() {
		r.To = c.now + 1
	}
	if r.From.IsZero() == (r.SinceSeconds == 0) {
		return q, nil, invalidField("/replay", "must have exactly one of from and since_seconds")
	}
	for _, bound := range []struct {
		field string
		of    *int64
		most  int64
		usual int64
	}{
		{"since_seconds", &r.SinceSeconds, wire.MaxReplaySeconds, 0},
		{"records", &r.Records, wire.MaxReplayRecords, wire.DefaultReplayRecords},
		{"examples", &r.Examples, wire.MaxReplayedShown, wire.DefaultReplayedShown},
	} {
		if *bound.of < 0 || *bound.of > bound.most {
			return q, nil, invalidField("/replay/"+bound.field, "is %d; it must be between 1 and %d", *bound.of, bound.most)
		}
		if *bound.of == 0 {
			*bound.of = bound.usual
		}
	}
	if r.From.IsZero() {
		r.From = r.To - identity.Instant(r.SinceSeconds*1000)
	}
	if r.From >= r.To {
		return q, nil, invalidField("/replay/from", "is %s, and the end is %s; nothing is between them", r.From, r.To)
	}
	if s.alone() != "" {
		return q, nil, invalidField("/"+s.alone(), "is of a single request; a replay has those of the trail")
	}
	q = audit.Query{
		Kinds: replayedKinds, Agent: r.AgentID, From: r.From, To: r.To, OldestFirst: true,
	}
	from, err = readTrailCursor(r.After, true)
	return q, from, err
}

// alone names a field that a replay has no use for, "" where there is none.
func (s *simulation) alone() string {
	for name, given := range map[string]bool{
		"action": s.Action != "", "agent_id": s.AgentID != "", "principal_user_id": s.PrincipalUserID != "", "requested_scopes": s.RequestedScopes != "",
		"audience": len(s.Audience) > 0, "trigger_reason": s.TriggerReason != "", "max_duration_seconds": s.MaxDuration != 0, "lends": s.Lends,
		"chain": len(s.Chain) > 0, "parent_token": s.ParentToken != "", "tool": s.Tool != nil, "max_hops": s.MaxHops != 0,
		"source_ip": s.SourceIP != "", "time": !s.Time.IsZero(), "approved": s.Approved,
	} {
		if given {
			return name
		}
	}
	return ""
}

// one goes through one record. The call is of the record's time and place from here on.
func (r *replay) one(e *audit.Entry) error {
	decide, skip := r.again(e)
	if skip == irrelevant {
		return nil
	}
	r.tally.records++
	switch {
	case skip.reason != "":
		r.tally.skip(e, skip)
		return nil
	case decide == nil: // a rule of the model has denied it, which no policy can change
		r.tally.denied++
		return nil
	}
	refusal, d, err := decide(r.drafted)
	if err != nil {
		return err
	}
	r.tally.monitored(d.Monitored)
	allowed := e.Decision == audit.Allowed
	switch {
	case refusal == nil && allowed:
		r.tally.allowed++
	case refusal == nil:
		r.tally.differs(e, wire.ReplayFrees, nil, d)
	case !byPolicy(refusal.Code):
		r.tally.skip(e, skipped{string(refusal.Code), "a rule of the model refuses today what it did not then: " + verdicts[refusal.Code].title})
	case !allowed:
		r.tally.denied++
	default:
		d.Forbidding = slices.Clone(d.Forbidding) // it lies in the grant that the next decision fills
		already, _, err := decide(r.present)
		if err != nil {
			return err
		}
		if already != nil {
			r.tally.stale++
			return nil
		}
		r.tally.differs(e, wire.ReplayBreaks, refusal, d)
	}
	return nil
}

// byPolicy reports whether a refusal is one that rests on policies.
func byPolicy(code identity.Code) bool {
	return code == identity.CodePolicyDenied || code == identity.CodeApprovalRequired || code == identity.CodeApprovalDenied
}
