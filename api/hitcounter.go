package api

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// Bounds of what a node counts. With all of them reached, which takes a hundred busy agents for each of a thousand
// policies, it is some 400 MB; a policy that is hit by nobody takes nothing.
const (
	hitPolicies = identity.MaxPolicies
	hitAgents   = 100 // of a policy; those with the fewest hits make room
	hitScopes   = 32  // of an agent, likewise
)

// HitCounts are numbers of requests that a policy has denied, or would have in mode monitor.
type HitCounts struct {
	Denied    uint64 `json:"denied"`
	Monitored uint64 `json:"monitored"`
}

func (h *HitCounts) add(o HitCounts) {
	h.Denied, h.Monitored = h.Denied+o.Denied, h.Monitored+o.Monitored
}

func (h HitCounts) sum() uint64 { return h.Denied + h.Monitored }

// PolicyHits are those of one policy at one node, or at several. All add up: Total is the sum of Agents and Others.
type PolicyHits struct {
	Policy string                `json:"policy"`
	Total  HitCounts             `json:"total"`
	Agents map[string]*AgentHits `json:"agents"`
	Others HitCounts             `json:"others"` // of agents that are not listed
}

// AgentHits are those of one agent. A request counts for each of its scopes.
type AgentHits struct {
	Total  HitCounts             `json:"total"`
	Last   identity.Instant      `json:"last"`
	Scopes map[string]*HitCounts `json:"scopes"`
	Others HitCounts             `json:"others"` // of scopes that are not listed
}

// hitCounter counts hits at this node, in memory and since it was started.
type hitCounter struct {
	mu       sync.Mutex
	policies map[string]*PolicyHits
}

// hit is one decision that policies had a say in.
type hit struct {
	agent  string
	scopes identity.Scopes
	now    identity.Instant
}

// note counts a decision. Of most decisions there is nothing to count.
func (h *hitCounter) note(d *policy.Diagnostics, of hit) {
	if len(d.Forbidding) == 0 && len(d.Monitored) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range d.Forbidding {
		h.add(id, of, HitCounts{Denied: 1})
	}
	for _, id := range d.Monitored {
		h.add(id, of, HitCounts{Monitored: 1})
	}
}

func (h *hitCounter) add(id string, of hit, n HitCounts) {
	p := h.policies[id]
	if p == nil {
		if len(h.policies) >= hitPolicies {
			return // keep makes room for it
		}
		if h.policies == nil {
			h.policies = map[string]*PolicyHits{}
		}
		p = &PolicyHits{Policy: id, Agents: map[string]*AgentHits{}}
		h.policies[id] = p
	}
	p.Total.add(n)
	a := p.Agents[of.agent]
	if a == nil {
		if len(p.Agents) >= hitAgents {
			name := fewest(p.Agents, func(a *AgentHits) uint64 { return a.Total.sum() })
			p.Others.add(p.Agents[name].Total)
			delete(p.Agents, name)
		}
		a = &AgentHits{Scopes: map[string]*HitCounts{}}
		p.Agents[of.agent] = a
	}
	a.Total.add(n)
	a.Last = max(a.Last, of.now)
	for scope := range of.scopes.All() {
		s := a.Scopes[scope]
		if s == nil {
			if len(a.Scopes) >= hitScopes {
				name := fewest(a.Scopes, func(c *HitCounts) uint64 { return c.sum() })
				a.Others.add(*a.Scopes[name])
				delete(a.Scopes, name)
			}
			s = &HitCounts{}
			a.Scopes[scope] = s
		}
		s.add(n)
	}
}

// fewest is the name of the one with the fewest hits, and of several the first by name.
func fewest[T any](all map[string]T, hits func(T) uint64) string {
	least, found := "", false
	for name, one := range all {
		if found {
			if order := cmp.Or(cmp.Compare(hits(one), hits(all[least])), strings.Compare(name, least)); order > 0 {
				continue
			}
		}
		least, found = name, true
	}
	return least
}

// keep forgets policies that are not there any more, once there are too many: policies come and go, and a node may run
// for years.
func (h *hitCounter) keep(set *policy.Set) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.policies)+len(set.Policies()) <= hitPolicies {
		return
	}
	kept := make(map[string]*PolicyHits, len(set.Policies()))
	for _, p := range set.Policies() {
		if counted := h.policies[p.ID]; counted != nil {
			kept[p.ID] = counted
		}
	}
	h.policies = kept
}

// of is a copy of a policy's hits, or, where id is empty, of the totals of all.
func (h *hitCounter) of(id string) (hits []PolicyHits) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, p := range h.policies {
		switch {
		case id == "":
			hits = append(hits, PolicyHits{Policy: name, Total: p.Total, Agents: namesOnly(p.Agents), Others: p.Others})
		case name == id:
			hits = append(hits, PolicyHits{Policy: name})
			hits[len(hits)-1].merge(p)
		}
	}
	slices.SortFunc(hits, func(a, b PolicyHits) int { return strings.Compare(a.Policy, b.Policy) })
	return hits
}

// namesOnly keeps of the agents who they are, so that several nodes' can be counted together.
func namesOnly(agents map[string]*AgentHits) map[string]*AgentHits {
	out := make(map[string]*AgentHits, len(agents))
	for name, a := range agents {
		out[name] = &AgentHits{Total: a.Total, Last: a.Last}
	}
	return out
}

// merge adds the hits of the same policy at another node.
func (p *PolicyHits) merge(o *PolicyHits) {
	p.Total.add(o.Total)
	p.Others.add(o.Others)
	if p.Agents == nil {
		p.Agents = map[string]*AgentHits{}
	}
	for name, theirs := range o.Agents {
		a := p.Agents[name]
		if a == nil {
			a = &AgentHits{Scopes: map[string]*HitCounts{}}
			p.Agents[name] = a
		}
		a.Total.add(theirs.Total)
		a.Others.add(theirs.Others)
		a.Last = max(a.Last, theirs.Last)
		for scope, n := range theirs.Scopes {
			if a.Scopes[scope] == nil {
				a.Scopes[scope] = &HitCounts{}
			}
			a.Scopes[scope].add(*n)
		}
	}
}

// Describe implements prometheus.Collector. The hits are read when somebody asks, so that there are no more series than
// policies that are counted.
func (h *hitCounter) Describe(out chan<- *prometheus.Desc) { out <- hitsDescription() }

// Collect implements prometheus.Collector.
func (h *hitCounter) Collect(out chan<- prometheus.Metric) {
	description := hitsDescription()
	for _, p := range h.of("") {
		out <- prometheus.MustNewConstMetric(description, prometheus.CounterValue, float64(p.Total.Denied), p.Policy, "denied")
		out <- prometheus.MustNewConstMetric(description, prometheus.CounterValue, float64(p.Total.Monitored), p.Policy, "monitored")
	}
}

func hitsDescription() *prometheus.Desc {
	return prometheus.NewDesc("deputy_policy_hits_total",
		"Requests that a policy has denied, or would have denied in mode monitor.", []string{"policy", "outcome"}, nil)
}
