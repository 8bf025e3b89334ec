package tokens

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
	"github.com/lestrrat-go/jwx/v2/jwt"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// Two other readers of JWTs, jwx and the standard library's JSON, must see in every token that this package
// accepts exactly what this package sees. They accept far more; that is their business.

// actor is an `act` claim as the standard library reads it.
type actor struct {
	Sub string `json:"sub"`
	Act *actor `json:"act"`
}

// plainClaims are a token's claims as the standard library reads them.
type plainClaims struct {
	Iss       string            `json:"iss"`
	Sub       string            `json:"sub"`
	Aud       json.RawMessage   `json:"aud"`
	ClientID  string            `json:"client_id"`
	Scope     *string           `json:"scope"`
	Iat       int64             `json:"iat"`
	Exp       int64             `json:"exp"`
	JTI       string            `json:"jti"`
	SID       string            `json:"sid"`
	Act       *actor            `json:"act"`
	Anc       []identity.Handle `json:"anc"`
	AgentType string            `json:"agent_type"`
	Cnf       *struct {
		JKT string `json:"jkt"`
	} `json:"cnf"`
}

func requireSameByStandardLibrary(t require.TestingT, c *Claims, payload string) {
	var plain plainClaims
	decoder := json.NewDecoder(strings.NewReader(payload))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&plain))
	_, err := decoder.Token()
	require.ErrorIs(t, err, io.EOF)

	var audience []string
	if bytes.HasPrefix(plain.Aud, []byte{'['}) {
		require.NoError(t, json.Unmarshal(plain.Aud, &audience))
	} else {
		audience = make([]string, 1)
		require.NoError(t, json.Unmarshal(plain.Aud, &audience[0]))
	}
	var actors []string
	for a := plain.Act; a != nil; a = a.Act {
		actors = append(actors, a.Sub)
	}
	scope := ""
	if plain.Scope != nil {
		scope = *plain.Scope
	}
	require.Equal(t, plain.Iss, c.Issuer)
	require.Equal(t, plain.Sub, c.Subject)
	require.Equal(t, audience, c.Audience)
	require.Equal(t, plain.ClientID, c.ClientID)
	require.Equal(t, scope, string(c.Scopes))
	require.Equal(t, plain.Iat, c.IssuedAt)
	require.Equal(t, plain.Exp, c.Expires)
	require.Equal(t, plain.JTI, c.JTI)
	require.Equal(t, plain.SID, c.SessionID)
	require.Equal(t, actors, c.Actors)
	require.Equal(t, plain.Anc, c.Ancestry)
	require.Equal(t, plain.AgentType, string(c.AgentType))
	require.Equal(t, plain.Cnf != nil, c.Confirmation != "")
	if plain.Cnf != nil {
		require.Equal(t, plain.Cnf.JKT, c.Confirmation)
	}

	canonical, err := identity.ParseScopes(scope)
	require.NoError(t, err)
	require.Equal(t, canonical, c.Scopes)
	for _, h := range plain.Anc {
		_, err := identity.ParseHandle(string(h))
		require.NoError(t, err)
	}
}

// requireSameByJWX wants the token's signature to hold.
func requireSameByJWX(t require.TestingT, w *world, c *Claims, token []byte) {
	_, err := jws.Verify(token, jws.WithKey(jwa.EdDSA, w.signer.Public()))
	require.NoError(t, err)
	parsed, err := jwt.Parse(token, jwt.WithKey(jwa.EdDSA, w.signer.Public()), jwt.WithValidate(false))
	require.NoError(t, err)
	require.Equal(t, parsed.Issuer(), c.Issuer)
	require.Equal(t, parsed.Subject(), c.Subject)
	require.Equal(t, parsed.Audience(), c.Audience)
	require.Equal(t, parsed.IssuedAt().Unix(), c.IssuedAt)
	require.Equal(t, parsed.Expiration().Unix(), c.Expires)
	require.Equal(t, parsed.JwtID(), c.JTI)
	private := parsed.PrivateClaims()
	require.Equal(t, private["client_id"], c.ClientID)
	require.Equal(t, private["sid"], c.SessionID)
	require.Equal(t, private["agent_type"], string(c.AgentType))
	if c.Confirmation != "" {
		require.Equal(t, map[string]any{"jkt": c.Confirmation}, private["cnf"])
	} else {
		require.NotContains(t, private, "cnf")
	}
	message, err := jws.Parse(token)
	require.NoError(t, err)
	require.Equal(t, c.KID, message.Signatures()[0].ProtectedHeaders().KeyID())
	require.Equal(t, jwa.EdDSA, message.Signatures()[0].ProtectedHeaders().Algorithm())
	require.Equal(t, "at+jwt", message.Signatures()[0].ProtectedHeaders().Type())
}

// requireSameAgain writes the claims once more and reads them back.
func requireSameAgain(t require.TestingT, c *Claims) {
	var again writer
	if err := again.claims(c.Issuer, c.Session(), c.Ancestry); err != nil {
		// Times that no grant has are left to Verify.
		require.Contains(t, err.Error(), "from second")
		return
	}
	read, err := parseClaims(string(again.payload()), c.KID)
	require.NoError(t, err)
	require.Equal(t, c, read)
}

// requireAgreement holds a token that parse accepted to what the others say.
func requireAgreement(t require.TestingT, w *world, c *Claims, payload string) {
	requireSameByStandardLibrary(t, c, payload)
	// The signature that fuzzing can't find is made here.
	signed := w.sign(strings.Replace(w.header(), w.signer.kid, c.KID, 1), payload)
	requireSameByJWX(t, w, c, signed)
	requireSameAgain(t, c)
}

func TestOthersReadOurTokensAsWeDo(t *testing.T) {
	w := newWorld(t)
	first, err := w.verifier.Verify(w.mint(t, delegated(t)))
	require.NoError(t, err)
	for name, g := range map[string]*policy.Grant{"delegated": delegated(t), "autonomous": autonomous(t), "hop": hop(t, first)} {
		t.Run(name, func(t *testing.T) {
			token := w.mint(t, g)
			claims, err := w.verifier.Verify(token)
			require.NoError(t, err)
			requireSameByJWX(t, w, claims, token)
			requireSameByStandardLibrary(t, claims, payloadOf(t, token))
			requireSameAgain(t, claims)

			set, err := jws.NewVerifier(jwa.EdDSA)
			require.NoError(t, err)
			cut := bytes.LastIndexByte(token, '.')
			signature, err := segment.DecodeString(string(token[cut+1:]))
			require.NoError(t, err)
			require.NoError(t, set.Verify(token[:cut], signature, w.signer.Public()))
		})
	}
}

// A reader that believes jwx alone would take one token in many spellings, and headers that we refuse. This
// shows that the strict parser is not there for nothing.
func TestOthersAcceptWhatWeRefuse(t *testing.T) {
	w := newWorld(t)
	tokens := hostile(t, w)
	for _, name := range []string{"trailing newline", "claims: exp twice", "header: typ JWT", "claims: no exp", "claims: an unknown claim"} {
		_, err := jwt.Parse(tokens[name], jwt.WithKey(jwa.EdDSA, w.signer.Public()), jwt.WithValidate(false))
		require.NoError(t, err, name)
		_, err = w.verifier.Verify(tokens[name])
		requireReason(t, err, ReasonMalformed)
	}
}
