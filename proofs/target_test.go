package proofs

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestURLsThatMeanTheSameAreTheSame(t *testing.T) {
	for _, group := range [][]string{
		{
			"https://deputy.example/oauth2/token", "HTTPS://Deputy.EXAMPLE/oauth2/token", "https://deputy.example:443/oauth2/token", "https://deputy.example:/oauth2/token",
			"https://deputy.example/oauth2/token?a=b", "https://deputy.example/oauth2/token#c", "https://deputy.example/oauth2/token?a=//#/../c",
			"https://deputy.example/%6fauth2/%74oken", "https://deputy.example/./oauth2/../oauth2/token", "https://deputy.example/../../oauth2/token",
			"https://deputy.example/%2e%2E/oauth2/%2e/token",
		},
		{"https://deputy.example", "https://deputy.example/", "https://deputy.example?x", "https://deputy.example/.", "https://deputy.example/a/..", "https://deputy.example/%2e%2e"},
		{"http://127.0.0.1:8080/a", "http://127.0.0.1:8080/b/../a"},
		{"http://host/a", "http://host:80/a", "http://HOST:/a"},
		{"https://[::1]:8443/a%2fb", "https://[::1]:8443/a%2Fb", "https://[0:0:0:0:0:0:0:1]:8443/a%2Fb"},
		{"https://deputy.example/a/b/", "https://deputy.example/a/b/.", "https://deputy.example/a/b/c/.."},
		{"https://deputy.example//a", "https://deputy.example//b/../a"},
		{"https://deputy.example/A"},
		{"https://deputy.example/a"},
		{"http://deputy.example/a"},
		{"https://deputy.example:8443/a"},
		{"https://deputy.example/a/"},
		{"https://deputy.example/a%2F"},
		{"https://deputy.example/a%3Fb"},
		{"https://deputy.example/a@b:c"},
	} {
		want, ok := normalise(group[0])
		require.True(t, ok, group[0])
		for _, spelling := range group {
			got, ok := normalise(spelling)
			require.True(t, ok, spelling)
			require.Equal(t, want, got, spelling)
			require.True(t, sameTarget(spelling, []string{"https://elsewhere.example", group[0]}))
			require.False(t, sameTarget(spelling, []string{"https://elsewhere.example", want + "x"}))
			again, ok := normalise(got)
			require.True(t, ok)
			require.Equal(t, got, again, "what is normal stays as it is")
		}
	}
}

// net/url has its own reading of a URL. Where both take one, they must find the same host and path.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{
		"https://deputy.example:443/a/%2e%2E/b?c#d", "http://[::1]:80//x/../y/", "https://a.example@b.example/", "https://a.example\\b", "https://a%41/", "https://h:1/%zz", "HTTP://H", "http://h?\x1a",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		normal, ok := normalise(text)
		if !ok {
			return
		}
		again, ok := normalise(normal)
		require.True(t, ok)
		require.Equal(t, normal, again)
		cut, _, _ := strings.Cut(text, "#")
		theirs, err := url.Parse(cut)
		require.NoError(t, err)
		ours, err := url.Parse(normal)
		require.NoError(t, err)
		require.Equal(t, strings.ToLower(theirs.Scheme), ours.Scheme)
		if !strings.Contains(theirs.Host, "[") { // an IPv6 address has one spelling here, and many there
			require.Equal(t, strings.ToLower(theirs.Hostname()), ours.Hostname())
		}
		require.Nil(t, theirs.User)
		port := theirs.Port()
		if port == map[string]string{"http": "80", "https": "443"}[ours.Scheme] {
			port = ""
		}
		require.Equal(t, port, ours.Port())
		// Dot segments are taken away by both in their own way, on the unescaped path.
		require.Equal(t, theirs.JoinPath().EscapedPath() == "", ours.Path == "")
		for _, segment := range strings.Split(ours.EscapedPath(), "/") {
			require.NotContains(t, []string{".", ".."}, segment)
		}
	})
}
