package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/deputy-id/deputy/bench/result"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
	"github.com/deputy-id/deputy/tokens"
)

// IntrospectAtSize is the speed of verifying tokens with the full store's revocations live, to that with none: parse,
// find the token in the cache or check its signature, time, and every handle against the set.
type IntrospectAtSize struct {
	Tokens string        `json:"tokens"` // seen before, or not
	Full   result.Spread `json:"full"`   // a second of CPU time on one core
	Empty  result.Spread `json:"empty"`
	Nanos  float64       `json:"set_ns"` // that the live revocations add to each
	Ratio  result.Spread `json:"ratio"`
	Target float64       `json:"target"`
	Met    bool          `json:"met"`
}

// Asked is what the set itself takes for the six handles of a good token.
type Asked struct {
	Handles int           `json:"handles"`
	Full    result.Spread `json:"full_ns"`
	Empty   result.Spread `json:"empty_ns"`
	Target  float64       `json:"target_ns"`
	Met     bool          `json:"met"`
}

const askedTarget = 250.0 // ns

// judge verifies tokens against a set.
type judge struct {
	tokens   [][]byte
	cold     *tokens.Verifier
	warm     *tokens.Verifier
	next     int
	verified int
}

// introspect compares verifying over the full store's set with the same over an empty one.
func (s *scale) introspect(ctx context.Context) ([]IntrospectAtSize, error) {
	s.Logger.Info("verifying tokens with and without the live revocations", "rounds", s.Rounds)
	m, err := newMill(s.store, s.people, s.Delegations)
	if err != nil {
		return nil, err
	}
	minted := make([][]byte, s.Tokens)
	for i := range minted {
		if i%len(m.requests) == 0 {
			m.draw(true)
		}
		if err := m.mint(&m.requests[i%len(m.requests)], true); err != nil {
			return nil, fmt.Errorf("minting a token to verify: %w", err)
		}
		minted[i] = append([]byte(nil), m.token...)
	}
	full, err := newJudge(m, minted, s.store.revoked)
	if err != nil {
		return nil, err
	}
	empty, err := newJudge(m, minted, revocation.NewSet())
	if err != nil {
		return nil, err
	}
	var out []IntrospectAtSize
	for _, cold := range []bool{false, true} {
		compared, err := s.compareJudges(ctx, full, empty, cold)
		if err != nil {
			return nil, fmt.Errorf("verifying: %w", err)
		}
		out = append(out, compared)
	}
	return out, nil
}

func newJudge(m *mill, minted [][]byte, set *revocation.Set) (*judge, error) {
	ring, err := tokens.NewKeyring([]identity.SigningKey{m.signer.SigningKey("bench", identity.InstantOf(time.Now()))})
	if err != nil {
		return nil, fmt.Errorf("making a key ring: %w", err)
	}
	options := tokens.VerifierOptions{
		Keys: func() *tokens.Keyring { return ring }, Checker: set, Issuer: func() string { return scaleIssuer },
		Now: func() identity.Instant { return identity.InstantOf(time.Now()) },
	}
	j := &judge{tokens: minted}
	if j.cold, err = tokens.NewVerifier(options); err != nil {
		return nil, fmt.Errorf("making a verifier: %w", err)
	}
	options.Cache = tokens.NewCache(4 * len(minted))
	if j.warm, err = tokens.NewVerifier(options); err != nil {
		return nil, fmt.Errorf("making a verifier: %w", err)
	}
	for _, token := range minted {
		if _, err := j.warm.Verify(token); err != nil {
			return nil, fmt.Errorf("verifying a token that was just minted: %w", err)
		}
	}
	return j, nil
}

