package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"runtime"
	"time"

	"github.com/deputy-id/deputy/bench/result"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
	"github.com/deputy-id/deputy/tokens"
)

// scaleIssuer is the issuer of tokens that never leave the process.
const scaleIssuer = "https://deputy.invalid"

// MintAtSize is mint speed over the full store, to that over an empty one: read the view, decide, sign.
type MintAtSize struct {
	Session string        `json:"session"` // autonomous, or on behalf of a user
	Picked  string        `json:"picked"`  // whom the mints over the full store are for
	Full    result.Spread `json:"full"`    // mints a second of CPU time on one core
	Empty   result.Spread `json:"empty"`
	Garbage float64       `json:"garbage_bytes"` // that each mint leaves behind
	GCNanos float64       `json:"gc_ns"`         // of CPU that collecting the full store adds to each mint
	Ratio   result.Spread `json:"ratio"`         // of the rounds, the full store's collections included
	Target  float64       `json:"target"`
	Met     bool          `json:"met"`
}

// mint compares minting over the full store with minting over one that holds a single agent, a principal and a
// delegation between them.
func (s *scale) mint(ctx context.Context) ([]MintAtSize, error) {
	s.Logger.Info("minting over the full and the empty store", "rounds", s.Rounds)
	people := newPopulation(1, 1, time.Now())
	empty := newStore(s.Logger)
	if _, _, err := empty.apply(people.now, []fsm.Body{
		fsm.CreateAPIToken{APIToken: people.runtime()},
		fsm.CreateAgent{Agent: people.agent(0)},
		fsm.CreatePrincipal{Principal: people.principal(0)},
		fsm.CreateDelegation{Delegation: people.delegation(0)},
	}); err != nil {
		return nil, fmt.Errorf("making the empty store's one agent: %w", err)
	}
	if _, _, err := s.store.apply(people.now, []fsm.Body{fsm.CreateAPIToken{APIToken: people.runtime()}}); err != nil {
		return nil, fmt.Errorf("making the full store's API token: %w", err)
	}
	onFull, err := newMill(s.store, s.people, s.Delegations)
	if err != nil {
		return nil, err
	}
	onEmpty, err := newMill(empty, people, 1)
	if err != nil {
		return nil, err
	}
	var out []MintAtSize
	for _, among := range []int{busy, s.Delegations} {
		for _, delegated := range []bool{false, true} {
			onFull.among = min(among, s.Delegations)
			compared, err := s.compare(ctx, onFull, onEmpty, delegated)
			if err != nil {
				return nil, err
			}
			out = append(out, compared)
		}
	}
	return out, nil
}

// busy is how many agents of the full store ask again and again, in the comparison that shows what the size of
// the store costs. The other comparison picks any agent at random, and so shows the misses of the processor's
// caches as well: nobody's fleet is that even, so a real one lies in between.
const busy = 64

func (s *scale) compare(ctx context.Context, full, empty *mill, delegated bool) (MintAtSize, error) {
	m := MintAtSize{Session: "autonomous", Target: ScaleTarget}
	if delegated {
		m.Session = "on behalf of a user"
	}
	if m.Picked = "at random"; full.among == busy {
		m.Picked = fmt.Sprintf("of %d busy ones", busy)
	}
	var fullRates, emptyRates []float64
	minted, before := 0, allocated()
	err := withoutGC(func() error {
		for n := range s.Rounds {
			order := []*mill{full, empty}
			if n%2 == 1 { // none is always the first
				order[0], order[1] = order[1], order[0]
			}
			for _, mill := range order {
				count, rate, err := mill.run(ctx, s.Round, delegated)
				if err != nil {
					return err
				}
				minted += count
				if mill == full {
					fullRates = append(fullRates, rate)
				} else {
					emptyRates = append(emptyRates, rate)
				}
			}
		}
		return nil
	})
	if err != nil {
		return m, fmt.Errorf("minting: %w", err)
	}
	// A collection comes once per live heap's worth of garbage (GOGC=100), and costs what it costs over the
	// full store: that share belongs to each mint there. The empty store's collections are left out.
	m.Garbage = float64(allocated()-before) / float64(minted)
	m.GCNanos = float64(collection().Nanoseconds()) * m.Garbage / float64(liveHeap())
	ratios := make([]float64, len(fullRates))
	for i := range ratios {
		ratios[i] = (1e9 / emptyRates[i]) / (1e9/fullRates[i] + m.GCNanos)
	}
	m.Full, m.Empty, m.Ratio = result.SpreadOf(fullRates), result.SpreadOf(emptyRates), result.SpreadOf(ratios)
	m.Met = m.Ratio.Median >= m.Target
	return m, nil
}

// allocated is all that was ever allocated.
func allocated() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}

// mill mints over one store as a node does, but for HTTP: an agent that proves itself by its secret gets a session
// of its own, or a runtime that has an API token gets one for an agent on behalf of a user.
type mill struct {
	store       *store
	people      *population
	agents      []string // names, spelled beforehand: the garbage of a mint shall be that of minting
	principals  []string
	delegations int
	among       int // how many delegations, or agents, the mints are for; spread evenly over all
	engine      *policy.Engine
	request     policy.Request // as a node keeps it beside each request under way, for the next one
	grant       policy.Grant
	lent        fsm.Lent
	minter      *tokens.Minter
	signer      *tokens.Signer
	random      *mathrand.Rand
	token       []byte

	requests []scaleRequest // of the next batch
	read     uint64         // all bytes of their texts, so that reading them is not left out
}

