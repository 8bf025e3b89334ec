package load

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
)

// Failure is one kind of failed exchange, as reports count them.
type Failure string

// Failures below HTTP, and an answer of 200 that isn't the one asked for. A status other than 200 is counted
// as "http " and its number.
const (
	FailureDial      Failure = "connect"
	FailureTimeout   Failure = "timeout"
	FailureClosed    Failure = "connection closed"
	FailureMalformed Failure = "malformed response"
	FailureAnswer    Failure = "unexpected answer"
	FailureOther     Failure = "other"
)

// StatusFailure is that of an answer other than 200.
func StatusFailure(status int) Failure { return Failure("http " + strconv.Itoa(status)) }

// FailureOf classifies what an exchange failed with.
func FailureOf(err error) Failure {
	var op *net.OpError
	switch {
	case errors.Is(err, errResponse):
		return FailureMalformed
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return FailureTimeout
	case errors.As(err, &op) && op.Op == "dial", errors.Is(err, errHandshake):
		return FailureDial
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE):
		return FailureClosed
	}
	return FailureOther
}
