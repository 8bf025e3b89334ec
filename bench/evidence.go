package bench

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/result"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/tokens"
)

// Wrong answers: those that a correct server can't give.
const (
	wrongSignature load.Failure = result.ErrorBadSignature
	wrongClaims    load.Failure = result.ErrorClaimsDiffer
	wrongFenced    load.Failure = result.ErrorFencedAccepted
	wrongRefused   load.Failure = result.ErrorGoodTokenRefused
)

const (
	// keepOneIn is how many answers are kept to be verified: one in so many, evenly.
	keepOneIn = 32
	// maxKept bounds them. Beyond it they are drawn evenly from the whole run.
	maxKept = 4096
)

// expectation is what a token must say.
type expectation struct {
	subject      string
	client       string
	agentType    identity.AgentType
	audience     []string
	scopes       identity.Scopes
	lifetime     int64 // seconds at most
	actors       []string
	confirmation string
}

// keptAnswer is one answer that is verified once the load is over, when that costs nobody anything.
type keptAnswer struct {
	operation int
	body      []byte
	about     string // the token that an introspection was about; "" of a mint
}

// evidence are the answers kept of a run.
type evidence struct {
	lock   sync.Mutex
	random *rand.Rand
	seen   int
	kept   []keptAnswer
}

func newEvidence() *evidence { return &evidence{random: rand.New(rand.NewPCG(populationSeed, 2))} }

// keep takes a share of the answers, by the call's number.
func (e *evidence) keep(call *load.Call, body []byte, about string) {
	if call.N%keepOneIn != 0 {
		return
	}
	e.lock.Lock()
	defer e.lock.Unlock()
	e.seen++
	answer := keptAnswer{operation: call.Operation, about: about}
	if len(e.kept) < maxKept {
		answer.body = bytes.Clone(body)
		e.kept = append(e.kept, answer)
	} else if at := e.random.IntN(e.seen); at < maxKept {
		answer.body = append(e.kept[at].body[:0], body...)
		e.kept[at] = answer
	}
}

// forget drops what was kept, such as of the warm-up.
func (e *evidence) forget() {
	e.lock.Lock()
	defer e.lock.Unlock()
	e.seen, e.kept = 0, nil
}

// judge verifies what was kept and moves what is wrong from the successes to the failures. It returns how many answers it
// has looked at.
func (e *evidence) judge(j *tokenJudge, expected []expectation, s *load.Sample) int {
	e.lock.Lock()
	defer e.lock.Unlock()
	for i := range e.kept {
		k := &e.kept[i]
		var failure load.Failure
		if k.about != "" {
			failure = j.introspected(k.body, k.about)
		} else {
			failure = j.minted(k.body, &expected[k.operation])
		}
		if failure != "" {
			s.Fail(k.operation, failure, 1)
		}
	}
	return len(e.kept)
}

// tokenJudge verifies tokens by the keys that the cluster publishes.
type tokenJudge struct {
	issuer string
	ring   *tokens.Keyring
	at     identity.Instant
}

// newTokenJudge reads the keys and the issuer.
func newTokenJudge(ctx context.Context, api *client.Client) (*tokenJudge, error) {
	var published wire.JWKS
	if _, err := api.Do(ctx, &client.Request{Method: "GET", Path: "/.well-known/jwks.json"}, &published); err != nil {
		return nil, fmt.Errorf("reading the published keys: %w", err)
	}
	metadata, err := api.Metadata(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for the issuer: %w", err)
	}
	var keys []identity.SigningKey
	for _, key := range published.Keys {
		public, err := base64.RawURLEncoding.DecodeString(key.X)
		if err != nil {
			return nil, fmt.Errorf("the published key %.64q is not base64url", key.KeyID)
		}
		keys = append(keys, identity.SigningKey{KID: key.KeyID, Alg: "EdDSA", Public: public})
	}
	ring, err := tokens.NewKeyring(keys)
	if err != nil {
		return nil, fmt.Errorf("reading the published keys: %w", err)
	}
	return &tokenJudge{issuer: metadata.Issuer, ring: ring, at: identity.InstantOf(time.Now())}, nil
}

