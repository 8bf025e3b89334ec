package api

import (
	"errors"
	"strings"
	"time"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/outbound"
	"github.com/deputy-id/deputy/proofs"
)

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// keysWait bounds how long a request waits for keys that are published elsewhere.
const keysWait = 3 * time.Second

// identifyByAssertion reads private_key_jwt (RFC 7523 section 2.2) and finds the agent or application that one of whose
// keys signed the assertion.
func (c *call) identifyByAssertion(kinds clientKind) error {
	form := &c.form
	assertion := form.value(formAssertion)
	if given := form.value(formAssertionType); textOf(given) != assertionType {
		return identity.Errorf(identity.CodeInvalid, "the parameter client_assertion_type is %.80q", given).
			WithHint("send client_assertion_type=%s", assertionType)
	}
	client, err := proofs.AssertionClient(assertion)
	if err != nil {
		return badAssertion(err)
	}
	if id := form.value(formClientID); len(id) > 0 && textOf(id) != client {
		return identity.Errorf(identity.CodeInvalid, "client_id differs from the sub of the client assertion")
	}
	return c.proveByAssertion(assertion, kinds)
}

// proveByAssertion finds the agent or application that one of whose keys signed the assertion.
func (c *call) proveByAssertion(assertion []byte, kinds clientKind) error {
	client, err := proofs.AssertionClient(assertion)
	if err != nil {
		return badAssertion(err)
	}
	c.consulted = true
	refusal := unknownClient("the client is unknown, or has no public key registered")
	for _, candidate := range c.candidates(client, kinds) {
		credentials, keys, err := c.keysOf(candidate.credentials)
		if err != nil {
			return err
		}
		if len(credentials) == 0 {
			continue
		}
		err = c.api.verify(&keys, func(sets []*proofs.Keys) (err error) {
			rules := proofs.AssertionRules{ClientID: client, Audiences: c.api.acceptedAudiences(c), NotBefore: c.api.started}
			if c.origin != nil {
				rules.NotBefore = 0 // the node that was asked has seen to it that it is used once
			}
			c.assertion, err = rules.Verify(assertion, c.now, sets...)
			return err
		})
		if err == nil {
			c.caller = candidate.who
			c.caller.credential = credentials[c.assertion.Set].ID
			return nil
		}
		refusal = badAssertion(err)
	}
	return refusal
}

// candidate is somebody of the asserted name, with what they may prove themselves by.
type candidate struct {
	who         caller
	credentials []identity.Credential
}

// candidates are the agent and the application of a name, as far as they may be clients here.
func (c *call) candidates(name string, kinds clientKind) (found []candidate) {
	if kinds&clientAgent != 0 {
		if agent, ok := c.view.Agent(name); ok {
			found = append(found, candidate{caller{agent: agent}, agent.Credentials})
		}
	}
	if kinds&clientApplication != 0 {
		if application, ok := c.view.Application(name); ok {
			found = append(found, candidate{caller{application: application}, application.Credentials})
		}
	}
	return found
}

// keysOf gathers the keys of those credentials that have any and may be used now: one set each, in their order.
func (c *call) keysOf(all []identity.Credential) (with []*identity.Credential, keys keySets, err error) {
	for i := range all {
		credential := &all[i]
		if credential.Kind != identity.CredentialKeys || !credential.ActiveAt(c.now) {
			continue
		}
		if err := c.api.add(&keys, credential.Keys, outbound.Source{JWKSURI: credential.KeysURI}); err != nil {
			return nil, keys, err
		}
		with = append(with, credential)
	}
	return with, keys, nil
}

// badAssertion tells the client what is wrong with what it made itself.
func badAssertion(err error) error {
	var refused *proofs.Error
	if !errors.As(err, &refused) {
		return err
	}
	return identity.Errorf(identity.CodeUnauthenticated, "the client assertion is not good: %s", refused.Detail)
}

// useUp has an assertion that the caller proved itself with be good never again at this node.
func (a *API) useUp(c *call) error {
	if c.assertion == nil || c.origin != nil { // the node that was asked has used it up, and repeats itself to each leader
		return nil
	}
	used := c.assertion
	c.assertion = nil
	err := used.Once(a.replay, c.now)
	if err == nil {
		return nil
	}
	c.caller = caller{}
	if proofs.ReasonOf(err) == proofs.ReasonReplayFull {
		return replayFull()
	}
	return badAssertion(err)
}

func replayFull() error {
	return identity.Errorf(identity.CodeOverloaded, "this node can't remember more one-time proofs right now").
		WithHint("try again in a minute, or ask another node")
}

// accepted are the URLs by which clients may name this server, as one state of the settings has it.
type accepted struct {
	settings  *identity.Settings
	audiences []string // of a client assertion: each base, and the token endpoint under it
	bases     []string // without a slash at the end
}

func (a *API) acceptedURLs(c *call) *accepted {
	settings := c.view.Settings()
	if known := a.urls.Load(); known != nil && known.settings == settings {
		return known
	}
	found := &accepted{settings: settings}
	for _, base := range append([]string{settings.Issuer}, settings.ExternalURLs...) {
		if base == "" {
			continue
		}
		trimmed := strings.TrimRight(base, "/")
		found.bases = append(found.bases, trimmed)
		found.audiences = append(found.audiences, base, trimmed+tokenPath)
		if trimmed != base {
			found.audiences = append(found.audiences, trimmed)
		}
	}
	a.urls.Store(found)
	return found
}

// acceptedAudiences are what `aud` of a client assertion may be: the issuer or the token endpoint, under each URL of the
// cluster (RFC 7523 section 3), or the very endpoint that is called.
func (a *API) acceptedAudiences(c *call) []string {
	known := a.acceptedURLs(c)
	if c.route.Path == tokenPath {
		return known.audiences
	}
	audiences := append(known.audiences[:len(known.audiences):len(known.audiences)], at(known.bases, c.route.Path)...)
	if c.route.Clients { // it may have been made for the endpoint that asks here in its client's name
		audiences = append(audiences, at(known.bases, backchannelPath)...)
	}
	return audiences
}

// at spells a path under each base.
func at(bases []string, path string) []string {
	urls := make([]string, len(bases))
	for i, base := range bases {
		urls[i] = base + path
	}
	return urls
}
