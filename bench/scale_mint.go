package bench

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"runtime"
	"time"

	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
	"github.com/deputy-id/deputy/tokens"
)

// scaleIssuer is the issuer of tokens that never leave the process.
const scaleIssuer = "https://deputy.invalid"

// MintAtSize is mint speed over the full store, to that over an empty one: read the view, decide, sign.
type MintAtSize struct {
	Session string  `json:"session"` // autonomous, or on behalf of a user
	Picked  string  `json:"picked"`  // whom the mints over the full store are for
	Full    Spread  `json:"full"`    // mints a second of CPU time on one core
	Empty   Spread  `json:"empty"`
	Garbage float64 `json:"garbage_bytes"` // that each mint leaves behind
	GCNanos float64 `json:"gc_ns"`         // of CPU that collecting the full store adds to each mint
	Ratio   Spread  `json:"ratio"`         // of the rounds, the full store's collections included
	Target  float64 `json:"target"`
	Met     bool    `json:"met"`
}

// mint compares minting over the full store with minting over one that holds a single agent, a principal and a
// delegation between them.
func (s *scale) mint(ctx context.Context) ([]MintAtSize, error) {
	s.Logger.Info("minting over the full and the empty store", "rounds", s.Rounds)
	people := newPopulation(1, 1, time.Now())
	empty := newStore(s.Logger)
	if _, _, err := empty.apply(people.now, []fsm.Body{
		fsm.CreateAgent{Agent: people.agent(0)},
		fsm.CreatePrincipal{Principal: people.principal(0)},
		fsm.CreateDelegation{Delegation: people.delegation(0)},
	}); err != nil {
		return nil, fmt.Errorf("making the empty store's one agent: %w", err)
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
	m.Full, m.Empty, m.Ratio = spread(fullRates), spread(emptyRates), spread(ratios)
	m.Met = m.Ratio.Median >= m.Target
	return m, nil
}

// allocated is all that was ever allocated.
func allocated() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}

// mill mints over one store as a node does, but for HTTP and for the caller's secret.
type mill struct {
	store       *store
	people      *population
	agents      []string // names, spelled beforehand: the garbage of a mint shall be that of minting
	principals  []string
	delegations int
	among       int // how many delegations, or agents, the mints are for; spread evenly over all
	engine      *policy.Engine
	grant       policy.Grant
	delegation  identity.Delegation
	minter      *tokens.Minter
	random      *mathrand.Rand
	token       []byte
}

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
		store: s, people: people, delegations: delegations, among: delegations, engine: policy.NewEngine(), minter: minter,
		random: mathrand.New(mathrand.NewPCG(populationSeed, 2)), token: make([]byte, 0, 4096),
	}
	for n := range people.agents {
		m.agents = append(m.agents, agentName(n))
	}
	for n := range people.principals {
		m.principals = append(m.principals, principalID(n))
	}
	return m, nil
}

// run mints for the duration on one thread. The rate is to that thread's CPU time: a turn in which the machine
// gave the core to somebody else is no slower for it.
func (m *mill) run(ctx context.Context, duration time.Duration, delegated bool) (count int, rate float64, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const batch = 32 // mints between looks at the clock
	before := threadCPU()
	spent := time.Duration(0)
	for spent < duration {
		for range batch {
			if err := m.mint(delegated); err != nil {
				return 0, 0, err
			}
		}
		count += batch
		spent = threadCPU() - before
	}
	return count, float64(count) / spent.Seconds(), ctx.Err()
}

// pick returns one of count things, as few different ones as m.among says.
func (m *mill) pick(count int) int {
	among := min(m.among, count)
	return m.random.IntN(among) * (count / among)
}

// mint makes one session of an agent, or of a delegation's agent on behalf of its principal.
func (m *mill) mint(delegated bool) error {
	view := m.store.fsm.View()
	now := identity.InstantOf(time.Now())
	principal, agent := m.people.pair(m.pick(m.delegations))
	if !delegated {
		agent = m.pick(m.people.agents)
	}
	request := policy.Request{
		Now: now, SessionID: sessionID(now), Applications: view, Issuer: scaleIssuer,
		OfflineTTLSeconds: identity.DefaultOfflineTTLSeconds,
	}
	var ok bool
	if request.Agent, ok = view.Agent(m.agents[agent]); !ok {
		return fmt.Errorf("agent %s is not in the store", m.agents[agent])
	}
	if delegated {
		if request.Principal, ok = view.Principal(m.principals[principal]); !ok {
			return fmt.Errorf("principal %s is not in the store", m.principals[principal])
		}
		var refusal *identity.Error
		m.delegation, refusal = view.ActiveDelegation(request.Agent.Name, request.Principal.ID, "", now)
		if refusal != nil {
			return refusal
		}
		request.Delegation = &m.delegation
	}
	if err := m.engine.Decide(&request, &m.grant); err != nil {
		return err
	}
	var err error
	m.token, err = m.minter.Mint(m.token[:0], &m.grant)
	return err
}

func sessionID(now identity.Instant) string {
	var entropy [10]byte
	_, _ = rand.Read(entropy[:]) // never fails: crypto/rand ends the process instead
	return identity.NewID(identity.PrefixSession, now, entropy)
}