// nothingRevoked stands where a node asks the set: here only what a token says and who signed it is looked at.
type nothingRevoked struct{}

func (nothingRevoked) Revoked(...identity.Handle) bool { return false }

// read verifies a token and returns what it says.
func (j *tokenJudge) read(token string) (*tokens.Claims, error) {
	verifier, err := tokens.NewVerifier(tokens.VerifierOptions{
		Keys: func() *tokens.Keyring { return j.ring }, Checker: nothingRevoked{},
		Issuer: func() string { return j.issuer }, Now: func() identity.Instant { return j.at }, Leeway: tokens.MaxLeeway,
	})
	if err != nil {
		return nil, err
	}
	return verifier.Verify([]byte(token))
}

// minted says what is wrong with the answer to a mint.
func (j *tokenJudge) minted(body []byte, want *expectation) load.Failure {
	var answer wire.Token
	if json.Unmarshal(body, &answer) != nil || answer.AccessToken == "" {
		return load.FailureAnswer
	}
	claims, err := j.read(answer.AccessToken)
	var refused *tokens.VerifyError
	switch {
	case errors.As(err, &refused) && (refused.Reason == tokens.ReasonIssuer || refused.Reason == tokens.ReasonExpired):
		return wrongClaims
	case err != nil:
		return wrongSignature
	case claims.SessionID != answer.SessionID, string(claims.Scopes) != answer.Scope, claims.Expires-claims.IssuedAt != answer.ExpiresIn,
		!want.fits(claims):
		return wrongClaims
	}
	return ""
}

// fits reports whether a token says what was asked for, and no more.
func (x *expectation) fits(c *tokens.Claims) bool {
	return c.Subject == x.subject && c.ClientID == x.client && c.AgentType == x.agentType && c.Scopes == x.scopes &&
		slices.Equal(c.Audience, x.audience) && slices.Equal(c.Actors, x.actors) && c.Confirmation == x.confirmation &&
		c.Expires > c.IssuedAt && c.Expires-c.IssuedAt <= x.lifetime
}

// introspected says what is wrong with an answer about a token that is good.
func (j *tokenJudge) introspected(body []byte, token string) load.Failure {
	var answer wire.Introspection
	if json.Unmarshal(body, &answer) != nil {
		return load.FailureAnswer
	}
	claims, err := j.read(token)
	if err != nil {
		return wrongSignature
	}
	return differs(&answer, claims)
}

// differs says how an answer differs from what the token says.
func differs(answer *wire.Introspection, claims *tokens.Claims) load.Failure {
	switch {
	case !answer.Active:
		return wrongRefused
	case answer.Subject != claims.Subject, answer.ClientID != claims.ClientID, answer.Scope != string(claims.Scopes),
		answer.ExpiresAt != claims.Expires, answer.IssuedAt != claims.IssuedAt, answer.Issuer != claims.Issuer,
		answer.SessionID != claims.SessionID, answer.ID != claims.JTI, answer.AgentType != string(claims.AgentType),
		!slices.Equal(audiencesOf(answer.Audience), claims.Audience), !slices.Equal(actorsOf(answer.Actor), claims.Actors),
		confirmationOf(answer) != claims.Confirmation:
		return wrongClaims
	}
	return ""
}

// audiencesOf reads `aud`, which is a text or a list of them.
func audiencesOf(aud any) []string {
	switch aud := aud.(type) {
	case string:
		return []string{aud}
	case []any:
		var list []string
		for _, a := range aud {
			text, _ := a.(string)
			list = append(list, text)
		}
		return list
	}
	return nil
}

// actorsOf reads `act`, the newest first.
func actorsOf(a *wire.Actor) (list []string) {
	for ; a != nil && len(list) < identity.MaxChain; a = a.Actor {
		list = append(list, a.Subject)
	}
	return list
}

func confirmationOf(answer *wire.Introspection) string {
	if answer.Confirmation == nil {
		return ""
	}
	return answer.Confirmation.Thumbprint
}
