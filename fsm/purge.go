package fsm

import (
	"bytes"
	"slices"
	"strings"
	"unique"

	"github.com/deputy-id/deputy/identity"
)

// goneKind says whose delegations are to be removed.
type goneKind string

const (
	goneAgent     goneKind = "agent"
	gonePrincipal goneKind = "principal"
)

// gone is a deleted agent or principal of whom records are left. They are dead already, as none of them is
// younger than a namesake that was made since; this is only about memory.
type gone struct {
	Kind   goneKind `codec:"k"`
	Name   string   `codec:"n"`
	UpTo   uint64   `codec:"u"`           // generation counter at deletion: younger records belong to a namesake
	Record []byte   `codec:"r,omitempty"` // id of the last record looked at
	Bars   bool     `codec:"b,omitempty"` // records are done, bars are next
	Agent  string   `codec:"a,omitempty"` // of the last bar looked at
}

// reapAtOnce is how many records a deletion removes by itself, which is all that most names have.
const reapAtOnce = 1000

// bury removes what is left of a deleted name, at once or by later purges.
func (s *state) bury(kind goneKind, name string) {
	g := gone{Kind: kind, Name: name, UpTo: s.generation}
	if rest, _, _, done := s.reap(g, reapAtOnce); !done {
		s.gone = append(slices.Clip(s.gone), rest)
	}
}

// reap looks at no more than budget records, and goes on from there the next time.
func (s *state) reap(g gone, budget int) (rest gone, looked, removed int, done bool) {
	if !g.Bars {
		var dead []*record
		full := false
		of := &record{agent: unique.Make(g.Name), principal: g.Name}
		copy(of.id[:], g.Record)
		tree, which := s.delegations.byAgent, lateByAgent
		if g.Kind == gonePrincipal {
			tree, which = s.delegations.byPrincipal, lateByPrincipal
		}
		s.delegations.file(which)
		pivot := tree.place(of)
		tree.work.Ascend(pivot, func(item placed) bool {
			if !mayBeOf(item.key, pivot.key) {
				return false
			}
			r := item.record
			if g.Kind == goneAgent && r.agent != of.agent || g.Kind == gonePrincipal && r.principal != g.Name {
				return true
			}
			if looked >= budget {
				full = true
				return false
			}
			looked++
			g.Record = bytes.Clone(r.id[:])
			if r.made <= g.UpTo {
				dead = append(dead, r)
			}
			return true
		})
		s.delegations.remove(dead)
		removed = len(dead)
		if full {
			return g, looked, removed, false
		}
		if g.Kind == goneAgent {
			return g, looked, removed, true
		}
		g.Bars = true
	}
	var lifted []bar
	full := false
	s.bars.work.Ascend(bar{principal: g.Name, agent: g.Agent}, func(b bar) bool {
		if b.principal != g.Name {
			return false
		}
		if looked >= budget {
			full = true
			return false
		}
		looked++
		g.Agent = b.agent
		if b.made <= g.UpTo {
			lifted = append(lifted, b)
		}
		return true
	})
	for _, b := range lifted {
		s.bars.delete(b)
	}
	return g, looked, removed, !full
}

// purge forgets what has expired by FSM time, with one budget for all kinds.
func (s *state) purge() *Purged {
	done := new(Purged)
	budget := MaxPurge

	s.purged = s.set.Purge(s.time) > 0
	done.Revocations = s.revocations.purge(s.time, budget, func(r *identity.Revocation) {
		if s.isDeletion(r.Handle) {
			s.forgotten = max(s.forgotten, r.At)
		}
	})
	budget -= done.Revocations

	for len(s.gone) > 0 && budget > 0 {
		rest, looked, removed, finished := s.reap(s.gone[0], budget)
		budget -= looked
		done.Delegations += removed
		next := slices.Clone(s.gone[1:])
		if !finished {
			next = slices.Concat([]gone{rest}, next)
		}
		s.gone = next
	}

	s.delegations.file(lateByExpiry)
	over := expired(s.delegations.byExpiry.tree, budget, func(r placed) bool { return after(r.expires, keepExpired) <= s.time })
	ended := make([]*record, len(over))
	for i := range over {
		ended[i] = over[i].record
	}
	s.delegations.remove(ended)
	budget -= len(ended)
	done.Delegations += len(ended)

	s.purgeApprovals(done, &budget)
	s.purgeSmall(done, &budget)
	for _, w := range []*window{s.internal, s.clients} {
		forgotten := w.expire(s.time, budget)
		done.Commands += forgotten
		budget -= forgotten
	}
	done.More = budget <= 0
	return done
}

// isDeletion reports whether a handle may be all that is known of something that was deleted. Of what there still is,
// and of a delegation, the state itself says whether it was stopped; and a session is in no backup.
func (s *state) isDeletion(h identity.Handle) bool {
	prefix, rest, _ := strings.Cut(string(h), "_")
	name, generation := splitGeneration(rest)
	switch prefix + "_" {
	case "agt_":
		row, ok := s.agents.find(name)
		return !ok || row.born > generation
	case "usr_":
		row, ok := s.principals.find(name)
		return !ok || row.born > generation
	case identity.PrefixCredential, identity.PrefixAPIToken:
		return true
	default:
		return false
	}
}

// expired lists the first items of a tree, as long as they are over.
func expired[T any](t *tree[T], limit int, over func(T) bool) []T {
	var out []T
	t.work.Scan(func(item T) bool {
		if len(out) >= limit || !over(item) {
			return false
		}
		out = append(out, item)
		return true
	})
	return out
}

func (s *state) purgeSmall(done *Purged, budget *int) {
	for _, t := range list[identity.JoinToken](s.rows(), tableJoinTokens, "", maxRows) {
		if *budget > 0 && after(t.Expires, keepExpired) <= s.time {
			s.remove(tableJoinTokens, t)
			done.JoinTokens++
			*budget--
		}
	}
	for _, k := range list[identity.SigningKey](s.rows(), tableKeys, "", maxRows) {
		if *budget > 0 && !k.Retired.IsZero() && after(k.Retired, s.horizon.lifetime()) <= s.time {
			s.dropKey(k.KID)
			done.SigningKeys++
			*budget--
		}
	}
}
