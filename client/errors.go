package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// Error is a node's answer that says no. errors.As also finds the *identity.Error within, so that
// identity.CodeOf works on both sides of the wire.
type Error struct {
	Status     int
	Code       identity.Code // "" where who answered was not a node, such as a proxy in between
	OAuth      string        // the error code of RFC 6749, under /oauth2 only
	Detail     string
	Hint       string
	Fields     []identity.FieldError
	Policy     string        // the policy that refused, or agrees with the refusal
	Approval   string        // what a human is asked to approve, or has denied
	RequestID  string        // what to look for in the node's log
	RetryAfter time.Duration // 0: the node did not say
	Address    string        // the node that answered
}

func (e *Error) Error() string {
	var b strings.Builder
	switch {
	case e.Detail != "":
		b.WriteString(e.Detail)
	case e.OAuth != "":
		b.WriteString(e.OAuth)
	default:
		fmt.Fprintf(&b, "%s answered %d %s", e.Address, e.Status, http.StatusText(e.Status))
	}
	for i, f := range e.Fields {
		if i == 0 {
			b.WriteString(": ")
		} else {
			b.WriteString("; ")
		}
		b.WriteString(f.Pointer + " " + f.Detail)
	}
	return b.String()
}

// Unwrap gives the error in the domain's own vocabulary, or nil where who answered did not speak it.
func (e *Error) Unwrap() error {
	if e.Code == "" {
		return nil
	}
	return &identity.Error{Code: e.Code, Message: e.Detail, Hint: e.Hint, Fields: e.Fields, Policy: e.Policy, Approval: e.Approval}
}

// UnreachableError says that no node answered at all.
type UnreachableError struct {
	Failures []Failure // the last one of each address, in the order of the addresses
	// Unknown is set where a request may have arrived and its answer was lost, and it could not be repeated.
	Unknown bool
}

// Failure is what became of the last attempt at one address.
type Failure struct {
	Address string
	Err     error
}

func (e *UnreachableError) Error() string {
	var b strings.Builder
	b.WriteString("no node answered")
	if e.Unknown {
		b.Reset()
		b.WriteString("the connection broke before the answer, so it is unknown whether the request took effect")
	}
	for i, f := range e.Failures {
		if i == 0 {
			b.WriteString(": ")
		} else {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s: %v", f.Address, f.Err)
	}
	return b.String()
}

// Unwrap gives errors.Is the causes.
func (e *UnreachableError) Unwrap() []error {
	causes := make([]error, len(e.Failures))
	for i, f := range e.Failures {
		causes[i] = f.Err
	}
	return causes
}

// refusal reads an answer that says no: a problem document, an OAuth error, or whatever stands in between.
func refusal(address string, response *http.Response, body []byte) *Error {
	e := &Error{
		Status:     response.StatusCode,
		RequestID:  response.Header.Get(wire.HeaderRequestID),
		RetryAfter: retryAfter(response.Header.Get("Retry-After")),
		Address:    address,
	}
	var problem wire.Problem
	var oauth wire.OAuthError
	if json.Unmarshal(body, &problem) != nil || json.Unmarshal(body, &oauth) != nil {
		return e
	}
	e.Code = problem.Code()
	e.Detail, e.Hint, e.Fields, e.Policy, e.Approval = problem.Detail, problem.Hint, problem.Errors, problem.PolicyID, problem.ApprovalID
	if oauth.Error != "" {
		e.OAuth, e.Detail = oauth.Error, oauth.Description
	}
	return e
}

// retryAfter reads the seconds form of RFC 9110 section 10.2.3, the only one that nodes send.
func retryAfter(header string) time.Duration {
	seconds, err := strconv.ParseInt(header, 10, 32)
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
