package audit

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
)

func line(r *Record) string {
	var c chain
	return string(c.append(nil, []byte(`"n1"`), appendBody(nil, r, r.Time)))
}

// The format is a promise to whoever reads old logs. A change of it is a new format.
func TestLineIsAsDocumented(t *testing.T) {
	r := sample()
	r.Tool, r.Reason, r.Approval, r.Application, r.Target = "gmail.search", "policy-denied", "apr_1", "gmail", "thread 7"
	r.Decision, r.Index, r.Handles = Denied, 812, []string{"agt_inbox-assistant#417"}
	require.Equal(t, `{"prev":"0000000000000000000000000000000000000000000000000000000000000000","seq":1,"node":"n1",`+
		`"time":"2026-11-28T20:25:00.123Z","kind":"mint","agent":"inbox-assistant","principal":"user@example.com",`+
		`"session":"ses_01kb4q7m2vf5drs9w8x3n6y0ha","chain":[{"user":"user@example.com"},`+
		`{"agent":"inbox-assistant","delegation":"dlg_01kb4q7m2vf5drs9w8x3n6y0hb"}],"tool":"gmail.search",`+
		`"scope":"gmail.draft gmail.read","decision":"denied","outcome":"failure","reason":"policy-denied",`+
		`"policies":["default-scopes","chain-length"],"monitored":["corporate-network"],`+
		`"delegation":"dlg_01kb4q7m2vf5drs9w8x3n6y0hb","approval":"apr_1","action":"CreateSession","agent_type":"user-delegated",`+
		`"credential":"crd_01kb4q7m2vf5drs9w8x3n6y0hc","application":"gmail","audience":["https://gmail.example.com"],`+
		`"target":"thread 7","source_ip":"192.0.2.7","request_id":"req_01kb4q7m2vf5drs9w8x3n6y0hd",`+
		`"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7","expires":"2026-11-29T00:25:00.123Z",`+
		`"index":812,"handles":["agt_inbox-assistant#417"],"detail":"user clicked 'summarize inbox'",`+
		`"hash":"a55276e2b9db54c84e26a6eab0843e2d608e0a8ab2b4c308ef281fccaf3b48bc"}`+"\n", line(&r))
}

func TestEveryRecordHasTheNineFields(t *testing.T) {
	r := Record{Kind: KindMint, Agent: "support-triage-agent", Decision: Allowed}
	var members map[string]any
	require.NoError(t, json.Unmarshal([]byte(line(&r)), &members))
	for _, name := range []string{"time", "agent", "principal", "session", "chain", "tool", "scope", "decision", "outcome"} {
		require.Contains(t, members, name)
	}
	require.Equal(t, Autonomous, members["principal"])
	require.Equal(t, "success", members["outcome"])

	r = Record{Kind: KindAdmin, Decision: Denied}
	require.Contains(t, line(&r), `"principal":"",`, "nobody acted for nobody")
	require.Contains(t, line(&r), `"outcome":"failure"`)
}

