package sessions

import (
	"strings"

	"github.com/deputy-id/deputy/identity"
)

// kind tells texts of different meaning apart, which may be the same.
type kind uint8

const (
	kindAgent kind = iota + 1
	kindPrincipal
	kindReason
)

// symbols are the texts of a shard that records name by number. Number 0 stands for none. A text goes when the last
// that named it has gone.
type symbols struct {
	numbers map[symbolKey]uint32
	slab[symbol]
}

type symbolKey struct {
	kind kind
	text string
}

type symbol struct {
	key  symbolKey
	refs uint32
	head ref    // first of the sessions of the agent or principal, the newest
	n    uint32 // how many those are
}

// cost is what a text takes: its bytes, its place in the list, and one in the map, where it is in that.
func (k symbolKey) cost() int {
	if k.kind == kindReason {
		return 64 + len(k.text)
	}
	return 128 + len(k.text)
}

// take returns the number of a text, and how many bytes that has cost.
func (s *symbols) take(kind kind, text string) (number uint32, cost int) {
	if text == "" {
		return 0, 0
	}
	if number, ok := s.numbers[symbolKey{kind, text}]; ok {
		s.at(number).refs++
		return number, 0
	}
	number, cost = s.make(kind, text)
	s.numbers[s.at(number).key] = number
	return number, cost
}

// make gives a text a number that nobody finds by it.
func (s *symbols) make(kind kind, text string) (number uint32, cost int) {
	number = s.slab.take()
	made := s.at(number)
	made.key, made.refs = symbolKey{kind, strings.Clone(text)}, 1
	return number, made.key.cost()
}

// give undoes one take, and returns how many bytes that has freed.
func (s *symbols) give(number uint32) (cost int) {
	if number == 0 {
		return 0
	}
	symbol := s.at(number)
	if symbol.refs--; symbol.refs > 0 {
		return 0
	}
	cost = symbol.key.cost()
	if symbol.key.kind != kindReason {
		delete(s.numbers, symbol.key)
	}
	s.slab.give(number)
	return cost
}

// find returns the number of a text, 0 where no session has it.
func (s *symbols) find(kind kind, text string) uint32 { return s.numbers[symbolKey{kind, text}] }

// shape is what many sessions have in common: all those that an agent starts with the same credential for the same
// scopes. It is one text, so that to find it again is to hash and to compare one piece of memory.
type shape struct {
	text   string
	refs   uint32
	chain  [identity.MaxChain]uint32 // symbols of the agents, oldest first; 0 beyond its end
	reason uint32                    // symbol of the newest session's reason
}

// shapes are those of a shard. Number 0 is never used.
type shapes struct {
	numbers map[string]uint32
	slab[shape]
}

// shapeCost is what a shape takes besides its text, its place in the map included.
const shapeCost = 112

// take returns the number of a draft's shape, and how many bytes that has cost.
func (s *shapes) take(d *draft, names *symbols) (number uint32, cost int) {
	if number, ok := s.numbers[string(d.shape)]; ok {
		s.at(number).refs++
		return number, 0
	}
	number = s.slab.take()
	made := s.at(number)
	made.text, made.refs = string(d.shape), 1
	cost = shapeCost + len(made.text)
	for i := range d.session.Chain {
		agent, more := names.take(kindAgent, d.session.Chain[i].Agent)
		made.chain[i], cost = agent, cost+more
	}
	s.numbers[made.text] = number
	return number, cost
}

// give undoes one take, and returns how many bytes that has freed.
func (s *shapes) give(number uint32, names *symbols) (cost int) {
	shape := s.at(number)
	if shape.refs--; shape.refs > 0 {
		return 0
	}
	cost = shapeCost + len(shape.text)
	for _, agent := range shape.chain {
		cost += names.give(agent)
	}
	cost += names.give(shape.reason)
	delete(s.numbers, shape.text)
	s.slab.give(number)
	return cost
}

// takeReason returns the number of what set a session of the shape off, and by how many bytes more that is, or fewer. Most
// often that is what set the one before off, and else a text that nobody else has; to look for it among all others would
// cost a mint more than it saves.
func (s *shape) takeReason(text string, names *symbols) (number uint32, cost int) {
	if text == "" {
		return 0, 0
	}
	if names.at(s.reason).key.text == text {
		names.at(s.reason).refs++
		return s.reason, 0
	}
	number, cost = names.make(kindReason, text)
	names.at(number).refs++
	cost -= names.give(s.reason)
	s.reason = number
	return number, cost
}
