package api

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
	"github.com/deputy-id/deputy/proofs"
)

// call is one request on its way through the surface. Calls are pooled: nothing of one may be kept when its
// handler has returned, and a handler copies into the response what it wants to answer.
type call struct {
	api    *API
	ctx    *fasthttp.RequestCtx
	route  *Route
	id     []byte           // request id, in scratch
	origin *envelope        // non-nil at the leader: the request was forwarded by another node
	lease  time.Duration    // noted before now and view were read: the answer is held to it
	view   *fsm.View        // the one state that the request is served from
	now    identity.Instant // when the request was read
	caller caller
	source netip.Addr

	identify  func(*call) error // finds the caller in the view
	assertion *proofs.Assertion // that the caller has proved itself with, not used up yet
	consulted bool              // a credential was looked up: refusals from here on may rest on the state
	settled   bool              // the log or the leader decided: no lease of this node's is needed

	// Of a mint that a human had to approve.
	approvalID string             // that the request names
	granted    *identity.Approval // the yes that the mint uses up
	used       bool               // and has used up
	redeems    bool               // the request is a poll for that yes, and says nothing else of what is wanted

	// Of a write.
	command commandPlan
	seed    *seedReader // ids and secrets that the write makes

	// Scratch of the hot path, kept between requests.
	idBuffer [64]byte
	decoded  [maxClientCredentials]byte
	entropy  [10]byte
	buf      []byte
	form     form
	request  policy.Request
	grant    policy.Grant
	signedBy identity.Handle // of the key that signed the token
	lent     fsm.Lent        // what the session rests on, where it was there already
	account  account         // what is recorded of it
	audience []string
}

type callPool struct{ pool sync.Pool }

// maxKeptBuffer keeps one odd answer from pinning its buffer for ever.
const maxKeptBuffer = 64 << 10

func (p *callPool) get() *call {
	if c, ok := p.pool.Get().(*call); ok {
		return c
	}
	return &call{buf: make([]byte, 0, 4<<10)}
}

func (p *callPool) put(c *call) {
	if cap(c.buf) > maxKeptBuffer {
		return
	}
	clear(c.audience)
	c.form.reset()
	buf, audience, form := c.buf[:0], c.audience[:0], c.form
	*c = call{} // by itself: a literal with fields would be made elsewhere first, and copied
	c.buf, c.audience, c.form = buf, audience, form
	p.pool.Put(c)
}

// caller is who asks. Exactly one of the four is set on an authenticated request.
type caller struct {
	token       *identity.APIToken
	agent       *identity.Agent
	application *identity.Application
	user        *user
	credential  string // crd_… that an agent or application proved itself with; an API token's own tok_…
}

// id names the caller in the log and in the audit trail.
func (c *caller) id() string {
	switch {
	case c.token != nil:
		return c.token.ID
	case c.agent != nil:
		return c.agent.Name
	case c.application != nil:
		return c.application.Name
	case c.user != nil:
		return c.user.Principal
	}
	return ""
}

// setID takes over a sane X-Request-Id, or makes one.
func (c *call) setID(now identity.Instant) {
	if given := c.ctx.Request.Header.PeekCanonical(headerRequestID); len(given) > 0 && len(given) <= len(c.idBuffer) && saneID(given) {
		c.id = append(c.idBuffer[:0], given...)
	} else {
		// It need not be secret, only unlikely to come twice.
		var entropy [10]byte
		hi, lo := rand.Uint64(), rand.Uint32()
		for i := range 8 {
			entropy[i] = byte(hi >> (8 * i))
		}
		entropy[8], entropy[9] = byte(lo), byte(lo>>8)
		c.id = identity.AppendID(append(c.idBuffer[:0], identity.PrefixRequest...), now, entropy)
	}
	c.showID()
}

// showID says which request the answer belongs to. A route that echoes gives the caller's id back as it is, whatever it is
// made of; in the log and in the audit trail stands one that is sane.
func (c *call) showID() {
	id := c.id
	if c.route.Echoes {
		if given := c.ctx.Request.Header.PeekCanonical(headerRequestID); len(given) > 0 {
			id = given
		}
	}
	c.ctx.Response.Header.SetCanonical(headerRequestID, id)
}

func saneID(id []byte) bool {
	for _, c := range id {
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
		if !ok {
			return false
		}
	}
	return true
}

// param returns a path parameter, percent-decoded: the router matches the path as it was sent, so that an id
// may hold a slash.
func (c *call) param(name string) (string, error) {
	raw, _ := c.ctx.UserValue(name).(string)
	value, err := url.PathUnescape(raw)
	if err != nil || value == "" || strings.IndexFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0 {
		return "", invalidParameter(name, "in the path is not well-formed")
	}
	return value, nil
}

