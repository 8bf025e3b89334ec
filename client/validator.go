package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/proofs"
	"github.com/deputy-id/deputy/revocation"
	"github.com/deputy-id/deputy/tokens"
)

// ErrNotFresh says that a validator can't tell right now whether a token is good: answer 503, not 401. What wraps it
// says why.
var ErrNotFresh = errors.New("this validator can't vouch for what it knows right now")

// Claims are what a token says. They are shared and must not be changed.
type Claims = tokens.Claims

// TokenError says that a token is not good, and why: answer 401. Tell whoever presented it no more than that.
type TokenError = tokens.VerifyError

// Reasons of a TokenError beside those of package tokens.
const (
	ReasonMissing  tokens.Reason = "missing"  // the request has no token, or shows it in a way that is not RFC 6750's or 9449's
	ReasonAudience tokens.Reason = "audience" // it is meant for others
	ReasonProof    tokens.Reason = "proof"    // it is bound to a key, and possession of that was not shown
)

// ValidatorOptions are what a Validator is made of. Client and Audience are needed.
type ValidatorOptions struct {
	// Client knows the nodes. Its API token has to have a role that may follow revocations, or Credentials are given.
	Client *Client
	// Audience is the URI of the application that the tokens must be for.
	Audience string
	// Credentials are the application's own, with a secret.
	Credentials *Credentials
	// Issuer that tokens must have; where empty, the one that the nodes name.
	Issuer string
	// Leeway is how long after its end a token is accepted, at most tokens.MaxLeeway; 0: not at all.
	Leeway time.Duration
	// URLs are those under which this service is reached: scheme, host and whatever is in front of a request's path.
	// They are needed for tokens that are bound to a key (RFC 9449), whose proofs name the URL that they are for.
	URLs []string
	// Logger takes what goes wrong in the background; nil: nothing is logged.
	Logger *slog.Logger

	Now  func() time.Time     // the wall clock; nil: time.Now
	Boot func() time.Duration // a clock that goes on while the machine is suspended; nil: that of the system
}

// cachedTokens bounds the tokens whose signature is remembered: some 10 MB.
const cachedTokens = 1 << 13

// Validator checks tokens in this process, without asking a node about any of them.
//
// It follows the public keys and the revocation stream, and trusts itself only while it holds a lease: proof, by a
// node that holds one itself, that it has heard of everything that was committed at some instant less than the
// cluster's lease ago. The lease is counted from when it was asked for, on a clock that goes on through suspend, and is
// looked at as the last thing before a yes. So where the nodes can't be reached, or this process was paused, Validate
// fails with ErrNotFresh; it accepts no token whose revocation was committed longer ago than that lease.
//
// All methods are safe for concurrent use.
type Validator struct {
	client   *Client
	who      *Credentials
	audience string
	urls     []string
	started  identity.Instant // proofs from before may have been seen by another process
	seen     *proofs.Replay
	logger   *slog.Logger
	wall     func() time.Time
	boot     func() time.Duration

	set      *revocation.Set
	keys     *issuerKeys
	verifier *tokens.Verifier
	texts    sync.Pool // of *[]byte, for tokens
	running  atomic.Bool

	lease atomic.Pointer[lease] // never nil

	mu        sync.Mutex
	at        position           // how far the set has come; a lock for it, as the stream alone moves it
	moved     chan struct{}      // closed when at moves, or the lease changes
	following string             // address of the node whose stream is read; "" none
	hangUp    context.CancelFunc // ends that stream
	streamErr error              // why there is no stream, or was none before
	leaseErr  error              // why the last question for a lease was in vain
}

// lease is what a node has granted, in boot time.
type lease struct {
	until time.Duration // 0: none
}

// NewValidator makes a validator. It asks nobody anything: Run does.
func NewValidator(o ValidatorOptions) (*Validator, error) {
	switch {
	case o.Client == nil:
		return nil, errors.New("ValidatorOptions.Client is missing")
	case o.Audience == "":
		return nil, errors.New("ValidatorOptions.Audience is missing: a token that is meant for others must not be accepted")
	case o.Credentials != nil && o.Credentials.Secret == "":
		return nil, errors.New("ValidatorOptions.Credentials lack a secret: an application follows revocations with that, not with a key")
	}
	v := &Validator{
		client: o.Client, who: o.Credentials, audience: o.Audience, logger: o.Logger, wall: o.Now, boot: o.Boot,
		set: revocation.NewSet(), moved: make(chan struct{}),
	}
	if v.logger == nil {
		v.logger = slog.New(slog.DiscardHandler)
	}
	if v.wall == nil {
		v.wall = time.Now
	}
	if v.boot == nil {
		v.boot = newBootTime()
	}
	for _, u := range o.URLs {
		v.urls = append(v.urls, strings.TrimRight(u, "/"))
	}
	v.started, v.seen = identity.InstantOf(v.wall()), proofs.NewReplay(provedAtOnce)
	v.lease.Store(&lease{})
	v.texts.New = func() any { return new([]byte) }
	v.keys = newIssuerKeys(o.Client, o.Issuer)
	var err error
	v.verifier, err = tokens.NewVerifier(tokens.VerifierOptions{
		Keys: v.keys.ring, Issuer: v.keys.issuer, Checker: v.set, Leeway: o.Leeway, Cache: tokens.NewCache(cachedTokens),
		Now: func() identity.Instant { return identity.InstantOf(v.wall()) },
	})
	if err != nil {
		return nil, err
	}
	return v, nil
}

