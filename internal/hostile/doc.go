// Package hostile makes the tokens, proofs and keys that an attacker would send, so that tests can show that each is
// refused, and for the right reason: in the package that reads them as well as through HTTP.
//
// Each kind is a struct that holds what a good one must say: Assertion, IDToken, Proof and AccessToken. Valid returns
// good ones, one for each algorithm; without them a refusal would prove nothing. Cases returns the hostile ones. Each
// differs from a good one in a single thing, and is signed again after it, so that nothing but that thing can be why
// it is refused. KeySets are hostile keys.
//
// It is for tests only: what it makes, no program must.
package hostile

// Case is one token, proof or key set that must be refused; or, where Reason is empty, must not.
type Case struct {
	Name  string
	Token string
	// Reason is the one that package proofs has for it, or package tokens for an AccessToken.
	Reason string
}
