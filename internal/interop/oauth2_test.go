package interop

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// What golang.org/x/oauth2 gets with an agent's secret is a token that the application takes, whichever way the
// secret is sent; the library finds the way by itself as well.
func TestClientCredentialsOfXOAuth2(t *testing.T) {
	n := startNode(t)
	d := n.populate(t)
	for name, style := range map[string]oauth2.AuthStyle{
		"in the header": oauth2.AuthStyleInHeader, "in the form": oauth2.AuthStyleInParams, "found out": oauth2.AuthStyleAutoDetect,
	} {
		t.Run(name, func(t *testing.T) {
			config := clientcredentials.Config{
				ClientID: d.triage.ID, ClientSecret: d.triage.Secret, TokenURL: n.url + "/oauth2/token", AuthStyle: style,
			}
			token, err := config.Token(t.Context())
			require.NoError(t, err)
			require.True(t, token.Valid())
			require.Equal(t, "Bearer", token.Type())
			require.WithinDuration(t, time.Now().Add(time.Hour), token.Expiry, time.Minute)

			answer, err := n.Introspect(t.Context(), d.zendesk, token.AccessToken)
			require.NoError(t, err)
			require.True(t, answer.Active)
			require.Equal(t, d.triage.ID, answer.Subject)
			require.Equal(t, "zendesk.tickets.assign zendesk.tickets.read", answer.Scope, "the agent's default scopes")
			require.Equal(t, token.Extra("session_id"), answer.SessionID)
			require.Equal(t, token.Extra("scope"), answer.Scope)
		})
	}
}

func TestTokenSourceOfXOAuth2KeepsItsTokenAndSendsItAlong(t *testing.T) {
	n := startNode(t)
	d := n.populate(t)
	ctx, cancel := context.WithTimeout(t.Context(), answerWait)
	defer cancel()
	source := tokenSource(ctx, n.url, d.triage.ID, d.triage.Secret)
	first, err := source.Token()
	require.NoError(t, err)
	second, err := source.Token()
	require.NoError(t, err)
	require.Equal(t, first.AccessToken, second.AccessToken)

	// The tool that the agent calls asks the node about what it was shown.
	tool := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, err := n.Introspect(r.Context(), d.zendesk, r.Header.Get("Authorization")[len("Bearer "):])
		if err != nil || !answer.Active || answer.Scope != "zendesk.tickets.read" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer tool.Close()
	call := func() int {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, tool.URL, nil)
		require.NoError(t, err)
		response, err := oauth2.NewClient(ctx, source).Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	require.Equal(t, http.StatusOK, call())
	_, err = n.EndSession(ctx, first.Extra("session_id").(string), "it is enough")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, call(), "the session has ended")
}

func TestRefusalsReachXOAuth2InItsOwnWords(t *testing.T) {
	n := startNode(t)
	d := n.populate(t)
	for name, test := range map[string]struct {
		secret, scope string
		status        int
		code          string
	}{
		"wrong secret":                        {"dps_wrong", "", http.StatusUnauthorized, "invalid_client"},
		"scope beyond what it may be granted": {d.triage.Secret, "zendesk.tickets.delete", http.StatusBadRequest, "invalid_scope"},
		"scope that can't be one":             {d.triage.Secret, `"`, http.StatusBadRequest, "invalid_scope"},
	} {
		for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
			config := clientcredentials.Config{
				ClientID: d.triage.ID, ClientSecret: test.secret, TokenURL: n.url + "/oauth2/token", AuthStyle: style,
			}
			if test.scope != "" {
				config.Scopes = []string{test.scope}
			}
			_, err := config.Token(t.Context())
			var refused *oauth2.RetrieveError
			require.ErrorAs(t, err, &refused, name)
			require.Equal(t, test.status, refused.Response.StatusCode, name)
			require.Equal(t, test.code, refused.ErrorCode, name)
			require.NotEmpty(t, refused.ErrorDescription, name)
		}
	}
}
