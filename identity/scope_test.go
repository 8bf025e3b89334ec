package identity_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
)

var scopeNames = rapid.SliceOfN(rapid.SampledFrom([]string{"a", "ab", "a.b", "b", "mail.read", "mail.write", "z"}), 0, 7)

func mustScopes(t require.TestingT, names ...string) identity.Scopes {
	s, err := identity.NewScopes(names)
	require.NoError(t, err)
	return s
}

func TestScopesHaveOneSpellingWhateverTheOrder(t *testing.T) {
	require.Equal(t, identity.Scopes("a b c"), mustScopes(t, "c", "a", "b", "a"))
	require.Equal(t, identity.Scopes(""), mustScopes(t))
	require.Equal(t, mustScopes(t, "x", "y"), mustScopes(t, "y", "x"))
}

func TestScopeSetBehavesLikeASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		left, right := scopeNames.Draw(t, "left"), scopeNames.Draw(t, "right")
		a, b := mustScopes(t, left...), mustScopes(t, right...)

		subset, outside := true, ""
		for _, name := range slices.Sorted(slices.Values(left)) {
			require.True(t, a.Contains(name))
			if !slices.Contains(right, name) && subset {
				subset, outside = false, name
			}
		}
		require.Equal(t, subset, a.SubsetOf(b))
		require.Equal(t, outside, a.FirstOutside(b))
		require.Equal(t, a.List(), append([]string{}, slices.Collect(a.All())...))
		require.Len(t, a.List(), a.Len())

		again, err := identity.ParseScopes(string(a))
		require.NoError(t, err)
		require.Equal(t, a, again)
	})
}

func TestContainsWantsTheWholeName(t *testing.T) {
	s := mustScopes(t, "mail.read", "mail.readwrite")
	require.False(t, s.Contains("mail"))
	require.False(t, s.Contains(""))
	require.False(t, s.Contains("mail.read mail.readwrite"))
	require.False(t, mustScopes(t).Contains(""))
}

func TestBadScopesAreRefusedByName(t *testing.T) {
	for name, tc := range map[string]struct {
		scopes []string
		says   string
	}{
		"space":     {[]string{"a b"}, `' '`},
		"quote":     {[]string{`a"b`}, "visible ASCII"},
		"backslash": {[]string{`a\b`}, "visible ASCII"},
		"unicode":   {[]string{"läs"}, "visible ASCII"},
		"empty":     {[]string{""}, "empty scope"},
		"long":      {[]string{strings.Repeat("x", identity.MaxScopeLength+1)}, "at most 128"},
		"many":      {make([]string, identity.MaxScopes+1), "at most 256"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := identity.NewScopes(tc.scopes)
			require.ErrorContains(t, err, tc.says)
		})
	}
	_, err := identity.ParseScopes("a  b")
	require.ErrorContains(t, err, "empty scope")
	_, err = identity.ParseScopes(strings.Repeat("a ", 300))
	require.ErrorContains(t, err, "more than 256")
}

func TestScopesAreAListInJSON(t *testing.T) {
	text, err := json.Marshal(mustScopes(t, "b", "a"))
	require.NoError(t, err)
	require.JSONEq(t, `["a","b"]`, string(text))

	var s identity.Scopes
	require.NoError(t, json.Unmarshal([]byte(`["b","a","b"]`), &s))
	require.Equal(t, identity.Scopes("a b"), s)
	require.Error(t, json.Unmarshal([]byte(`["a b"]`), &s))
	require.Error(t, json.Unmarshal([]byte(`"a"`), &s))
}

func TestSubsetCheckDoesNotAllocate(t *testing.T) {
	a, b := mustScopes(t, "b", "d"), mustScopes(t, "a", "b", "c", "d")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if !a.SubsetOf(b) || b.SubsetOf(a) || !b.Contains("c") {
			t.Error("wrong answer")
		}
	}))
}
