package api

import (
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/identity"
)

// oauthRefusal is an error that OAuth has a name of its own for.
type oauthRefusal struct {
	err  *identity.Error
	name string // RFC 6749 section 5.2
}

func (r *oauthRefusal) Error() string { return r.err.Error() }

func (r *oauthRefusal) Unwrap() error { return r.err }

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