// run verifies for a duration of one thread's CPU time. The tokens' bytes are read beforehand, as a node has just taken
// them from the network.
func (j *judge) run(ctx context.Context, duration time.Duration, cold bool) (rate float64, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	verifier := j.warm
	if cold {
		verifier = j.cold
	}
	count, spent := 0, time.Duration(0)
	for spent < duration {
		batch := j.tokens[j.next:][:mintBatch]
		j.next = (j.next + mintBatch) % len(j.tokens)
		for _, token := range batch {
			for i := range token {
				j.verified += int(token[i] & 1)
			}
		}
		before := threadCPU()
		for _, token := range batch {
			if _, err := verifier.Verify(token); err != nil {
				return 0, err
			}
		}
		spent += threadCPU() - before
		count += len(batch)
	}
	return float64(count) / spent.Seconds(), ctx.Err()
}

func (s *scale) compareJudges(ctx context.Context, full, empty *judge, cold bool) (IntrospectAtSize, error) {
	// Of a token that was seen before this is a microsecond, of which a miss of the caches is a good part: what it is over
	// HTTP, where most of an introspection is the rest of the work, Restart measures.
	c := IntrospectAtSize{Tokens: "seen before"}
	if cold {
		c.Tokens, c.Target = "seen for the first time", ScaleTarget
	}
	var fulls, empties, ratios []float64
	err := withoutGC(func() error {
		for n := range s.Rounds {
			pair := []*judge{full, empty}
			rates := make([]float64, len(pair))
			for i := range pair {
				i = (i + n) % len(pair) // none is always the first
				var err error
				if rates[i], err = pair[i].run(ctx, s.Round, cold); err != nil {
					return err
				}
			}
			fulls, empties, ratios = append(fulls, rates[0]), append(empties, rates[1]), append(ratios, rates[0]/rates[1])
		}
		return nil
	})
	c.Full, c.Empty, c.Ratio = result.SpreadOf(fulls), result.SpreadOf(empties), result.SpreadOf(ratios)
	c.Nanos = 1e9/c.Full.Median - 1e9/c.Empty.Median
	c.Met = c.Ratio.Median >= c.Target
	return c, err
}

// ask times the set alone, for the handles that the tokens of the full store carry.
func (s *scale) ask() (Asked, error) {
	a := Asked{Handles: 6, Target: askedTarget}
	lists := make([][]identity.Handle, s.Tokens)
	for i := range lists {
		principal, agent := s.people.pair(i % s.Delegations)
		lists[i] = []identity.Handle{
			identity.SessionHandle(s.people.id(identity.PrefixSession)), identity.DelegationHandle(s.people.id(identity.PrefixDelegation)),
			identity.AgentHandle(agentName(agent), uint64(i)), identity.PrincipalHandle(principalID(principal), uint64(i)),
			identity.CredentialHandle(s.people.id(identity.PrefixCredential)), identity.KeyHandle("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"),
		}
	}
	var fulls, empties []float64
	none := revocation.NewSet()
	for range s.Rounds {
		for _, turn := range []struct {
			set  *revocation.Set
			into *[]float64
		}{{s.store.revoked, &fulls}, {none, &empties}} {
			nanos, err := askAll(turn.set, lists)
			if err != nil {
				return a, err
			}
			*turn.into = append(*turn.into, nanos)
		}
	}
	a.Full, a.Empty = result.SpreadOf(fulls), result.SpreadOf(empties)
	a.Met = a.Full.Median <= a.Target
	return a, nil
}

var errRevoked = errors.New("the set revokes a handle that nobody added")

// askAll asks for each list once, and returns the time of one in nanoseconds. Texts are read beforehand.
func askAll(set *revocation.Set, lists [][]identity.Handle) (float64, error) {
	spent, read := time.Duration(0), 0
	for from := 0; from < len(lists); from += mintBatch {
		batch := lists[from:][:mintBatch]
		for _, handles := range batch {
			for _, h := range handles {
				for i := range len(h) {
					read += int(h[i] & 1)
				}
			}
		}
		start := time.Now()
		for _, handles := range batch {
			if set.Revoked(handles...) {
				return 0, errRevoked
			}
		}
		spent += time.Since(start)
	}
	if read == 0 {
		return 0, errRevoked // no handle is without an odd character
	}
	return float64(spent.Nanoseconds()) / float64(len(lists)), nil
}
