package client_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
	"github.com/deputy-id/deputy/tokens"
)

// refused wants a token to be found not good, for that reason.
func refused(t testing.TB, err error, reason tokens.Reason) {
	t.Helper()
	var no *client.TokenError
	require.ErrorAs(t, err, &no)
	require.Equal(t, reason, no.Reason, no.Detail)
	require.NotErrorIs(t, err, client.ErrNotFresh)
}

func reasonOf(err error) tokens.Reason {
	var no *client.TokenError
	if errors.As(err, &no) {
		return no.Reason
	}
	return ""
}

func TestValidatorAcceptsWhatIsGoodAndNothingElse(t *testing.T) {
	n, m := newFakeNode(t), newMint(t)
	m.publish(n)
	v := ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience})
	good := m.token(nil)
	claims, err := v.Validate(t.Context(), good)
	require.NoError(t, err)
	require.Equal(t, "support-triage-agent", claims.Subject)
	require.Equal(t, identity.Scopes("zendesk.tickets.read"), claims.Scopes)

	for name, no := range map[string]struct {
		token  string
		reason tokens.Reason
	}{
		"for others": {m.token(func(r *policy.Request) {
			r.Agent.DefaultScopes, r.Agent.Applications = "other.read", []string{"other"}
		}), client.ReasonAudience},
		"ended": {m.token(func(r *policy.Request) {
			r.Now, r.MaxSeconds = r.Now.Add(-2*time.Hour), 60
			r.SessionID = identity.NewID(identity.PrefixSession, r.Now, [10]byte{9})
		}), tokens.ReasonExpired},
		"altered":     {good[:len(good)-5] + "AAAAA", tokens.ReasonSignature},
		"no token":    {"nope", tokens.ReasonMalformed},
		"too long":    {strings.Repeat("x", 1<<20), tokens.ReasonTooLong},
		"empty":       {"", tokens.ReasonMalformed},
		"unknown key": {newMint(t).token(nil), tokens.ReasonUnknownKey},
	} {
		t.Run(name, func(t *testing.T) {
			eventually(t, "the keys may be asked for again", func() bool { // not more than once a second
				_, err := v.Validate(t.Context(), no.token)
				return !errors.Is(err, client.ErrNotFresh)
			})
			_, err := v.Validate(t.Context(), good)
			require.NoError(t, err)
			if no.reason != tokens.ReasonUnknownKey {
				_, err = v.Validate(t.Context(), no.token)
				refused(t, err, no.reason)
			}
		})
	}
}

func TestAnyHandleKills(t *testing.T) {
	n, m := newFakeNode(t), newMint(t)
	m.publish(n)
	v := ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience})
	token := m.token(nil)
	claims, err := v.Validate(t.Context(), token)
	require.NoError(t, err)
	require.Len(t, claims.Handles(), 4, "session, agent, credential, key")
	for _, h := range claims.Handles() {
		t.Run(string(h)[:4], func(t *testing.T) {
			n := newFakeNode(t)
			m.publish(n)
			v := ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience})
			_, err := v.Validate(t.Context(), token)
			require.NoError(t, err)
			n.commit("ses_other", h)
			eventually(t, "it is refused", func() bool {
				_, err := v.Validate(t.Context(), token)
				return reasonOf(err) == tokens.ReasonRevoked
			})

			if h != claims.Handles()[0] {
				return
			}
			// Denied ahead of the log it is refused too, for as long as the node says.
			early := newFakeNode(t)
			m.publish(early)
			v = ready(t, client.ValidatorOptions{Client: clientFor(t, early), Audience: audience})
			early.tell(wire.EventDeny, 0, wire.RevocationEvent{Entries: []wire.RevokedHandle{
				{Handle: h, ExpiresAt: identity.InstantOf(time.Now().Add(1500 * time.Millisecond)), Provisional: true},
			}})
			eventually(t, "it is refused", func() bool {
				_, err := v.Validate(t.Context(), token)
				return reasonOf(err) == tokens.ReasonRevoked
			})
			eventually(t, "it was not committed and is forgotten", func() bool {
				_, err := v.Validate(t.Context(), token)
				return err == nil
			})
		})
	}
}

