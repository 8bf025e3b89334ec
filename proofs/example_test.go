package proofs_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/proofs"
)

const now = identity.Instant(1_790_000_000_000)

// sign makes a JWS as any client would.
func sign(private ed25519.PrivateKey, header, payload string) []byte {
	b64 := base64.RawURLEncoding
	signed := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload))
	return []byte(signed + "." + b64.EncodeToString(ed25519.Sign(private, []byte(signed))))
}

func ExampleAssertionRules_Verify() {
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	registered, err := proofs.ParseKeys([]byte(`{"kty":"OKP","crv":"Ed25519","kid":"2026","x":"O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	assertion := sign(private, `{"alg":"EdDSA","kid":"2026"}`,
		`{"iss":"triage","sub":"triage","aud":"https://deputy.example","iat":1790000000,"exp":1790000060,"jti":"7Qm"}`)

	memory := proofs.NewReplay(100_000)
	client, _ := proofs.AssertionClient(assertion)
	rules := proofs.AssertionRules{ClientID: client, Audiences: []string{"https://deputy.example"}}
	a, err := rules.Verify(assertion, now, registered)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(a.ClientID, a.Key.ID(), a.Once(memory, now))
	fmt.Println(proofs.ReasonOf(a.Once(memory, now)))
	// Output:
	// triage 2026 <nil>
	// replayed
}

func ExampleIDTokenRules_Verify() {
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	published, err := proofs.ParsePublishedKeys([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik"}]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	token := sign(private, `{"alg":"EdDSA","kid":"a","typ":"JWT"}`, `{"iss":"https://login.example","sub":"248289",
		"aud":"deputy","iat":1790000000,"exp":1790003600,"email":"ada@example.com","email_verified":true}`)

	rules := proofs.IDTokenRules{Issuer: "https://login.example", Audiences: []string{"deputy"}}
	t, err := rules.Verify(token, now, published)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(t.VerifiedEmail())
	// Output: ada@example.com <nil>
}

func ExampleProofRules_Verify() {
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	proof := sign(private, `{"typ":"dpop+jwt","alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik"}}`,
		`{"htm":"POST","htu":"https://deputy.example/oauth2/token","iat":1790000000,"jti":"-BwC3ESc6acc2lTc"}`)

	nonces := proofs.NewNonces("n1", [32]byte{ /* random, made at the start of the process */ })
	rules := proofs.ProofRules{Method: "POST", URLs: []string{"https://deputy.example/oauth2/token"}}
	p, err := rules.Verify(proof, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Thumbprint, nonces.Valid(p.Nonce, now))
	// Output: 9ZP03Nu8GrXPAUkbKNxHOKBzxPX83SShgFkRNK-f2lw false
}
