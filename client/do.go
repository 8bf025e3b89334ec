package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// Request is one call. The methods of Client make them; Do takes those that have none.
type Request struct {
	Method string
	Path   string     // such as /api/v1/agents, its segments escaped
	Query  url.Values //
	Body   any        // sent as JSON; a json.RawMessage goes out byte for byte
	Form   url.Values // sent as a form instead of Body
	// Credentials replace the API token, by HTTP Basic (RFC 6749 section 2.3.1).
	Credentials *Credentials
	// Bind sends a DPoP proof of the key along (RFC 9449): the token that is asked for is bound to it.
	Bind *Key
	// Write marks a replicated write: it gets an idempotency key, so that it can be repeated.
	Write bool
	// IdempotencyKey is the caller's own key for a write, to repeat it across processes.
	IdempotencyKey string
	// Repeatable marks a POST that does no harm twice without a key: a question, a mint, a revocation.
	Repeatable bool
	// ContentType of Body; application/json where empty.
	ContentType string
	// Patience is how long a node may take to answer, where that is longer than usual.
	Patience time.Duration
}

// Answer is what comes with the body of an answer.
type Answer struct {
	Status    int
	Header    http.Header
	RequestID string
	Address   string // the node that answered
	Next      string // cursor of the next page of a list, "" at its end
}

// Do sends a request and reads the JSON answer into out, which may be nil. It fails with an *Error where a
// node says no, and with an *UnreachableError where none answers.
func (c *Client) Do(ctx context.Context, r *Request, out any) (*Answer, error) {
	body, contentType, err := r.encode()
	if err != nil {
		return nil, err
	}
	key := r.IdempotencyKey
	if key == "" && r.Write {
		key = rand.Text()
	}
	issuer := ""
	if r.signs() {
		if issuer, err = c.issuer(ctx); err != nil {
			return nil, err
		}
	}
	repeatable := r.Repeatable || key != "" || idempotent(r.Method)

	failures := make([]Failure, len(c.addresses))
	var refused *Error
	var unreachable *UnreachableError
	begun := false // an attempt may have changed something: its answer was lost, or did not know
	wait := firstPause
	for round := range rounds {
		if round > 0 {
			if err := c.pause(ctx, min(max(wait, retryWish(refused)), maxPause)); err != nil {
				break
			}
			wait *= 2
		}
		first := int(c.preferred.Load())
		for i := range c.addresses {
			n := (first + i) % len(c.addresses)
			answer, err := c.prove(ctx, c.addresses[n], r, &sending{body, contentType, key, issuer}, out)
			var no *Error
			switch {
			case err == nil:
				c.preferred.Store(int64(n))
				return answer, nil
			case errors.As(err, &no):
				if !no.another(repeatable) {
					c.preferred.Store(int64(n))
					return nil, no
				}
				begun = begun || no.Code == identity.CodeOutcomeUnknown
				refused = no.unless(begun && !reads(r.Method))
			case ctx.Err() != nil:
				failures[n] = Failure{Address: c.addresses[n].String(), Err: ctx.Err()}
				return nil, outOfTime(ctx, refused.unless(!reads(r.Method)), failures, repeatable)
			case errors.As(err, new(*answerError)):
				return nil, err
			default:
				failures[n] = Failure{Address: c.addresses[n].String(), Err: cause(err)}
				if !repeatable && !neverSent(err) {
					return nil, &UnreachableError{Failures: failures[n : n+1], Unknown: true}
				}
				unreachable = &UnreachableError{Failures: failures}
				begun = begun || !neverSent(err)
				refused = refused.unless(begun && !reads(r.Method))
			}
		}
	}
	// A node that answered knows more of what is wrong than one that did not.
	if refused != nil {
		return nil, refused
	}
	if unreachable == nil {
		return nil, ctx.Err()
	}
	return nil, unreachable
}

// sending is what all attempts of a request have in common.
type sending struct {
	body             []byte
	contentType, key string
	issuer           string // where something has to be signed
}