func TestSnapshotTellsWhatWasRevokedBefore(t *testing.T) {
	n, m := newFakeNode(t), newMint(t)
	m.publish(n)
	n.commit("agt_support-triage-agent#7")
	v := ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience})
	_, err := v.Validate(t.Context(), m.token(nil))
	refused(t, err, tokens.ReasonRevoked)
}

func TestValidatorThatDoesNotRunKnowsNothing(t *testing.T) {
	n, m := newFakeNode(t), newMint(t)
	m.publish(n)
	v, err := client.NewValidator(client.ValidatorOptions{Client: clientFor(t, n), Audience: audience})
	require.NoError(t, err)
	_, err = v.Validate(t.Context(), m.token(nil))
	require.ErrorIs(t, err, client.ErrNotFresh)
	require.ErrorContains(t, err, "does not run")

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	require.NoError(t, v.Ready(t.Context()))
	require.ErrorContains(t, v.Run(t.Context()), "runs already")
	token := m.token(nil)
	_, err = v.Validate(t.Context(), token)
	require.NoError(t, err)
	cancel()
	require.NoError(t, <-done)
	_, err = v.Validate(t.Context(), token)
	require.ErrorIs(t, err, client.ErrNotFresh, "what it knew is not kept up to date any more")
}

func TestPausedProcessFailsClosedAtOnce(t *testing.T) {
	n, m, clock := newFakeNode(t), newMint(t), newBootClock()
	m.publish(n)
	n.valid = 4 * time.Second
	v := ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience, Boot: clock.now})
	token := m.token(nil)
	_, err := v.Validate(t.Context(), token)
	require.NoError(t, err)

	n.set(func() { n.valid = 0 }) // so that no lease is won while the test looks
	asked := n.get(func() int { return n.asked["/api/v1/revocations/lease"] })
	eventually(t, "a question that was in vain", func() bool {
		return n.get(func() int { return n.asked["/api/v1/revocations/lease"] }) > asked+1
	})
	_, err = v.Validate(t.Context(), token)
	require.NoError(t, err, "the lease that it holds goes on")
	clock.leap(4 * time.Second)
	_, err = v.Validate(t.Context(), token)
	require.ErrorIs(t, err, client.ErrNotFresh)
	require.ErrorContains(t, err, "can't vouch")
	require.False(t, v.State().Fresh)

	n.set(func() { n.valid = 10 * time.Second })
	require.NoError(t, v.Ready(t.Context()))
	_, err = v.Validate(t.Context(), token)
	require.NoError(t, err)
}

// The answer may have been on its way for long. What counts is when the question was sent.
func TestLeaseIsCountedFromTheQuestion(t *testing.T) {
	n, m, clock := newFakeNode(t), newMint(t), newBootClock()
	m.publish(n)
	n.onLease = func() { clock.leap(9 * time.Second) }
	v := ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience, Boot: clock.now})
	require.LessOrEqual(t, v.State().Remaining, time.Second)

	n.set(func() { n.onLease = func() { clock.leap(10 * time.Second) } })
	eventually(t, "leases that are over when they come", func() bool { return !v.State().Fresh })
}

// Whatever stands in between must not answer with what a node said earlier.
func TestAnswerToAnotherQuestionIsNoLease(t *testing.T) {
	n, m := newFakeNode(t), newMint(t)
	m.publish(n)
	n.Config.Handler = replayed(n.Config.Handler)
	v := start(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience})
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	err := v.Ready(ctx)
	require.ErrorIs(t, err, client.ErrNotFresh)
	require.ErrorContains(t, err, "another question")
}

// replayed is a cache that gives every question the answer to another one.
func replayed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/lease") {
			r.Header.Set(wire.HeaderRequestID, "an-earlier-one")
		}
		next.ServeHTTP(w, r)
	})
}

func TestClockThatIsBehindHoldsNoLease(t *testing.T) {
	n, m := newFakeNode(t), newMint(t)
	m.publish(n)
	wrong := time.Now().Add(-3 * time.Second)
	v := start(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience, Now: func() time.Time { return wrong }})
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, v.Ready(ctx), "set it by NTP")
	// Ahead, it refuses too much, but accepts nothing that it should not.
	ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience, Now: func() time.Time { return time.Now().Add(3 * time.Second) }})
}