// query returns a query parameter, "" where it is absent.
func (c *call) query(name string) string { return string(c.ctx.QueryArgs().Peek(name)) }

// flag reads a boolean query parameter.
func (c *call) flag(name string) (bool, error) {
	switch text := c.query(name); text {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, invalidParameter(name, "is %.40q; it must be true or false", text)
	}
}

// limit reads the size of a list.
func (c *call) limit() (int, error) {
	text := c.query("limit")
	if text == "" {
		return wire.DefaultLimit, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > wire.MaxLimit {
		return 0, invalidParameter("limit", "is %.40q; it must be a number between 1 and %d", text, wire.MaxLimit)
	}
	return n, nil
}

// checkQuery refuses parameters that the route does not have: a mistyped ?dry_run must not become a kill.
func (c *call) checkQuery() error {
	for name := range c.ctx.QueryArgs().All() {
		if !c.route.takes(string(name)) {
			known := "it takes none"
			if names := c.route.queryNames(); names != "" {
				known = "it takes " + names
			}
			return invalidParameter(strconv.Quote(string(name[:min(len(name), 64)])), "is unknown to this path; %s", known)
		}
	}
	for name := range c.ctx.QueryArgs().All() {
		if len(c.ctx.QueryArgs().PeekMultiBytes(name)) > 1 {
			return invalidParameter(string(name), "is there more than once")
		}
	}
	return nil
}

// body decodes the JSON body strictly.
func (c *call) body(into any) error {
	if err := c.wantMedia(contentTypeJSON); err != nil {
		return err
	}
	return decode(c.ctx.PostBody(), into)
}

// optionalBody is body for routes that can do without.
func (c *call) optionalBody(into any) error {
	if len(c.ctx.PostBody()) == 0 {
		return nil
	}
	return c.body(into)
}

// wantMedia holds the request to one of the media types, parameters such as charset aside.
func (c *call) wantMedia(types ...string) error {
	got, _, _ := bytes.Cut(c.ctx.Request.Header.ContentType(), []byte{';'})
	got = bytes.TrimSpace(got)
	for _, t := range types {
		if len(got) == len(t) && equalFold(got, t) {
			return nil
		}
	}
	return identity.Errorf(identity.CodeUnsupportedMedia, "the body's Content-Type is %.64q", got).
		WithHint("send Content-Type: %s", types[0])
}

// equalFold compares ASCII without regard to case; b is lower case.
func equalFold(a []byte, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != b[i] {
			return false
		}
	}
	return true
}

// answer sends v as JSON.
func (c *call) answer(status int, v any) error {
	c.answers(status)
	c.ctx.Response.SetBodyRaw(encodeJSON(v))
	return nil
}

// answers sets all of an answer but for its body.
func (c *call) answers(status int) {
	c.ctx.Response.SetStatusCode(status)
	c.ctx.Response.Header.SetContentType(contentTypeJSON)
	c.ctx.Response.Header.SetCanonical(headerCacheControl, valueNoStore)
}

// created answers 201 with the place of the new object.
func (c *call) created(location, id string, v any) error {
	c.createdAt(location, id)
	c.ctx.Response.SetBodyRaw(encodeJSON(v))
	return nil
}

// createdAt is created but for the body.
func (c *call) createdAt(location, id string) {
	var text [128]byte
	path := append(append(append(text[:0], location...), '/'), url.PathEscape(id)...)
	c.ctx.Response.Header.SetCanonical(headerLocation, path)
	c.answers(fasthttp.StatusCreated)
}

// setIndex says at which log index the write is.
func (c *call) setIndex(index uint64) {
	var text [20]byte
	c.ctx.Response.Header.SetCanonical(headerIndex, strconv.AppendUint(text[:0], index, 10))
}

// answerList sends one page. Items has up to limit+1 entries: the one too many shows that there is more.
func answerList[T, W any](c *call, items []T, limit int, show func(T) W, cursor func(T) string) error {
	if len(items) > limit {
		items = items[:limit]
		c.linkNext(cursor(items[limit-1]), limit)
	}
	page := make([]W, len(items))
	for i, item := range items {
		page[i] = show(item)
	}
	return c.answer(fasthttp.StatusOK, page)
}

// linkNext says where the next page is (RFC 8288).
func (c *call) linkNext(cursor string, limit int) {
	next := url.Values{}
	for name, value := range c.ctx.QueryArgs().All() {
		next.Set(string(name), string(value))
	}
	next.Set("after", cursor)
	next.Set("limit", strconv.Itoa(limit))
	path := string(c.ctx.URI().PathOriginal())
	c.ctx.Response.Header.Set("Link", "<"+path+"?"+next.Encode()+`>; rel="next"`)
}

// entries makes a list that is never null on the wire.
func entries[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