// signs reports whether each attempt needs a signature of its own.
func (r *Request) signs() bool {
	return r.Bind != nil || r.Credentials != nil && r.Credentials.Key != nil
}

// prove is attempt, once more where the node wants its own nonce in the DPoP proof (RFC 9449 section 8).
func (c *Client) prove(ctx context.Context, address *url.URL, r *Request, s *sending, out any) (*Answer, error) {
	answer, err := c.attempt(ctx, address, r, s, out)
	var no *Error
	if r.Bind != nil && errors.As(err, &no) && (no.OAuth == "use_dpop_nonce" || no.Code == identity.CodeProofNonce) {
		return c.attempt(ctx, address, r, s, out)
	}
	return answer, err
}

// bodyOf is the request's body, with a client assertion that was never used before where the credentials are a key.
func (r *Request) bodyOf(s *sending) ([]byte, error) {
	if r.Credentials == nil || r.Credentials.Key == nil {
		return s.body, nil
	}
	if r.Form == nil {
		return nil, identity.Errorf(identity.CodeInvalid, "%s takes a client's secret, not its key", r.Path).
			WithHint("ask /oauth2/token with the key, or use a secret")
	}
	form := url.Values{
		"client_assertion_type": {assertionType},
		"client_assertion":      {r.Credentials.Key.Assertion(r.Credentials.ID, s.issuer, time.Now())},
	}
	for name, values := range r.Form {
		form[name] = values
	}
	return []byte(form.Encode()), nil
}

func (c *Client) attempt(ctx context.Context, address *url.URL, r *Request, s *sending, out any) (*Answer, error) {
	body, err := r.bodyOf(s)
	if err != nil {
		return nil, &answerError{err}
	}
	contentType, key := s.contentType, s.key
	target := address.String() + r.Path
	if len(r.Query) > 0 {
		target += "?" + r.Query.Encode()
	}
	ctx, cancel := context.WithTimeout(ctx, max(attemptTimeout, r.Patience))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, r.Method, target, bytes.NewReader(body))
	if err != nil {
		return nil, &answerError{fmt.Errorf("%s %s can't be asked for: %w", r.Method, r.Path, err)}
	}
	request.Header.Set("Accept", "application/json")
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	if key != "" {
		request.Header.Set(wire.HeaderIdempotencyKey, key)
	}
	c.sign(request, r.Credentials)
	if r.Bind != nil {
		nonce, _ := c.nonces.Load(address.String())
		text, _ := nonce.(string)
		request.Header.Set(wire.HeaderDPoP, r.Bind.Proof(r.Method, strings.TrimRight(s.issuer, "/")+r.Path, text, "", time.Now()))
	}

	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if nonce := response.Header.Get(wire.HeaderDPoPNonce); nonce != "" {
		c.nonces.Store(address.String(), nonce)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxAnswer {
		return nil, &answerError{fmt.Errorf("the answer of %s is longer than %d bytes", address, maxAnswer)}
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return nil, refusal(address.String(), response, text)
	}
	c.observe(response.Header.Get(wire.HeaderIndex))
	if out != nil && len(text) > 0 {
		if err := json.Unmarshal(text, out); err != nil {
			return nil, &answerError{fmt.Errorf("the answer of %s to %s %s is not what a node sends: %w", address, r.Method, r.Path, err)}
		}
	}
	return &Answer{
		Status: response.StatusCode, Header: response.Header, Address: address.String(),
		RequestID: response.Header.Get(wire.HeaderRequestID), Next: nextCursor(response.Header),
	}, nil
}

// sign says who asks, and what state the answer must be as new as.
func (c *Client) sign(request *http.Request, who *Credentials) {
	request.Header.Set("User-Agent", c.userAgent)
	if index := c.index.Load(); index > 0 {
		request.Header.Set(wire.HeaderIndex, strconv.FormatUint(index, 10))
	}
	switch {
	case who != nil && who.Key != nil: // in the form
	case who != nil:
		request.SetBasicAuth(url.QueryEscape(who.ID), url.QueryEscape(who.Secret))
	case c.token != "":
		request.Header.Set("Authorization", scheme(c.token)+" "+c.token)
	}
}