func TestRecordComesBackAsItWas(t *testing.T) {
	text := func(most int) *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			s := rapid.String().Draw(t, "text")
			for len(s) > most || !utf8.ValidString(s) {
				s = s[:len(s)/2]
			}
			return s
		})
	}
	short, few := text(60), rapid.SliceOfN(text(30), 0, maxEntries)
	rapid.Check(t, func(t *rapid.T) {
		r := Record{
			Time: identity.Instant(rapid.Int64Range(0, 253402300799999).Draw(t, "time")),
			Kind: rapid.SampledFrom(Kinds()).Draw(t, "kind"), Agent: "a" + short.Draw(t, "agent"), Principal: "u" + short.Draw(t, "principal"),
			Session: short.Draw(t, "session"), Tool: short.Draw(t, "tool"), Scope: text(200).Draw(t, "scope"),
			Decision: rapid.SampledFrom([]Decision{Allowed, Denied}).Draw(t, "decision"),
			Outcome:  rapid.SampledFrom([]Outcome{Success, Failure}).Draw(t, "outcome"),
			Reason:   short.Draw(t, "reason"), Policies: few.Draw(t, "policies"), Monitored: few.Draw(t, "monitored"),
			Delegation: short.Draw(t, "delegation"), Approval: short.Draw(t, "approval"), Action: short.Draw(t, "action"),
			AgentType: identity.AgentType(short.Draw(t, "type")), Credential: short.Draw(t, "credential"),
			Application: short.Draw(t, "application"), Audience: few.Draw(t, "audience"), Target: short.Draw(t, "target"),
			RequiredScope: short.Draw(t, "required scope"), ArgumentsHash: short.Draw(t, "arguments hash"),
			SourceIP: netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "ip"))), RequestID: short.Draw(t, "request"),
			TraceID: short.Draw(t, "trace"), SpanID: short.Draw(t, "span"), Index: rapid.Uint64().Draw(t, "index"),
			Handles: few.Draw(t, "handles"), Detail: text(300).Draw(t, "detail"), Chain: []Link{},
		}
		for range rapid.IntRange(0, maxLinks).Draw(t, "links") {
			r.Chain = append(r.Chain, Link{short.Draw(t, "user"), short.Draw(t, "agent"), short.Draw(t, "dlg")})
		}
		for _, list := range []*[]string{&r.Policies, &r.Monitored, &r.Audience, &r.Handles} {
			if len(*list) == 0 {
				*list = nil
			}
		}
		e, err := ParseEntry([]byte(line(&r)))
		require.NoError(t, err)
		require.Equal(t, r, e.Record)
		require.EqualValues(t, 1, e.Sequence)
		require.Equal(t, "n1", e.Node)
	})
}

func TestTextHasOneSpelling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		quoted := appendQuoted(nil, s)
		var back string
		require.NoError(t, json.Unmarshal(quoted, &back))
		require.Equal(t, repaired(s), back)
		// Byte for byte, as the wide look at eight bytes is only a shortcut.
		slow := []byte{'"'}
		for _, r := range repaired(s) {
			part := appendQuoted(nil, string(r))
			slow = append(slow, part[1:len(part)-1]...)
		}
		require.Equal(t, string(slow)+`"`, string(quoted))
	})
	require.Equal(t, `"a\"b\\c\u000a\u007f\u0000é\u2028"`, strings.ReplaceAll(string(appendQuoted(nil, "a\"b\\c\n\x7f\x00é\u2028")), "\u2028", `\u2028`))
}

// repaired has U+FFFD for each byte that is no part of a character.
func repaired(s string) string { return string([]rune(s)) }

func TestInstantsAgreeWithTheStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := identity.Instant(rapid.Int64Range(0, 253402300799999).Draw(t, "instant"))
		text := appendInstant(nil, at)
		require.Equal(t, at.Time().Format("2006-01-02T15:04:05.000Z07:00"), string(text))
		back, ok := parseInstant(text)
		require.True(t, ok)
		require.Equal(t, at, back)
	})
	for _, wrong := range []string{"2025-02-29T00:00:00.000Z", "2026-13-01T00:00:00.000Z", "2026-00-01T00:00:00.000Z", "2026-01-01 00:00:00.000Z", "2026-01-01T24:00:00.000Z", "2026-01-01T00:00:00.00Z", "1969-12-31T23:59:59.999Z", "2026-01-0xT00:00:00.000Z"} {
		_, ok := parseInstant([]byte(wrong))
		require.False(t, ok, wrong)
	}
	require.Equal(t, "9999-12-31T23:59:59.999Z", string(appendInstant(nil, 1<<62)))
	require.Equal(t, "1970-01-01T00:00:00.000Z", string(appendInstant(nil, -5)))
}

// fill sets every field of a record to what takes the most room.
func fill(s string) Record {
	many := make([]string, maxEntries+3)
	for i := range many {
		many[i] = s
	}
	r := Record{Kind: KindIntrospect, Decision: Allowed, Index: 1<<64 - 1, SourceIP: netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666%eth0"), Expires: 1}
	v := reflect.ValueOf(&r).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); {
		case f.Type() == reflect.TypeFor[[]string]():
			f.Set(reflect.ValueOf(many))
		case f.Kind() == reflect.String && f.String() == "":
			f.SetString(s)
		}
	}
	for range maxLinks + 3 {
		r.Chain = append(r.Chain, Link{s, s, s})
	}
	r.Outcome = Success
	return r
}

