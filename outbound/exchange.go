package outbound

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxPost is the longest body that is sent, in bytes.
	MaxPost = 1 << 20
	// drained is how much of an answer that nobody reads is taken off the wire, so that the connection can be used
	// again. A longer one costs the connection.
	drained = 4 << 10
	// maxRetryAfter is the longest wait that the other side may ask for.
	maxRetryAfter = 10 * time.Minute
)

// Response is a complete answer with status 200.
type Response struct {
	Header http.Header
	Body   []byte
}

// GetJSON fetches a JSON document. Any error is an *Error.
func (c *Client) GetJSON(ctx context.Context, rawURL string) (*Response, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	answer, failure := c.send(ctx, http.MethodGet, rawURL, nil, http.Header{"Accept": {"application/json"}})
	if failure != nil {
		return nil, failure
	}
	defer answer.Body.Close()
	host := answer.Request.URL.Hostname()
	if answer.StatusCode != http.StatusOK { // such as 204 or 206: nothing, or a part
		return nil, &Error{Kind: KindStatus, Host: host, Status: answer.StatusCode}
	}
	if !isJSON(answer.Header.Get("Content-Type")) {
		return nil, &Error{Kind: KindContentType, Host: host, Status: answer.StatusCode, Detail: "its Content-Type must be application/json, or end in +json"}
	}
	if encoding := answer.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, &Error{Kind: KindContentType, Host: host, Status: answer.StatusCode, Detail: "it is compressed, which was not asked for"}
	}
	tooLarge := &Error{
		Kind: KindTooLarge, Host: host, Status: answer.StatusCode,
		Detail: "at most " + strconv.FormatInt(c.maxBody, 10) + " bytes are taken",
	}
	if answer.ContentLength > c.maxBody {
		return nil, tooLarge
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, c.maxBody+1))
	if err != nil {
		return nil, explain(ctx, host, err)
	}
	if int64(len(body)) > c.maxBody {
		return nil, tooLarge
	}
	return &Response{Header: answer.Header, Body: body}, nil
}

// Post sends a body, once. Nil means that the other side answered with a status of 2xx; what else it said is not looked
// at. Any error is an *Error.
func (c *Client) Post(ctx context.Context, rawURL string, header http.Header, body []byte) error {
	if len(body) > MaxPost {
		return &Error{Kind: KindTooLarge, Detail: "what is to be sent is longer than " + strconv.Itoa(MaxPost) + " bytes"}
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	answer, failure := c.send(ctx, http.MethodPost, rawURL, body, header)
	if failure != nil {
		return failure
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, drained) // it has been delivered, whatever follows
	return nil
}

// send does one exchange up to the header of the answer, whose status is 2xx.
func (c *Client) send(ctx context.Context, method, rawURL string, body []byte, header http.Header) (*http.Response, *Error) {
	u, failure := c.parseURL(rawURL)
	if failure != nil {
		return nil, failure
	}
	host := u.Hostname()
	if c.ctx.Err() != nil {
		return nil, &Error{Kind: KindCanceled, Host: host, Detail: "this node is stopping", Err: context.Canceled}
	}
	// It was parsed above, so only the method could be wrong; the body is given as what can be sent again.
	request, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, &Error{Kind: KindURL, Host: host, Detail: "it is not a valid URL"}
	}
	if header != nil {
		request.Header = header.Clone()
	}
	request.Header.Set("User-Agent", c.userAgent)
	answer, err := c.http.Do(request)
	if err != nil {
		return nil, explain(ctx, host, err)
	}
	if answer.StatusCode/100 == 2 {
		return answer, nil
	}
	_, _ = io.CopyN(io.Discard, answer.Body, drained)
	_ = answer.Body.Close()
	failure = &Error{Kind: KindStatus, Host: host, Status: answer.StatusCode}
	if answer.StatusCode/100 == 3 {
		failure.Kind = KindRedirect
	}
	failure.RetryAfter = retryAfter(answer.Header.Get("Retry-After"), c.clock())
	return nil, failure
}

// isJSON takes application/json and every type that is built on JSON, such as application/jwk-set+json.
func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return false
	}
	return media == "application/json" || (strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json"))
}

// retryAfter reads the header of that name (RFC 9110 §10.2.3): seconds, or a date.
func retryAfter(value string, now time.Time) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}