// scheme tells an API token from an ID token, which is a JWT.
func scheme(token string) string {
	if strings.Count(token, ".") == 2 {
		return "Bearer"
	}
	return "SSWS"
}

func (r *Request) encode() (body []byte, contentType string, err error) {
	if r.Form != nil {
		return []byte(r.Form.Encode()), "application/x-www-form-urlencoded", nil
	}
	contentType = r.ContentType
	if contentType == "" {
		contentType = "application/json"
	}
	switch b := r.Body.(type) {
	case nil:
		return nil, "", nil
	case json.RawMessage:
		body = b
	default:
		if body, err = json.Marshal(b); err != nil {
			return nil, "", fmt.Errorf("encoding the body of %s %s: %w", r.Method, r.Path, err)
		}
	}
	if len(body) > wire.MaxBodyBytes {
		return nil, "", identity.Errorf(identity.CodeTooLarge, "the body of %s %s has %d bytes; nodes take %d", r.Method, r.Path, len(body), wire.MaxBodyBytes)
	}
	return body, contentType, nil
}

// outOfTime says how a call stood when its context ended. One that was called off is no failure of the nodes.
func outOfTime(ctx context.Context, refused *Error, failures []Failure, repeatable bool) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	if refused != nil {
		return refused
	}
	asked := slices.DeleteFunc(failures, func(f Failure) bool { return f.Err == nil })
	return &UnreachableError{Failures: asked, Unknown: !repeatable}
}

// answerError is a fault that no other node will mend.
type answerError struct{ error }

func (e *answerError) Unwrap() error { return e.error }

// reads reports whether a request of the method changes nothing.
func reads(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// unless returns the refusal, or where an earlier attempt may have changed something one that doesn't say that
// nothing was done.
func (e *Error) unless(begun bool) *Error {
	if e == nil || !begun || e.Code == identity.CodeOutcomeUnknown {
		return e
	}
	doubtful := *e
	doubtful.Code = identity.CodeOutcomeUnknown
	doubtful.Detail = "the answer to an earlier attempt was lost, so it may or may not have been made; the last one said: " + e.Detail
	doubtful.Hint = "read the object, or repeat the request with the same Idempotency-Key"
	return &doubtful
}

// another reports whether another node, or the same one a little later, may well say yes.
func (e *Error) another(repeatable bool) bool {
	switch e.Code {
	case identity.CodeNotFresh, identity.CodeNoLeader, identity.CodeOverloaded, identity.CodeStaleIndex, identity.CodeDraining:
		return true // refused before anything was done
	case identity.CodeOutcomeUnknown:
		return repeatable
	}
	if e.OAuth == "temporarily_unavailable" {
		return true
	}
	gateway := e.Status == http.StatusBadGateway || e.Status == http.StatusServiceUnavailable || e.Status == http.StatusGatewayTimeout
	return gateway && e.Code == "" && repeatable
}

func retryWish(e *Error) time.Duration {
	if e == nil {
		return 0
	}
	return e.RetryAfter
}

// idempotent is RFC 9110 section 9.2.2.
func idempotent(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodPut || method == http.MethodDelete
}

// neverSent reports whether the request can't have reached a node.
func neverSent(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return true
	}
	var dns *net.DNSError
	return errors.As(err, &dns)
}

// cause leaves the method and URL out, which net/http repeats in front of every error.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// nextCursor finds the cursor in `Link: <…?after=CURSOR>; rel="next"` (RFC 8288).
func nextCursor(h http.Header) string {
	for _, link := range strings.Split(strings.Join(h.Values("Link"), ","), ",") {
		target, parameters, ok := strings.Cut(strings.TrimSpace(link), ";")
		if !ok || !strings.Contains(strings.ReplaceAll(parameters, `"`, ""), "rel=next") {
			continue
		}
		u, err := url.Parse(strings.Trim(strings.TrimSpace(target), "<>"))
		if err == nil {
			return u.Query().Get("after")
		}
	}
	return ""
}
