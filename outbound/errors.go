package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// Kind says at which step speaking to somebody ended. The values are those of the label "outcome" of the metrics.
type Kind string

// Kinds of failures.
const (
	KindURL         Kind = "url"          // the URL is not one that is spoken to
	KindAddress     Kind = "address"      // the name leads to an address that is refused
	KindResolve     Kind = "resolve"      // the name leads nowhere
	KindConnect     Kind = "connect"      // no TCP connection
	KindTLS         Kind = "tls"          // no TLS session, or a certificate that is not trusted
	KindTimeout     Kind = "timeout"      // not done in time, whatever the step
	KindCanceled    Kind = "canceled"     // the caller gave up
	KindProtocol    Kind = "protocol"     // what came back is not HTTP as it is spoken here, or broke off
	KindRedirect    Kind = "redirect"     // it sends us elsewhere, where we don't go
	KindStatus      Kind = "status"       // the answer's status is not 2xx
	KindTooLarge    Kind = "too-large"    // the answer is longer than allowed
	KindContentType Kind = "content-type" // the answer is not JSON
	KindDocument    Kind = "document"     // the answer is JSON, but not what it should be
)

// Error is why an exchange came to nothing. Its text may be shown to an operator and logged: it names the host only,
// since the path of a webhook's URL often is a secret, and holds nothing of what the other side sent but for the
// names in a certificate.
type Error struct {
	Kind       Kind
	Host       string
	Status     int           // of the answer; 0 without one
	RetryAfter time.Duration // what the answer asked for, at most maxRetryAfter; 0: nothing
	Detail     string        // more words, where the kind needs some
	Err        error         // an *AddressError, a *net.DNSError, an error of package tls …; may be nil
}

// maxDetail bounds the text of one error: a certificate may list a hundred names.
const maxDetail = 300

func (e *Error) Error() string {
	var b strings.Builder
	if e.Host != "" {
		b.WriteString(e.Host)
		b.WriteString(": ")
	}
	switch e.Kind {
	case KindURL:
		b.WriteString("this URL is not spoken to")
	case KindAddress:
		b.WriteString("address refused")
	case KindResolve:
		b.WriteString("looking up the name")
	case KindConnect:
		b.WriteString("connecting")
	case KindTLS:
		b.WriteString("TLS handshake")
	case KindTimeout:
		b.WriteString("no complete answer in time")
	case KindCanceled:
		b.WriteString("given up by the caller")
	case KindProtocol:
		b.WriteString("no complete answer in HTTP/1.1: it broke off, or is something else")
	case KindRedirect:
		fmt.Fprintf(&b, "answered with a redirect (%d), which is not followed; configure the URL that it leads to", e.Status)
	case KindStatus:
		fmt.Fprintf(&b, "answered with status %d", e.Status)
	case KindTooLarge:
		b.WriteString("the answer is too large")
	case KindContentType:
		b.WriteString("the answer is not JSON")
	case KindDocument:
		b.WriteString("the document is not usable")
	}
	detail := e.Detail
	if detail == "" && e.Err != nil {
		detail = e.Err.Error()
	}
	if detail != "" {
		b.WriteString(": ")
		b.WriteString(shorten(detail))
	}
	return b.String()
}

// Unwrap gives errors.Is and errors.As the cause.
func (e *Error) Unwrap() error { return e.Err }

func shorten(text string) string {
	if len(text) <= maxDetail {
		return text
	}
	return strings.ToValidUTF8(text[:maxDetail], "") + "…"
}

// kindOf names the kind of any error of this package.
func kindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindProtocol
}

// handshakeError marks what went wrong after the connection stood and before a request could be sent.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

// explain sorts what net/http returned. The text of its protocol errors quotes the answer, and that of a url.Error the
// URL, so neither is kept.
func explain(ctx context.Context, host string, err error) *Error {
	e := &Error{Host: host}
	var (
		refused   *AddressError
		handshake *handshakeError
		lookup    *net.DNSError
		network   net.Error
		operation *net.OpError
	)
	switch {
	case errors.As(err, &refused):
		e.Kind, e.Err = KindAddress, refused
	case errors.Is(ctx.Err(), context.Canceled) || errors.Is(err, context.Canceled):
		e.Kind, e.Err = KindCanceled, context.Canceled
	case ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &network) && network.Timeout()):
		e.Kind, e.Err = KindTimeout, context.DeadlineExceeded
		e.Detail = "it is not there, or too slow"
	case errors.Is(err, http.ErrSchemeMismatch):
		e.Kind, e.Detail = KindTLS, "it speaks plain HTTP"
	case errors.As(err, &handshake):
		e.Kind, e.Err = KindTLS, handshake.err
		var record tls.RecordHeaderError
		if errors.As(err, &record) {
			e.Err, e.Detail = nil, "it does not speak TLS"
		}
	case errors.As(err, &lookup):
		e.Kind, e.Err = KindResolve, lookup
	case errors.As(err, &operation):
		e.Kind, e.Err = KindConnect, operation
	default:
		e.Kind = KindProtocol
	}
	return e
}
