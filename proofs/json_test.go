package proofs

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// value reads one value and nothing else.
func value(text string) error {
	s := scan(text)
	s.skip()
	s.end()
	return s.err
}

func TestStringsLoseTheirEscapes(t *testing.T) {
	for text, want := range map[string]string{
		`""`: "", `"a"`: "a", `"\"\\\/\b\f\n\r\t"`: "\"\\/\b\f\n\r\t", `"\u0041\u00e9\u20AC\ud83d\ude00z"`: "Aé€😀z", `"é\u0000"`: "é\x00",
		`"\ud83d\ude00\ud83d\ude00"`: "😀😀", `"\uFFFF"`: "\uffff",
	} {
		s := scan(" \t\r\n" + text + " ")
		require.Equal(t, want, s.string())
		s.end()
		require.NoError(t, s.err, text)
	}
}

func TestBoundsOfJSONHold(t *testing.T) {
	members := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(`,"` + strings.Repeat("m", i+1) + `":0`)
		}
		return "{" + b.String()[1:] + "}"
	}
	for text, good := range map[string]bool{
		strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth):     true,
		strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1): false,
		members(maxMembers):                              true,
		members(maxMembers + 1):                          false,
		"[" + strings.Repeat("0,", maxElements-1) + "0]": true,
		"[" + strings.Repeat("0,", maxElements) + "0]":   false,
		strings.Repeat("9", maxNumber):                   true,
		strings.Repeat("9", maxNumber+1):                 false,
		"1e99":                                           true,
		"1e-99":                                          true,
		"1e100":                                          false,
		"[[],[[],[]],{}]":                                true,
	} {
		require.Equal(t, good, value(text) == nil, "%.40s", text)
	}
}

// Whatever is read here, the standard library reads too, and names are different from each other at every depth.
func FuzzJSON(f *testing.F) {
	for _, text := range []string{
		`{"a":[1,-2.5e+3,true,false,null,"x\u0041\ud83d\ude00"],"b":{"c":{}}}`, `[]`, `"\ud800"`, `{"a":1,"\u0061":2}`, `01`, `-`, `1.`, `"` + "\xff" + `"`, ` {"a" : 1 } `, `1e309`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if value(text) != nil {
			return
		}
		require.True(t, utf8.ValidString(text))
		var v any
		require.NoError(t, json.Unmarshal([]byte(text), &v))
		requireNoNameTwice(t, text)
		s := scan(text)
		if s.peek() == '"' {
			require.Equal(t, v, s.string())
		}
	})
}

// requireNoNameTwice decodes with and without the duplicates that a map would hide.
func requireNoNameTwice(t *testing.T, text string) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	type frame struct {
		names  map[string]bool // nil in an array
		isName bool
	}
	var stack []frame
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			return
		}
		require.NoError(t, err)
		top := len(stack) - 1
		delim, isDelim := token.(json.Delim)
		if top >= 0 && stack[top].names != nil && !(isDelim && delim == '}') {
			if stack[top].isName = !stack[top].isName; stack[top].isName {
				name := token.(string)
				require.False(t, stack[top].names[name], "%q is there twice", name)
				stack[top].names[name] = true
				continue
			}
		}
		switch {
		case isDelim && delim == '{':
			stack = append(stack, frame{names: map[string]bool{}})
		case isDelim && delim == '[':
			stack = append(stack, frame{})
		case isDelim:
			stack = stack[:top]
		}
	}
}
