package bench

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/deputy-id/deputy/bench/load"
)

// Defaults of the fleet.
const (
	DefaultPerMint     = 20 // introspections for each mint
	DefaultRevokeEvery = 50 // mints for each session that is ended
	// heldTokens is how many tokens of the fleet are in use at a time.
	heldTokens = 4096
)

// States of a held token.
const (
	heldGood    int32 = iota // it must be accepted
	heldEnding               // its end was asked for: either answer is right
	heldEnded                // its end is committed at the node that said so; others may not know
	heldFenced               // it must be refused everywhere
	heldUnknown              // whether it has ended is not known: either answer is right
)

// held is a token that the fleet uses.
type held struct {
	text  string
	state atomic.Int32
}

// holding are the tokens in use, the newest of which replace the oldest.
type holding struct {
	lock   sync.Mutex
	tokens []*held
	next   int
	alive  int // up to where there were any at all
}

func newHolding(first []string) *holding {
	h := &holding{tokens: make([]*held, heldTokens)}
	for _, token := range first {
		h.put(token)
	}
	return h
}

func (h *holding) put(token string) {
	h.lock.Lock()
	defer h.lock.Unlock()
	h.tokens[h.next] = &held{text: token}
	h.next = (h.next + 1) % len(h.tokens)
	h.alive = max(h.alive, h.next)
}

// any picks one of those in use, dead or alive.
func (h *holding) any(random *rand.Rand) *held {
	h.lock.Lock()
	defer h.lock.Unlock()
	return h.tokens[random.IntN(h.alive)]
}

// Operations of the fleet.
const (
	fleetMint = iota
	fleetIntrospect
	fleetRevoke
)

// prepareFleet has a few tokens to begin with.
func prepareFleet(ctx context.Context, d *drive) (*job, error) {
	first, err := d.pool(ctx, DefaultWarmTokens)
	if err != nil {
		return nil, err
	}
	tokens := newHolding(first)
	perMint, every := uint64(orDefault(d.PerMint, DefaultPerMint)), uint64(orDefault(d.RevokeEvery, DefaultRevokeEvery)) //nolint:gosec // validated
	j := &job{
		operations: []string{"mint", "introspect", "revoke"}, token: len(first[0]),
		expected: []expectation{fixtureExpectation(), {}, {}}, evidence: newEvidence(),
		// A round is a mint with its introspections; every so many of them a session is ended in place of one.
		deal: func(n uint64) int {
			round, step := n/(perMint+1), n%(perMint+1)
			switch {
			case step == 0:
				return fleetMint
			case step == 1 && round%every == every-1:
				return fleetRevoke
			}
			return fleetIntrospect
		},
	}
	request := d.fixture.mintRequest()
	j.work = func(connection, _ int) load.Work {
		return &fleet{
			mint:   minting{make: func(*load.Call) []byte { return request }, evidence: j.evidence, got: func(token []byte) { tokens.put(string(token)) }},
			tokens: tokens, asker: newAsker(d.fixture), ender: newEnder(d), evidence: j.evidence,
			random: rand.New(rand.NewPCG(populationSeed, uint64(connection))), //nolint:gosec // at most MaxConnections
		}
	}
	return j, nil
}

// fleet is the work of one connection of a fleet.
type fleet struct {
	mint     minting
	tokens   *holding
	asker    *asker
	ender    *ender
	evidence *evidence
	random   *rand.Rand

	token  *held
	before int32 // its state when the question was asked
}

func (f *fleet) Next(call *load.Call) {
	switch call.Operation {
	case fleetMint:
		f.mint.Next(call)
	case fleetRevoke:
		f.token = f.tokens.any(f.random)
		f.token.state.CompareAndSwap(heldGood, heldEnding)
		request, err := f.ender.end(f.token.text)
		if err != nil {
			panic("BUG: a token that was minted can't be read: " + err.Error())
		}
		call.Request = request
	default:
		f.token = f.tokens.any(f.random)
		f.before = f.token.state.Load()
		call.Request = f.asker.ask(f.token.text)
	}
}

func (f *fleet) Judge(call *load.Call, status int, body []byte) load.Failure {
	switch call.Operation {
	case fleetMint:
		return f.mint.Judge(call, status, body)
	case fleetRevoke:
		failure := f.ender.judge(status, body)
		switch {
		case failure != "":
			f.token.state.CompareAndSwap(heldEnding, heldUnknown)
		case f.ender.fence:
			f.token.state.Store(heldFenced)
		default:
			f.token.state.CompareAndSwap(heldEnding, heldEnded)
		}
		return failure
	}
	if status != 200 {
		return load.StatusFailure(status)
	}
	switch active := bytes.Contains(body, saysActive); {
	case !active && !bytes.Contains(body, saysInactive):
		return load.FailureAnswer
	case active && f.before == heldFenced: // asked after the fence
		return wrongFenced
	case !active && f.token.state.Load() == heldGood: // nobody has asked for its end, until now
		return wrongRefused
	case active && f.before == heldGood:
		f.evidence.keep(call, body, f.token.text)
	}
	return ""
}

// prepareDelegations has agents and principals to make them between.
func prepareDelegations(ctx context.Context, d *drive) (*job, error) {
	maker, err := d.delegations(ctx)
	if err != nil {
		return nil, err
	}
	return &job{operations: []string{"delegation"}, expected: make([]expectation, 1), evidence: newEvidence(), work: maker.work}, nil
}

func (d *drive) delegations(ctx context.Context) (*delegationMaker, error) {
	people, err := fillPairs(ctx, d.ground.api, d.Logger)
	if err != nil {
		return nil, err
	}
	return newDelegationMaker(people, d.ground.token), nil
}
