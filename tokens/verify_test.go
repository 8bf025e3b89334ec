package tokens

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

// Every judgement must be the same for a token seen for the first time, one that this node minted and nobody
// has presented, and one that the cache knows well.
func eachAcquaintance(t *testing.T, check func(t *testing.T, w *world, token []byte)) {
	t.Run("unknown", func(t *testing.T) {
		w := newWorld(t)
		token := w.mint(t, delegated(t))
		w.cache = nil
		w.verifier = w.newVerifier(t, nil)
		check(t, w, token)
	})
	t.Run("minted here", func(t *testing.T) {
		w := newWorld(t)
		check(t, w, w.mint(t, delegated(t)))
	})
	t.Run("seen before", func(t *testing.T) {
		w := newWorld(t)
		token := w.mint(t, delegated(t))
		_, err := w.verifier.Verify(token)
		require.NoError(t, err)
		check(t, w, token)
	})
}

func TestRevokingAnyHandleKillsTheToken(t *testing.T) {
	eachAcquaintance(t, func(t *testing.T, w *world, token []byte) {
		claims, err := Decode(token)
		require.NoError(t, err)
		require.Len(t, claims.Handles(), 6)
		for _, handle := range claims.Handles() {
			w.denied.handles = []identity.Handle{"ses_other", handle}
			_, err := w.verifier.Verify(token)
			refused := requireReason(t, err, ReasonRevoked)
			require.Equal(t, handle, refused.Handle)
			require.Equal(t, claims, refused.Claims, "for the audit trail")
		}
	})
}

func TestTokenLivesFromIssueToExpiry(t *testing.T) {
	eachAcquaintance(t, func(t *testing.T, w *world, token []byte) {
		claims, err := Decode(token)
		require.NoError(t, err)
		issued, expires := identity.Instant(claims.IssuedAt*1000), claims.ExpiresAt()
		for _, moment := range []struct {
			now    identity.Instant
			reason Reason
		}{
			{issued.Add(-MaxSkew) - 1, ReasonNotYet},
			{issued.Add(-MaxSkew), ""},
			{issued, ""},
			{expires - 1, ""},
			{expires, ReasonExpired},
			{expires + 1, ReasonExpired},
		} {
			w.now = moment.now
			_, err := w.verifier.Verify(token)
			if moment.reason == "" {
				require.NoError(t, err, moment.now)
			} else {
				requireReason(t, err, moment.reason)
			}
		}
	})
}

func TestTokenOfAnotherIssuerIsRefused(t *testing.T) {
	eachAcquaintance(t, func(t *testing.T, w *world, token []byte) {
		w.issuer = "https://other.example.com"
		_, err := w.verifier.Verify(token)
		requireReason(t, err, ReasonIssuer)
	})
}

func TestTokenDiesWithItsKey(t *testing.T) {
	eachAcquaintance(t, func(t *testing.T, w *world, token []byte) {
		other, err := GenerateSigner()
		require.NoError(t, err)
		for _, keys := range []*Keyring{keyring(t, other), {}, nil} {
			w.keys = keys
			_, err = w.verifier.Verify(token)
			requireReason(t, err, ReasonUnknownKey)
		}
	})
}

func TestLeewayDelaysExpiryOnly(t *testing.T) {
	w := newWorld(t)
	token := w.mint(t, delegated(t))
	w.verifier.options.Leeway = time.Second
	claims, err := w.verifier.Verify(token)
	require.NoError(t, err)
	w.now = claims.ExpiresAt() + 999
	_, err = w.verifier.Verify(token)
	require.NoError(t, err)
	w.now++
	_, err = w.verifier.Verify(token)
	requireReason(t, err, ReasonExpired)
}

func TestLifetimeIsBounded(t *testing.T) {
	w := newWorld(t)
	good := payloadOf(t, w.mint(t, delegated(t)))
	for _, lifetime := range []struct {
		exp    string
		reason Reason
	}{
		{"1776427199", ReasonLifetime},
		{"1776427200", ReasonLifetime},
		{"1776427201", ""},
		{"1776513600", ""},
		{"1776513601", ReasonLifetime},
		{"253402300799", ReasonLifetime},
	} {
		_, err := w.verifier.Verify(w.sign(w.header(), replace(t, good, "1776441600", lifetime.exp)))
		if lifetime.reason == "" {
			require.NoError(t, err, lifetime.exp)
		} else {
			requireReason(t, err, lifetime.reason)
		}
	}
}

func TestHandlesAreAskedAboutLast(t *testing.T) {
	w := newWorld(t)
	token := w.mint(t, delegated(t))
	w.denied.asked = 0
	w.verifier.options.Now = func() identity.Instant {
		require.Zero(t, w.denied.asked)
		return noon
	}
	w.verifier.options.Issuer = func() string {
		require.Zero(t, w.denied.asked)
		return issuer
	}
	for range 2 {
		w.denied.asked = 0
		_, err := w.verifier.Verify(token)
		require.NoError(t, err)
		require.Equal(t, 1, w.denied.asked)
	}
}

func TestSignatureOfAnotherKeyIsRefused(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	var err error
	other.signer, err = GenerateSigner()
	require.NoError(t, err)
	payload := payloadOf(t, w.mint(t, delegated(t)))
	_, err = w.verifier.Verify(other.sign(w.header(), payload))
	refused := requireReason(t, err, ReasonSignature)
	require.Nil(t, refused.Claims, "nobody vouches for what it says")
	require.ErrorContains(t, err, "token refused: signature")
}

func TestVerifierNeedsItsParts(t *testing.T) {
	whole := newWorld(t).verifier.options
	for missing, remove := range map[string]func(*VerifierOptions){
		"Keys":    func(o *VerifierOptions) { o.Keys = nil },
		"Checker": func(o *VerifierOptions) { o.Checker = nil },
		"Issuer":  func(o *VerifierOptions) { o.Issuer = nil },
		"Now":     func(o *VerifierOptions) { o.Now = nil },
		"Leeway":  func(o *VerifierOptions) { o.Leeway = MaxLeeway + 1 },
		"between": func(o *VerifierOptions) { o.Leeway = -1 },
	} {
		o := whole
		remove(&o)
		_, err := NewVerifier(o)
		require.ErrorContains(t, err, missing)
	}
}

func TestVerifyOfACachedTokenAllocatesNothing(t *testing.T) {
	w := newWorld(t)
	token := w.mint(t, delegated(t))
	_, err := w.verifier.Verify(token)
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(200, func() {
		if _, err := w.verifier.Verify(token); err != nil {
			t.Fatal(err)
		}
	}))
}

func TestClaimsDoNotReferToTheCallersBytes(t *testing.T) {
	w := newWorld(t)
	token := w.mint(t, delegated(t))
	claims, err := w.verifier.Verify(token)
	require.NoError(t, err)
	before := *claims.Session()
	clear(token)
	require.Equal(t, before, *claims.Session())
}

func TestVerifyErrorSaysItsReason(t *testing.T) {
	require.EqualError(t, &VerifyError{Reason: ReasonExpired}, "token refused: expired")
	require.EqualError(t, &VerifyError{Reason: ReasonExpired, Detail: "at noon"}, "token refused: expired: at noon")
}
