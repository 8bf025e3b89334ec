package api

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
)

// FuzzJSON holds the reader to encoding/json: what it accepts, encoding/json reads as the same value, and what
// it refuses is either not JSON or something that it is stricter about.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-2.5e+3,true,false,null,"x\u00e9\n\ud83d\ude00"],"b":{}}`, `""`, `0`, `-`, `01`, `1.`, `1e`, `[1,]`, `{"a":1,}`,
		`{"a":1,"a":2}`, `"\ud800"`, "\"\xff\"", ` [ ] `, `nul`, `"\q"`, `{"a"}`, strings.Repeat("[", 40), articleAgent, articleSession,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := jsonReader{data: data}
		got, err := r.any()
		if err == nil {
			err = r.end()
		}
		if err != nil {
			if json.Valid(data) && utf8.Valid(data) {
				require.True(t, stricter(data, err), "%q refused: %v", data, err)
			}
			_, _ = readSessionRequest(data)
			return
		}
		d := json.NewDecoder(strings.NewReader(string(data)))
		d.UseNumber()
		var want any
		require.NoError(t, d.Decode(&want), "%q", data)
		require.True(t, reflect.DeepEqual(want, got), "%q: %v is not %v", data, got, want)
		_, _ = readSessionRequest(data)
		var agent wire.AgentRequest
		_ = decode(data, &agent)
	})
}

// stricter reports whether the refusal is one of those in which the reader goes beyond encoding/json.
func stricter(data []byte, err error) bool {
	text := err.Error()
	return strings.Contains(text, "twice") || strings.Contains(text, "deeper") || strings.Contains(text, `\u without`) ||
		strings.Contains(string(data), `\u`)
}

func TestMergePatchFollowsTheRFC(t *testing.T) {
	t.Parallel()
	// The examples of RFC 7396 appendix A.
	for _, example := range [][3]string{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`},
		{`{"a":"b"}`, `["c"]`, `["c"]`},
		{`{"a":"foo"}`, `null`, `null`},
		{`{"a":"foo"}`, `"bar"`, `"bar"`},
		{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		var target, patch any
		require.NoError(t, json.Unmarshal([]byte(example[0]), &target))
		require.NoError(t, json.Unmarshal([]byte(example[1]), &patch))
		got, err := json.Marshal(merge(target, patch))
		require.NoError(t, err)
		require.JSONEq(t, example[2], string(got), "%s patched with %s", example[0], example[1])
	}
}

func TestStringsAreWrittenAsJSON(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "plain", `a"b\c`, "tab\tand\x00", "snowman ☃", `"`, `\`} {
		var back string
		require.NoError(t, json.Unmarshal(appendJSONString(nil, text), &back))
		require.Equal(t, text, back)
	}
}

func TestEscapesAreRead(t *testing.T) {
	t.Parallel()
	r := jsonReader{data: []byte(`"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"`)}
	text, err := r.str()
	require.NoError(t, err)
	require.Equal(t, "\"\\/\b\f\n\r\té😀", text)
}
