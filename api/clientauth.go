package api

import (
	"bytes"
	"encoding/base64"

	"github.com/deputy-id/deputy/identity"
)

// maxClientCredentials bounds the decoded user-pass of HTTP Basic: a percent-encoded name and a secret.
const maxClientCredentials = 512

// clientCredentials are what an OAuth client authenticates with. They live in the call's scratch, or in the
// request, and end with it.
type clientCredentials struct {
	id, secret []byte
	basic      bool
}

// basicCredentials reads HTTP Basic as RFC 6749 section 2.3.1 has it: both halves are form-encoded first.
func (c *call) basicCredentials(encoded []byte) (clientCredentials, error) {
	if base64.StdEncoding.DecodedLen(len(encoded)) > len(c.decoded) {
		return clientCredentials{}, badBasic()
	}
	n, err := base64.StdEncoding.Decode(c.decoded[:], encoded)
	if err != nil {
		return clientCredentials{}, badBasic()
	}
	colon := bytes.IndexByte(c.decoded[:n], ':')
	if colon < 0 {
		return clientCredentials{}, badBasic()
	}
	id, ok := appendUnescaped(c.decoded[:0], c.decoded[:colon])
	secret, ok2 := appendUnescaped(c.decoded[colon+1:colon+1], c.decoded[colon+1:n])
	if !ok || !ok2 || len(id) == 0 || len(secret) == 0 {
		return clientCredentials{}, badBasic()
	}
	return clientCredentials{id: id, secret: secret, basic: true}, nil
}

func badBasic() error {
	return unknownClient("the Basic credentials are not base64 of client_id:client_secret")
}

// clientKind is who may be a client of an OAuth endpoint.
type clientKind uint8

const (
	clientAgent clientKind = 1 << iota
	clientApplication
)

// The clients of the OAuth endpoints: an agent, an application, or either.
func (c *call) identifyAgent() error       { return c.identifyClient(clientAgent) }
func (c *call) identifyApplication() error { return c.identifyClient(clientApplication) }
func (c *call) identifyEither() error      { return c.identifyClient(clientAgent | clientApplication) }

// identifyClient reads client_secret_basic, client_secret_post or private_key_jwt, exactly one of them, and finds the
// agent or application that it proves.
func (c *call) identifyClient(kinds clientKind) error {
	form := &c.form
	posted := form.value(formClientSecret)
	asserted := form.has(formAssertion) || form.has(formAssertionType)
	scheme, rest := authorization(c.ctx)
	var given clientCredentials
	switch {
	case bit(len(scheme) > 0)+bit(len(posted) > 0)+bit(asserted) > 1:
		return identity.Errorf(identity.CodeInvalid, "the client authenticates in two ways; RFC 6749 section 2.3 allows one per request")
	case asserted:
		return c.identifyByAssertion(kinds)
	case len(scheme) > 0:
		if !equalFold(scheme, "basic") {
			return unknownClient("the client authenticates with the scheme %.16q; this endpoint takes Basic", scheme)
		}
		var err error
		if given, err = c.basicCredentials(rest); err != nil {
			return err
		}
		if id := form.value(formClientID); len(id) > 0 && !bytes.Equal(id, given.id) {
			return identity.Errorf(identity.CodeInvalid, "client_id differs from the Basic credentials")
		}
	case len(posted) > 0:
		given = clientCredentials{id: form.value(formClientID), secret: posted}
	default:
		return unknownClient("the request has no client credentials")
	}
	if !c.proves(given, kinds) {
		return unknownClient("the client is unknown, or its secret is wrong or expired")
	}
	return nil
}

// identifyRunner finds the agent that wants a session of its own, by HTTP Basic.
func (c *call) identifyRunner() error {
	_, rest := authorization(c.ctx)
	given, err := c.basicCredentials(rest)
	if err != nil {
		return err
	}
	if !c.proves(given, clientAgent) {
		return unknownClient("the agent is unknown, or its secret is wrong or expired")
	}
	return nil
}

// proves looks the client up and, where the secret is one of its own, makes it the caller.
func (c *call) proves(given clientCredentials, kinds clientKind) bool {
	c.consulted = true
	hash := identity.HashSecret(textOf(given.secret))
	if kinds&clientAgent != 0 {
		if agent, ok := c.view.Agent(textOf(given.id)); ok {
			if match := identity.MatchSecret(agent.Credentials, hash, c.now); match != nil {
				c.caller = caller{agent: agent, credential: match.ID}
				return true
			}
		}
	}
	if kinds&clientApplication != 0 {
		if application, ok := c.view.Application(textOf(given.id)); ok {
			if match := identity.MatchSecret(application.Credentials, hash, c.now); match != nil {
				c.caller = caller{application: application, credential: match.ID}
				return true
			}
		}
	}
	return false
}

func unknownClient(format string, args ...any) error {
	return identity.Errorf(identity.CodeUnauthenticated, format, args...).
		WithHint("use client_secret_basic or client_secret_post with an unexpired secret, or private_key_jwt with a registered key")
}
