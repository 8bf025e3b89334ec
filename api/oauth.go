package api

import (
	"bytes"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/identity"
)

// Names of form parameters, as bytes for lookups that don't allocate.
var (
	formGrantType     = []byte("grant_type")
	formScope         = []byte("scope")
	formAudience      = []byte("audience")
	formResource      = []byte("resource")
	formTriggerReason = []byte("trigger_reason")
	formMaxDuration   = []byte("max_duration_seconds")
	formClientID      = []byte("client_id")
	formClientSecret  = []byte("client_secret")
	formTool          = []byte("tool")
	formToken         = []byte("token")
	formAssertion     = []byte("client_assertion")
	formAssertionType = []byte("client_assertion_type")
	formSubjectToken  = []byte("subject_token")
	formSubjectType   = []byte("subject_token_type")
	formActorToken    = []byte("actor_token")
	formActorType     = []byte("actor_token_type")
	formRequestedType = []byte("requested_token_type")
	formNonce         = []byte("nonce")
)

// maxFormFields bounds a form: the check for repeats compares each field with the ones before it.
const maxFormFields = 96

// oauthRefusal is an error that OAuth has a name of its own for.
type oauthRefusal struct {
	err  *identity.Error
	name string // RFC 6749 section 5.2
}

func (r *oauthRefusal) Error() string { return r.err.Error() }

func (r *oauthRefusal) Unwrap() error { return r.err }

// readForm holds the request to a form in which no parameter comes twice (RFC 6749 section 3.2). Only resource
// (RFC 8707 section 2) and audience (RFC 8693 section 2.1) may.
func (c *call) readForm() error {
	if err := c.wantMedia(mediaForm); err != nil {
		return err
	}
	form := c.ctx.PostArgs()
	if form.Len() > maxFormFields {
		return identity.Errorf(identity.CodeInvalid, "the form has %d fields; at most %d are allowed", form.Len(), maxFormFields)
	}
	i := 0
	for name := range form.All() {
		if !bytes.Equal(name, formResource) && !bytes.Equal(name, formAudience) && c.comesBefore(name, i) {
			return identity.Errorf(identity.CodeInvalid, "the parameter %.64q is there more than once", name)
		}
		i++
	}
	return nil
}

// comesBefore reports whether one of the first i fields of the form has the name.
func (c *call) comesBefore(name []byte, i int) bool {
	for earlier := range c.ctx.PostArgs().All() {
		if i == 0 {
			return false
		}
		if bytes.Equal(earlier, name) {
			return true
		}
		i--
	}
	return false
}

// formText copies a form parameter.
func (c *call) formText(name []byte) string { return string(c.ctx.PostArgs().PeekBytes(name)) }

// notModified answers 304 where the client has the entity already (RFC 9110 section 13.1.2).
func (c *call) notModified(etag string) bool {
	c.ctx.Response.Header.Set(fasthttp.HeaderETag, etag)
	given := string(c.ctx.Request.Header.Peek(fasthttp.HeaderIfNoneMatch))
	for candidate := range strings.SplitSeq(given, ",") {
		candidate = strings.TrimSpace(candidate)
		if candidate == "*" || strings.TrimPrefix(candidate, "W/") == etag {
			c.ctx.Response.SetStatusCode(fasthttp.StatusNotModified)
			return true
		}
	}
	return false
}