func TestEverythingIsBounded(t *testing.T) {
	for _, s := range []string{strings.Repeat("\x01", 5000), strings.Repeat("é", 5000), strings.Repeat("\xff", 5000)} {
		r := fill(s)
		text := line(&r)
		require.Less(t, len(text), MaxLine)
		e, err := ParseEntry([]byte(text))
		require.NoError(t, err)
		require.True(t, e.Cut, "the record says that it isn't complete")
		require.Len(t, e.Policies, maxEntries)
		require.Len(t, e.Chain, maxLinks)
		require.True(t, strings.HasSuffix(e.Tool, "…"))
		require.True(t, utf8.ValidString(e.Detail))
	}
	whole := sample()
	require.NotContains(t, line(&whole), `"cut"`)
}

func TestWhatLooksLikeASecretIsTakenOut(t *testing.T) {
	secret := strings.Repeat("Zk3_", 11)
	jwt := "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiJ1c2VyQGV4YW1wbGUuY29tIn0." + strings.Repeat("a-", 43)
	for _, s := range []string{"dps_" + secret, "dpt_" + secret, "dpj_" + secret, jwt, "https://a.example.com/?token=" + jwt + "&x=1", "Bearer " + jwt, jwt + " " + jwt} {
		r := fill(s)
		text := line(&r)
		require.NotContains(t, text, secret)
		require.NotContains(t, text, "eyJhbGci")
		require.Contains(t, text, redacted)
		e, err := ParseEntry([]byte(text))
		require.NoError(t, err)
		require.True(t, e.Cut)
	}
	for _, s := range []string{
		"ses_01kb4q7m2vf5drs9w8x3n6y0ha", "agt_dps_reader-with-a-long-name#417", "key_q3eyJx0Zk3uY5m2vf5drs9w8x3n6y0haAbCdEfGhIjK",
		"https://dpt_.example.com/a/rather/long/path/with/eyJ/in/it", "4bf92f3577b34da6a3ce929d0e0e4736",
	} {
		r := fill(s)
		require.NotContains(t, line(&r), redacted, s)
	}
}

func TestOnlyDecisionsAreTaken(t *testing.T) {
	l := openLog(t, testOptions(t.TempDir()))
	for says, r := range map[string]Record{
		"unknown kind":        {Kind: "mnit", Decision: Allowed},
		"are the log's own":   {Kind: KindCheckpoint, Decision: Allowed},
		"its decision is":     {Kind: KindMint},
		"its outcome is \"no": {Kind: KindMint, Decision: Denied, Outcome: "no"},
	} {
		err := l.Append(t.Context(), &r)
		require.ErrorIs(t, err, ErrInvalid)
		require.ErrorContains(t, err, says)
	}
	for _, k := range Kinds() {
		require.NoError(t, l.Append(t.Context(), &Record{Kind: k, Decision: Allowed}))
		parsed, err := ParseKind(string(k))
		require.NoError(t, err)
		require.Equal(t, k, parsed)
		require.Equal(t, k, Kinds()[k.index()])
	}
	_, err := ParseKind("mnit")
	require.ErrorContains(t, err, "known are mint refuse")
}

func TestTraceparentIsReadStrictly(t *testing.T) {
	trace, span := ParseTraceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", trace)
	require.Equal(t, "00f067aa0ba902b7", span)
	trace, _ = ParseTraceparent("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more")
	require.NotEmpty(t, trace, "a later version")
	for _, wrong := range []string{
		"", "00", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
		"00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
	} {
		trace, span := ParseTraceparent(wrong)
		require.Empty(t, trace+span, wrong)
	}
}

func FuzzParseEntry(f *testing.F) {
	r := sample()
	f.Add([]byte(line(&r)))
	f.Add([]byte(`{"prev":"`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if frame, err := parseFrame(text); err == nil {
			// Whatever is behind the frame, making an index of it ends well.
			var x index
			x.add(text, &frame)
			require.Len(t, x.blocks, 1)
		}
		if e, err := ParseEntry(text); err == nil {
			require.True(t, json.Valid(e.Line))
		}
	})
}