// Validate returns the claims of a token that is good now. Its error is a *TokenError where the token is not good, and
// wraps ErrNotFresh where that can't be told. A token that is bound to a key (RFC 9449) is refused: see
// ValidateRequest. It waits only where the token names a key that was never heard of, until the keys have been asked
// for or ctx ends.
func (v *Validator) Validate(ctx context.Context, token string) (*Claims, error) {
	return v.validate(ctx, token, func(c *Claims) error {
		if c.Confirmation != "" {
			return unproved(c, "it is bound to a key, whose possession was not shown")
		}
		return nil
	})
}

// validate checks the token, what is asked of it besides, and last the lease.
func (v *Validator) validate(ctx context.Context, token string, also func(*Claims) error) (*Claims, error) {
	held := v.lease.Load() // noted first: one that is won meanwhile says nothing of what was looked at before
	claims, err := v.authentic(ctx, token)
	if err != nil {
		return nil, err
	}
	if !claims.HasAudience(v.audience) {
		return nil, &TokenError{Reason: ReasonAudience, Detail: "it is not meant for " + v.audience, Claims: claims}
	}
	if err := also(claims); err != nil {
		return nil, err
	}
	if v.holds(held) {
		return claims, nil
	}
	// It may have taken long, such as to ask for keys. What may have changed meanwhile is looked at once more.
	if held = v.lease.Load(); held.until == 0 {
		return nil, v.notFresh()
	}
	if claims, err = v.verify(token); err == nil && !v.holds(held) {
		err = v.notFresh()
	}
	if err != nil {
		return nil, err
	}
	return claims, nil
}

// authentic verifies a token by the keys that are known, and asks for them if they may be too old.
func (v *Validator) authentic(ctx context.Context, token string) (*Claims, error) {
	if !v.keys.known() {
		return nil, v.notFresh()
	}
	claims, err := v.verify(token)
	if err == nil || !namesUnknownKey(err) {
		return claims, err
	}
	// A node may have joined since. Only keys that were asked for after the token was shown can say that none has.
	failed := v.keys.refresh(ctx, v.index())
	claims, err = v.verify(token)
	if failed != nil && namesUnknownKey(err) {
		return nil, fmt.Errorf("%w: the token's key is not among those that are known: %w", ErrNotFresh, failed)
	}
	return claims, err
}

func namesUnknownKey(err error) bool {
	var no *TokenError
	return errors.As(err, &no) && no.Reason == tokens.ReasonUnknownKey
}

// verify keeps a copy of the token for as long as it takes: the verifier keeps none of its bytes.
func (v *Validator) verify(token string) (*Claims, error) {
	if len(token) > tokens.MaxTokenBytes {
		token = token[:tokens.MaxTokenBytes+1] // which is as much too long
	}
	text := v.texts.Get().(*[]byte)
	defer v.texts.Put(text)
	*text = append((*text)[:0], token...)
	return v.verifier.Verify(*text)
}

// notFresh says why there is no lease.
func (v *Validator) notFresh() error {
	s := v.State()
	return fmt.Errorf("%w: %s", ErrNotFresh, s.Reason)
}

// ValidatorState is how a validator stands, for people and for health checks.
type ValidatorState struct {
	Fresh     bool
	Remaining time.Duration // of the lease
	Reason    string        // why it is not fresh
	Node      string        // whose stream is followed; "" none at the moment
	Index     uint64        // up to which everything is known
	Handles   int           // known to be revoked
}

// State describes the validator as it is now.
func (v *Validator) State() ValidatorState {
	left := v.remaining()
	v.mu.Lock()
	defer v.mu.Unlock()
	s := ValidatorState{Remaining: left, Fresh: left > 0 && v.keys.known(), Node: v.following, Index: v.at.index, Handles: v.set.Len()}
	switch {
	case s.Fresh:
	case !v.running.Load():
		s.Reason = "it does not run"
	case v.leaseErr != nil:
		s.Reason = v.leaseErr.Error()
	case v.at.index == 0 && v.streamErr != nil:
		s.Reason = v.streamErr.Error()
	case v.at.index == 0:
		s.Reason = "it is being told what is revoked"
	case !v.keys.known():
		s.Reason = v.keys.why()
	case v.lease.Load().until == 0:
		s.Reason = "no node has granted a lease yet"
	default:
		s.Reason = "its lease ran out before another was granted"
	}
	return s
}

// Ready returns once the validator is fresh, or when ctx ends, with the reason why it is not.
func (v *Validator) Ready(ctx context.Context) error {
	for {
		v.mu.Lock()
		moved := v.moved
		v.mu.Unlock()
		if v.State().Fresh {
			return nil
		}
		select {
		case <-moved:
		case <-v.keys.next():
		case <-ctx.Done():
			return v.notFresh()
		}
	}
}