// A stream that brings nothing is no proof that there is nothing: each lease names what must have come.
func TestLeaseIsGoodOnlyWithWhatItNames(t *testing.T) {
	n, m := newFakeNode(t), newMint(t)
	m.publish(n)
	n.valid = 400 * time.Millisecond
	v := ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience})
	token := m.token(nil)
	// Something is committed, and the stream keeps it back.
	n.set(func() { n.index, n.silent = 11, true })
	committed := time.Now()
	eventually(t, "it fails closed", func() bool {
		_, err := v.Validate(t.Context(), token)
		return errors.Is(err, client.ErrNotFresh)
	})
	require.Less(t, time.Since(committed), 400*time.Millisecond+time.Second)
	eventually(t, "it gives the stream up for another one", func() bool { return n.get(func() int { return len(n.from) }) > 1 })
	n.set(func() { n.applied, n.silent = 11, false })
	require.NoError(t, v.Ready(t.Context()))
}

func TestStreamThatSaysNothingIsGivenUp(t *testing.T) {
	silent, other, m := newFakeNode(t), newFakeNode(t), newMint(t)
	m.publish(silent, other)
	silent.silent = true
	v := ready(t, client.ValidatorOptions{Client: clientFor(t, silent, other), Audience: audience})
	require.Equal(t, silent.URL, v.State().Node)
	eventually(t, "another node is followed", func() bool { return v.State().Node == other.URL })
	require.Equal(t, "10", other.from[0], "from where it was")
	require.True(t, v.State().Fresh)
}

func TestStreamGoesOnFromWhereItWas(t *testing.T) {
	n, m := newFakeNode(t), newMint(t)
	m.publish(n)
	v := ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience})
	n.commit("ses_a")
	eventually(t, "the commit", func() bool { return v.State().Index == 11 })
	n.hangUp()
	eventually(t, "another stream", func() bool { return n.get(func() int { return len(n.from) }) == 2 })
	require.Equal(t, []string{"", "11"}, n.from)
	eventually(t, "it is followed again", func() bool { return v.State().Node != "" })
	n.commit("agt_support-triage-agent#7")
	eventually(t, "what is new", func() bool {
		_, err := v.Validate(t.Context(), m.token(nil))
		return reasonOf(err) == tokens.ReasonRevoked
	})
}

// After a recovery or a restore indexes come again with other contents. Nothing that was known by the old ones counts.
func TestAnotherLogBeginsAnew(t *testing.T) {
	n, old, next := newFakeNode(t), newMint(t), newMint(t)
	old.publish(n)
	n.valid = time.Second
	v := ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience})
	token := old.token(nil)
	_, err := v.Validate(t.Context(), token)
	require.NoError(t, err)
	n.set(func() {
		n.log, n.index, n.applied, n.keys = "clu_1.gh", 5, 5, nil
		n.entries = []wire.RevokedHandle{{Handle: "agt_support-triage-agent#8", ExpiresAt: identity.InstantOf(time.Now().Add(time.Hour))}}
	})
	next.publish(n)
	eventually(t, "leases by the new log are none", func() bool { return !v.State().Fresh })
	n.hangUp()
	eventually(t, "it has begun anew", func() bool { return v.State().Index == 5 && v.State().Fresh })
	_, err = v.Validate(t.Context(), token)
	require.Error(t, err, "its key is none of the new cluster's")
	_, err = v.Validate(t.Context(), next.token(nil))
	require.NoError(t, err)
	_, err = v.Validate(t.Context(), next.token(func(r *policy.Request) { r.Agent.Generation = 8 }))
	refused(t, err, tokens.ReasonRevoked)
}

func TestPurgeIsTheNodesToSay(t *testing.T) {
	n, m := newFakeNode(t), newMint(t)
	m.publish(n)
	over := identity.InstantOf(time.Now().Add(-time.Hour))
	n.entries = []wire.RevokedHandle{{Handle: "agt_support-triage-agent#7", ExpiresAt: over}}
	v := ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience})
	_, err := v.Validate(t.Context(), m.token(nil))
	refused(t, err, tokens.ReasonRevoked) // this machine's clock has no say
	n.tell(wire.EventPurge, 11, wire.RevocationEvent{Index: 11, Before: over})
	eventually(t, "it is forgotten", func() bool { return v.State().Handles == 0 })
}

