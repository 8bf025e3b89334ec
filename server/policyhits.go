package server

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/deputy-id/deputy/api"
	"github.com/deputy-id/deputy/cluster"
)

// policyHits asks the nodes of the cluster what policies have denied there.
type policyHits struct{ s *Server }

// hitsQuestion is what one node asks another.
type hitsQuestion struct {
	Policy string `json:"policy,omitempty"` // none: the totals of all
}

// serveHits answers another node.
func (s *Server) serveHits(_ context.Context, _ cluster.Member, body []byte) ([]byte, error) {
	var q hitsQuestion
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, fmt.Errorf("reading a question about policies: %w", err)
	}
	return json.Marshal(s.api.OwnPolicyHits(q.Policy))
}

// PolicyHits asks every member at the same time. Who does not answer is listed with the reason.
func (h policyHits) PolicyHits(ctx context.Context, policy string) []api.NodeHits {
	dead := map[string]bool{}
	for _, server := range h.s.node.Servers() {
		dead[server.ID] = !server.Alive
	}
	members := h.s.node.Members()
	answers := make([]api.NodeHits, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() {
			hits, err := h.askOne(ctx, m.ID, dead[m.ID], policy)
			if err != nil {
				h.s.logger.Debug("asking a member what policies have denied there", "member", m.ID, "error", err)
				hits = api.NodeHits{Error: "it did not answer"}
			}
			hits.ID = m.ID
			answers[i] = hits
		})
	}
	wg.Wait()
	return answers
}

func (h policyHits) askOne(ctx context.Context, member string, dead bool, policy string) (hits api.NodeHits, err error) {
	if member == h.s.config.NodeID {
		return h.s.api.OwnPolicyHits(policy), nil
	}
	wait := sessionsWait
	if dead {
		wait = sessionsWaitDead
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	body, err := json.Marshal(hitsQuestion{Policy: policy})
	if err != nil {
		return hits, fmt.Errorf("encoding a question about policies: %w", err)
	}
	text, err := h.s.node.Call(ctx, member, methodPolicyHits, body)
	if err != nil {
		return hits, err
	}
	if err := json.Unmarshal(text, &hits); err != nil {
		return hits, fmt.Errorf("reading what policies have denied at member %s: %w", member, err)
	}
	return hits, nil
}
