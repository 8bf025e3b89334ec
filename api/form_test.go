package api

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
	"pgregory.net/rapid"
)

// Whatever comes, a form has the fields that fasthttp finds in it, and the body is left as it was.
func TestFormIsReadAsFasthttpReadsIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "=", "&", "%2F", "%e9", "%zz", "+", "\x00", " ", "é"}), 0, 64)
		body := []byte(strings.Join(pieces.Draw(t, "pieces"), ""))
		before := string(body)
		var f form
		require.NoError(t, f.parse(body))
		var expected fasthttp.Args
		expected.ParseBytes([]byte(before))
		// A name that is empty is of no use to anybody; fasthttp leaves out some of them.
		var want, got [][2]string
		for name, value := range expected.All() {
			if len(name) > 0 {
				want = append(want, [2]string{string(name), string(value)})
			}
		}
		for name, value := range f.all() {
			if name != "" {
				got = append(got, [2]string{name, string(value)})
			}
		}
		require.Equal(t, want, got)
		require.Equal(t, before, string(body))
	})
}

// What a client of the standard library encodes comes out as it went in.
func TestFormTakesWhatOthersEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		var f form
		require.NoError(t, f.parse([]byte(url.Values{"grant_type": {"x"}, "a": {text}, "z": {"y"}}.Encode())))
		require.True(t, f.has("a"))
		require.Equal(t, text, string(f.value("a")))
		require.Equal(t, "y", string(f.value("z")))
		require.False(t, f.has("b"))
	})
}

func TestFormIsBounded(t *testing.T) {
	var body []byte
	for range maxFormFields {
		body = append(body, "a=b&"...)
	}
	var f form
	require.NoError(t, f.parse(body))
	f.reset()
	require.ErrorContains(t, f.parse(append(body, "c=d"...)), "more than 96 fields")
}
