package api

import "github.com/deputy-id/deputy/identity"

// asApplication reports whether the caller shows credentials of an application where those are taken: HTTP Basic, which
// no API token comes with.
func (c *call) asApplication() bool {
	if !c.route.Applications {
		return false
	}
	scheme, _ := authorization(c.ctx)
	return equalFold(scheme, "basic")
}

// identifyValidator finds the application that checks tokens by itself.
func (c *call) identifyValidator() error {
	_, rest := authorization(c.ctx)
	given, err := c.basicCredentials(rest)
	if err != nil {
		return err
	}
	if !c.proves(given, clientApplication) {
		return unknownClient("the application is unknown, or its secret is wrong or expired")
	}
	return nil
}

// subscriber is what a caller's right to a long answer rests on after the request is over.
type subscriber struct {
	kind       string // token or application
	name       string
	credential identity.Handle
	expires    identity.Instant // of the credential; zero: never
}

// subscriber is that of the caller as it was found.
func (c *call) subscriber() subscriber {
	s := subscriber{credential: identity.CredentialHandle(c.caller.credential), name: c.caller.id()}
	switch {
	case c.caller.token != nil:
		s.kind, s.expires = "token", c.caller.token.Expires
	case c.caller.application != nil:
		s.kind = "application"
		for i := range c.caller.application.Credentials {
			if k := &c.caller.application.Credentials[i]; k.ID == c.caller.credential {
				s.expires = k.Expires
			}
		}
	}
	return s
}

// stands reports whether the caller would still be let in: what proves them is neither revoked, as it is when it or its
// owner is deleted, nor expired.
func (a *API) stands(s subscriber) bool {
	return !a.Revocations.Revoked(s.credential) && (s.expires.IsZero() || a.now() < s.expires)
}
