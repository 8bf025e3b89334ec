package bench

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/client"
)

var testSizes = CeilingOptions{Kinds: ceilings(), BodyBytes: 900, TokenBytes: 690}

func testCeilings(t *testing.T, tokens ...string) *ceilingServer {
	t.Helper()
	s, err := startCeilings(t.Context(), deputy(t), testSizes, tokens, nil, t.Output())
	require.NoError(t, err)
	t.Cleanup(s.stop)
	return s
}

func ask(t *testing.T, address string, request []byte) (status int, body []byte) {
	t.Helper()
	c, err := load.Dial(t.Context(), address, nil)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.Until(time.Now().Add(10*time.Second)))
	status, body, err = c.Exchange(request)
	require.NoError(t, err)
	return status, bytes.Clone(body)
}

func TestCeilingsAnswerAsManyBytesAsAsked(t *testing.T) {
	s := testCeilings(t, goodToken())
	f := fixture{application: client.Credentials{ID: "app", Secret: "secret"}}
	for kind, address := range s.addresses {
		status, body := ask(t, address, f.introspectRequest(goodToken()))
		require.Equal(t, 200, status, kind)
		require.Len(t, body, testSizes.BodyBytes, kind)
		require.True(t, json.Valid(body), kind)
	}
}

// goodToken is signed by the ceilings' own key.
func goodToken() string {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	return "header.claims." + rawURL(ed25519.Sign(key, []byte("header.claims")))
}

func TestTheSigningCeilingReallySigns(t *testing.T) {
	s := testCeilings(t)

	_, body := ask(t, s.addresses[CeilingSign], get("/"))

	var answer struct {
		AccessToken string `json:"access_token"`
	}
	require.NoError(t, json.Unmarshal(body, &answer))
	require.Len(t, answer.AccessToken, testSizes.TokenBytes)
	input, signature, found := strings.Cut(answer.AccessToken, ".")
	require.True(t, found)
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	require.Equal(t, rawURL(ed25519.Sign(key, []byte(input))), signature)
}

func TestTheLookupCeilingKnowsOnlyItsTokens(t *testing.T) {
	s := testCeilings(t, "known.1", "known.2")
	f := fixture{application: client.Credentials{ID: "app", Secret: "secret"}}
	for token, want := range map[string]int{"known.1": 200, "known.2": 200, "unknown": 404} {
		status, _ := ask(t, s.addresses[CeilingLookup], f.introspectRequest(token))
		require.Equal(t, want, status, token)
	}
	status, _ := ask(t, s.addresses[CeilingLookup], get("/"))
	require.Equal(t, 400, status)
}

func TestTheBareSignatureIsTimed(t *testing.T) {
	s := testCeilings(t)
	rate, err := s.signRate(t.Context(), 20*time.Millisecond)
	require.NoError(t, err)
	require.Greater(t, rate, 100.0)
}

func TestCeilingsEndWithTheirParent(t *testing.T) {
	in, parent := io.Pipe()
	addresses, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- ServeCeilings(context.Background(), testSizes, in, out) }()
	_, err := io.WriteString(parent, "\n")
	require.NoError(t, err)
	var listening ceilingAddresses
	require.NoError(t, firstLine(addresses, &listening))
	require.Len(t, listening, len(ceilings()))

	require.NoError(t, parent.Close())

	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		require.Fail(t, "the ceilings outlived their parent")
	}
}

func TestCeilingsRefuseWhatTheyCannotDo(t *testing.T) {
	for name, o := range map[string]CeilingOptions{
		"no kind":      {BodyBytes: 300, TokenBytes: 690},
		"unknown kind": {Kinds: []Ceiling{"glass"}, BodyBytes: 300, TokenBytes: 690},
		"tiny body":    {Kinds: ceilings(), BodyBytes: 3, TokenBytes: 690},
		"huge body":    {Kinds: ceilings(), BodyBytes: load.MaxResponseBytes, TokenBytes: 690},
		"tiny token":   {Kinds: ceilings(), BodyBytes: 300, TokenBytes: 10},
	} {
		t.Run(name, func(t *testing.T) {
			require.Error(t, ServeCeilings(t.Context(), o, strings.NewReader("\n"), io.Discard))
		})
	}
}

func rawURL(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func TestTheVerifyingCeilingReallyVerifies(t *testing.T) {
	s := testCeilings(t)
	f := fixture{application: client.Credentials{ID: "app", Secret: "secret"}}
	good := goodToken()
	for token, want := range map[string]int{
		good: 200, "header.claimz" + good[len("header.claims"):]: 403, "header.claims": 400, "": 400,
		good[:len(good)-3] + "!!!": 400,
	} {
		status, _ := ask(t, s.addresses[CeilingVerify], f.introspectRequest(token))
		require.Equal(t, want, status, token)
	}
}