// scaleRequest is what a node has of a request when it begins to look things up.
type scaleRequest struct{ agent, principal, secret string }

func newMill(s *store, people *population, delegations int) (*mill, error) {
	signer, err := tokens.GenerateSigner()
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	minter, err := tokens.NewMinter(tokens.MinterOptions{Issuer: func() string { return scaleIssuer }, Checker: s.revoked})
	if err != nil {
		return nil, fmt.Errorf("making a minter: %w", err)
	}
	minter.SetSigner(signer)
	m := &mill{
		store: s, people: people, delegations: delegations, among: delegations, engine: policy.NewEngine(), minter: minter, signer: signer,
		random: mathrand.New(mathrand.NewPCG(populationSeed, 2)), token: make([]byte, 0, 4096),
		requests: make([]scaleRequest, mintBatch),
	}
	for n := range people.agents {
		m.agents = append(m.agents, agentName(n))
	}
	for n := range people.principals {
		m.principals = append(m.principals, principalID(n))
	}
	return m, nil
}

// mintBatch is how many requests are drawn, and then minted for, between looks at the clock.
const mintBatch = 32

// run mints for the duration on one thread. The rate is to that thread's CPU time: a turn in which the machine
// gave the core to somebody else is no slower for it.
func (m *mill) run(ctx context.Context, duration time.Duration, delegated bool) (count int, rate float64, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	spent := time.Duration(0)
	for spent < duration {
		m.draw(delegated)
		before := threadCPU()
		for i := range m.requests {
			if err := m.mint(&m.requests[i], delegated); err != nil {
				return 0, 0, err
			}
		}
		count += len(m.requests)
		spent += threadCPU() - before
	}
	return count, float64(count) / spent.Seconds(), ctx.Err()
}

// draw picks the next requests while the clock stands still, and reads their texts: a node has just read them from
// the network, so that they are in its caches, and what a mint has to fetch from memory is the store's.
func (m *mill) draw(delegated bool) {
	for i := range m.requests {
		principal, agent := m.people.pair(m.pick(m.delegations))
		r := scaleRequest{agent: m.agents[agent], principal: m.principals[principal], secret: runtimeSecret}
		if !delegated {
			name := m.agents[m.pick(m.people.agents)]
			r = scaleRequest{agent: name, secret: name}
		}
		for _, text := range []string{r.agent, r.principal, r.secret} {
			for j := range len(text) {
				m.read += uint64(text[j])
			}
		}
		m.requests[i] = r
	}
}

// pick returns one of count things, as few different ones as m.among says.
func (m *mill) pick(count int) int {
	among := min(m.among, count)
	return m.random.IntN(among) * (count / among)
}

// mint makes one session of an agent, or of a delegation's agent on behalf of its principal.
func (m *mill) mint(r *scaleRequest, delegated bool) error {
	view := m.store.fsm.View()
	now := identity.InstantOf(time.Now())
	m.request = policy.Request{
		Now: now, SessionID: sessionID(now), Applications: view, Issuer: scaleIssuer,
		OfflineTTLSeconds: identity.DefaultOfflineTTLSeconds,
	}
	find := m.own
	if delegated {
		find = m.onBehalf
	}
	if err := find(view, r, &m.request); err != nil {
		return err
	}
	if err := m.engine.Decide(&m.request, &m.grant); err != nil {
		return err
	}
	var err error
	m.token, err = m.minter.Mint(m.token[:0], &m.grant)
	return err
}

// own finds the agent that asks for a session of its own and proves itself by its secret.
func (m *mill) own(view *fsm.View, r *scaleRequest, request *policy.Request) error {
	hash := identity.HashSecret(r.secret)
	agent, ok := view.Agent(r.agent)
	if !ok {
		return fmt.Errorf("agent %s is not in the store", r.agent)
	}
	credential := identity.MatchSecret(agent.Credentials, hash, request.Now)
	if credential == nil {
		return fmt.Errorf("agent %s has another secret", r.agent)
	}
	request.Agent, request.Credential = agent, credential.ID
	return nil
}

// onBehalf finds the runtime that asks, and what a session of the agent on behalf of the principal rests on.
func (m *mill) onBehalf(view *fsm.View, r *scaleRequest, request *policy.Request) error {
	token, ok := view.APITokenByHash(identity.HashSecret(r.secret))
	if !ok || !token.ActiveAt(request.Now) || !token.MayRun(r.agent) {
		return errors.New("the runtime's API token is not in the store")
	}
	lent, refusal := view.ActiveDelegation(r.agent, r.principal, "", request.Now)
	if refusal != nil {
		return refusal
	}
	m.lent = lent
	request.Agent, request.Principal, request.Delegation, request.Credential = lent.Agent, lent.Principal, &m.lent.Delegation, token.ID
	return nil
}

func sessionID(now identity.Instant) string {
	var entropy [10]byte
	_, _ = rand.Read(entropy[:]) // never fails: crypto/rand ends the process instead
	return identity.NewID(identity.PrefixSession, now, entropy)
}
