package outbound

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	secretOne Secret = "whsec_00000000000000000000000000000000000001"
	secretTwo Secret = "whsec_00000000000000000000000000000000000002"
)

func TestSignatureIsWhatTheManualSays(t *testing.T) {
	// echo -n '1764547200.evt_1.{"a":1}' | openssl dgst -sha256 -hmac whsec_00000000000000000000000000000000000001
	require.Equal(t, "t=1764547200,id=evt_1,v1=2e0f4bca371e794e878090d1943089c95cd132ea0275d61412a9ed2d1701a4aa", Sign("evt_1", time.Unix(1764547200, 999), []byte(`{"a":1}`), secretOne))
}

func TestOnlyTheGenuineSignatureHolds(t *testing.T) {
	at := time.Unix(1764547200, 0)
	body := []byte(`{"a":1}`)
	good := Sign("evt_1", at, body, secretOne)
	signed, err := Verify(good, body, at, secretOne)
	require.NoError(t, err)
	require.Equal(t, Signed{ID: "evt_1", At: at}, signed)

	v1 := good[strings.Index(good, "v1="):]
	for name, tc := range map[string]struct {
		header string
		body   string
		now    time.Time
		secret Secret
	}{
		"another body":               {good, `{"a":2}`, at, secretOne},
		"an empty body":              {good, ``, at, secretOne},
		"another secret":             {good, string(body), at, secretTwo},
		"no secret":                  {Sign("evt_1", at, body, ""), string(body), at, ""},
		"a short secret":             {Sign("evt_1", at, body, "short"), string(body), at, "short"},
		"another id":                 {strings.Replace(good, "evt_1", "evt_2", 1), string(body), at, secretOne},
		"another time":               {strings.Replace(good, "t=1764547200", "t=1764547201", 1), string(body), at, secretOne},
		"replayed later":             {good, string(body), at.Add(SignatureTolerance + time.Second), secretOne},
		"from the future":            {good, string(body), at.Add(-SignatureTolerance - time.Second), secretOne},
		"bytes moved id to body":     {"t=1764547200,id=evt," + v1, "1." + string(body), at, secretOne},
		"no header":                  {"", string(body), at, secretOne},
		"no id":                      {"t=1764547200," + v1, string(body), at, secretOne},
		"an id with a dot":           {Sign("evt.1", at, body, secretOne), string(body), at, secretOne},
		"no time":                    {"id=evt_1," + v1, string(body), at, secretOne},
		"a time that is none":        {"t=soon,id=evt_1," + v1, string(body), at, secretOne},
		"no signature":               {"t=1764547200,id=evt_1", string(body), at, secretOne},
		"half a signature":           {good[:len(good)-32], string(body), at, secretOne},
		"an empty signature":         {"t=1764547200,id=evt_1,v1=", string(body), at, secretOne},
		"not hexadecimal":            {"t=1764547200,id=evt_1,v1=zz", string(body), at, secretOne},
		"another scheme":             {strings.Replace(good, "v1=", "v0=", 1), string(body), at, secretOne},
		"two times":                  {good + ",t=1764547200", string(body), at, secretOne},
		"two ids":                    {"id=evt_0," + good, string(body), at, secretOne},
		"a header out of all bounds": {good + "," + strings.Repeat("v0=0,", 1000) + "v0=0", string(body), at, secretOne},
		"a word":                     {good + ",x", string(body), at, secretOne},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Verify(tc.header, []byte(tc.body), tc.now, tc.secret)
			require.ErrorIs(t, err, ErrSignature)
		})
	}
	_, err = Verify(good, body, at)
	require.ErrorIs(t, err, ErrSignature, "without a secret nothing is genuine")
	_, err = Verify(good+",v2=abc", body, at.Add(SignatureTolerance), secretOne)
	require.NoError(t, err, "what is not known is ignored")
}

func TestSecretsAreReplacedWithoutAGap(t *testing.T) {
	at, body := time.Unix(1764547200, 0), []byte("x")
	for name, tc := range map[string]struct{ sender, receiver []Secret }{
		"before":              {[]Secret{secretOne}, []Secret{secretOne}},
		"sender first":        {[]Secret{secretTwo, secretOne}, []Secret{secretOne}},
		"both":                {[]Secret{secretTwo, secretOne}, []Secret{secretTwo, secretOne}},
		"receiver ahead":      {[]Secret{secretOne}, []Secret{secretTwo, secretOne}},
		"sender already done": {[]Secret{secretTwo}, []Secret{secretTwo, secretOne}},
	} {
		_, err := Verify(Sign("evt_1", at, body, tc.sender...), body, at, tc.receiver...)
		require.NoError(t, err, name)
	}
}

func TestSecretDoesNotShow(t *testing.T) {
	target := Target{ID: "siem", URL: "https://siem.example", Secrets: []Secret{secretOne}}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		require.NotContains(t, fmt.Sprintf(format, target), string(secretOne[6:]), format)
		require.NotContains(t, fmt.Sprintf(format, secretOne), string(secretOne[6:]), format)
	}
	asJSON, err := json.Marshal(target)
	require.NoError(t, err)
	require.NotContains(t, string(asJSON), string(secretOne))
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "target", target, "secret", secretOne)
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "target", target, "secret", secretOne)
	require.NotContains(t, logged.String(), string(secretOne))
}

// The manual shows receivers how to verify, in Python. What is shown has to work.
func TestReceiversRecipeInTheManualWorks(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 here")
	}
	manual, err := os.ReadFile("../docs/webhooks.md")
	require.NoError(t, err)
	found := regexp.MustCompile("(?s)```python\n(.*?)```").FindSubmatch(manual)
	require.NotNil(t, found, "the manual has no recipe in Python")
	now := time.Now()
	body := []byte(`{"type":"approval.created","id":"apr_1"}`)
	run := func(header string, body []byte) error {
		script := string(found[1]) + "\nimport sys\nbody = sys.stdin.buffer.read()\nprint(verify(sys.argv[1], body, [sys.argv[2]]))\n"
		command := exec.CommandContext(t.Context(), python, "-c", script, header, string(secretOne))
		command.Stdin = strings.NewReader(string(body))
		out, err := command.Output()
		if err == nil {
			require.Equal(t, "evt_1\n", string(out))
		}
		return err
	}
	require.NoError(t, run(Sign("evt_1", now, body, secretOne), body))
	require.NoError(t, run(Sign("evt_1", now, body, secretTwo, secretOne), body))
	require.Error(t, run(Sign("evt_1", now, body, secretTwo), body))
	require.Error(t, run(Sign("evt_1", now, body, secretOne), append(body, ' ')))
	require.Error(t, run(Sign("evt_1", now.Add(-SignatureTolerance-time.Minute), body, secretOne), body))
	require.Error(t, run("", body))
}