func TestKeyOfANewNodeIsAskedFor(t *testing.T) {
	n, first, second := newFakeNode(t), newMint(t), newMint(t)
	first.publish(n)
	v := ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience})
	second.publish(n)
	token := second.token(nil)
	eventually(t, "the keys may be asked for again", func() bool {
		_, err := v.Validate(t.Context(), token)
		if !errors.Is(err, client.ErrNotFresh) {
			require.NoError(t, err)
		}
		return err == nil
	})

	// Whoever makes keys up doesn't have them asked for without end, and is never taken for a reason to guess.
	before := n.get(func() int { return n.asked["/.well-known/jwks.json"] })
	made := newMint(t)
	began := time.Now()
	for range 200 {
		_, err := v.Validate(t.Context(), made.token(nil))
		require.Error(t, err)
		_, err = v.Validate(t.Context(), token)
		require.NoError(t, err)
	}
	asked := n.get(func() int { return n.asked["/.well-known/jwks.json"] }) - before
	require.LessOrEqual(t, asked, int(time.Since(began)/time.Second)+2)
}

func TestUnknownKeyIsNoVerdictWhereKeysCannotBeAskedFor(t *testing.T) {
	n, first, second := newFakeNode(t), newMint(t), newMint(t)
	first.publish(n)
	v := ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience})
	n.set(func() { n.staleKeys = true })
	for range 3 {
		_, err := v.Validate(t.Context(), second.token(nil))
		require.ErrorIs(t, err, client.ErrNotFresh)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := v.Validate(over, second.token(nil))
	require.ErrorIs(t, err, client.ErrNotFresh)
}

func TestKeysAreAskedForByTheirTag(t *testing.T) {
	n, m := newFakeNode(t), newMint(t)
	m.publish(n)
	v := ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience, Issuer: issuer})
	require.Zero(t, n.get(func() int { return n.asked["/.well-known/oauth-authorization-server"] }), "the issuer is configured")
	made := newMint(t).token(nil)
	eventually(t, "they are asked for again", func() bool {
		_, _ = v.Validate(t.Context(), made)
		return n.get(func() int { return n.asked["304"] }) > 0
	})
	_, err := v.Validate(t.Context(), m.token(nil))
	require.NoError(t, err)

	other := ready(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience, Issuer: "https://another.example.com"})
	_, err = other.Validate(t.Context(), m.token(nil))
	refused(t, err, tokens.ReasonIssuer)
}

func TestOptionsOfAValidatorAreChecked(t *testing.T) {
	c := clientFor(t, newFakeNode(t))
	_, err := client.NewValidator(client.ValidatorOptions{Audience: audience})
	require.ErrorContains(t, err, "Client is missing")
	_, err = client.NewValidator(client.ValidatorOptions{Client: c})
	require.ErrorContains(t, err, "Audience is missing")
	key, err := client.NewKey()
	require.NoError(t, err)
	_, err = client.NewValidator(client.ValidatorOptions{Client: c, Audience: audience, Credentials: &client.Credentials{ID: "zendesk", Key: key}})
	require.ErrorContains(t, err, "secret")
	_, err = client.NewValidator(client.ValidatorOptions{Client: c, Audience: audience, Leeway: time.Hour})
	require.ErrorContains(t, err, "Leeway")
}

func TestValidatorSaysWhyItIsNotFresh(t *testing.T) {
	n, m := newFakeNode(t), newMint(t)
	m.publish(n)
	n.refuse = http.StatusForbidden
	v := start(t, client.ValidatorOptions{Client: clientFor(t, n), Audience: audience})
	eventually(t, "a reason", func() bool { return strings.Contains(v.State().Reason, "no") && v.State().Reason != "" })
	n.set(func() { n.refuse = 0 })
	require.NoError(t, v.Ready(t.Context()), "what was refused is tried again")
}
