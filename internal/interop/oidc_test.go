package interop

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/client"
)

// A service that checks tokens itself, with go-oidc's remote key set, takes those that are meant for it and no others.
func TestRemoteKeySetOfGoOIDCVerifiesTokens(t *testing.T) {
	n := startNode(t)
	d := n.populate(t)
	ctx, cancel := context.WithTimeout(t.Context(), answerWait)
	defer cancel()
	minted, err := n.MintToken(ctx, d.triage, client.TokenOptions{})
	require.NoError(t, err)

	verifier := offlineVerifier(ctx, n.url, n.metadata.Issuer, audienceZendesk)
	token, err := verifier.Verify(ctx, minted.AccessToken)
	require.NoError(t, err)
	require.Equal(t, d.triage.ID, token.Subject)
	require.Equal(t, []string{audienceZendesk}, token.Audience)
	require.WithinDuration(t, time.Now().Add(time.Hour), token.Expiry, time.Minute)
	var claims struct {
		Scope   string `json:"scope"`
		Session string `json:"sid"`
	}
	require.NoError(t, token.Claims(&claims))
	require.Equal(t, minted.Scope, claims.Scope)
	require.Equal(t, minted.SessionID, claims.Session)

	_, err = offlineVerifier(ctx, n.url, n.metadata.Issuer, audienceGmail).Verify(ctx, minted.AccessToken)
	require.ErrorContains(t, err, "audience")
	_, err = offlineVerifier(ctx, n.url, "https://elsewhere.example", audienceZendesk).Verify(ctx, minted.AccessToken)
	require.ErrorContains(t, err, "issued by a different provider")
	_, err = verifier.Verify(ctx, forged(minted.AccessToken))
	require.Error(t, err, "one character of the payload was changed")

	later := oidc.NewVerifier(n.metadata.Issuer, oidc.NewRemoteKeySet(ctx, n.metadata.JWKSURI), &oidc.Config{
		ClientID: audienceZendesk, SupportedSigningAlgs: []string{oidc.EdDSA},
		Now: func() time.Time { return time.Now().Add(2 * time.Hour) },
	})
	_, err = later.Verify(ctx, minted.AccessToken)
	require.ErrorAs(t, err, new(*oidc.TokenExpiredError))
}

// A key set that was fetched before a rotation finds the new key when it meets the first token that bears it.
func TestRemoteKeySetOfGoOIDCFollowsARotation(t *testing.T) {
	n := startNode(t)
	d := n.populate(t)
	ctx, cancel := context.WithTimeout(t.Context(), answerWait)
	defer cancel()
	verifier := offlineVerifier(ctx, n.url, n.metadata.Issuer, audienceZendesk)
	mint := func() string {
		token, err := n.MintToken(ctx, d.triage, client.TokenOptions{})
		require.NoError(t, err)
		return token.AccessToken
	}
	before := mint()
	_, err := verifier.Verify(ctx, before)
	require.NoError(t, err)
	_, err = n.RotateKey(ctx, "")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return header(mint()) != header(before) }, startWait, 50*time.Millisecond, "a token by the new key")
	for _, token := range []string{mint(), before} {
		_, err = verifier.Verify(ctx, token)
		require.NoError(t, err)
	}
}

// header is the part of a token that names its key.
func header(token string) string {
	first, _, _ := strings.Cut(token, ".")
	return first
}

// forged is a token with one character of its payload changed.
func forged(token string) string {
	i := strings.Index(token, ".") + 10
	other := byte('A')
	if token[i] == other {
		other = 'B'
	}
	return token[:i] + string(other) + token[i+1:]
}
