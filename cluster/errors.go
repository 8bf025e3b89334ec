package cluster

import (
	"errors"
	"fmt"
)

// What may go wrong, told apart by what the caller can do about it. Match with errors.Is.
var (
	// ErrNotLeader: nothing was proposed; ask the leader.
	ErrNotLeader = errors.New("this node is not the leader")
	// ErrNoLeader: nobody is known to lead; try again shortly.
	ErrNoLeader = errors.New("the cluster has no leader")
	// ErrOutcomeUnknown: the request may or may not have taken effect, now or later. Repeat it under the same
	// command id only.
	ErrOutcomeUnknown = errors.New("the outcome is unknown")
	// ErrOverloaded: refused before anything happened; back off and try again.
	ErrOverloaded = errors.New("too many requests in flight")
	// ErrTimeout: the deadline passed before anything happened.
	ErrTimeout = errors.New("the deadline passed")
	// ErrStopped: the node is stopping, or was never started.
	ErrStopped = errors.New("the node is not running")
	// ErrHasState: the node is part of a cluster already.
	ErrHasState = errors.New("the node already belongs to a cluster")
	// ErrUnknownMember: no such member in the table.
	ErrUnknownMember = errors.New("no such member")
	// ErrUnreachable: no connection could be made, so nothing was asked.
	ErrUnreachable = errors.New("the member can't be reached")
	// ErrUnknownMethod: the other node doesn't know the method; it may run an older version.
	ErrUnknownMethod = errors.New("the member doesn't know the method")
	// ErrTooLarge: the body is over its bound.
	ErrTooLarge = errors.New("the body is too large")
	// ErrWouldLoseQuorum: the change would leave too few live voters to commit anything.
	ErrWouldLoseQuorum = errors.New("too few live voters would remain")
	// ErrIsLeader: the leader can't do this to itself; transfer leadership first.
	ErrIsLeader = errors.New("the member is the leader")
	// ErrNoVote: the member can't lead.
	ErrNoVote = errors.New("the member has no vote")
	// ErrNotHandedOver: the other did not take leadership in time. It may still, or this node goes on leading.
	ErrNotHandedOver = errors.New("leadership was not handed over in time")
	// ErrDataDirInUse: another process runs on the same data folder.
	ErrDataDirInUse = errors.New("the data folder is in use by another process")
	// ErrForeignFolder: the data folder belongs to another node, another cluster or a newer version.
	ErrForeignFolder = errors.New("the data folder is not this node's")
	// ErrCorruptFolder: the data folder lacks something, or it can't be read. The node must not go on with the rest.
	ErrCorruptFolder = errors.New("the data folder is damaged")
	// errNotMember: the key isn't in the table. Peers only see a closed connection.
	errNotMember = errors.New("the key is not that of a member")
)

// RemoteError is an error that another node answered, as opposed to one of getting there. Unwrap yields the
// sentinel of this package that the other node's handler returned, if any.
type RemoteError struct {
	Member  string
	Method  string
	Message string
	cause   error
}

func (e *RemoteError) Error() string {
	return fmt.Sprintf("%s at member %s: %s", e.Method, e.Member, e.Message)
}

func (e *RemoteError) Unwrap() error { return e.cause }

// status is how an answer ended, on the wire. Numbers are never reused.
type status uint8

const (
	statusOK             status = 0
	statusError          status = 1
	statusUnknownMethod  status = 2
	statusOverloaded     status = 3
	statusNotLeader      status = 4
	statusNoLeader       status = 5
	statusOutcomeUnknown status = 6
	statusTimeout        status = 7
	statusStopped        status = 8
	statusTooLarge       status = 9
)

// sentinels pairs each status with the error that crosses the wire as it.
var sentinels = [...]struct {
	status status
	err    error
}{
	{statusUnknownMethod, ErrUnknownMethod},
	{statusOverloaded, ErrOverloaded},
	{statusNotLeader, ErrNotLeader},
	{statusNoLeader, ErrNoLeader},
	{statusOutcomeUnknown, ErrOutcomeUnknown},
	{statusTimeout, ErrTimeout},
	{statusStopped, ErrStopped},
	{statusTooLarge, ErrTooLarge},
}

func statusOf(err error) status {
	if err == nil {
		return statusOK
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return s.status
		}
	}
	return statusError
}

func (s status) err() error {
	for _, pair := range sentinels {
		if pair.status == s {
			return pair.err
		}
	}
	return nil
}
