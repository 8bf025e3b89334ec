// Package proofs checks what callers show and others have made: client assertions (private_key_jwt, RFC 7523), users'
// ID tokens (OpenID Connect Core) and DPoP proofs (RFC 9449), with the public keys by which they are checked (RFC
// 7517). What Deputy signs itself is the matter of package tokens.
//
// It is a room without doors: no I/O, no clock, no module but the standard library. Keys, rules and the time are
// passed in; what comes out is a typed result or an *Error with a stable Reason.
//
//	client assertion   AssertionClient ─► its keys ─► AssertionRules.Verify ─► Assertion.Once
//	ID token           IDTokenIssuer ─► its rules and keys ─► IDTokenRules.Verify
//	DPoP proof         ProofRules.Verify ─► Nonces.Valid ─► Proof.Once
//	keys               ParseKeys, ParsePublishedKeys ─► Keys.Canonical
//
// # Client assertions
//
//	client, err := proofs.AssertionClient(assertion) // unverified: only for finding the keys
//	rules := proofs.AssertionRules{ClientID: client, Audiences: []string{issuer, tokenURL}, NotBefore: started}
//	a, err := rules.Verify(assertion, now, keysOf(client)...) // one *Keys for each credential
//	credential := credentials[a.Set]
//	err = a.Once(memory, now) // last
//
// # ID tokens
//
//	issuer, err := proofs.IDTokenIssuer(token) // unverified: only for finding rules and keys
//	rules := proofs.IDTokenRules{Issuer: issuer, Audiences: trusted.ClientIDs}
//	t, err := rules.Verify(token, now, keysOf(issuer))
//	user, err := t.VerifiedEmail() // or t.Subject, as the issuer is configured
//	if t.MayAct != nil && !t.MayAct.Allows(issuer, client) { … }
//
// # DPoP proofs
//
//	rules := proofs.ProofRules{Method: "POST", URLs: []string{external + path}, NotBefore: started}
//	rules.AccessToken, rules.Thumbprint = token, jkt // where a bound token is presented
//	p, err := rules.Verify(proof, now)
//	if !nonces.Valid(p.Nonce, now) { … use_dpop_nonce, DPoP-Nonce: nonces.Current(now) }
//	err = p.Once(memory, now) // last
//	… p.Thumbprint is cnf.jkt of what is minted
//
// # What a refusal becomes
//
// A refused assertion is invalid_client (RFC 6749 section 5.2), a refused subject token invalid_request (RFC 8693
// section 2.2.2), a refused proof invalid_dpop_proof (RFC 9449 section 5), and one without a good nonce use_dpop_nonce.
// ReasonReplayFull alone is this side's doing: temporarily_unavailable. Details may be sent as error_description, as
// they quote nothing but what was expected.
//
// # One reader for all
//
// The readers of JWTs that people link do not agree with each other: about names that are there twice, half a
// surrogate pair, padding, line breaks, a missing exp. Where two readers differ, one of them can be fooled. So there is
// one strict reader here, and everything goes through it before a signature is looked at:
//
//   - a bound on the bytes for each use, three segments, base64url in its only spelling;
//   - JSON objects in UTF-8, no name twice at any depth, depth, members and numbers bounded; the seven registered
//     claims have their types wherever they appear, dates lie before the year 10000 and lose their fraction;
//   - the algorithm is EdDSA, ES256 or RS256 and the key's own: a key is for exactly one, chosen by what the key is and
//     never by what the token says. (`Ed25519` of RFC 9864, PS256 and the larger curves have no place yet.)
//   - a kid is compared with the names of the keys that were passed in and used for nothing else. Without one, all keys
//     of the algorithm are tried, if they are four at most;
//   - crit, b64, zip, jku, x5u and x5c are refused, and jwk everywhere but in DPoP proofs. x5t and x5t#S256 are passed
//     over in ID tokens, since Entra ID and AD FS send them, and refused elsewhere. Other header members are passed
//     over, as RFC 7515 section 4 wants, but for those that differ from one of these in upper and lower case only: to
//     some readers they are the same. Members of keys are held to that too.
//
// Unlike the tokens of package tokens, which have one spelling, these may hold white space, escapes and unknown
// claims: others make them, and RFC 7519 section 4 has unknown claims ignored.
//
// # One use each
//
// A token made for one use must be of none for another (RFC 8725 section 3.11). The typ tells most apart: an assertion
// and an ID token have none or JWT, an assertion may have client-authentication+jwt, a proof must have dpop+jwt, and
// anything else, such as at+jwt or logout+jwt, is refused. As many issuers sign access tokens as typ JWT with the same
// key, claims that tell of another use are refused as well: an ID token with scope, scp, events, or with Keycloak's typ
// or Cognito's token_use for something else; an assertion with nonce, azp, at_hash, htm and their like.
//
// # Keys
//
// Registered keys are read strictly, since whoever registers one is there to be told what is wrong. Published sets
// hold keys for other purposes too, so what is of no use is left out. Private members are refused in both: such a key
// has leaked. Ed25519 keys of low order, under which anybody can sign, are refused, which crypto/ed25519 does not do;
// so are points off the curve, RSA keys under 2048 and over 4096 bits, and even or tiny exponents.
//
// # Replay
//
// A jti is good once. Replay remembers them in the memory of one process, within a bound, and refuses when it is full.
// What another node has seen it can't know: a DPoP proof is tied to one node by a nonce of Nonces, whose key no other
// process has. An assertion can be used once at each node until its exp, at most five minutes.
//
// # Turned down
//
//   - jwx for reading: see above; it is the judge in this package's tests, where it must accept whatever is accepted
//     here, and find the same in it;
//   - encoding/json: takes the last of two names, folds their case, mends broken text;
//   - taking the algorithm from the token and looking for a key that fits: that is how an RSA key became an HMAC secret;
//   - quoting what was refused: an error ends up in a log, and a token must not. Details quote what was expected.
package proofs
